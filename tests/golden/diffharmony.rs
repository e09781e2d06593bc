//! DiffHarmony and DiffHarmony++ from end to end against every value that the reference implementation recorded, its draws given.

use crate::shared;
use gstharmonize::diffusion::{self, Sampler, Scheduler, TimestepSpacing};
use gstharmonize::harmonizers::Precision;
use gstharmonize::harmonizers::diffharmony::{Decoder, DiffHarmony, Parts};
use gstharmonize::nets::clip::{ClipConfig, ClipTextModel, END_TOKEN};
use gstharmonize::nets::unet_2d::{UNet2DConfig, UNet2DModel};
use gstharmonize::nets::unet_2d_condition::{TextContext, UNet2DConditionConfig, UNet2DConditionModel};
use gstharmonize::nets::vae::{Vae, VaeConfig};
use gstharmonize::nets::{self, Weights};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// Relative L2 norm, as the reference's README promises of an implementation that agrees.
const TOLERANCE: f64 = 1e-4;

struct Golden {
    folder: PathBuf,
    tensors: HashMap<String, Tensor>,
    checked: RefCell<HashSet<String>>,
}

impl Golden {
    fn open() -> Option<Self> {
        let folder = shared::folder("golden/diffharmony-tiny")?;
        tch::set_num_threads(1);
        let tensors = Tensor::read_safetensors(folder.join("golden.safetensors")).unwrap().into_iter().collect();
        Some(Self { folder, tensors, checked: RefCell::default() })
    }

    fn load(&self, parts: Parts) -> DiffHarmony {
        DiffHarmony::load(&self.folder, Device::Cpu, Precision::F32, parts, &|| false).unwrap()
    }

    fn get(&self, key: &str) -> Tensor {
        self.tensors[key].shallow_clone()
    }

    /// The network of the folder `part`, built from the text of its configuration.
    fn build<N>(&self, part: &str, new: impl Fn(&nets::Path, &str) -> anyhow::Result<N>) -> N {
        let file = |name: &str| self.folder.join(part).join(name);
        let weights = ["diffusion_pytorch_model.safetensors", "model.safetensors"].map(file);
        let weights = weights.iter().find(|file| file.exists()).unwrap();
        let weights = Weights::open(weights, Device::Cpu, Kind::Float).unwrap();
        let network = new(&weights.root(), &std::fs::read_to_string(file("config.json")).unwrap()).unwrap();
        weights.finish().unwrap();
        network
    }

    /// Samples with the network from `start` of unit variance on, each value checked: the network's input, if the reference
    /// has recorded it, its output, and the latents after the step. Step `i` draws `run.draw.(first_draw + i)`.
    fn follow(
        &self,
        run: &str,
        unet: &Unet,
        sampler: &dyn Sampler,
        start: Tensor,
        condition: &Tensor,
        first_draw: usize,
    ) {
        let mut z = start * sampler.init_noise_sigma();
        for (i, &t) in sampler.timesteps().iter().enumerate() {
            let input = Tensor::cat(&[&(&z * sampler.scale_model_input(i)), condition], 1);
            if self.tensors.contains_key(&format!("{run}.unet_in.{i}")) {
                self.check(&format!("{run}.unet_in.{i}"), &input);
                self.check(&format!("{run}.timestep.{i}"), &Tensor::from_slice(&[t as f32]));
            }
            let emb = unet.net.time_embedding(&[t], Kind::Float, Device::Cpu).unwrap();
            let output = unet.net.forward(&input, &emb, &unet.text).unwrap();
            self.check(&format!("{run}.unet_out.{i}"), &output);
            let draw = self.tensors.get(&format!("{run}.draw.{}", first_draw + i));
            z = sampler.step(i, &output, &z, draw).unwrap();
            self.check(&format!("{run}.latent.{i}"), &z);
        }
        if self.tensors.contains_key(&format!("{run}.timesteps")) {
            let timesteps: Vec<f32> = sampler.timesteps().iter().map(|&t| t as f32).collect();
            self.check(&format!("{run}.timesteps"), &Tensor::from_slice(&timesteps));
        }
    }

    /// The recorded draws of `run`, in order.
    fn draws(&self, run: &str) -> impl FnMut(&[i64]) -> anyhow::Result<Tensor> {
        let mut index = 0;
        move |shape| {
            let draw = self.get(&format!("{run}.draw.{index}"));
            index += 1;
            assert_eq!(draw.size(), shape, "draw {} of {run}", index - 1);
            Ok(draw)
        }
    }

    fn check(&self, key: &str, found: &Tensor) {
        self.checked.borrow_mut().insert(key.to_owned());
        let expected = self.get(key);
        assert_eq!(found.size(), expected.size(), "{key}");
        // The last timestep is 0.
        let norm = expected.norm().double_value(&[]).max(f64::MIN_POSITIVE);
        let error = (found - &expected).norm().double_value(&[]) / norm;
        println!("{key}: {error:.1e}");
        assert!(error <= TOLERANCE, "{key} is off by {error} in relative L2 norm");
    }
}

