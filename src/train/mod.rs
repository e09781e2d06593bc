//! Training of `compact`: composites from photographs on the fly, a one-step-weighted diffusion loss, AdamW, averaged weights.
//!
//! A run is decided by its arguments: the same seed, workers and steps give the same weights, resumed or not.

mod optimizer;
mod photos;
mod plot;
mod random;
mod recolour;
mod synth;
mod workers;

use crate::harmonizers::compact::{Compact, Config};
use crate::nets::{Weights, weights};
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use optimizer::AdamW;
use photos::Data;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};
use workers::{Answer, Batch, Job, Task, Worker};

/// Photographs kept out of training to measure on: one in this many.
const KEPT_OUT: usize = 40;
/// Seed of the validation composites, the same whatever is trained.
const VALIDATION_SEED: u64 = 0x5eed;
const WARM_UP: u64 = 200;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder with photos/ (photographs, label maps beside them) and, where they are there, masks/, illuminants.safetensors
    /// and looks.safetensors
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Folder for the checkpoint, the model and the loss plot; a checkpoint there is taken up
    #[arg(long, value_name = "DIR", default_value = "out/train")]
    pub out: PathBuf,
    /// Steps of the whole training, those of a resumed checkpoint included
    #[arg(long, default_value_t = 14_000)]
    pub steps: u64,
    /// Composites in a step
    #[arg(long, default_value_t = 16)]
    pub batch: u64,
    /// Peak learning rate: warmed up at the start, let down to zero over the last part of the steps
    #[arg(long, default_value_t = 6e-4)]
    pub learning_rate: f64,
    /// Share of the steps over which the learning rate goes down
    #[arg(long, default_value_t = 0.25)]
    pub decay: f64,
    /// Seed of the weights, the composites and the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Threads that compute gradients, each on its part of a batch; 0 for one a core
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// Features in bfloat16: faster where the processor has it
    #[arg(long)]
    pub bf16: bool,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 500)]
    pub every: u64,
    /// Composites to measure on at each checkpoint
    #[arg(long, default_value_t = 512)]
    pub validation: u64,
}

/// Trains, writing checkpoint.safetensors, model.safetensors, config.json, log.json and loss.png into `args.out`.
pub fn run(args: &Args) -> Result<()> {
    let device = crate::harmonizers::device(&args.device)?;
    let counts = [args.steps, args.batch, args.every, args.validation];
    ensure!(!counts.contains(&0), "steps, batch, every and validation must be at least 1");
    std::fs::create_dir_all(&args.out).with_context(|| format!("can't make folder {}", args.out.display()))?;
    tch::set_num_threads(1);
    tch::manual_seed(args.seed as i64);
    let reading = ProgressBar::new(0).with_style(style("reading photographs {bar:40} {pos}/{len}")?);
    let data = Data::read(&args.data, &reading)?;
    reading.finish_and_clear();
    let (validation, training): (Vec<_>, Vec<_>) = (0..data.photos.len()).partition(|i| i % KEPT_OUT == KEPT_OUT / 2);
    ensure!(!validation.is_empty(), "training needs at least {} photographs", KEPT_OUT / 2 + 1);

    let config = Config::default();
    let weights = Weights::new(device);
    Compact::new(&weights.root(), config.clone(), device)?;
    let mut adam = AdamW::new(weights.finish()?)?;
    let count: usize = adam.params.values().map(Tensor::numel).sum();
    let mut log = resume(&args.out, &mut adam)?;
    let kind = if args.bf16 { Kind::BFloat16 } else { Kind::Float };
    let job = Job { data: &data, training: &training, validation: &validation, config, kind, device };
    let workers = match args.workers {
        0 => std::thread::available_parallelism()?.get(),
        n => n,
    };
    // The network takes no empty batch.
    let workers = workers.min(usize::try_from(args.batch)?);
    println!(
        "{} photographs, {count} parameters, {workers} workers, steps {} to {}",
        data.photos.len(),
        adam.step,
        args.steps
    );
    std::thread::scope(|scope| {
        let workers: Result<Vec<_>> = (0..workers).map(|_| Worker::start(scope, job.clone(), &adam.params)).collect();
        steps(args, &mut adam, &workers?, &mut log, &job.config)
    })
}

