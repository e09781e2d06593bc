//! Named parameters: created for training, or taken from a file with every name, shape and value checked.

use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use tch::{Device, Kind, Tensor};

/// How a new parameter starts.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    Const(f64),
    /// Uniform in +-gain / sqrt(fan-in) (Kaiming for `gain` = sqrt(3)); fan-in is all but the first dimension.
    FanIn(f64),
}

#[derive(Debug)]
enum Source {
    /// Parameters are made as they are asked for.
    New,
    /// Parameters come out of this map; what is left over is a mistake.
    Given(RefCell<BTreeMap<String, Tensor>>),
    /// Every parameter has its shape and no memory: one zero, seen at every index.
    Shapes,
}

/// A parameter, or another constant that a network computes once: read by any number of threads, written by none.
#[derive(Debug)]
pub struct Param(Tensor);

// SAFETY: a `Param` gives out shared references alone, and no layer writes through one; libtorch counts references to a
// tensor atomically and allows any number of threads to read it. Training writes parameters through tensors of its own,
// between two passes.
unsafe impl Sync for Param {}

impl Param {
    pub fn new(tensor: Tensor) -> Self {
        Self(tensor)
    }
}

impl Deref for Param {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// The parameters of one network by name.
#[derive(Debug)]
pub struct Weights {
    source: Source,
    device: Device,
    taken: RefCell<BTreeMap<String, Tensor>>,
}

impl Weights {
    /// New parameters that require gradients.
    pub fn new(device: Device) -> Self {
        Self { source: Source::New, device, taken: RefCell::default() }
    }

    /// Parameters that have nothing but names and shapes, to know what a configuration asks for.
    pub fn shapes() -> Self {
        Self { source: Source::Shapes, device: Device::Cpu, taken: RefCell::default() }
    }

    /// Parameters by name, used as they are.
    pub fn given(tensors: BTreeMap<String, Tensor>, device: Device) -> Self {
        Self { source: Source::Given(RefCell::new(tensors)), device, taken: RefCell::default() }
    }

    /// Parameters from the bytes of a safetensors file: floating point, all values finite. Errors name the tensor.
    pub fn from_safetensors(bytes: &[u8], device: Device) -> Result<Self> {
        Ok(Self::given(read_safetensors(bytes)?, device))
    }

    pub fn open(file: &std::path::Path, device: Device, kind: Kind) -> Result<Self> {
        let mut tensors = read_safetensors(&std::fs::read(file)?)?;
        for tensor in tensors.values_mut() {
            *tensor = tensor.f_to_kind(kind)?;
        }
        Ok(Self::given(tensors, device))
    }

    pub fn root(&self) -> Path<'_> {
        Path { weights: self, prefix: String::new() }
    }

    /// Every parameter of the network built from these weights; an error names those that it has no place for.
    pub fn finish(self) -> Result<BTreeMap<String, Tensor>> {
        if let Source::Given(tensors) = &self.source {
            let surplus: Vec<_> = tensors.borrow().keys().cloned().collect();
            ensure!(surplus.is_empty(), "tensors that the configuration has no place for: {}", surplus.join(", "));
        }
        Ok(self.taken.into_inner())
    }

    fn get(&self, name: String, shape: &[i64], init: Init) -> Result<Tensor> {
        let tensor = match &self.source {
            Source::Given(tensors) => {
                let tensor = tensors.borrow_mut().remove(&name).ok_or_else(|| anyhow!("tensor {name} is missing"))?;
                ensure!(
                    tensor.size() == shape,
                    "tensor {name} has shape {:?}, the configuration asks for {shape:?}",
                    tensor.size()
                );
                channels_last(&tensor.f_to_device(self.device)?)?
            }
            Source::Shapes => Tensor::f_zeros([1], (Kind::Float, self.device))?.f_expand(shape, false)?,
            Source::New => {
                let tensor = Tensor::f_empty(shape, (Kind::Float, self.device))?;
                let tensor = match init {
                    Init::Const(value) => tensor.f_fill(value)?,
                    Init::FanIn(gain) => {
                        let bound = gain / (shape[1..].iter().product::<i64>().max(1) as f64).sqrt();
                        tensor.f_uniform(-bound, bound)?
                    }
                };
                channels_last(&tensor)?.f_requires_grad_(true)?
            }
        };
        self.taken.borrow_mut().insert(name, tensor.shallow_clone());
        Ok(tensor)
    }
}

