//! A batch of composites as tensors, and what is drawn with each: timesteps, noise.

use super::photos::{Data, Sources};
use super::random::Random;
use super::synth::{Sample, Synthesis};
use crate::diffusion::{Noise, Schedule};
use anyhow::Result;
use std::ops::Range;
use std::thread::ScopedJoinHandle;
use tch::{Device, Kind, Tensor};

/// Shapes of proxies that training meets, in quarters of the long side: square (as evaluation squeezes pictures) and those of
/// landscape and portrait.
const SHAPES: [(usize, usize); 5] = [(4, 4), (4, 4), (4, 4), (4, 3), (3, 4)];

/// Samples with these numbers, all of one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// A batch as it is drawn, before it is any device's.
pub struct Samples {
    width: usize,
    height: usize,
    samples: Vec<Sample>,
    randoms: Vec<Random>,
    seeds: Vec<u64>,
}

impl Samples {
    /// Of `batch` from `source`, on `threads` threads; what is drawn does not depend on their number.
    pub fn draw(batch: &Batch, source: &Source, threads: usize) -> Self {
        let Source { data, photos, unchanged, graded, .. } = *source;
        let Batch { seed, width, height, ref samples } = *batch;
        let synthesis = Synthesis::new(data, photos, unchanged, graded);
        let one = |number: u64| {
            let mut random = Random::new(seed, number);
            (synthesis.sample(&mut random, width, height), random)
        };
        let numbers: Vec<u64> = samples.clone().collect();
        let part = |numbers: &[u64]| numbers.iter().map(|&number| one(number)).collect::<Vec<_>>();
        let length = numbers.len().div_ceil(threads.max(1)).max(1);
        let all: Vec<(Sample, Random)> = match threads {
            0 | 1 => part(&numbers),
            _ => std::thread::scope(|scope| {
                let threads: Vec<_> = numbers.chunks(length).map(|numbers| scope.spawn(|| part(numbers))).collect();
                let join = |t: ScopedJoinHandle<_>| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                threads.into_iter().flat_map(join).collect()
            }),
        };
        let (samples, randoms) = all.into_iter().unzip();
        let seeds = numbers.iter().map(|number| seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        Self { width, height, samples, randoms, seeds }
    }
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
    /// For a network on `device`, a share `at_end` of the timesteps the last.
    pub fn new(samples: Samples, at_end: f64, device: Device) -> Result<Self> {
        let Samples { width, height, samples, randoms, seeds } = samples;
        let tensor = |values: fn(&Sample) -> &[f32], channels: i64| -> Result<Tensor> {
            let all: Vec<f32> = samples.iter().flat_map(values).copied().collect();
            let shape = [samples.len() as i64, channels, height as i64, width as i64];
            Ok(Tensor::f_from_slice(&all)?.f_view(shape)?.f_to_device(device)?)
        };
        let (composite, real) = (tensor(|s| &s.composite, 3)?, tensor(|s| &s.real, 3)?);
        Ok(Self { composite, real, mask: tensor(|s| &s.mask, 1)?, randoms, seeds, at_end })
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
