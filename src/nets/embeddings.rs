//! Sinusoidal timestep embedding (Ho et al. 2020).

use super::{Init, Linear, Path};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// B timesteps to B x `channels` (even): cosines, then sines, of wavelengths from 2 pi to 2 pi 10^4.
pub fn timestep(timesteps: &[f64], channels: i64, device: Device) -> Result<Tensor> {
    let half = channels / 2;
    let frequency = |i: i64| (-(1e4f64.ln()) * i as f64 / half as f64).exp();
    let mut values = Vec::with_capacity(timesteps.len() * channels as usize);
    for &t in timesteps {
        values.extend((0..half).map(|i| (t * frequency(i)).cos() as f32));
        values.extend((0..half).map(|i| (t * frequency(i)).sin() as f32));
    }
    Ok(Tensor::f_from_slice(&values)?
        .f_view([timesteps.len() as i64, channels])?
        .f_to_kind(Kind::Float)?
        .f_to_device(device)?)
}

/// Two linear layers with SiLU between, from sinusoids to the embedding every block sees.
#[derive(Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

impl TimestepEmbedding {
    pub fn new(p: &Path, channels: [i64; 2]) -> Result<Self> {
        let linear = |name: &str, channels| Linear::new(&p.sub(name), channels, Init::FanIn(1.0));
        Ok(Self { linear_1: linear("linear_1", channels)?, linear_2: linear("linear_2", [channels[1]; 2])? })
    }

    pub fn forward(&self, sinusoids: &Tensor) -> Result<Tensor> {
        self.linear_2.forward(&self.linear_1.forward(sinusoids)?.f_silu()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_diffusion_s_values() {
        let emb = timestep(&[749.25], 320, Device::Cpu).unwrap();
        for (i, expected) in [(0, 0.01985), (1, -0.88733), (160, 0.9998)] {
            assert!((emb.double_value(&[0, i]) - expected).abs() < 1e-4, "{i}: {}", emb.double_value(&[0, i]));
        }
    }
}
