//! A batch of composites as tensors, and what is drawn with each: timesteps, noise.

use super::photos::{Data, Sources};
use super::random::Random;
use super::synth::Synthesis;
use crate::diffusion::{Noise, Schedule};
use anyhow::Result;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Shapes of proxies that training meets, in quarters of the long side: square (as evaluation squeezes pictures) and those of
/// landscape and portrait.
const SHAPES: [(usize, usize); 5] = [(4, 4), (4, 4), (4, 4), (4, 3), (3, 4)];

/// Samples with these numbers, all of one shape.
#[derive(Clone, Debug)]
pub struct Batch {
    pub seed: u64,
    pub samples: Range<u64>,
    pub width: usize,
    pub height: usize,
}

impl Batch {
    /// The shape is drawn by the batch's first sample; the long side is `side`, a multiple of the class's.
    pub fn new(seed: u64, samples: Range<u64>, side: usize) -> Self {
        let (width, height) = SHAPES[Random::new(!seed, samples.start).index(SHAPES.len())];
        let quarter = side / 4;
        Self { seed, samples, width: width * quarter, height: height * quarter }
    }
}

/// What samples are drawn from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub data: &'a Data,
    pub photos: &'a Sources,
    /// Share of the composites that fit already.
    pub unchanged: f64,
    /// Share of the photographs whose colours are changed as a whole first.
    pub graded: f64,
    /// Share of the samples at the last timestep, where a single step starts.
    pub at_end: f64,
}

/// B composites, sRGB in 0..1, and what they should look like.
pub struct Drawn {
    pub composite: Tensor,
    pub real: Tensor,
    pub mask: Tensor,
    /// One a sample, for what a network draws besides.
    pub randoms: Vec<Random>,
    seeds: Vec<u64>,
    at_end: f64,
}

impl Drawn {
    /// From `source`, for a network on `device`.
    pub fn new(batch: &Batch, source: &Source, device: Device) -> Result<Self> {
        let Source { data, photos, unchanged, graded, at_end } = *source;
        let Batch { seed, width, height, .. } = *batch;
        let synthesis = Synthesis::new(data, photos, unchanged, graded);
        let [mut composite, mut real, mut mask] = [const { Vec::<f32>::new() }; 3];
        let (mut randoms, mut seeds) = (Vec::new(), Vec::new());
        for number in batch.samples.clone() {
            let mut random = Random::new(seed, number);
            let sample = synthesis.sample(&mut random, width, height);
            composite.extend(sample.composite);
            real.extend(sample.real);
            mask.extend(sample.mask);
            randoms.push(random);
            seeds.push(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
        let tensor = |values: &[f32], channels: i64| -> Result<Tensor> {
            let shape = [seeds.len() as i64, channels, height as i64, width as i64];
            Ok(Tensor::f_from_slice(values)?.f_view(shape)?.f_to_device(device)?)
        };
        let (composite, real, mask) = (tensor(&composite, 3)?, tensor(&real, 3)?, tensor(&mask, 1)?);
        Ok(Self { composite, real, mask, randoms, seeds, at_end })
    }

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
