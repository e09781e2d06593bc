//! `star` learns in three stages: its autoencoder; then to reconstruct, from photographs alone, what the coarse part of a
//! region's latents was; then to harmonize composites. In the last two the student is not let see some of the background and
//! is to guess what the teacher, the average of its weights, sees in the whole real picture.

use super::{Autoencoder, Latents, Star, StarConfig};
use crate::harmonizers::colour::signed;
use crate::harmonizers::training::{Drawn, Forward, Masking, Random, Recipe, Stage, Trainee, foreground_loss};
use crate::nets::Path;
use anyhow::{Result, bail};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

/// Those of its training.
pub const STAGES: [Stage; 3] = [
    Stage { name: "autoencoder", share: 0.1 },
    Stage { name: "photographs", share: 0.25 },
    Stage { name: "composites", share: 0.65 },
];
/// Weight of what keeps latents at mean 0 and variance 1, which the noise schedule takes them to have.
const UNIT: f64 = 0.01;
/// Weight of the distance to the teacher's features, on photographs and on composites.
const TEACHER: [f64; 2] = [0.5, 0.02];
/// Shares of the background's patches that are hidden, drawn anew for each batch, on photographs and on composites.
const HIDDEN: [std::ops::Range<f64>; 2] = [0.4..0.75, 0.0..0.3];
/// How much likelier than another the patch is hidden that is more alike: the softmax's temperature on cosines.
const TEMPERATURE: f64 = 0.2;

struct Trained {
    student: Star,
    teacher: Star,
    recipe: Recipe,
    device: Device,
}

/// A new one on the student's and the teacher's parameters.
pub fn new(parameters: [&Path; 2], recipe: Recipe, device: Device) -> Result<Box<dyn Trainee>> {
    let config = StarConfig::default();
    let Latents::Own { channels, features, groups } = config.latents else {
        bail!("star is trained on latents of its own");
    };
    let star = |p: &Path| Star::new(p, config.clone(), Autoencoder::own(p, channels, features, groups)?, device);
    let [student, teacher] = parameters.map(star);
    Ok(Box::new(Trained { student: student?, teacher: teacher?, recipe, device }))
}

impl Trained {
    fn autoencoder(&self, drawn: &Drawn) -> Result<Forward> {
        let picture = signed(&drawn.composite)?;
        let autoencoder = &self.student.autoencoder;
        let latents = autoencoder.encode(&picture)?;
        let error = autoencoder.decode(&latents)?.f_l1_loss(&picture, Reduction::Mean)?;
        let places = [0i64, 2, 3];
        let mean = latents.f_mean_dim(places.as_slice(), true, Kind::Float)?;
        let variance = latents.f_sub(&mean)?.f_square()?.f_mean_dim(places.as_slice(), true, Kind::Float)?;
        let unit = mean.f_square()?.f_add(&variance.f_sub_scalar(1.0)?.f_square()?)?.f_mean(Kind::Float)?;
        let real = no_grad(|| self.teacher.autoencoder.encode(&signed(&drawn.real)?))?;
        let from = no_grad(|| self.teacher.autoencoder.encode(&picture))?;
        let change = no_grad(|| self.teacher.change(&from, &real))?.f_mul(&drawn.mask)?;
        Ok(Forward { loss: error.f_add(&unit.f_mul_scalar(UNIT)?)?, change })
    }

    /// `part` is 0 on photographs and 1 on composites.
    fn reconstruct(&self, drawn: &mut Drawn, part: usize) -> Result<Forward> {
        let (student, teacher) = (&self.student, &self.teacher);
        let real = no_grad(|| teacher.autoencoder.encode(&signed(&drawn.real)?))?;
        let composite = match part {
            // A photograph without the style of its foreground.
            0 => no_grad(|| student.without_style(&drawn.real, &drawn.mask))?,
            _ => drawn.composite.shallow_clone(),
        };
        let base = no_grad(|| teacher.autoencoder.encode(&signed(&composite)?))?;
        let seen = no_grad(|| teacher.encode(&real, &drawn.real, &drawn.mask, None))?.features;
        let hidden = self.hidden(drawn, &real, &seen, HIDDEN[part].clone())?;

        let StarConfig { schedule, train_timesteps, .. } = student.config;
        let timesteps = drawn.timesteps(train_timesteps);
        let noisy = drawn.noisy(&real, &timesteps, &schedule.alphas_cumprod(train_timesteps)?)?;
        let timesteps: Vec<f64> = timesteps.iter().map(|&t| t as f64).collect();
        let encoded = student.encode(&base, &composite, &drawn.mask, Some(hidden))?;
        let harmonized = student.denoise(&noisy, &timesteps, &encoded, &base, &drawn.mask)?;
        let guess = student.guess(&encoded)?;
        let width = [guess.size()[2]];
        let target = seen.f_layer_norm(width, None::<&Tensor>, None::<&Tensor>, 1e-6, false)?;
        let distance = guess.f_smooth_l1_loss(&target, Reduction::Mean, 1.0)?;

        let change = teacher.change(&base, &harmonized)?.f_mul(&drawn.mask)?;
        let (loss, change) = match part {
            0 => {
                let error = change.f_sub(&teacher.change(&base, &real)?.f_mul(&drawn.mask)?)?;
                let error = drawn.fmse(&error)?.f_add_scalar(1e-4)?.f_pow_tensor_scalar(self.recipe.power)?;
                let whole = composite.f_sub(&drawn.composite)?.f_add(&change)?.f_mul(&drawn.mask)?;
                (error.f_mean(Kind::Float)?, whole)
            }
            _ => (foreground_loss(&change, drawn, self.recipe.power)?, change),
        };
        Ok(Forward { loss: loss.f_add(&distance.f_mul_scalar(TEACHER[part])?)?, change })
    }

