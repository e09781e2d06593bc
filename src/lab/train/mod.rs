//! Training of this project's models: composites from photographs on the fly, Muon and AdamW, averaged weights, a page to look at.
//!
//! A run is decided by its arguments: the same seed, workers and steps give the same weights, resumed or not.

mod ahead;
mod class;
mod draw;
mod log;
mod optimizer;
#[cfg_attr(not(feature = "lab"), path = "no_page.rs")]
mod page;
mod photos;
mod recolour;
mod synth;
mod trainer;
mod workers;

pub use class::Class;

use crate::harmonizers::models::{self, DEFAULT};
use crate::harmonizers::training::{Masking, Recipe};
use crate::harmonizers::{Precision, files};
use crate::nets::{Weights, arithmetic, weights};
use anyhow::{Context, Result, bail, ensure};
use draw::Source;
use indicatif::{ProgressBar, ProgressStyle};
use optimizer::Optimizer;
use photos::{Data, Sources};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};
use workers::{Setup, Worker};

/// Photographs kept out of training to measure on: one in this many.
const KEPT_OUT: usize = 40;
/// Share of validation composites that fit already, whatever is trained.
const VALIDATION_UNCHANGED: f64 = 0.05;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// What to train
    #[arg(long, value_enum, default_value = DEFAULT)]
    pub class: Class,
    /// Folder with photographs (*.jpg or *.png), beside each, where there is one, a mask or label map of its name that ends in
    /// .png or -mask.png; or with photos/ and, where they are there, masks/ and the tables illuminants, looks, whitebalance
    /// and retouch, each .safetensors
    #[arg(long, value_name = "DIR")]
    pub photos: PathBuf,
    /// Folder for the checkpoint, the model and page.png; a checkpoint there is taken up
    #[arg(long, value_name = "DIR", default_value = "out/train")]
    pub out: PathBuf,
    /// Begin with the weights of this model of the same class, built in or a folder, as far as they fit
    #[arg(long, value_name = "NAME|FOLDER")]
    pub from: Option<String>,
    /// Steps of the whole training, those of a resumed checkpoint included
    #[arg(long, default_value_t = 14_000)]
    pub steps: u64,
    /// Take this long in place of --steps, which is then how finely the learning rate goes its course: where a machine is lent by the
    /// hour. What comes out depends on how fast it is
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Composites in a step
    #[arg(long, default_value_t = 16)]
    pub batch: u64,
    /// Long side of the composites in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 64, value_parser = clap::value_parser!(u32).range(64..=512))]
    pub side: u32,
    /// Peak learning rate: warmed up at the start, let down to zero over the last part of the steps
    #[arg(long, default_value_t = 6e-4)]
    pub learning_rate: f64,
    /// Share of the steps over which the learning rate goes down
    #[arg(long, default_value_t = 0.25)]
    pub decay: f64,
    /// Share of composites that fit already and are to stay as they are: more makes a model more careful
    #[arg(long, value_name = "0..1", default_value_t = 0.2)]
    pub unchanged: f64,
    /// Share of photographs whose colours are changed as a whole first: more makes a model rely less on how photographs look,
    /// and more on the background
    #[arg(long, value_name = "0..1", default_value_t = 0.1)]
    pub graded: f64,
    /// Exponent of a composite's mean squared error in the loss: 1 minds the worst most, 0.5 minds all
    #[arg(long, default_value_t = 0.5)]
    pub power: f64,
    /// Share of samples at the last timestep, where one step starts; the rest teach further steps
    #[arg(long, value_name = "0..1", default_value_t = 0.9)]
    pub at_end: f64,
    /// Weight of gift's relation distillation; 0 does without
    #[arg(long, default_value_t = 0.1)]
    pub relation: f64,
    /// Which background patches star's student is not let see
    #[arg(long, value_enum, default_value = "adaptive")]
    pub masking: Masking,
    /// Seed of the weights, the composites and the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Threads that compute gradients, each on its part of a batch; 0 for one a core, or one on CUDA
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// Threads of each of them that draw composites ahead: none on a CPU, where they would only be in the way, unless asked for; on
    /// CUDA one a core
    #[arg(long)]
    pub threads: Option<usize>,
    /// Kind of the features, weights being f32: auto (bf16 on CUDA and on CPUs that are fast in it, else f32), f32 or bf16
    #[arg(long, value_name = "KIND", default_value_t = Precision::Auto)]
    pub precision: Precision,
    /// Steps between checkpoints and validations
    #[arg(long, default_value_t = 500)]
    pub every: u64,
    /// Composites to measure on at each checkpoint
    #[arg(long, default_value_t = 512)]
    pub validation: u64,
    /// Stop after so many validations without a better one; 0 goes on to the last step
    #[arg(long, default_value_t = 0)]
    pub patience: usize,
}

