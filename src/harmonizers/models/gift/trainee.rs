//! `gift` learns the change that the foreground needs, and to transform its features so that they relate to the background's as
//! those of the real picture do (relation distillation). The teacher sees the real picture and is the average of the student.

use super::{Features, Gift, GiftConfig};
use crate::harmonizers::training::{Drawn, Forward, Recipe, Trainee, foreground_loss};
use crate::nets::Path;
use anyhow::Result;
use tch::{Device, Kind, Tensor, no_grad};

/// Levels whose relations are distilled: features at 1/8 and 1/16 of the proxy.
const DISTILLED: [usize; 2] = [2, 3];

struct Trained {
    student: Gift,
    teacher: Gift,
    recipe: Recipe,
}

/// A new one on the student's and the teacher's parameters.
pub fn new(parameters: [&Path; 2], recipe: Recipe, _: Device) -> Result<Box<dyn Trainee>> {
    let [student, teacher] = parameters.map(|p| Gift::new(p, GiftConfig::default()));
    Ok(Box::new(Trained { student: student?, teacher: teacher?, recipe }))
}

impl Trained {
    fn distillation(&self, transformed: &Features, drawn: &Drawn) -> Result<Tensor> {
        let real = no_grad(|| self.teacher.encode(&drawn.real, &drawn.mask, self.recipe.kind))?;
        let mut sum = Tensor::f_zeros([], (Kind::Float, drawn.mask.device()))?;
        for level in DISTILLED {
            sum = sum.f_add(&relation_distance(&transformed[level], &real[level], &drawn.mask)?)?;
        }
        Ok(sum)
    }
}

impl Trainee for Trained {
    fn forward(&self, drawn: &mut Drawn, _stage: usize) -> Result<Forward> {
        let (change, transformed) = self.student.forward(&drawn.composite, &drawn.mask, self.recipe.kind)?;
        let change = change.f_mul(&drawn.mask)?;
        let mut loss = foreground_loss(&change, drawn, self.recipe.power)?;
        if self.recipe.relation > 0.0 {
            loss = loss.f_add(&self.distillation(&transformed, drawn)?.f_mul_scalar(self.recipe.relation)?)?;
        }
        Ok(Forward { loss, change })
    }
}

/// Mean difference of the cosines between each foreground and each background position, weighted by how much either is that.
fn relation_distance(a: &Tensor, b: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = a.size4()?;
    let shares = mask.f_adaptive_avg_pool2d([h, w])?.f_flatten(1, 3)?;
    let weight = shares.f_unsqueeze(2)?.f_mul(&shares.f_neg()?.f_add_scalar(1.0)?.f_unsqueeze(1)?)?;
    let distance = cosines(a)?.f_sub(&cosines(b)?)?.f_abs()?.f_mul(&weight)?.f_sum(Kind::Float)?;
    Ok(distance.f_div(&weight.f_sum(Kind::Float)?.f_clamp_min(1e-3)?)?)
}

/// B x C x h x w to the cosines between all positions, B x hw x hw.
fn cosines(features: &Tensor) -> Result<Tensor> {
    let flat = features.f_to_kind(Kind::Float)?.f_flatten(2, 3)?;
    let norm =
        flat.f_square()?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?.f_add_scalar(1e-6)?.f_sqrt()?;
    let unit = flat.f_div(&norm)?;
    Ok(unit.f_transpose(1, 2)?.f_bmm(&unit)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn relations_are_those_between_foreground_and_background_alone() {
        let normal = |shape: [i64; 4]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let a = normal([2, 6, 4, 4]);
        let mask = Tensor::zeros([2, 1, 32, 32], (Kind::Float, Device::Cpu));
        let _ = mask.narrow(2, 0, 16).fill_(1.0);
        let distance = |b: &Tensor| relation_distance(&a, b, &mask).unwrap().double_value(&[]);
        assert!(distance(&a) < 1e-6);
        // A brighter foreground relates as before, cosines not knowing lengths; a foreground of another colour doesn't.
        let brighter = a.copy();
        let _ = brighter.narrow(2, 0, 2).g_mul_scalar_(3.0);
        assert!(distance(&brighter) < 1e-5);
        let other = Tensor::cat(&[normal([2, 6, 2, 4]), a.narrow(2, 2, 2)], 2);
        assert!(distance(&other) > 0.1);
    }
}
