//! The options that choose a model and how it samples, named and bounded as the element's properties, and waiting for it to
//! load.

use anyhow::{Result, bail, ensure};
use gst::prelude::*;
use gstharmonize::diffusion::{NoiseMode, Scheduler};
use gstharmonize::elements::harmonize::SMOOTHING;
use gstharmonize::engine::{Engine, Parameters, Request, Temporal};
use gstharmonize::harmonizers::{ModelSpec, Precision, Sampling, models};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A built-in model (compact, gift, star), or a folder with config.json and its *.safetensors
    #[arg(long, value_name = "NAME|FOLDER", default_value = models::DEFAULT)]
    pub model: String,

    #[command(flatten)]
    pub options: ModelOptions,
}

/// Several models with the same options.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Model")]
pub struct ModelsArgs {
    /// A built-in model (compact, gift, star), or a folder with config.json and its *.safetensors. Give it again for another, or several with commas
    #[arg(long = "model", value_name = "NAME|FOLDER", default_value = models::DEFAULT, value_delimiter = ',')]
    models: Vec<String>,

    #[command(flatten)]
    options: ModelOptions,
}

impl ModelsArgs {
    pub fn each(&self) -> Vec<ModelArgs> {
        let with = |model: &String| ModelArgs { model: model.clone(), options: self.options.clone() };
        self.models.iter().map(with).collect()
    }

    /// The only one; an error where there are several. `option` is what they don't go with.
    pub fn one(&self, option: &str) -> Result<ModelArgs> {
        match &self.each()[..] {
            [model] => Ok(model.clone()),
            models => bail!("{option} measures one model, but {} were asked for: give --model once", models.len()),
        }
    }
}

/// How a model runs.
#[derive(clap::Args, Clone)]
pub struct ModelOptions {
    /// auto, cpu, cuda or cuda:N; cuda on a machine without it is an error
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// auto, f32, bf16 or f16: the kind that weights are kept in, and features computed in where the device is fast at that
    #[arg(long, value_name = "KIND", default_value_t = Precision::Auto)]
    pub precision: Precision,

    /// euler-ancestral, euler, ddim or lcm [default: the model's own]
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<Scheduler>,

    /// Sampler steps; 0 takes the model's own number
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub steps: u32,

    /// Key of the noise: the same seed gives the same bytes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// How much of the change is applied, 0 (none) to 1 (all)
    #[arg(long, value_name = "0..1", default_value_t = 1.0, value_parser = strength)]
    pub strength: f64,

    /// Long side in pixels of the small picture the model sees; 0 takes the model's own
    #[arg(long, value_name = "PIXELS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=4096))]
    pub proxy_size: u32,
}

/// How colours go on from frame to frame: properties of the element `harmonize`.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "From frame to frame")]
pub struct TemporalArgs {
    /// How much colours are averaged over time, as what a neighbour 40 ms away weighs: 0 takes each frame by itself, 1 all of 0.8
    /// seconds alike
    #[arg(long, value_name = "0..1", default_value_t = SMOOTHING, value_parser = strength)]
    pub smoothing: f64,

    /// Run the model once in so many seconds, and interpolate in between; 0 runs it on every frame
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub keyframe_interval: f64,

    /// fixed: the same noise for every frame; drift: it turns into other noise with time; object: it goes along with the
    /// foreground
    #[arg(long, value_name = "NAME", default_value = "fixed", value_parser = ["fixed", "drift", "object"])]
    pub noise: String,

    /// Seconds in which --noise drift turns into other noise
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = period)]
    pub noise_period: f64,

    /// Average across cuts as well
    #[arg(long)]
    pub no_scene_detection: bool,

    /// Frames that the model is at work on at the same time, a thread each; the film does not depend on it [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: Option<u32>,
}

impl TemporalArgs {
    /// Sets the properties of the same names on the element `harmonize`.
    pub fn configure(&self, harmonize: &gst::Element) {
        let Temporal { interval, smoothing, detection } = self.temporal();
        harmonize.set_property_from_str("noise", &self.noise);
        harmonize.set_properties(&[
            ("smoothing", &smoothing),
            ("keyframe-interval", &interval),
            ("noise-period", &self.period()),
            ("scene-detection", &detection),
            ("workers", &(self.workers() as u32)),
        ]);
    }

