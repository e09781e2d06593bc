//! DiffHarmony's stages as its authors ran them: every posterior sampled, Euler ancestral, the refinement at 256 x 256.

use super::reference::Stages;
use crate::diffusion::Noise;
use crate::harmonizers::colour::signed;
use crate::harmonizers::diffharmony::{Decoder, DiffHarmony, Folder, Parts};
use crate::harmonizers::{self, ModelSpec, Precision, models};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use tch::{Device, Tensor};

/// A checkpoint with all its decoders loaded.
#[derive(Debug)]
pub struct Published {
    model: DiffHarmony,
    device: Device,
    /// 0 takes the model's own number.
    steps: u32,
}

impl Published {
    /// `Precision::Auto` is the authors' f16 on CUDA and f32 on a CPU. An error where the model is not a DiffHarmony folder.
    pub fn load(spec: &ModelSpec, steps: u32) -> Result<Self> {
        ensure!(
            models::find_built_in(&spec.model).is_none() && Folder::is_one(harmonizers::folder(&spec.model)?),
            "model {} has no reference mode, which is DiffHarmony's published evaluation: give --model the folder of its \
             checkpoint, with unet and vae in it or in its folder base",
            spec.model
        );
        let folder = Path::new(&spec.model);
        let device = harmonizers::device(&spec.device)?;
        let precision = match (spec.precision, device) {
            (Precision::Auto, Device::Cuda(_)) => Precision::F16,
            (Precision::Auto, _) => Precision::F32,
            (asked, _) => asked,
        };
        let model = DiffHarmony::load(folder, device, precision, Parts::All, &|| false)
            .with_context(|| format!("model folder {}", spec.model))?;
        Ok(Self { model, device, steps })
    }

    fn on_device(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_to_device(self.device)?)
    }
}

impl Stages for Published {
    fn decoders(&self) -> Vec<&'static str> {
        let name = |decoder| match decoder {
            Decoder::Vae => "DiffHarmony",
            Decoder::ConditionVae => "DiffHarmony++",
            Decoder::Taesd => "DiffHarmony/TAESD",
        };
        self.model.decoders().into_iter().map(name).collect()
    }

    fn harmonize(&self, composite: &Tensor, mask: &Tensor, seed: u64) -> Result<Vec<Tensor>> {
        let composite = self.on_device(&signed(composite)?)?;
        let mask = self.on_device(mask)?;
        // What is decoded of the plain autoencoder's latents is decoded of the same ones.
        let mut plain: Option<Tensor> = None;
        let mut pictures = vec![];
        for decoder in self.model.decoders() {
            let is_plain = decoder != Decoder::ConditionVae;
            let mut draws = Noise::fixed(seed).draws(self.device);
            let latents = match &plain {
                Some(latents) if is_plain => latents.shallow_clone(),
                _ => self.model.original_latents(&composite, &mask, self.steps, decoder, &mut draws)?,
            };
            if is_plain {
                plain = Some(latents.shallow_clone());
            }
            let picture = self.model.decode(&latents, &composite, &mask, decoder, Some(&mut draws))?;
            pictures.push(picture.f_to_device(Device::Cpu)?);
        }
        Ok(pictures)
    }

    fn has_refinement(&self) -> bool {
        self.model.has_refinement()
    }

    fn refine(&self, harmonized: &Tensor, mask: &Tensor, composite: &Tensor) -> Result<Tensor> {
        let [harmonized, mask, composite] = [harmonized, mask, composite].map(|x| self.on_device(x));
        Ok(self.model.refine(&harmonized?, &mask?, &composite?)?.f_to_device(Device::Cpu)?)
    }
}
