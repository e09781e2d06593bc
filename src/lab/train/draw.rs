//! A batch of composites, drawn from photographs.

use super::photos::{Data, Sources};
use super::synth::{Synthesis, TrainingSample};
use crate::harmonizers::training::{Drawn, Random};
use anyhow::Result;
use std::ops::Range;
use std::thread::ScopedJoinHandle;
use tch::{Device, Tensor};

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
    samples: Vec<TrainingSample>,
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
        let all: Vec<(TrainingSample, Random)> = match threads {
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

    /// For a network on `device`, a share `at_end` of the timesteps the last.
    pub fn onto(self, device: Device, at_end: f64) -> Result<Drawn> {
        let Self { width, height, samples, randoms, seeds } = self;
        let tensor = |values: fn(&TrainingSample) -> &[f32], channels: i64| -> Result<Tensor> {
            let all: Vec<f32> = samples.iter().flat_map(values).copied().collect();
            let shape = [samples.len() as i64, channels, height as i64, width as i64];
            Ok(Tensor::f_from_slice(&all)?.f_view(shape)?.f_to_device(device)?)
        };
        let (composite, real) = (tensor(|s| &s.composite, 3)?, tensor(|s| &s.real, 3)?);
        Ok(Drawn { composite, real, mask: tensor(|s| &s.mask, 1)?, randoms, seeds, at_end })
    }
}
