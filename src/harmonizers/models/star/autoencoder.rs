//! From pictures to latents and back: the small autoencoder that is trained with `star`, or Stable Diffusion's.

use crate::nets::vae::Vae;
use crate::nets::weights::channels_last;
use crate::nets::{Conv2d, Init, Norm, Path, ResnetBlock};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Which latents the Transformer works on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Latents {
    /// Of the autoencoder in `model.safetensors`: 1/4 of the proxy's size.
    Own {
        /// Latent channels.
        channels: i64,
        /// Feature channels.
        features: i64,
        groups: i64,
    },
    /// Of the AutoencoderKL in the model folder's `vae/`: 1/8 of the proxy's size, 4 channels, the posterior's mode.
    StableDiffusion,
}

/// Pixels to a side of a latent in our own autoencoder.
const FACTOR: i64 = 4;

/// Pictures in -1..1 to latents and back.
#[derive(Debug)]
pub enum Autoencoder {
    Own(Box<Own>),
    StableDiffusion(Box<Vae>),
}

#[derive(Debug)]
pub struct Own {
    channels: i64,
    conv_in: Conv2d,
    down: ResnetBlock,
    to_latent: Conv2d,
    from_latent: Conv2d,
    up: ResnetBlock,
    conv_out: Conv2d,
}

impl Own {
    fn new(p: &Path, channels: i64, features: i64, groups: i64) -> Result<Self> {
        ensure!(
            channels > 0 && groups > 0 && features > 0 && features % groups == 0,
            "an autoencoder of {channels} latent channels and {features} features in {groups} groups makes no sense"
        );
        let pixels = 3 * FACTOR * FACTOR;
        let conv = |name: &str, channels, kernel| Conv2d::new(&p.sub(name), channels, kernel, 1, Init::FanIn(1.0));
        let block = |name: &str| ResnetBlock::resizing(&p.sub(name), [features; 2], None, Norm { groups, eps: 1e-5 });
        Ok(Self {
            channels,
            conv_in: conv("conv_in", [pixels, features], 3)?,
            down: block("down")?,
            to_latent: conv("to_latent", [features, channels], 1)?,
            from_latent: conv("from_latent", [channels, features], 3)?,
            up: block("up")?,
            conv_out: conv("conv_out", [features, pixels], 3)?,
        })
    }
}

impl Autoencoder {
    pub fn own(p: &Path, channels: i64, features: i64, groups: i64) -> Result<Self> {
        Ok(Self::Own(Box::new(Own::new(&p.sub("autoencoder"), channels, features, groups)?)))
    }

    pub fn channels(&self) -> i64 {
        match self {
            Self::Own(own) => own.channels,
            Self::StableDiffusion(vae) => vae.config.latent_channels,
        }
    }

    /// Pixels to a side of a latent.
    pub fn factor(&self) -> i64 {
        match self {
            Self::Own(_) => FACTOR,
            Self::StableDiffusion(vae) => vae.config.downscale(),
        }
    }

    /// B x 3 x h x w in -1..1 to B x C x h / factor x w / factor, of about unit variance.
    pub fn encode(&self, signed: &Tensor) -> Result<Tensor> {
        match self {
            Self::Own(own) => {
                let x = own.conv_in.forward(&channels_last(&signed.f_pixel_unshuffle(FACTOR)?)?)?;
                own.to_latent.forward(&own.down.forward_shifted(&x, None)?)
            }
            Self::StableDiffusion(vae) => Ok(vae.encode(signed)?.mean.f_mul_scalar(vae.config.scaling_factor)?),
        }
    }

    /// What `encode` came from, about.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        match self {
            Self::Own(own) => {
                let x = own.up.forward_shifted(&own.from_latent.forward(&channels_last(latents)?)?, None)?;
                Ok(own.conv_out.forward(&x)?.f_pixel_shuffle(FACTOR)?)
            }
            Self::StableDiffusion(vae) => vae.decode(&latents.f_div_scalar(vae.config.scaling_factor)?),
        }
    }
}
