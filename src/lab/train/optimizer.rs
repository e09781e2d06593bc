//! Muon (Jordan et al. 2024) for matrices, AdamW (Loshchilov & Hutter 2019) for all else, and an exponential moving average of
//! the weights, with all of their state in reach, so that a resumed training goes on as if it had never stopped.

use crate::nets::arithmetic;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor, no_grad};

const BETAS: [f64; 2] = [0.9, 0.99];
const EPS: f64 = 1e-8;
const WEIGHT_DECAY: f64 = 0.01;
/// Matrices with fewer rows or columns, the ends of a network, go by AdamW.
const MIN_SIDE: i64 = 48;
/// Parameters of pretrained networks, by the start of their names: fine-tuned by AdamW, without decay, at this part of the learning
/// rate.
const PRETRAINED: (&str, f64) = ("efficientnet.", 0.2);
/// Of Muon's changes, at learning rate 1.
const RMS: f64 = 0.2;
/// Gradients are scaled down to this L2 norm.
const MAX_NORM: f64 = 1.0;

/// Parameters by name with their moments and their average.
pub struct Optimizer {
    pub params: BTreeMap<String, Tensor>,
    state: BTreeMap<String, [Tensor; 3]>,
    pub step: u64,
}

impl Optimizer {
    /// The average starts at the parameters themselves.
    pub fn new(params: BTreeMap<String, Tensor>) -> Result<Self> {
        let start =
            |p: &Tensor| -> Result<_> { no_grad(|| Ok([p.f_zeros_like()?, p.f_zeros_like()?, p.f_mul_scalar(1.0)?])) };
        let state: Result<_> = params.iter().map(|(name, p)| Ok((name.clone(), start(p)?))).collect();
        Ok(Self { state: state?, params, step: 0 })
    }

    /// One step along the mean of `gradients`, one list a worker in the order of the names; returns its norm before clipping. A
    /// parameter without one stays as it is. On as many threads as there are workers: they wait meanwhile.
    pub fn step(&mut self, gradients: Vec<Vec<Option<Tensor>>>, learning_rate: f64, ema: f64) -> Result<f64> {
        self.step += 1;
        let threads = gradients.len();
        let mut lists = gradients.into_iter().map(Vec::into_iter).collect::<Vec<_>>();
        let mut slots = Vec::with_capacity(self.params.len());
        for ((name, param), state) in self.params.iter_mut().zip(self.state.values_mut()) {
            // All lists move on, whatever the first says.
            let own: Vec<Option<Tensor>> = lists.iter_mut().map(|list| list.next().flatten()).collect();
            if let Some(gradients) = own.into_iter().collect() {
                let is_pretrained = name.starts_with(PRETRAINED.0);
                slots.push(Slot { param, state, gradients, is_pretrained });
            }
        }
        let squares = each(&mut slots, threads, &|slot: &mut Slot| slot.sum())?;
        let norm = squares.sqrt();
        let correction = BETAS.map(|b| 1.0 - b.powf(self.step as f64));
        let update = |slot: &mut Slot| slot.update((MAX_NORM / norm).min(1.0), correction, learning_rate, ema);
        each(&mut slots, threads, &update)?;
        Ok(norm)
    }

    /// The averaged weights themselves, by name.
    pub fn averages(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.state.iter().map(|(name, [.., average])| (name, average))
    }

    /// The averaged weights in half precision, to ship.
    pub fn average(&self) -> Result<Vec<(String, Tensor)>> {
        let half = |x: &Tensor| -> Result<Tensor> { Ok(x.f_to_kind(Kind::Half)?.f_contiguous()?) };
        self.averages().map(|(name, average)| Ok((name.clone(), half(average)?))).collect()
    }

    /// Everything, for a checkpoint.
    pub fn checkpoint(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = vec![("step".to_owned(), Tensor::f_from_slice(&[self.step as f32])?)];
        for (name, param) in &self.params {
            tensors.push((format!("param.{name}"), param.f_detach()?.f_contiguous()?));
            for (kind, tensor) in ["m", "v", "average"].iter().zip(&self.state[name]) {
                tensors.push((format!("{kind}.{name}"), tensor.f_contiguous()?));
            }
        }
        Ok(tensors)
    }

    /// Takes up a checkpoint of the same network.
    pub fn resume(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let find = |key: String| tensors.get(&key).with_context(|| format!("checkpoint holds no tensor {key}"));
        no_grad(|| {
            for (name, param) in &mut self.params {
                param.f_copy_(find(format!("param.{name}"))?)?;
                for (kind, tensor) in ["m", "v", "average"].iter().zip(self.state.get_mut(name).into_iter().flatten()) {
                    tensor.f_copy_(find(format!("{kind}.{name}"))?)?;
                }
            }
            self.step = find("step".into())?.f_double_value(&[0])? as u64;
            Ok(())
        })
    }
}

/// A parameter with what belongs to it; of the gradients the first becomes their mean.
struct Slot<'a> {
    param: &'a mut Tensor,
    state: &'a mut [Tensor; 3],
    gradients: Vec<Tensor>,
    is_pretrained: bool,
}

