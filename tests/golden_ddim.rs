//! DDIM with trailing timesteps against the reference implementation's trajectory, network outputs given.

mod shared;

use gstharmonize::diffusion::{Ddim, Prediction, Schedule};
use std::collections::HashMap;
use tch::Tensor;

#[test]
fn trailing_trajectory_is_the_reference_s() {
    let Some(folder) = shared::folder("golden/diffharmony-tiny") else { return };
    let golden: HashMap<String, Tensor> =
        Tensor::read_safetensors(folder.join("golden.safetensors")).unwrap().into_iter().collect();
    let schedule = Schedule::ScaledLinear { beta_start: 0.00085, beta_end: 0.012 };
    let ddim = Ddim::new(schedule, 1000, 5, Prediction::Epsilon, false).unwrap();
    let timesteps = Vec::<f32>::try_from(&golden["ddim_trailing.timesteps"]).unwrap();
    assert_eq!(timesteps, ddim.timesteps().iter().map(|&t| t as f32).collect::<Vec<_>>());

    let mut latent = golden["vae.z"].shallow_clone();
    for i in 0..5 {
        latent = ddim.step(i, &golden[&format!("ddim_trailing.unet_out.{i}")], &latent).unwrap();
        let expected = &golden[&format!("ddim_trailing.latent.{i}")];
        let error = ((&latent - expected).norm() / expected.norm()).double_value(&[]);
        assert!(error <= 1e-4, "step {i} is off by {error} in relative L2 norm");
    }
}