/// Trains, writing checkpoint.safetensors, model.safetensors (the best so far), config.json, log.json and page.png into
/// `args.out`.
pub fn run(args: &Args) -> Result<()> {
    let device = crate::harmonizers::device(&args.device)?;
    check(args)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("can't make folder {}", args.out.display()))?;
    tch::set_num_threads(1);
    tch::manual_seed(args.seed as i64);
    let reading = ProgressBar::new(0).with_style(style("reading photographs {bar:40} {pos}/{len}")?);
    let data = Data::read(&args.photos, &reading)?;
    reading.finish_and_clear();
    let (validation, training): (Vec<_>, Vec<_>) = (0..data.photos.len()).partition(|i| i % KEPT_OUT == KEPT_OUT / 2);
    ensure!(!validation.is_empty(), "training needs at least {} photographs", KEPT_OUT / 2 + 1);

    let [training, validation] = [training, validation].map(|numbers| Sources::new(&data, &numbers));

    let mut optimizer = Optimizer::new(parameters(args, device)?)?;
    let count: usize = optimizer.params.values().map(Tensor::numel).sum();
    let log = trainer::resume(&args.out, &mut optimizer)?;
    let training =
        Source { data: &data, photos: &training, unchanged: args.unchanged, graded: args.graded, at_end: args.at_end };
    let validation =
        Source { data: &data, photos: &validation, unchanged: VALIDATION_UNCHANGED, graded: 0.0, at_end: 1.0 };
    let threads = match args.threads {
        Some(threads) => threads,
        None if device.is_cuda() => std::thread::available_parallelism()?.get(),
        None => 0,
    };
    let job = Setup { training, validation, class: args.class, recipe: recipe(args, device)?, device, threads };
    // The network takes no empty batch.
    let workers = workers(args, device)?.min(usize::try_from(args.batch)?);
    println!(
        "{}: {} photographs, {count} parameters, {workers} workers, steps {} to {}",
        args.class.name,
        data.photos.len(),
        optimizer.step,
        args.steps
    );
    std::thread::scope(|scope| {
        let workers: Result<Vec<_>> = (0..workers).map(|_| Worker::start(scope, job.clone(), &optimizer)).collect();
        trainer::Trainer { args, optimizer, workers: workers?, log }.run()
    })
}

fn check(args: &Args) -> Result<()> {
    let counts = [args.steps, args.batch, args.every, args.validation];
    ensure!(!counts.contains(&0), "steps, batch, every and validation must be at least 1");
    let multiple = args.class.training.side_multiple;
    ensure!(args.side.is_multiple_of(multiple), "side {} is no multiple of {multiple}", args.side);
    for (name, share) in
        [("unchanged", args.unchanged), ("graded", args.graded), ("at-end", args.at_end), ("decay", args.decay)]
    {
        ensure!((0.0..=1.0).contains(&share), "{name} {share} is not within 0 to 1");
    }
    ensure!(args.seconds.is_none_or(|seconds| seconds > 0.0), "seconds must be above 0");
    ensure!(args.power > 0.0 && args.relation >= 0.0, "power must be above 0, relation at least 0");
    Ok(())
}

fn recipe(args: &Args, device: Device) -> Result<Recipe> {
    let kind = match args.precision {
        Precision::Auto => arithmetic(Kind::BFloat16, device),
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::F16 => anyhow::bail!("f16 underflows in training: take bf16"),
    };
    let Args { power, relation, masking, .. } = *args;
    Ok(Recipe { power, relation, masking, kind })
}

fn workers(args: &Args, device: Device) -> Result<usize> {
    Ok(match args.workers {
        0 if device.is_cuda() => 1,
        0 => std::thread::available_parallelism()?.get(),
        n => n,
    })
}

/// New ones, or what `--from` says.
fn parameters(args: &Args, device: Device) -> Result<BTreeMap<String, Tensor>> {
    let weights = Weights::new(device);
    let own = || bail!("star is trained on latents of its own: write \"own\" into its configuration");
    args.class.config().network(&weights.root(), device, &own)?;
    let mut params = weights.finish()?;
    let Some(from) = &args.from else { return Ok(params) };
    let given = given(from).with_context(|| format!("can't begin with {from}"))?;
    let mut taken = 0;
    for (name, param) in &mut params {
        if let Some(given) = given.get(name).filter(|given| given.size() == param.size()) {
            tch::no_grad(|| param.f_copy_(given).map(drop))?;
            taken += 1;
        }
    }
    ensure!(taken > 0, "no tensor of {from} fits into {}", args.class.name);
    println!("{taken} of {} tensors from {from}, {} new", params.len(), params.len() - taken);
    Ok(params)
}

fn given(model: &str) -> Result<BTreeMap<String, Tensor>> {
    if let Some(files) = models::find_built_in(model) {
        return weights::read_within(files.weights);
    }
    weights::read(&files::weights(crate::harmonizers::folder(model)?, &["model.safetensors"])?)
}

fn style(template: &str) -> Result<ProgressStyle> {
    Ok(ProgressStyle::with_template(template)?)
}
