//! What every model is: a harmonizer, which answers a composited proxy with the proxy as it should look.

use super::precision::Precision;
use crate::diffusion::{self, Noise, Scheduler};
use crate::frame::Proxy;
use crate::transfer::Transfer;
use anyhow::{Result, ensure};
use tch::{Device, Tensor};

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
    fn max_steps(&self) -> u32 {
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

    /// Samples x of `shape` from the run's noise, by DDIM unless another scheduler is asked for, in `steps` unless another number is.
    /// `predict` answers a noisy x and its timesteps, one a picture, with x0; the last of its answers is returned.
    pub fn sample(
        &self,
        trained: &diffusion::SchedulerConfig,
        steps: u32,
        shape: &[i64],
        device: Device,
        predict: impl Fn(&Tensor, &[f64]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let steps = if self.sampling.steps == 0 { steps } else { self.sampling.steps } as usize;
        let sampler = self.sampling.scheduler.unwrap_or(Scheduler::Ddim).sampler(trained, steps)?;
        let mut draws = self.noise.draws(device);
        let mut x = draws(shape)?.f_mul_scalar(sampler.init_noise_sigma())?;
        let mut x0 = x.f_zeros_like()?;
        for (i, &t) in sampler.timesteps().iter().enumerate() {
            self.check()?;
            x0 = predict(&x.f_mul_scalar(sampler.scale_model_input(i))?, &vec![t; shape[0] as usize])?;
            let fresh = sampler.needs_noise(i).then(|| draws(shape)).transpose()?;
            x = sampler.step(i, &x0, &x, fresh.as_ref())?;
        }
        Ok(x0)
    }
}

/// How a harmonizer samples; what is left open is the model's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    pub scheduler: Option<Scheduler>,
    /// 0 takes the model's own number.
    pub steps: u32,
}

impl Sampling {
    /// Whether a model takes it that takes so many steps at most.
    pub fn check(self, max_steps: u32) -> Result<()> {
        let Self { scheduler, steps } = self;
        let most = if max_steps == 1 { "answers in one pass".to_owned() } else { format!("takes {max_steps}") };
        ensure!(steps <= max_steps, "{steps} steps were asked for: the model {most}");
        ensure!(scheduler.is_none() || max_steps > 1, "a sampler was asked for: the model {most}");
        Ok(())
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