impl Slot<'_> {
    /// The mean's sum of squares.
    fn sum(&mut self) -> Result<f64> {
        let n = self.gradients.len() as f64;
        let Some((mean, others)) = self.gradients.split_first_mut() else { return Ok(0.0) };
        for other in others {
            let _ = mean.f_add_(other)?;
        }
        let _ = mean.f_mul_scalar_(1.0 / n)?;
        let norm = mean.f_norm()?.f_double_value(&[])?;
        Ok(norm * norm)
    }

    fn update(&mut self, scale: f64, correction: [f64; 2], learning_rate: f64, ema: f64) -> Result<f64> {
        let Some(g) = self.gradients.first_mut() else { return Ok(0.0) };
        let [m, v, average] = &mut *self.state;
        let learning_rate = if self.is_pretrained { PRETRAINED.1 * learning_rate } else { learning_rate };
        let _ = g.f_mul_scalar_(scale)?;
        let _ = m.f_lerp_(g, 1.0 - BETAS[0])?;
        if self.param.dim() > 1 && !self.is_pretrained {
            let _ = self.param.f_mul_scalar_(1.0 - learning_rate * WEIGHT_DECAY)?;
        }
        let change = match sides(self.param) {
            [rows, columns] if rows.min(columns) >= MIN_SIDE && !self.is_pretrained => {
                // Nesterov's momentum, orthogonalized, with the root mean square that AdamW's changes have (Liu et al. 2025).
                let ahead = g.f_lerp(m, BETAS[0])?.f_reshape([rows, columns])?;
                let change =
                    orthogonal(&ahead)?.f_mul_scalar(RMS * (rows.max(columns) as f64).sqrt() * learning_rate)?;
                change.f_reshape(self.param.size())?
            }
            _ => {
                let _ = v.f_lerp_(&g.f_square()?, 1.0 - BETAS[1])?;
                let root = v.f_div_scalar(correction[1])?.f_sqrt_()?.f_add_scalar_(EPS)?;
                m.f_div(&root)?.f_mul_scalar_(learning_rate / correction[0])?
            }
        };
        let _ = self.param.f_sub_(&change)?;
        let _ = average.f_lerp_(self.param, 1.0 - ema)?;
        Ok(0.0)
    }
}

/// Rows and columns of a parameter as a matrix from all inputs to the outputs.
fn sides(param: &Tensor) -> [i64; 2] {
    let shape = param.size();
    let rows = shape.first().copied().unwrap_or(1);
    [rows, shape.iter().skip(1).product()]
}

/// The matrix of singular values about 1 with the singular vectors of `u`: Newton and Schulz's iteration with the coefficients
/// of Jordan et al. 2024, which brings them within 0.7 to 1.2.
fn orthogonal(u: &Tensor) -> Result<Tensor> {
    const STEPS: usize = 5;
    const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
    let (rows, columns) = u.size2()?;
    let turned = rows > columns;
    let x = if turned { u.f_transpose(0, 1)? } else { u.shallow_clone() };
    // The iteration bears rough arithmetic, which is a tenth of a step faster.
    let mut x =
        x.f_div_scalar(x.f_norm()?.f_double_value(&[])? + EPS)?.f_to_kind(arithmetic(Kind::BFloat16, u.device()))?;
    for _ in 0..STEPS {
        let square = x.f_mm(&x.f_transpose(0, 1)?)?;
        let [a, b, c] = COEFFICIENTS;
        let series = square.f_mul_scalar(b)?.f_add(&square.f_mm(&square)?.f_mul_scalar(c)?)?;
        x = x.f_mul_scalar(a)?.f_add(&series.f_mm(&x)?)?;
    }
    let x = x.f_to_kind(Kind::Float)?;
    Ok(if turned { x.f_transpose(0, 1)? } else { x })
}

/// Sum of what `work` says of each slot, on `threads` threads; the result does not depend on their number.
fn each(slots: &mut [Slot], threads: usize, work: &(impl Fn(&mut Slot) -> Result<f64> + Sync)) -> Result<f64> {
    let all: usize = slots.iter().map(|slot| slot.param.numel()).sum();
    let mut parts = Vec::new();
    let mut rest = slots;
    while !rest.is_empty() {
        let mut count = 0;
        let mut fits = |slot: &Slot| {
            count += slot.param.numel();
            count * threads <= all
        };
        let length = rest.iter().take_while(|slot| fits(slot)).count().max(1);
        let (part, others) = rest.split_at_mut(length);
        parts.push(part);
        rest = others;
    }
    let of_part = |part: &mut [Slot]| -> Result<Vec<f64>> {
        tch::set_num_threads(1);
        no_grad(|| part.iter_mut().map(work).collect())
    };
    let sums: Vec<Result<Vec<f64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || of_part(part))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut sum = 0.0;
    for part in sums {
        sum += part?.iter().sum::<f64>();
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn quadratic(adam: &Optimizer) -> Vec<Vec<Option<Tensor>>> {
        vec![adam.params.values().map(|p| Some(p.detach() * 2.0 - 6.0)).collect()]
    }

    fn fresh() -> Optimizer {
        let x = Tensor::zeros([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        Optimizer::new(BTreeMap::from([("x".to_owned(), x)])).unwrap()
    }

    #[test]
    fn finds_the_minimum_and_its_average_follows() {
        let mut adam = fresh();
        for _ in 0..600 {
            adam.step(quadratic(&adam), 0.05, 0.9).unwrap();
        }
        assert!((adam.params["x"].double_value(&[0]) - 3.0).abs() < 1e-2);
        assert!((adam.average().unwrap()[0].1.double_value(&[0]) - 3.0).abs() < 2e-2);
    }

    #[test]
    fn resumed_goes_on_bit_for_bit() {
        let mut straight = fresh();
        let mut resumed = fresh();
        for i in 0..40 {
            straight.step(quadratic(&straight), 0.05, 0.9).unwrap();
            if i == 19 {
                resumed.resume(&straight.checkpoint().unwrap().into_iter().collect()).unwrap();
            } else if i > 19 {
                resumed.step(quadratic(&resumed), 0.05, 0.9).unwrap();
            }
        }
        assert_eq!(straight.params["x"], resumed.params["x"]);
        assert_eq!(straight.step, resumed.step);
    }
}
