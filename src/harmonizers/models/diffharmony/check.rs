//! Whether a folder's networks fit each other and the pictures they are for. Each fits its own configuration already.

use crate::nets::taesd::TaesdConfig;
use crate::nets::unet_2d::UNet2DConfig;
use crate::nets::unet_2d_condition::UNet2DConditionConfig;
use crate::nets::vae::VaeConfig;
use anyhow::{Result, ensure};

/// Channels of a picture and of its mask.
const RGB: i64 = 3;
const MASK: i64 = 1;

/// The configurations of those networks that are there.
#[derive(Clone, Debug, Default)]
pub struct Configs {
    pub unet: Option<UNet2DConditionConfig>,
    pub vae: Option<VaeConfig>,
    pub condition_vae: Option<VaeConfig>,
    pub taesd: Option<TaesdConfig>,
    pub refinement: Option<UNet2DConfig>,
}

impl Configs {
    /// An error names the configuration that doesn't fit, and what it would have to say.
    pub fn fit(&self) -> Result<()> {
        let Some(unet) = &self.unet else { return Ok(()) };
        let latents = unet.out_channels;
        ensure!(
            unet.in_channels == 2 * latents + MASK,
            "unet/config.json has {} in_channels and {latents} out_channels: harmonization takes {} (noisy latents, mask, the \
         composite's latents)",
            unet.in_channels,
            2 * latents + MASK
        );
        for (vae, name, additional) in [(&self.vae, "vae", None), (&self.condition_vae, "condition_vae", Some(MASK))] {
            let Some(vae) = vae else { continue };
            let VaeConfig { in_channels, out_channels, latent_channels, additional_in_channels, .. } = *vae;
            ensure!(
                [in_channels, out_channels, latent_channels] == [RGB, RGB, latents],
                "{name}/config.json is of an autoencoder from {in_channels} channels by {latent_channels} to {out_channels}: unet \
             works on the {latents} latents of pictures of {RGB}"
            );
            ensure!(
                additional_in_channels == additional,
                "{name}/config.json has {} channels for the mask: expected {}",
                additional_in_channels.unwrap_or(0),
                additional.unwrap_or(0)
            );
        }
        if let (Some(taesd), Some(vae)) = (&self.taesd, &self.vae) {
            let TaesdConfig { out_channels, latent_channels, num_decoder_blocks, .. } = taesd;
            ensure!(
                [*out_channels, *latent_channels] == [RGB, latents]
                    && num_decoder_blocks.len() == vae.block_out_channels.len(),
                "taesd/config.json is not of a decoder from vae's latents to pictures"
            );
        }
        if let Some(refinement) = &self.refinement {
            let UNet2DConfig { in_channels, out_channels, .. } = *refinement;
            ensure!(
                [RGB, RGB + MASK, RGB + MASK + RGB].contains(&in_channels) && out_channels == RGB,
                "refinement/config.json has {in_channels} in_channels and {out_channels} out_channels: expected 3, 4 or 7 \
             (harmonized picture, mask, composite) and 3"
            );
        }
        Ok(())
    }
}
