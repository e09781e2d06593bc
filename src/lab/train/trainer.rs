//! The trainer: steps, validation, checkpoints, and when a training ends.

use super::draw::Batch;
use super::log::LogRow;
use super::optimizer::Optimizer;
use super::page;
use super::workers::{Task, Worker};
use super::{Args, style};
use crate::nets::weights;
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use std::path::Path;
use std::time::Instant;
use tch::Tensor;

/// Seed of the validation composites, the same whatever is trained.
const VALIDATION_SEED: u64 = 0x5eed;
/// Long side of the validation composites in pixels, likewise.
const VALIDATION_SIDE: usize = 128;
const VALIDATION_BATCH: u64 = 16;
/// Steps over which a stage's learning rate rises, or a tenth of the stage.
const WARM_UP: u64 = 200;

pub struct Trainer<'a, 'scope> {
    pub args: &'a Args,
    pub optimizer: Optimizer,
    pub workers: Vec<Worker<'scope>>,
    pub log: Vec<LogRow>,
}

/// What is left of the composites' error, and pictures to show.
struct Validation {
    share: f64,
    composite: f64,
    pictures: Option<[Tensor; 4]>,
}

impl Trainer<'_, '_> {
    pub fn run(mut self) -> Result<()> {
        let args = self.args;
        let bar = ProgressBar::new(args.steps).with_style(style("{bar:40} {pos}/{len} steps, {eta} left, {msg}")?);
        bar.set_position(self.optimizer.step);
        let (mut loss, mut since) = (0.0, 0);
        let start = Instant::now();
        let place = |step: u64| match args.seconds {
            Some(seconds) => ((start.elapsed().as_secs_f64() / seconds).min(1.0) * args.steps as f64) as u64,
            None => step,
        };
        let mut at = place(self.optimizer.step);
        while at < args.steps && !self.is_over() {
            let step = self.optimizer.step;
            let (stage, learning_rate) = schedule(args, at);
            let (gradients, of_step) = self.gradients(step, stage)?;
            ensure!(of_step.is_finite(), "the loss of step {step} is {of_step}: take a lower --learning-rate");
            let ema = 0.999f64.min((1.0 + step as f64) / (10.0 + step as f64));
            self.optimizer.step(gradients, learning_rate, ema)?;
            (loss, since) = (loss + of_step, since + 1);
            bar.inc(1);
            at = place(step + 1);
            let ends = schedule(args, at).0 != stage || at >= args.steps;
            if (step + 1).is_multiple_of(args.every) || ends {
                self.pause(stage, loss / f64::from(since), &bar)?;
                (loss, since) = (0.0, 0);
            }
        }
        match self.is_over() && self.optimizer.step < args.steps {
            true => bar.abandon_with_message(format!("no better for {} validations: stopped", args.patience)),
            false => bar.finish(),
        }
        Ok(())
    }

    /// Validates, writes everything, and says how it goes.
    fn pause(&mut self, stage: usize, loss: f64, bar: &ProgressBar) -> Result<()> {
        let Validation { share, composite, pictures } = self.validate(stage)?;
        let last = stage + 1 == self.args.class.training.stages.len();
        let best = self.log.iter().filter(|row| row.stage == stage).all(|row| share < row.validation);
        self.log.push(LogRow { step: self.optimizer.step, stage, loss, validation: share });
        let name = self.args.class.training.stages[stage].name;
        let message = format!("{name}: loss {loss:.4}, validation {share:.3} of the composites' fMSE {composite:.0}");
        self.save(best || !last)?;
        page::draw(&self.log, self.args.class.training.stages, pictures.as_ref(), &self.args.out.join("page.png"))?;
        if bar.is_hidden() {
            println!("step {}: {message}", self.optimizer.step);
        }
        bar.set_message(message);
        Ok(())
    }

    /// Whether the last stage has gone on for `patience` validations without a better one.
    fn is_over(&self) -> bool {
        let last = self.args.class.training.stages.len() - 1;
        let rows: Vec<f64> = self.log.iter().filter(|row| row.stage == last).map(|row| row.validation).collect();
        let best = rows.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        self.args.patience > 0 && rows.len() > best + self.args.patience
    }