/// The same values with channels innermost in memory where there are four dimensions, the layout convolutions run fastest in;
/// no copy where it is so already.
pub fn channels_last(x: &Tensor) -> Result<Tensor> {
    match x.dim() {
        4 => Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?),
        _ => Ok(x.shallow_clone()),
    }
}

/// A place in the parameters' tree of names.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Path<'_> {
    /// The place `name` below this one.
    pub fn sub(&self, name: impl std::fmt::Display) -> Self {
        let prefix = if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Self { weights: self.weights, prefix }
    }

    /// The first of the places `names` that the given weights have a `weight` at, else the first.
    pub fn one_of(&self, names: &[&str]) -> Self {
        let known = names.iter().find(|name| self.sub(name).shape("weight").is_some());
        self.sub(known.unwrap_or(&names[0]))
    }

    /// The shape of the given parameter `name` here, if there is one.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        match &self.weights.source {
            Source::Given(tensors) => tensors.borrow().get(&self.sub(name).prefix).map(Tensor::size),
            Source::New | Source::Shapes => None,
        }
    }

    /// The parameter `name` here, of exactly this shape.
    pub fn get(&self, name: &str, shape: &[i64], init: Init) -> Result<Param> {
        self.weights.get(self.sub(name).prefix, shape, init).map(Param)
    }
}

/// A constant, 0 to 76, that older files of CLIP hold among the weights.
const POSITION_IDS: &str = "embeddings.position_ids";

/// Reads a safetensors file's bytes into f32 tensors; refuses other than floating-point kinds and values that aren't finite.
pub fn read_safetensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let file = SafeTensors::deserialize(bytes).context("not a whole safetensors file")?;
    file.iter()
        .filter(|(name, _)| !name.ends_with(POSITION_IDS))
        .map(|(name, view)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                Dtype::BF16 => Kind::BFloat16,
                other => bail!("tensor {name} is of kind {other:?}: weights are F32, F16 or BF16"),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
                .and_then(|t| t.f_to_kind(Kind::Float))
                .with_context(|| format!("tensor {name}"))?;
            let finite = tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
            ensure!(finite, "tensor {name} holds values that are not finite");
            Ok((name.to_owned(), tensor))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tensors: &[(&str, Tensor)]) -> Vec<u8> {
        let path = tempfile::NamedTempFile::new().unwrap();
        Tensor::write_safetensors(tensors, path.path()).unwrap();
        std::fs::read(path.path()).unwrap()
    }

    fn error(bytes: &[u8], build: impl Fn(&Path) -> Result<()>) -> String {
        let attempt = || {
            let weights = Weights::from_safetensors(bytes, Device::Cpu)?;
            build(&weights.root())?;
            weights.finish()
        };
        format!("{:#}", attempt().unwrap_err())
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let ones = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
        let good = file(&[("a.weight", ones.shallow_clone())]);
        let a = |p: &Path, shape: &[i64]| p.sub("a").get("weight", shape, Init::Const(0.0)).map(|_| ());
        assert!(error(&good, |p| a(p, &[3, 2])).contains("a.weight has shape [2, 3]"));
        assert!(error(&good, |p| p.get("b", &[1], Init::Const(0.0)).map(|_| ())).contains("b is missing"));
        assert!(error(&good, |_| Ok(())).contains("no place for: a.weight"));
        assert!(error(&good[..good.len() - 1], |p| a(p, &[2, 3])).contains("not a whole safetensors file"));
        let nan = file(&[("a.weight", &ones * f64::NAN)]);
        assert!(error(&nan, |p| a(p, &[2, 3])).contains("a.weight holds values that are not finite"));
        let int = file(&[("a.weight", ones.to_kind(Kind::Int64))]);
        assert!(error(&int, |p| a(p, &[2, 3])).contains("of kind I64"));
    }

    #[test]
    fn position_ids_of_older_clip_files_are_no_weights() {
        let ids = Tensor::arange(77, (Kind::Int64, Device::Cpu)).view([1, 77]);
        let bytes = file(&[("text_model.embeddings.position_ids", ids)]);
        assert!(read_safetensors(&bytes).unwrap().is_empty());
    }

    #[test]
    fn shapes_take_no_memory() {
        let weights = Weights::shapes();
        let tensor = weights.root().sub("a").get("weight", &[1 << 20, 1 << 20], Init::Const(0.0)).unwrap();
        assert_eq!(tensor.size(), [1 << 20, 1 << 20]);
        assert!(weights.finish().unwrap().contains_key("a.weight"));
    }
}