fn steps(args: &Args, adam: &mut AdamW, workers: &[Worker], log: &mut Vec<plot::Row>, config: &Config) -> Result<()> {
    let bar = ProgressBar::new(args.steps).with_style(style("{bar:40} {pos}/{len} steps, {eta} left, {msg}")?);
    bar.set_position(adam.step);
    let (mut loss, mut since) = (0.0, 0);
    while adam.step < args.steps {
        let answer = gradients(args, adam.step, workers)?;
        let ema = 0.999f64.min((1.0 + adam.step as f64) / (10.0 + adam.step as f64));
        adam.step(answer.gradients, learning_rate(args, adam.step), ema)?;
        (loss, since) = (loss + answer.loss, since + 1);
        bar.inc(1);
        if adam.step.is_multiple_of(args.every) || adam.step == args.steps {
            let (validation, composite) = validate(workers, args.validation)?;
            log.push(plot::Row { step: adam.step, loss: loss / f64::from(since), validation });
            let message = format!(
                "loss {:.4}, validation {validation:.3} of the composites' fMSE {composite:.0}",
                loss / f64::from(since)
            );
            if bar.is_hidden() {
                println!("step {}: {message}", adam.step);
            }
            bar.set_message(message);
            (loss, since) = (0.0, 0);
            save(&args.out, adam, log, config)?;
        }
    }
    bar.finish();
    Ok(())
}

/// Mean gradients over a step's batch, a part from each worker; summed in the workers' order, so that they repeat.
fn gradients(args: &Args, step: u64, workers: &[Worker]) -> Result<Answer> {
    let (n, first) = (workers.len() as u64, step * args.batch);
    for (i, worker) in (0..n).zip(workers) {
        let mut batch = Batch::new(args.seed, first..first + args.batch);
        batch.samples = first + i * args.batch / n..first + (i + 1) * args.batch / n;
        worker.ask(Task::Gradients(batch))?;
    }
    let mut sum = workers[0].answer()?;
    for worker in &workers[1..] {
        let answer = worker.answer()?;
        sum.loss += answer.loss;
        for (a, b) in sum.gradients.iter_mut().zip(&answer.gradients) {
            let _ = tch::no_grad(|| a.f_add_(b))?;
        }
    }
    sum.loss /= n as f64;
    for g in &mut sum.gradients {
        let _ = tch::no_grad(|| g.f_mul_scalar_(1.0 / n as f64))?;
    }
    Ok(sum)
}

/// fMSE of one-step results as a share of the composites', and the composites' own, on photographs kept out of training.
fn validate(workers: &[Worker], samples: u64) -> Result<(f64, f64)> {
    const BATCH: u64 = 16;
    let mut sums = [0.0; 2];
    let firsts: Vec<u64> = (0..samples).step_by(BATCH as usize).collect();
    for round in firsts.chunks(workers.len()) {
        for (worker, &first) in workers.iter().zip(round) {
            worker.ask(Task::Measure(Batch::new(VALIDATION_SEED, first..samples.min(first + BATCH))))?;
        }
        for worker in &workers[..round.len()] {
            let answer = worker.answer()?;
            (0..2).for_each(|i| sums[i] += answer.fmse[i]);
        }
    }
    Ok((sums[0] / sums[1], sums[1] / firsts.len() as f64))
}

/// Warm-up, plateau, linear decay (Hu et al. 2024): a plateau's checkpoint can be resumed with more steps.
fn learning_rate(args: &Args, step: u64) -> f64 {
    let left = (args.steps - step) as f64 / (args.steps as f64 * args.decay).max(1.0);
    args.learning_rate * ((step + 1) as f64 / WARM_UP as f64).min(1.0) * left.min(1.0)
}

fn style(template: &str) -> Result<ProgressStyle> {
    Ok(ProgressStyle::with_template(template)?)
}

fn resume(out: &Path, adam: &mut AdamW) -> Result<Vec<plot::Row>> {
    let checkpoint = out.join("checkpoint.safetensors");
    if !checkpoint.exists() {
        return Ok(Vec::new());
    }
    let context = || format!("can't resume from {}", checkpoint.display());
    adam.resume(&weights::read(&checkpoint)?).with_context(context)?;
    serde_json::from_slice(&std::fs::read(out.join("log.json")).with_context(context)?).with_context(context)
}

/// A file is replaced whole or not at all.
fn save(out: &Path, adam: &AdamW, log: &[plot::Row], config: &Config) -> Result<()> {
    for (name, tensors) in [("checkpoint.safetensors", adam.checkpoint()?), ("model.safetensors", adam.average()?)] {
        let part = out.join(format!("{name}.part"));
        Tensor::write_safetensors(&tensors, &part).with_context(|| format!("can't write {}", part.display()))?;
        std::fs::rename(&part, out.join(name))?;
    }
    std::fs::write(out.join("config.json"), serde_json::to_string_pretty(config)?)?;
    std::fs::write(out.join("log.json"), serde_json::to_string(log)?)?;
    plot::draw(log, &out.join("loss.png"))
}
