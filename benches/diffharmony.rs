//! The Stable-Diffusion networks of this crate as a process that waits for work, so that `side_by_side.py` can have them and
//! diffusers take turns. Not a benchmark by itself: see README.md.
//!
//! `cargo bench --bench diffharmony -- MODEL f32|bf16|f16 THREADS cpu|cuda`, then a line each on stdin: `unet IN OUT` or `frame IN OUT` with
//! safetensors files, or `memory`. Answers with one line: seconds by the clock and on the processors, or bytes.

use anyhow::{Context, Result, bail, ensure};
use gstharmonize::diffusion::{Scheduler, SchedulerConfig};
use gstharmonize::nets::unet_2d_condition::{TextContext, UNet2DConditionConfig, UNet2DConditionModel};
use gstharmonize::nets::vae::{Vae, VaeConfig};
use gstharmonize::nets::{Weights, arithmetic};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const STEPS: usize = 5;

struct Model {
    unet: UNet2DConditionModel,
    vae: Vae,
    schedule: SchedulerConfig,
    kind: Kind,
    device: Device,
}

impl Model {
    fn load(folder: &Path, kind: Kind, device: Device) -> Result<Self> {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
        let config = UNet2DConditionConfig::parse(&read("base/unet/config.json")?)?;
        let unet_weights = Weights::open(&folder.join("base/unet").join(WEIGHTS), device, kind)?;
        let unet = UNet2DConditionModel::new(&unet_weights.root(), config)?;
        unet_weights.finish()?;
        let config = VaeConfig::parse(&read("base/vae/config.json")?)?;
        let vae_weights = Weights::open(&folder.join("base/vae").join(WEIGHTS), device, kind)?;
        let vae = Vae::new(&vae_weights.root(), config)?;
        vae_weights.finish()?;
        let schedule = SchedulerConfig::from_json(&read("base/scheduler/scheduler_config.json")?)?;
        Ok(Self { unet, vae, schedule, kind: arithmetic(kind, device), device })
    }

    fn text(&self, given: &Tensors) -> Result<TextContext> {
        self.unet.text_context(&given.get("text", self.kind)?)
    }

    fn step(&self, given: &Tensors, text: &TextContext) -> Result<Tensor> {
        let t = given.get("t", Kind::Double)?.f_double_value(&[0])?;
        let emb = self.unet.time_embedding(&[t], self.kind, self.device)?;
        self.unet.forward(&given.get("x", self.kind)?, &emb, text)
    }

    /// Composite to harmonized picture: DDIM from given noise, the posterior's mode, no refinement.
    fn frame(&self, given: &Tensors, text: &TextContext) -> Result<Tensor> {
        let kind = self.kind;
        let (composite, noise) = (given.get("composite", kind)?, given.get("noise", Kind::Float)?);
        let (_, channels, h, w) = noise.size4()?;
        let mask = given.get("mask", kind)?.f_upsample_nearest2d([h, w], None, None)?;
        let scale = self.vae.config.scaling_factor;
        let condition = Tensor::f_cat(&[mask, self.vae.encode(&composite)?.mean.f_mul_scalar(scale)?], 1)?;
        let sampler = Scheduler::Ddim.sampler(&self.schedule, STEPS)?;
        let mut x = noise.f_mul_scalar(sampler.init_noise_sigma())?;
        for (i, &t) in sampler.timesteps().iter().enumerate() {
            let emb = self.unet.time_embedding(&[t], kind, self.device)?;
            let input =
                Tensor::f_cat(&[&x.f_mul_scalar(sampler.scale_model_input(i))?.f_to_kind(kind)?, &condition], 1)?;
            x = sampler.step(i, &self.unet.forward(&input, &emb, text)?, &x, None)?;
        }
        ensure!(channels == self.vae.config.latent_channels, "the noise has {channels} channels");
        self.vae.decode(&x.f_div_scalar(scale)?.f_to_kind(kind)?)
    }
}

struct Tensors(HashMap<String, Tensor>, Device);

impl Tensors {
    fn get(&self, name: &str, kind: Kind) -> Result<Tensor> {
        Ok(self.0.get(name).with_context(|| format!("no tensor {name}"))?.f_to_device(self.1)?.f_to_kind(kind)?)
    }
}

/// The most memory this process has had, in bytes.
fn peak_memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Seconds that this process has spent on processors.
fn processor_seconds() -> Result<f64> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().context("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 * 1e-9)
}

/// Waits for what the device has been given to do.
fn finish(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [folder, kind, threads, device] = args.as_slice() else { bail!("usage: MODEL f32|bf16|f16 THREADS cpu|cuda") };
    let kind = match kind.as_str() {
        "f32" => Kind::Float,
        "bf16" => Kind::BFloat16,
        "f16" => Kind::Half,
        _ => bail!("{kind} is none of f32, bf16 and f16"),
    };
    let device = gstharmonize::harmonizers::device(device)?;
    tch::set_num_threads(threads.parse()?);
    let _guard = tch::no_grad_guard();
    let answer = |text: String| -> Result<()> {
        println!("{text}");
        Ok(std::io::stdout().flush()?)
    };
    let start = Instant::now();
    let model = Model::load(Path::new(folder), kind, device)?;
    answer(format!("{:.3}", start.elapsed().as_secs_f64()))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        let (input, output) = match words.as_slice() {
            ["memory"] => {
                answer(peak_memory()?.to_string())?;
                continue;
            }
            ["unet" | "frame", input, output] => (input, output),
            _ => bail!("not understood: {line}"),
        };
        let given = Tensors(Tensor::read_safetensors(input)?.into_iter().collect(), device);
        let text = model.text(&given)?;
        finish(device);
        let (start, processors) = (Instant::now(), processor_seconds()?);
        let result = if words[0] == "unet" { model.step(&given, &text)? } else { model.frame(&given, &text)? };
        finish(device);
        let seconds = [start.elapsed().as_secs_f64(), processor_seconds()? - processors];
        Tensor::write_safetensors(
            &[("y", result.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?)],
            output,
        )?;
        answer(format!("{:.4} {:.4}", seconds[0], seconds[1]))?;
    }
    Ok(())
}
