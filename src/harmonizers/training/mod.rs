//! What a model's own part of a training is: the loss of a batch, and the stages that it goes through. `lab::train` has the rest.

mod drawn;
mod random;

pub use drawn::Drawn;
pub use random::Random;

use anyhow::Result;
use tch::{Kind, Tensor};

/// Which background patches a student of `star` is not let see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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

/// The only stage of most.
pub const COMPOSITES: Stage = Stage { name: "composites", share: 1.0 };

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

/// Mean over the composites of (fMSE + a little) ^ `power`, fMSE that of `change` against the true change, on 0..1.
pub fn foreground_loss(change: &Tensor, drawn: &Drawn, power: f64) -> Result<Tensor> {
    let error = drawn.fmse(&change.f_sub(&drawn.change()?)?)?;
    Ok(error.f_add_scalar(1e-4)?.f_pow_tensor_scalar(power)?.f_mean(Kind::Float)?)
}
