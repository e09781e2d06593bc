//! Building blocks of the networks. Every tensor is NCHW; a block computes in the kind of its input.

pub mod attention;
pub mod embeddings;
pub mod layers;
pub mod resnet;
pub mod weights;

pub use attention::SelfAttention;
pub use layers::{Conv2d, GroupNorm, Linear};
pub use resnet::ResnetBlock;
pub use weights::{Init, Path, Weights};