    pub fn temporal(&self) -> Temporal {
        let interval = nanoseconds(self.keyframe_interval);
        Temporal { interval, smoothing: self.smoothing, detection: !self.no_scene_detection }
    }

    /// That of a frame at stream time `time`.
    pub fn noise(&self, time: i64) -> NoiseMode {
        match &*self.noise {
            "drift" => NoiseMode::Drift { time, period: self.period() },
            "object" => NoiseMode::Object,
            _ => NoiseMode::Fixed,
        }
    }

    fn period(&self) -> u64 {
        nanoseconds(self.noise_period).max(1)
    }

    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(cores, |workers| workers as usize).min(64)
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

/// An hour is longer than any scene, and far from what nanoseconds can count.
fn seconds(text: &str) -> Result<f64> {
    let seconds = text.parse()?;
    ensure!((0.0..=3600.0).contains(&seconds), "it goes from 0 to 3600");
    Ok(seconds)
}

fn period(text: &str) -> Result<f64> {
    let period = seconds(text)?;
    ensure!(period > 0.0, "it is more than 0");
    Ok(period)
}

fn strength(text: &str) -> Result<f64> {
    let strength = text.parse()?;
    ensure!((0.0..=1.0).contains(&strength), "it goes from 0 to 1");
    Ok(strength)
}

/// A look's file.
pub fn cube(text: &str) -> Result<PathBuf> {
    named(text, "cube")
}

pub fn png(text: &str) -> Result<PathBuf> {
    named(text, "png")
}

/// Its name tells the format to who reads it, and nothing is rendered or measured for a folder that is not there.
fn named(text: &str, extension: &str) -> Result<PathBuf> {
    let path = PathBuf::from(text);
    ensure!(path.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension)), "name it .{extension}");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(folder.is_none_or(|folder| folder.is_dir()), "there is no such folder");
    Ok(path)
}

impl ModelArgs {
    /// Of a picture by itself.
    pub fn parameters(&self) -> Parameters {
        let ModelOptions { sampler, steps, seed, strength, proxy_size, .. } = self.options;
        let sampling = Sampling { scheduler: sampler, steps };
        let request = Request { sampling, seed, ..Default::default() };
        Parameters { request, proxy_size, strength: strength as f32, ..Default::default() }
    }

    /// Sets the properties of the same names on the element `harmonize`.
    pub fn configure(&self, harmonize: &gst::Element) {
        let ModelOptions { device, precision, sampler, steps, seed, strength, proxy_size } = &self.options;
        harmonize.set_property_from_str("precision", precision.name());
        harmonize.set_property_from_str("sampler", sampler.map_or("auto", Scheduler::name));
        harmonize.set_properties(&[
            ("model", &self.model),
            ("device", device),
            ("steps", steps),
            ("seed", seed),
            ("strength", strength),
            ("proxy-size", proxy_size),
        ]);
    }

    fn spec(&self) -> ModelSpec {
        let ModelOptions { device, precision, .. } = &self.options;
        ModelSpec { model: self.model.clone(), device: device.clone(), precision: *precision }
    }

    /// Loads the model on `workers` threads.
    pub fn load(&self, workers: usize) -> Result<Engine> {
        self.loading(|spec| Engine::load(spec, workers, &|| false))
    }

    /// What `load` makes of the model asked for, with a spinner on a terminal meanwhile.
    pub fn loading<T>(&self, load: impl FnOnce(&ModelSpec) -> Result<T>) -> Result<T> {
        let spinner = ProgressBar::new_spinner().with_message(format!("loading model {}", self.model));
        spinner.enable_steady_tick(Duration::from_millis(100));
        let loaded = load(&self.spec());
        spinner.finish_and_clear();
        loaded
    }
}

/// A bar on stderr that counts to `len`; indicatif draws nothing where stderr is no terminal.
pub fn progress(len: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(len).with_message(what);
    // A template that doesn't parse leaves indicatif's own look.
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}
