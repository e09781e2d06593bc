//! What the configurations of the small models have to keep to; errors name what doesn't, and its value.

use anyhow::{Result, ensure};

/// The sides of a U-Net at three sizes, and of its statistics. `attended` are those of its channels that heads share.
pub fn unet(channels: [i64; 3], attended: &[i64], groups: i64, heads: i64, bins: i64) -> Result<()> {
    ensure!(
        groups > 0 && heads > 0 && bins > 0,
        "{groups} groups, {heads} heads and {bins} bins: each must be at least 1"
    );
    let [c0, c1, c2] = channels;
    ensure!(
        channels.iter().all(|c| *c > 0 && c % groups == 0) && attended.iter().all(|c| c % heads == 0),
        "channels {c0}, {c1}, {c2} must divide into {groups} groups and {heads} heads"
    );
    Ok(())
}

/// The long side of a proxy in pixels.
pub fn proxy_size(size: u32, least: u32) -> Result<()> {
    ensure!((least..=4096).contains(&size), "proxy_size {size} is not within {least} to 4096");
    Ok(())
}

/// A diffusion's own timesteps, and how many of them a sampler takes.
pub fn steps(timesteps: usize, steps: u32) -> Result<()> {
    ensure!((2..=100_000).contains(&timesteps), "train_timesteps {timesteps} is not within 2 to 100000");
    ensure!((1..=timesteps).contains(&(steps as usize)), "steps {steps} is not within 1 to {timesteps}");
    Ok(())
}

/// What a change of colour is multiplied with to be a diffusion's variable.
pub fn residual_scale(scale: f64) -> Result<()> {
    ensure!(scale.is_finite() && scale > 0.0, "residual_scale {scale} is not above 0");
    Ok(())
}