    /// Which background patches to hide, B x patches x 1. `latents` and the teacher's `seen` are of the real picture.
    fn hidden(
        &self,
        drawn: &mut Drawn,
        latents: &Tensor,
        seen: &Tensor,
        shares: std::ops::Range<f64>,
    ) -> Result<Tensor> {
        let foreground = self.student.shares(&drawn.mask)?;
        let (b, n, _) = foreground.size3()?;
        let likeness = match self.recipe.masking {
            Masking::Random => vec![0.0; (b * n) as usize],
            Masking::Adaptive => {
                let (_, _, h, w) = drawn.mask.size4()?;
                let grid = [h / self.student.patch_pixels(), w / self.student.patch_pixels()];
                let style = self.student.patches(latents)?;
                let own = seen.f_narrow(1, 1, n)?;
                let likeness =
                    ring_likeness(&style, &foreground, grid)?.f_add(&ring_likeness(&own, &foreground, grid)?)?;
                Vec::<f32>::try_from(&likeness.f_flatten(0, -1)?.f_to_device(Device::Cpu)?)?
            }
        };
        let foreground = Vec::<f32>::try_from(&foreground.f_flatten(0, -1)?.f_to_device(Device::Cpu)?)?;
        let share = drawn.randoms[0].uniform(shares.start, shares.end);
        let n = n as usize;
        let rows = likeness.chunks(n).zip(foreground.chunks(n)).zip(&mut drawn.randoms);
        let hidden: Vec<f32> = rows.flat_map(|((like, fore), random)| choose(like, fore, share, random)).collect();
        Ok(Tensor::f_from_slice(&hidden)?.f_view([b, n as i64, 1])?.f_to_device(self.device)?)
    }
}

/// 1 for the chosen ones of the patches without any foreground, `share` of those: without replacement, with probabilities like
/// exp(likeness / TEMPERATURE) (Gumbel's maxima).
fn choose(likeness: &[f32], foreground: &[f32], share: f64, random: &mut Random) -> Vec<f32> {
    let mut keys: Vec<(f64, usize)> = Vec::new();
    for (i, (&like, &fore)) in likeness.iter().zip(foreground).enumerate() {
        let gumbel = -(-random.uniform(1e-12, 1.0).ln()).ln();
        if fore == 0.0 {
            keys.push((f64::from(like) / TEMPERATURE + gumbel, i));
        }
    }
    keys.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut hidden = vec![0.0; likeness.len()];
    let count = (share * keys.len() as f64) as usize;
    keys[..count].iter().for_each(|&(_, i)| hidden[i] = 1.0);
    hidden
}

/// Cosine between each of `patches` (B x N x C, on a `grid`) and the mean of those around the foreground: B x N.
fn ring_likeness(patches: &Tensor, foreground: &Tensor, grid: [i64; 2]) -> Result<Tensor> {
    let (b, n, _) = patches.size3()?;
    let map = foreground.f_gt(0.0)?.f_to_kind(Kind::Float)?.f_view([b, 1, grid[0], grid[1]])?;
    let grown = map.f_max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false)?;
    let ring = grown.f_sub(&map)?.f_view([b, n, 1])?;
    let mean = patches.f_mul(&ring)?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
    Ok(Tensor::f_cosine_similarity(patches, &mean.f_expand_as(patches)?, -1, 1e-6)?)
}

impl Trainee for Trained {
    fn forward(&self, drawn: &mut Drawn, stage: usize) -> Result<Forward> {
        match stage {
            0 => self.autoencoder(drawn),
            stage => self.reconstruct(drawn, stage - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_masking_hides_what_is_like_the_foreground_s_surroundings() {
        // A row of patches: two alike beside the foreground, two of another kind.
        let patches =
            Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0, 9.0, 9.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]).view([1, 6, 2]);
        let foreground = Tensor::from_slice(&[0f32, 0.0, 1.0, 0.0, 0.0, 0.0]).view([1, 6, 1]);
        let likeness = ring_likeness(&patches, &foreground, [1, 6]).unwrap();
        let likeness = Vec::<f32>::try_from(&likeness.flatten(0, -1)).unwrap();
        let fore = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        let count = |likeness: &[f32]| {
            let mut hidden = [0.0; 6];
            for sample in 0..200 {
                let chosen = choose(likeness, &fore, 0.4, &mut Random::new(1, sample));
                assert_eq!(chosen.iter().sum::<f32>(), 2.0);
                hidden.iter_mut().zip(chosen).for_each(|(sum, hidden)| *sum += hidden);
            }
            hidden
        };
        let adaptive = count(&likeness);
        assert!(adaptive[2] == 0.0 && adaptive[0] + adaptive[1] + adaptive[3] > 380.0, "{adaptive:?}");
        let random = count(&[0.0; 6]);
        assert!([0, 1, 3, 4, 5].iter().all(|&i| (50.0..110.0).contains(&random[i])), "{random:?}");
    }
}
