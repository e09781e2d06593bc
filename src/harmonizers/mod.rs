//! The models, all behind one trait, and how they are loaded.

pub mod class;
pub(crate) mod colour;
pub mod compact;
mod device;
pub mod diffharmony;
pub mod files;
pub mod gift;
mod info;
pub mod lite0;
mod load;
mod parts;
mod shared;
pub mod star;

pub use crate::nets::weights::Malformed;
pub use device::device;
pub use info::info;
pub use load::{BUILT_IN, folder, load};
pub use parts::{Info, Part};
pub use shared::shared;

use crate::diffusion::{self, Method, Noise};
use crate::frame::Proxy;
use crate::transfer::Transfer;
use anyhow::{Result, bail, ensure};
use std::fmt::{self, Display};
use std::str::FromStr;
use tch::{Device, Kind, Tensor};

/// The sizes of proxy that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyGrid {
    /// Long side in pixels where nobody asks for another.
    pub long_side: u32,
    /// Both sides are multiples of this.
    pub multiple: u32,
    /// Sides of the cells of proxy pixels that a colour map each is fitted to, which divide `multiple`: 1 where every pixel of
    /// the answer counts, more where it is right on average alone.
    pub cell: u32,
    /// Whether a small foreground is to be seen in a crop of the frame around it, because the model loses it in the whole.
    pub crop: bool,
}

impl ProxyGrid {
    /// Width and height nearest to the frame's shape, never 0; `long_side` 0 takes the model's own.
    pub fn size(&self, width: usize, height: usize, long_side: u32) -> (usize, usize) {
        let long_side = f64::from(if long_side == 0 { self.long_side } else { long_side });
        let longest = width.max(height).max(1) as f64;
        let side = |length: usize| {
            let multiples = (length as f64 / longest * long_side / f64::from(self.multiple)).round().max(1.0);
            multiples as usize * self.multiple as usize
        };
        (side(width), side(height))
    }
}

/// A model that answers a composited proxy with the proxy as it should look.
pub trait Harmonizer: Send + Sync {
    fn grid(&self) -> ProxyGrid;

    /// The most sampler steps that it takes.
    fn most_steps(&self) -> u32 {
        u32::MAX
    }

    /// The kind of its weights, never `Auto`.
    fn precision(&self) -> Precision;

    /// `composite` is B x 3 x h x w, sRGB in 0..1; `mask` B x 1 x h x w in 0..1; h and w fit `grid`. Returns the harmonized
    /// proxy like `composite`, blended where the mask is partial. No randomness but the run's noise.
    fn harmonize(&self, composite: &Tensor, mask: &Tensor, run: &Run) -> Result<Tensor>;

    /// The transfer itself, of a model that answers with colour maps: it is applied as it is. `None` of one that answers with a
    /// picture, which a transfer is fitted to.
    fn transfer(&self, _proxy: &Proxy, _run: &Run) -> Option<Result<Transfer>> {
        None
    }
}

/// What an answer depends on besides composite and mask.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub noise: &'a Noise,
    pub sampling: Sampling,
    /// Asked between two steps: whether nobody waits for the answer any more. The answer is an error then.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

impl<'a> Run<'a> {
    /// One that runs to its end.
    pub fn new(noise: &'a Noise, sampling: Sampling) -> Self {
        Self { noise, sampling, is_cancelled: &|| false }
    }

    pub fn check(&self) -> Result<()> {
        ensure!(!(self.is_cancelled)(), "cancelled");
        Ok(())
    }

    /// Samples x of `shape` from the run's noise, by DDIM unless another method is asked for, in `steps` unless another number is.
    /// `predict` answers a noisy x and its timesteps, one a picture, with x0; the last of its answers is returned.
    fn sample(
        &self,
        trained: &diffusion::Config,
        steps: u32,
        shape: &[i64],
        device: Device,
        predict: impl Fn(&Tensor, &[f64]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let steps = if self.sampling.steps == 0 { steps } else { self.sampling.steps } as usize;
        let sampler = self.sampling.method.unwrap_or(Method::Ddim).sampler(trained, steps)?;
        let mut draws = self.noise.draws(device);
        let mut x = draws(shape)?.f_mul_scalar(sampler.init_noise_sigma())?;
        let mut x0 = x.f_zeros_like()?;
        for (i, &t) in sampler.timesteps().iter().enumerate() {
            self.check()?;
            x0 = predict(&x.f_mul_scalar(sampler.input_scale(i))?, &vec![t; shape[0] as usize])?;
            let fresh = sampler.takes_draw(i).then(|| draws(shape)).transpose()?;
            x = sampler.step(i, &x0, &x, fresh.as_ref())?;
        }
        Ok(x0)
    }
}

/// What the configuration of a diffusion over changes of colour has to keep to.
fn check_sampling(proxy_size: u32, timesteps: usize, steps: u32, scale: f64) -> Result<()> {
    ensure!((8..=4096).contains(&proxy_size), "proxy_size {proxy_size} is not within 8 to 4096");
    ensure!((2..=100_000).contains(&timesteps), "train_timesteps {timesteps} is not within 2 to 100000");
    ensure!((1..=timesteps).contains(&(steps as usize)), "steps {steps} is not within 1 to {timesteps}");
    ensure!(scale.is_finite() && scale > 0.0, "residual_scale {scale} is not above 0");
    Ok(())
}

/// How a harmonizer samples; what is left open is the model's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    pub method: Option<Method>,
    /// 0 takes the model's own number.
    pub steps: u32,
}

impl Sampling {
    /// Whether a model takes it that takes so many steps at most.
    pub fn check(self, most_steps: u32) -> Result<()> {
        let Self { method, steps } = self;
        let most = if most_steps == 1 { "answers in one pass".to_owned() } else { format!("takes {most_steps}") };
        ensure!(steps <= most_steps, "{steps} steps were asked for: the model {most}");
        ensure!(method.is_none() || most_steps > 1, "a sampler was asked for: the model {most}");
        Ok(())
    }
}

/// The kind that weights are kept in, and features computed in where the device is fast at that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The fastest that the device has and the model is known to bear.
    #[default]
    Auto,
    F32,
    Bf16,
    F16,
}

impl Precision {
    pub const ALL: [Self; 4] = [Self::Auto, Self::F32, Self::Bf16, Self::F16];

    /// That of weights of `kind`.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::BFloat16 => Self::Bf16,
            Kind::Half => Self::F16,
            _ => Self::F32,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

impl FromStr for Precision {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let Some(precision) = Self::ALL.into_iter().find(|precision| precision.name() == name) else {
            bail!("there is no precision {name}: take one of {}", Self::ALL.map(Self::name).join(", "));
        };
        Ok(precision)
    }
}

impl Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a user asks to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// A built-in model's name, or a model folder.
    pub model: String,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    pub precision: Precision,
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self { model: "compact".into(), device: "auto".into(), precision: Precision::Auto }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_keeps_the_frame_s_shape_within_a_multiple() {
        let grid = ProxyGrid { long_side: 64, multiple: 8, cell: 1, crop: false };
        assert_eq!(grid.size(1920, 1080, 0), (64, 40));
        assert_eq!(grid.size(1080, 1920, 0), (40, 64));
        assert_eq!(grid.size(256, 256, 0), (64, 64));
        assert_eq!(grid.size(1920, 1080, 128), (128, 72));
        assert_eq!(grid.size(1, 1, 0), (64, 64));
        assert_eq!(grid.size(4000, 1, 0), (64, 8));
        assert_eq!(grid.size(0, 0, 0), (8, 8));
    }
}
