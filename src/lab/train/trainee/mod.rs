//! A network in training: what a batch costs it, and the networks that can be one.

mod compact;
mod gift;
mod lite0;
mod star;

use super::draw::Drawn;
use crate::harmonizers::class::Config;
use crate::nets::Path;
use anyhow::{Result, bail};
use clap::ValueEnum;
use tch::{Device, Kind, Tensor};

/// What can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Class {
    /// The default model: a conditional diffusion U-Net
    Compact,
    /// The same on an encoder pretrained on ImageNet, which `--from` brings
    Lite0,
    /// Globally guided feature transformation, its relations distilled from real pictures
    Gift,
    /// Student-teacher reconstruction of masked latent patches: an autoencoder first, then photographs, then composites
    Star,
}

/// Which background patches a student of `star` is not let see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Masking {
    /// Those that are like what surrounds the foreground
    Adaptive,
    /// Any
    Random,
}

/// What a training varies besides its data.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Exponent of a composite's mean squared error in the loss: 0.5 is the root mean square.
    pub power: f64,
    /// Weight of gift's relation distillation.
    pub relation: f64,
    /// Of star's student.
    pub masking: Masking,
    /// Kind of the features.
    pub kind: Kind,
}

/// A part of a training, with a course of the learning rate of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    pub name: &'static str,
    /// Of all steps.
    pub share: f64,
}

impl Class {
    /// What the long side of composites is a multiple of: three quarters of it, the short side, has to divide into patches or by the
    /// network's halvings.
    pub fn side_multiple(self) -> u32 {
        match self {
            Self::Compact | Self::Lite0 | Self::Star => 32,
            Self::Gift => 64,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Lite0 => "lite0",
            Self::Gift => "gift",
            Self::Star => "star",
        }
    }

    /// In their order; the last is the one that trains what the model is for.
    pub fn stages(self) -> &'static [Stage] {
        const HARMONIZE: Stage = Stage { name: "composites", share: 1.0 };
        match self {
            Self::Compact | Self::Lite0 | Self::Gift => &[HARMONIZE],
            Self::Star => &star::STAGES,
        }
    }

    pub fn config(self) -> Config {
        match self {
            Self::Compact => Config::Compact(Default::default()),
            Self::Lite0 => Config::Lite0(Default::default()),
            Self::Gift => Config::Gift(Default::default()),
            Self::Star => Config::Star(Default::default()),
        }
    }
}

/// A student, and its teacher where it has one: the average of the student's weights.
pub trait Trainee {
    /// Loss of a batch in the stage of this number, and the change that the network would make.
    fn forward(&self, drawn: &mut Drawn, stage: usize) -> Result<Forward>;
}

pub struct Forward {
    pub loss: Tensor,
    /// M D, B x 3 x h x w.
    pub change: Tensor,
}

/// The network of `config` on the student's and the teacher's parameters.
pub fn trainee(
    config: Config,
    student: &Path,
    teacher: &Path,
    recipe: Recipe,
    device: Device,
) -> Result<Box<dyn Trainee>> {
    Ok(match config {
        Config::Compact(config) => Box::new(compact::Trained::new(config, student, recipe, device)?),
        Config::Lite0(config) => Box::new(lite0::Trained::new(config, student, recipe, device)?),
        Config::Gift(config) => Box::new(gift::Trained::new(config, [student, teacher], recipe)?),
        Config::Star(config) => Box::new(star::Trained::new(config, [student, teacher], recipe, device)?),
    })
}

/// Makes the parameters of a new network at `p`.
pub fn initialise(config: Config, p: &Path, device: Device) -> Result<()> {
    config
        .network(p, device, &|| bail!("star is trained on latents of its own: write \"own\" into its configuration"))?;
    Ok(())
}

/// Mean over the composites of (fMSE + a little) ^ `power`, fMSE that of `change` against the true change, on 0..1.
fn foreground_loss(change: &Tensor, drawn: &Drawn, power: f64) -> Result<Tensor> {
    let error = drawn.fmse(&change.f_sub(&drawn.change()?)?)?;
    Ok(error.f_add_scalar(1e-4)?.f_pow_tensor_scalar(power)?.f_mean(Kind::Float)?)
}