    /// Gradients of a step's batch, a part from each worker, and the mean loss.
    fn gradients(&self, step: u64, stage: usize) -> Result<(Vec<Vec<Option<Tensor>>>, f64)> {
        let (args, n) = (self.args, self.workers.len() as u64);
        let part = |step: u64, i: u64| {
            let first = step * args.batch;
            let mut batch = Batch::new(args.seed, first..first + args.batch, args.side as usize);
            batch.samples = first + i * args.batch / n..first + (i + 1) * args.batch / n;
            batch
        };
        for (i, worker) in (0..n).zip(&self.workers) {
            if args.seconds.is_some() || step + 1 < args.steps {
                worker.ask(Task::Ahead(part(step + 1, i)))?;
            }
            worker.ask(Task::Gradients(part(step, i), stage))?;
        }
        let (mut gradients, mut loss) = (Vec::new(), 0.0);
        for worker in &self.workers {
            let answer = worker.answer()?;
            gradients.push(answer.gradients);
            loss += answer.loss / n as f64;
        }
        Ok((gradients, loss))
    }

    /// One-step results on photographs kept out of training.
    fn validate(&self, stage: usize) -> Result<Validation> {
        let samples = self.args.validation;
        let (mut sums, mut pictures) = ([0.0; 2], None);
        let firsts: Vec<u64> = (0..samples).step_by(VALIDATION_BATCH as usize).collect();
        for round in firsts.chunks(self.workers.len()) {
            for (worker, &first) in self.workers.iter().zip(round) {
                let samples = first..samples.min(first + VALIDATION_BATCH);
                worker.ask(Task::Measure(Batch::new(VALIDATION_SEED, samples, VALIDATION_SIDE), stage))?;
            }
            for worker in &self.workers[..round.len()] {
                let answer = worker.answer()?;
                (0..2).for_each(|i| sums[i] += answer.fmse[i]);
                pictures = pictures.or(answer.pictures);
            }
        }
        Ok(Validation { share: sums[0] / sums[1], composite: sums[1] / firsts.len() as f64, pictures })
    }

    /// A file is replaced whole or not at all.
    fn save(&self, model: bool) -> Result<()> {
        let out = &self.args.out;
        let mut files = vec![("checkpoint.safetensors", self.optimizer.checkpoint()?)];
        if model {
            files.push(("model.safetensors", self.optimizer.average()?));
        }
        for (name, tensors) in files {
            let part = out.join(format!("{name}.part"));
            Tensor::write_safetensors(&tensors, &part).with_context(|| format!("can't write {}", part.display()))?;
            std::fs::rename(&part, out.join(name))?;
        }
        std::fs::write(out.join("config.json"), self.args.class.config().to_json()? + "\n")?;
        std::fs::write(out.join("log.json"), serde_json::to_string(&self.log)?)?;
        Ok(())
    }
}

/// A step's stage and learning rate. In each stage warm-up, plateau, linear decay (Hu et al. 2024): a plateau's checkpoint
/// can be resumed with more steps.
fn schedule(args: &Args, step: u64) -> (usize, f64) {
    let stages = args.class.training.stages;
    let (mut stage, mut begin, mut share) = (0, 0, 0.0);
    let end = loop {
        share += stages[stage].share;
        let end = if stage + 1 == stages.len() { args.steps } else { (args.steps as f64 * share).round() as u64 };
        if step < end || stage + 1 == stages.len() {
            break end;
        }
        (stage, begin) = (stage + 1, end);
    };
    let length = end.saturating_sub(begin).max(1);
    let left = end.saturating_sub(step) as f64 / (length as f64 * args.decay).max(1.0);
    let warm_up = WARM_UP.min(length.div_ceil(10)) as f64;
    (stage, args.learning_rate * ((step - begin + 1) as f64 / warm_up).min(1.0) * left.min(1.0))
}

/// Takes up the checkpoint in `out`, if there is one, and returns its log.
pub fn resume(out: &Path, optimizer: &mut Optimizer) -> Result<Vec<LogRow>> {
    let checkpoint = out.join("checkpoint.safetensors");
    if !checkpoint.exists() {
        return Ok(Vec::new());
    }
    let context = || format!("can't resume from {}", checkpoint.display());
    optimizer.resume(&weights::read(&checkpoint)?).with_context(context)?;
    serde_json::from_slice(&std::fs::read(out.join("log.json")).with_context(context)?).with_context(context)
}
