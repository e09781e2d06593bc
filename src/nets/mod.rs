//! Building blocks of the networks, and the networks of Stable Diffusion and DiffHarmony made of them, each from its
//! `config.json`. Every feature map is NCHW; a block computes in the kind of its input.

mod arithmetic;
pub mod attention;
pub mod blocks;
pub mod clip;
pub mod config;
mod cpu;
pub mod efficientnet;
pub mod embeddings;
pub mod layers;
pub mod resnet;
pub mod taesd;
mod tiles;
pub mod transformer;
pub mod unet;
pub mod unet_2d;
pub mod unet_2d_condition;
pub mod vae;
pub mod weights;

pub use arithmetic::arithmetic;
pub use attention::{Attention, AttentionBlock, KeysValues, SelfAttention};
pub use config::ConfigReader;
pub use layers::{Conv2d, GroupNorm, LayerNorm, Linear};
pub use resnet::{Norm, ResnetBlock};
pub use weights::{Init, Param, Path, Weights};