struct Unet {
    net: UNet2DConditionModel,
    text: TextContext,
}

/// What the reference was given.
fn is_input(key: &str) -> bool {
    ["composite", "mask", "vae.z", "sampler.cond", "refine.in"].contains(&key) || key.contains(".draw.")
}

/// Nothing of the reference's is taken on the way but its inputs: errors of every part add up, and stay within the tolerance.
#[test]
fn every_value_of_the_reference_is_met() {
    let Some(golden) = Golden::open() else { return };
    let _guard = tch::no_grad_guard();
    let clip = golden.build("base/text_encoder", |p, json| ClipTextModel::new(p, ClipConfig::parse(json)?));
    let text = clip.null_text(END_TOKEN).unwrap();
    golden.check("null_text", &text);
    let net = golden.build("base/unet", |p, json| UNet2DConditionModel::new(p, UNet2DConditionConfig::parse(json)?));
    let unet = Unet { text: net.text_context(&text).unwrap(), net };

    let scheduler = std::fs::read_to_string(golden.folder.join("base/scheduler/scheduler_config.json")).unwrap();
    let sampler = |method: Scheduler, spacing, steps| {
        let trained = diffusion::SchedulerConfig::from_json(&scheduler).unwrap();
        method.sampler(&diffusion::SchedulerConfig { spacing: Some(spacing), ..trained }, steps).unwrap()
    };
    for (run, method, spacing, steps) in [
        ("ddim_trailing", Scheduler::Ddim, TimestepSpacing::Trailing, 5),
        ("ddim_leading", Scheduler::Ddim, TimestepSpacing::Leading, 5),
        ("euler_linspace", Scheduler::Euler, TimestepSpacing::Linspace, 5),
        ("lcm", Scheduler::Lcm, TimestepSpacing::Leading, 4),
    ] {
        let sampler = sampler(method, spacing, steps);
        golden.follow(run, &unet, &*sampler, golden.get("vae.z"), &golden.get("sampler.cond"), 0);
    }

    let (composite, mask) = (golden.get("composite"), golden.get("mask"));
    let model = golden.load(Parts::All);
    let systems =
        [("diffharmony", "base/vae", Decoder::Vae), ("diffharmony_pp", "condition_vae", Decoder::ConditionVae)];
    for (run, part, decoder) in systems {
        let vae = golden.build(part, |p, json| Vae::new(p, VaeConfig::parse(json)?));
        let posterior = vae.encode(&composite).unwrap();
        let latents = posterior.sample(&golden.get(&format!("{run}.draw.1"))).unwrap() * vae.config.scaling_factor;
        let size = latents.size();
        let condition = Tensor::cat(&[&mask.upsample_nearest2d([size[2], size[3]], None, None), &latents], 1);
        let start = golden.get(&format!("{run}.draw.0"));
        golden.follow(
            run,
            &unet,
            &*sampler(Scheduler::EulerAncestral, TimestepSpacing::Linspace, 5),
            start,
            &condition,
            2,
        );
        let image = model.original(&composite, &mask, 5, decoder, &mut golden.draws(run)).unwrap();
        golden.check(&format!("{run}.image"), &image);
        if decoder == Decoder::Vae {
            golden.check("vae.mean", &posterior.mean);
            golden.check("vae.logvar", &posterior.logvar);
            golden.check("vae.decode", &vae.decode(&golden.get("vae.z")).unwrap());
        }
    }
    let refinement = golden.build("refinement", |p, json| UNet2DModel::new(p, UNet2DConfig::parse(json)?));
    golden.check("refine.out", &refinement.forward(&golden.get("refine.in")).unwrap());

    let checked = golden.checked.borrow();
    let missed: Vec<_> = golden.tensors.keys().filter(|key| !is_input(key) && !checked.contains(*key)).collect();
    assert!(missed.is_empty(), "never compared: {missed:?}");
}

#[test]
fn refinement_takes_and_gives_pictures() {
    let Some(golden) = Golden::open() else { return };
    let _guard = tch::no_grad_guard();
    let input = golden.get("refine.in");
    let unsigned = |x: Tensor| (x + 1) / 2;
    let (harmonized, mask) = (unsigned(input.narrow(1, 0, 3)), input.narrow(1, 3, 1));
    let composite = unsigned(input.narrow(1, 4, 3));
    let found = golden.load(Parts::All).refine(&harmonized, &mask, &composite).unwrap();
    let expected = golden.get("refine.out").clamp(-1.0, 1.0) / 2 + 0.5;
    let error = ((found - &expected).norm() / expected.norm()).double_value(&[]);
    assert!(error <= TOLERANCE, "{error}");
}
