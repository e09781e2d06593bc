//! The samplers against the reference implementation's trajectories, its network outputs and draws given.

use crate::shared;
use gstharmonize::diffusion::{Sampler, Scheduler, SchedulerConfig, TimestepSpacing};
use std::collections::HashMap;
use tch::{Kind, Tensor};

const TOLERANCE: f64 = 1e-4;

struct Golden {
    config: SchedulerConfig,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    /// None, said on stderr, where the reference data are missing.
    fn read() -> Option<Self> {
        let folder = shared::folder("golden/diffharmony-tiny")?;
        let config = std::fs::read_to_string(folder.join("base/scheduler/scheduler_config.json")).unwrap();
        let tensors = Tensor::read_safetensors(folder.join("golden.safetensors")).unwrap();
        Some(Self { config: SchedulerConfig::from_json(&config).unwrap(), tensors: tensors.into_iter().collect() })
    }

    fn sampler(&self, method: Scheduler, spacing: TimestepSpacing, steps: usize) -> Box<dyn Sampler> {
        method.sampler(&SchedulerConfig { spacing: Some(spacing), ..self.config.clone() }, steps).unwrap()
    }

    fn near(&self, found: &Tensor, name: &str) {
        let expected = &self.tensors[name];
        let error = ((found - expected).norm() / expected.norm()).double_value(&[]);
        eprintln!("{name}: {error:.2e}");
        assert!(error <= TOLERANCE, "{name} is off by {error} in relative L2 norm");
    }

    /// Follows the trajectory `name` from `start` of unit variance; the draw of step `i` is `name.draw.(first_draw + i)`.
    fn follow(&self, name: &str, sampler: &dyn Sampler, start: &Tensor, first_draw: usize) {
        let mut x = start * sampler.init_noise_sigma();
        for i in 0..sampler.timesteps().len() {
            if let Some(input) = self.tensors.get(&format!("{name}.unet_in.{i}")) {
                let scaled = &x * sampler.scale_model_input(i);
                self.near(&Tensor::cat(&[&scaled, &input.narrow(1, 4, 5)], 1), &format!("{name}.unet_in.{i}"));
            }
            let draw = self.tensors.get(&format!("{name}.draw.{}", first_draw + i));
            x = sampler.step(i, &self.tensors[&format!("{name}.unet_out.{i}")], &x, draw).unwrap();
            assert_eq!(x.kind(), Kind::Float);
            self.near(&x, &format!("{name}.latent.{i}"));
        }
    }

    fn timesteps(&self, name: &str) -> Vec<f64> {
        Vec::<f64>::try_from(self.tensors[&format!("{name}.timesteps")].to_kind(Kind::Double)).unwrap()
    }

    fn starts_at_z(&self, name: &str, method: Scheduler, spacing: TimestepSpacing, steps: usize) {
        let sampler = self.sampler(method, spacing, steps);
        assert_eq!(sampler.timesteps(), self.timesteps(name));
        self.follow(name, sampler.as_ref(), &self.tensors["vae.z"], 0);
    }
}

#[test]
fn ddim_trailing_is_the_reference_s() {
    let Some(golden) = Golden::read() else { return };
    golden.starts_at_z("ddim_trailing", Scheduler::Ddim, TimestepSpacing::Trailing, 5);
}

#[test]
fn ddim_leading_is_the_reference_s() {
    let Some(golden) = Golden::read() else { return };
    golden.starts_at_z("ddim_leading", Scheduler::Ddim, TimestepSpacing::Leading, 5);
}

#[test]
fn euler_linspace_is_the_reference_s() {
    let Some(golden) = Golden::read() else { return };
    golden.starts_at_z("euler_linspace", Scheduler::Euler, TimestepSpacing::Linspace, 5);
}

#[test]
fn lcm_is_the_reference_s() {
    let Some(golden) = Golden::read() else { return };
    golden.starts_at_z("lcm", Scheduler::Lcm, TimestepSpacing::Leading, 4);
}

#[test]
fn euler_ancestral_is_the_reference_s() {
    let Some(golden) = Golden::read() else { return };
    let sampler = golden.sampler(Scheduler::EulerAncestral, TimestepSpacing::Linspace, 5);
    for name in ["diffharmony", "diffharmony_pp"] {
        for (i, t) in sampler.timesteps().iter().enumerate() {
            assert_eq!(*t, golden.tensors[&format!("{name}.timestep.{i}")].double_value(&[0]));
        }
        // Draw 0 is the start, draw 1 the composite's posterior.
        golden.follow(name, sampler.as_ref(), &golden.tensors[&format!("{name}.draw.0")], 2);
    }
}
