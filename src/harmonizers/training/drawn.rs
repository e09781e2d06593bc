//! A batch of composites as tensors, and what a network draws with each: timesteps, noise.

use super::random::Random;
use crate::diffusion::{Noise, Schedule};
use anyhow::Result;
use tch::{Kind, Tensor};

/// B composites, sRGB in 0..1, and what they should look like.
pub struct Drawn {
    pub composite: Tensor,
    pub real: Tensor,
    pub mask: Tensor,
    /// One a sample, for what a network draws besides.
    pub randoms: Vec<Random>,
    /// Of the noise, one a sample.
    pub seeds: Vec<u64>,
    /// Share of the timesteps that are the last.
    pub at_end: f64,
}

impl Drawn {
    /// D: what has to be added to the composites.
    pub fn change(&self) -> Result<Tensor> {
        Ok(self.real.f_sub(&self.composite)?)
    }

    /// Mean squared `error` (B x 3 x h x w, 0 in the background) in each foreground.
    pub fn fmse(&self, error: &Tensor) -> Result<Tensor> {
        let sum = |x: &Tensor| x.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float);
        Ok(sum(&error.f_square()?)?.f_div(&sum(&self.mask)?.f_mul_scalar(3.0)?)?)
    }

    /// A timestep for each sample.
    pub fn timesteps(&mut self, train_timesteps: usize) -> Vec<usize> {
        let (last, at_end) = (train_timesteps - 1, self.at_end);
        let draw = |random: &mut Random| if random.chance(at_end) { last } else { random.index(last) };
        self.randoms.iter_mut().map(draw).collect()
    }

    /// The diffusion variable `scale` * M * D under the noise of a timestep drawn for each sample, and the timesteps.
    pub fn noisy_change(
        &mut self,
        schedule: Schedule,
        train_timesteps: usize,
        scale: f64,
    ) -> Result<(Tensor, Vec<f64>)> {
        let alphas = schedule.alphas_cumprod(train_timesteps)?;
        let timesteps = self.timesteps(train_timesteps);
        let signal = self.change()?.f_mul(&self.mask)?.f_mul_scalar(scale)?;
        let x = self.noisy(&signal, &timesteps, &alphas)?;
        Ok((x, timesteps.iter().map(|&t| t as f64).collect()))
    }

    /// `signal` (B x C x h x w) under as much noise as its timestep says.
    pub fn noisy(&self, signal: &Tensor, timesteps: &[usize], alphas: &[f64]) -> Result<Tensor> {
        let (b, c, h, w) = signal.size4()?;
        let field = |&seed: &u64| Noise::fixed(seed).field(c as usize, h as usize, w as usize);
        let noise: Vec<f32> = self.seeds.iter().flat_map(field).collect();
        let noise = Tensor::f_from_slice(&noise)?.f_view([b, c, h, w])?.f_to_device(signal.device())?;
        let scale = |f: &dyn Fn(f64) -> f64| -> Result<Tensor> {
            let values: Vec<f32> = timesteps.iter().map(|&t| f(alphas[t]).sqrt() as f32).collect();
            Ok(Tensor::f_from_slice(&values)?.f_view([b, 1, 1, 1])?.f_to_device(signal.device())?)
        };
        Ok(signal.f_mul(&scale(&|a| a)?)?.f_add(&noise.f_mul(&scale(&|a| 1.0 - a)?)?)?)
    }
}
