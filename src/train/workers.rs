//! Data-parallel gradients: every worker holds an alias of the same weights and a torch of one thread (libgomp's barriers
//! are ruinous beside other work), draws its own samples and sends its gradients back.

use super::photos::Data;
use super::random::Random;
use super::synth::Synthesis;
use crate::diffusion::Noise;
use crate::harmonizers::compact::{Compact, Config};
use crate::nets::Weights;
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};
use tch::{Device, Kind, Tensor};

/// Shapes of proxies that training meets: square (as evaluation squeezes pictures) and those of landscape and portrait.
const SHAPES: [(usize, usize); 5] = [(64, 64), (64, 64), (64, 64), (64, 48), (48, 64)];
/// Share of samples at the last timestep, where a single step starts.
const AT_END: f64 = 0.8;

/// Samples with these numbers, all of one shape.
#[derive(Clone)]
pub struct Batch {
    pub seed: u64,
    pub samples: std::ops::Range<u64>,
    pub width: usize,
    pub height: usize,
}

impl Batch {
    /// The shape is drawn by the batch's first sample.
    pub fn new(seed: u64, samples: std::ops::Range<u64>) -> Self {
        let (width, height) = SHAPES[Random::new(!seed, samples.start).index(SHAPES.len())];
        Self { seed, samples, width, height }
    }
}

/// Loss and gradients of one batch; without gradients where only measured.
pub struct Answer {
    pub loss: f64,
    /// Mean over the samples of the squared error in the foreground: harmonized and composite, in 0..255 squared.
    pub fmse: [f64; 2],
    pub gradients: Vec<Tensor>,
}

pub enum Task {
    Gradients(Batch),
    Measure(Batch),
}

pub struct Worker<'scope> {
    pub tasks: Sender<Task>,
    pub answers: Receiver<Result<Answer>>,
    _thread: ScopedJoinHandle<'scope, ()>,
}

/// What all workers share.
#[derive(Clone)]
pub struct Job<'a> {
    pub data: &'a Data,
    pub training: &'a [usize],
    pub validation: &'a [usize],
    pub config: Config,
    pub kind: Kind,
    pub device: Device,
}

impl<'scope> Worker<'scope> {
    /// A worker on the parameters `params`, which it reads and never writes.
    pub fn start<'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        job: Job<'env>,
        params: &BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let (tasks, inbox) = channel();
        let (outbox, answers) = channel();
        let alias = |p: &Tensor| -> Result<Tensor> { Ok(p.f_detach()?.f_set_requires_grad(true)?) };
        let params: Result<BTreeMap<_, _>> = params.iter().map(|(name, p)| Ok((name.clone(), alias(p)?))).collect();
        let params = params?;
        let thread = scope.spawn(move || {
            tch::set_num_threads(1);
            let leaves: Vec<Tensor> = params.values().map(Tensor::shallow_clone).collect();
            let weights = Weights::given(params, job.device);
            let net = Compact::new(&weights.root(), job.config.clone(), job.device);
            for task in inbox {
                let answer = match &net {
                    Ok(net) => job.answer(net, &leaves, &task),
                    Err(e) => Err(anyhow!("{e:#}")),
                };
                if outbox.send(answer).is_err() {
                    return;
                }
            }
        });
        Ok(Self { tasks, answers, _thread: thread })
    }

    pub fn ask(&self, task: Task) -> Result<()> {
        self.tasks.send(task).map_err(|_| anyhow!("a training worker has ended"))
    }

    pub fn answer(&self) -> Result<Answer> {
        self.answers.recv().map_err(|_| anyhow!("a training worker has ended"))?
    }
}

impl Job<'_> {
    fn answer(&self, net: &Compact, leaves: &[Tensor], task: &Task) -> Result<Answer> {
        match task {
            Task::Measure(batch) => {
                tch::no_grad(|| self.forward(net, batch, self.validation, 1.0).map(|(_, answer)| answer))
            }
            Task::Gradients(batch) => {
                let (loss, mut answer) = self.forward(net, batch, self.training, AT_END)?;
                answer.gradients = Tensor::f_run_backward(&[&loss], leaves, false, false)?;
                Ok(answer)
            }
        }
    }

    fn forward(&self, net: &Compact, batch: &Batch, photos: &[usize], at_end: f64) -> Result<(Tensor, Answer)> {
        let Batch { seed, samples, width, height } = batch.clone();
        let synthesis = Synthesis::new(self.data, photos);
        let (n, w, h) = ((samples.end - samples.start) as i64, width as i64, height as i64);
        let [mut composite, mut real, mut mask, mut noise] = [const { Vec::<f32>::new() }; 4];
        let mut timesteps = Vec::new();
        for number in samples {
            let mut random = Random::new(seed, number);
            let sample = synthesis.sample(&mut random, width, height);
            composite.extend(sample.composite);
            real.extend(sample.real);
            mask.extend(sample.mask);
            let last = net.config.train_timesteps - 1;
            timesteps.push(if random.chance(at_end) { last } else { random.index(last) });
            noise.extend(Noise::fixed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).field(3, height, width));
        }
        let tensor = |values: &[f32], channels: i64| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_view([n, channels, h, w])?.f_to_device(self.device)?)
        };
        let (composite, real, mask) = (tensor(&composite, 3)?, tensor(&real, 3)?, tensor(&mask, 1)?);
        let change = real.f_sub(&composite)?;

        let alphas = net.config.schedule.alphas_cumprod(net.config.train_timesteps)?;
        let per_sample = |f: &dyn Fn(f64) -> f64| -> Result<Tensor> {
            let values: Vec<f32> = timesteps.iter().map(|&t| f(alphas[t]) as f32).collect();
            Ok(Tensor::f_from_slice(&values)?.f_view([n, 1, 1, 1])?.f_to_device(self.device)?)
        };
        let signal = change.f_mul_scalar(net.config.residual_scale)?.f_mul(&per_sample(&|a| a.sqrt())?)?;
        let x = signal.f_add(&tensor(&noise, 3)?.f_mul(&per_sample(&|a| (1.0 - a).sqrt())?)?)?;
        let timesteps: Vec<f64> = timesteps.iter().map(|&t| t as f64).collect();
        let predicted = net.forward(&x, &composite, &mask, &timesteps, self.kind)?.f_mul(&mask)?;

        let area = mask.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float)?.f_mul_scalar(3.0)?;
        let fmse = |error: Tensor| -> Result<Tensor> {
            Ok(error.f_square()?.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float)?.f_div(&area)?)
        };
        let (before, after) = (fmse(change.shallow_clone())?, fmse(predicted.f_sub(&change)?)?);
        // Root mean square: between the mean of errors (bad composites decide) and of their logarithms (good ones do).
        let loss = after.f_add_scalar(1e-4)?.f_sqrt()?.f_mean(Kind::Float)?;
        let mean = |x: &Tensor| -> Result<f64> { Ok(x.f_mean(Kind::Float)?.f_double_value(&[])? * 255.0 * 255.0) };
        let answer =
            Answer { loss: loss.f_double_value(&[])?, fmse: [mean(&after)?, mean(&before)?], gradients: Vec::new() };
        Ok((loss, answer))
    }
}
