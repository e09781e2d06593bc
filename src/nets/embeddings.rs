//! Sinusoidal timestep embedding (Ho et al. 2020).

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
