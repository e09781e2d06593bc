//! The models, all behind one trait, and how they are loaded.

pub mod compact;
pub mod load;

pub use load::{BUILT_IN, device, load};

use crate::diffusion::Noise;
use anyhow::Result;
use tch::Tensor;

/// A model that answers a composited proxy with the proxy as it should look.
pub trait Harmonizer: Send {
    /// Width and height of the proxy it wants for a frame; `long_side` 0 takes the model's own.
    fn proxy_size(&self, width: usize, height: usize, long_side: u32) -> (usize, usize);

    /// `composite` is B x 3 x h x w, sRGB in 0..1; `mask` B x 1 x h x w in 0..1; h and w from `proxy_size`. `steps` 0 takes the
    /// model's own number. Returns the harmonized proxy like `composite`: where the mask is partial, the foreground's colour
    /// before it is blended. No randomness but `noise`.
    fn harmonize(&self, composite: &Tensor, mask: &Tensor, noise: &Noise, steps: u32) -> Result<Tensor>;
}
