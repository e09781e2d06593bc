//! AdamW (Loshchilov & Hutter 2019) and an exponential moving average of the weights, with all of their state in reach,
//! so that a resumed training goes on as if it had never stopped.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use tch::{Tensor, no_grad};

const BETAS: [f64; 2] = [0.9, 0.99];
const EPS: f64 = 1e-8;
const WEIGHT_DECAY: f64 = 0.01;
/// Gradients are scaled down to this L2 norm.
const MAX_NORM: f64 = 1.0;

/// Parameters by name with their moments and their average.
pub struct AdamW {
    pub params: BTreeMap<String, Tensor>,
    state: BTreeMap<String, [Tensor; 3]>,
    pub step: u64,
}

impl AdamW {
    /// The average starts at the parameters themselves.
    pub fn new(params: BTreeMap<String, Tensor>) -> Result<Self> {
        let start =
            |p: &Tensor| -> Result<_> { no_grad(|| Ok([p.f_zeros_like()?, p.f_zeros_like()?, p.f_mul_scalar(1.0)?])) };
        let state: Result<_> = params.iter().map(|(name, p)| Ok((name.clone(), start(p)?))).collect();
        Ok(Self { state: state?, params, step: 0 })
    }

    /// One step along `gradients` (in the order of the names); returns their norm before clipping.
    pub fn step(&mut self, mut gradients: Vec<Tensor>, learning_rate: f64, ema: f64) -> Result<f64> {
        self.step += 1;
        no_grad(|| {
            let mut squares = 0.0;
            for g in &gradients {
                squares += g.f_square()?.f_sum(None::<tch::Kind>)?.f_double_value(&[])?;
            }
            let norm = squares.sqrt();
            let correction = BETAS.map(|b| 1.0 - b.powf(self.step as f64));
            for ((param, state), g) in self.params.values_mut().zip(self.state.values_mut()).zip(&mut gradients) {
                let g = g.f_mul_scalar((MAX_NORM / norm).min(1.0))?;
                let [m, v, average] = state;
                let _ = m.f_mul_scalar_(BETAS[0])?.f_add_(&g.f_mul_scalar(1.0 - BETAS[0])?)?;
                let _ = v.f_mul_scalar_(BETAS[1])?.f_add_(&g.f_square()?.f_mul_scalar(1.0 - BETAS[1])?)?;
                let root = v.f_div_scalar(correction[1])?.f_sqrt()?.f_add_scalar(EPS)?;
                let change = m.f_div(&root)?.f_mul_scalar(learning_rate / correction[0])?;
                if param.dim() > 1 {
                    let _ = param.f_mul_scalar_(1.0 - learning_rate * WEIGHT_DECAY)?;
                }
                let _ = param.f_sub_(&change)?;
                let _ = average.f_lerp_(param, 1.0 - ema)?;
            }
            Ok(norm)
        })
    }

    /// The averaged weights in half precision, to ship.
    pub fn average(&self) -> Result<Vec<(String, Tensor)>> {
        let half = |x: &Tensor| -> Result<Tensor> { Ok(x.f_to_kind(tch::Kind::Half)?.f_contiguous()?) };
        self.state.iter().map(|(name, [.., average])| Ok((name.clone(), half(average)?))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn quadratic(adam: &AdamW) -> Vec<Tensor> {
        adam.params.values().map(|p| p.detach() * 2.0 - 6.0).collect()
    }

    fn fresh() -> AdamW {
        let x = Tensor::zeros([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        AdamW::new(BTreeMap::from([("x".to_owned(), x)])).unwrap()
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
