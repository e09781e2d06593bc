//! Named parameters: created for training, or taken from a file with every name, shape and value checked.

mod file;
mod header;
mod values;

pub use header::{Dtype, MAX_DIMENSIONS, MAX_NAME, Malformed, Stored, is_position_ids};

use super::config::few;
use anyhow::{Context, Result, anyhow, ensure};
use file::File;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// Ten times what the largest network has: a small configuration may ask for millions, and where no file is read nothing else
/// ends that.
const MAX_TENSORS: usize = 20_000;

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
    /// The same of a file, each copied out of it in `kind` when it is asked for.
    File { file: RefCell<File>, kind: Kind },
    /// Every parameter has its shape and no memory: one zero, seen at every index. Named as in the map where names differ.
    Shapes(BTreeMap<String, Vec<i64>>),
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
    /// The file they are from, for errors.
    path: Option<PathBuf>,
    made: RefCell<BTreeMap<String, Tensor>>,
}

impl Weights {
    /// New parameters that require gradients.
    pub fn new(device: Device) -> Self {
        Self::from(Source::New, device)
    }

    /// Parameters that have nothing but names and shapes, to know what a configuration asks for.
    pub fn shapes() -> Self {
        Self::shapes_of(BTreeMap::new())
    }

    /// The same for a file that holds the `known` shapes: where a parameter goes by several names, the file's is asked for.
    pub fn shapes_of(known: BTreeMap<String, Vec<i64>>) -> Self {
        Self::from(Source::Shapes(known), Device::Cpu)
    }

    /// Parameters by name, used as they are.
    pub fn given(tensors: BTreeMap<String, Tensor>, device: Device) -> Self {
        Self::from(Source::Given(RefCell::new(tensors)), device)
    }

    /// Parameters from a safetensors file, which is mapped while this lives: F32, F16 or BF16 there, kept in `kind` (Float, Half
    /// or BFloat16), all values finite in both. Errors name the file and the tensor.
    pub fn open(path: &std::path::Path, device: Device, kind: Kind) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
        let source = Source::File { file: RefCell::new(file), kind };
        Ok(Self { path: Some(path.into()), ..Self::from(source, device) })
    }

    /// The same from the bytes of such a file inside the plugin.
    pub fn from_safetensors(bytes: &'static [u8], device: Device, kind: Kind) -> Result<Self> {
        Ok(Self::from(Source::File { file: RefCell::new(File::within(bytes)?), kind }, device))
    }

    fn from(source: Source, device: Device) -> Self {
        Self { source, device, path: None, made: RefCell::default() }
    }

    pub fn root(&self) -> Path<'_> {
        Path { weights: self, prefix: String::new() }
    }

    /// The parameters that were made here, new or as shapes; those that were given or read belong to the network alone. An error
    /// names what the network has no place for.
    pub fn finish(self) -> Result<BTreeMap<String, Tensor>> {
        let surplus = match &self.source {
            Source::Given(tensors) => tensors.borrow().keys().cloned().collect(),
            Source::File { file, .. } => file.borrow().left.keys().cloned().collect(),
            Source::New | Source::Shapes(_) => Vec::new(),
        };
        if !surplus.is_empty() {
            return Err(self.blame(anyhow!("tensors that the configuration has no place for: {}", few(&surplus))));
        }
        Ok(self.made.into_inner())
    }

    fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.path {
            Some(path) => error.context(path.display().to_string()),
            None => error,
        }
    }

    fn get(&self, name: String, shape: &[i64], init: Init) -> Result<Tensor> {
        let tensor = match &self.source {
            Source::Given(tensors) => {
                let tensor = tensors.borrow_mut().remove(&name).ok_or_else(|| missing(&name))?;
                fits(&name, &tensor.size(), shape)?;
                return channels_last(&tensor.f_to_device(self.device)?);
            }
            Source::File { file, kind } => {
                let file = &mut *file.borrow_mut();
                let stored = file.left.remove(&name).ok_or_else(|| missing(&name))?;
                fits(&name, &stored.shape, shape)?;
                return Ok(file.copy(&name, &stored, *kind)?.f_to_device(self.device)?);
            }
            Source::Shapes(_) => {
                let made = self.made.borrow().len();
                ensure!(made < MAX_TENSORS, "the configuration asks for more than {MAX_TENSORS} tensors");
                Tensor::f_zeros([1], (Kind::Float, self.device))?.f_expand(shape, false)?
            }
            Source::New => new(shape, init, self.device)?,
        };
        self.made.borrow_mut().insert(name, tensor.shallow_clone());
        Ok(tensor)
    }
}

fn missing(name: &str) -> anyhow::Error {
    anyhow!("tensor {name} is missing")
}

fn fits(name: &str, found: &[i64], asked: &[i64]) -> Result<()> {
    ensure!(found == asked, "tensor {name} has shape {found:?}, the configuration asks for {asked:?}");
    Ok(())
}

fn new(shape: &[i64], init: Init, device: Device) -> Result<Tensor> {
    let tensor = Tensor::f_empty(shape, (Kind::Float, device))?;
    let tensor = match init {
        Init::Const(value) => tensor.f_fill(value)?,
        Init::FanIn(gain) => {
            let bound = gain / (shape[1..].iter().product::<i64>().max(1) as f64).sqrt();
            tensor.f_uniform(-bound, bound)?
        }
    };
    Ok(channels_last(&tensor)?.f_requires_grad_(true)?)
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
            Source::File { file, .. } => file.borrow().left.get(&self.sub(name).prefix).map(|t| t.shape.clone()),
            Source::Shapes(known) => known.get(&self.sub(name).prefix).cloned(),
            Source::New => None,
        }
    }

    /// The parameter `name` here, of exactly this shape.
    pub fn get(&self, name: &str, shape: &[i64], init: Init) -> Result<Param> {
        let parameter = self.weights.get(self.sub(name).prefix, shape, init);
        parameter.map(Param).map_err(|e| self.weights.blame(e))
    }
}

/// What a safetensors file holds, by its header alone. Errors name the file.
pub fn stored(path: &std::path::Path) -> Result<BTreeMap<String, Stored>> {
    let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    Ok(file.left)
}

/// The same of one inside the plugin.
pub fn stored_within(bytes: &'static [u8]) -> Result<BTreeMap<String, Stored>> {
    Ok(File::within(bytes)?.left)
}

/// Every tensor of a safetensors file in f32, on the CPU. Errors name the file and the tensor.
pub fn read(path: &std::path::Path) -> Result<BTreeMap<String, Tensor>> {
    let tensors = File::open(path).and_then(|file| all(&file));
    tensors.with_context(|| format!("can't read {}", path.display()))
}

/// The same of the bytes of such a file inside the plugin.
pub fn read_within(bytes: &'static [u8]) -> Result<BTreeMap<String, Tensor>> {
    all(&File::within(bytes)?)
}

fn all(file: &File) -> Result<BTreeMap<String, Tensor>> {
    let tensors = file.left.iter();
    tensors.map(|(name, stored)| Ok((name.clone(), file.copy(name, stored, Kind::Float)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn file(tensors: &[(&str, Tensor)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        Tensor::write_safetensors(tensors, file.path()).unwrap();
        file
    }

    fn error(file: &tempfile::NamedTempFile, kind: Kind, build: impl Fn(&Path) -> Result<()>) -> String {
        let attempt = || {
            let weights = Weights::open(file.path(), Device::Cpu, kind)?;
            build(&weights.root())?;
            weights.finish()
        };
        let error = format!("{:#}", attempt().unwrap_err());
        assert_eq!(error.matches(file.path().to_str().unwrap()).count(), 1, "{error}");
        error
    }

    fn a(p: &Path, shape: &[i64]) -> Result<()> {
        p.sub("a").get("weight", shape, Init::Const(0.0)).map(drop)
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let ones = Tensor::ones([2, 3], CPU);
        let good = file(&[("a.weight", ones.shallow_clone())]);
        assert!(error(&good, Kind::Float, |p| a(p, &[3, 2])).contains("a.weight has shape [2, 3]"));
        assert!(error(&good, Kind::Float, |p| p.get("b", &[1], Init::Const(0.0)).map(drop)).contains("b is missing"));
        assert!(error(&good, Kind::Float, |_| Ok(())).contains("no place for: a.weight"));
        let nan = file(&[("a.weight", &ones * f64::NAN)]);
        assert!(error(&nan, Kind::Float, |p| a(p, &[2, 3])).contains("a.weight holds values that are not finite"));
        let large = file(&[("a.weight", &ones * 1e5)]);
        assert!(error(&large, Kind::Half, |p| a(p, &[2, 3])).contains("a.weight holds values beyond the largest"));
        let int = file(&[("a.weight", ones.to_kind(Kind::Int64))]);
        assert!(error(&int, Kind::Float, |p| a(p, &[2, 3])).contains("of kind I64"));
        good.as_file().set_len(good.as_file().metadata().unwrap().len() - 1).unwrap();
        assert!(error(&good, Kind::Float, |p| a(p, &[2, 3])).contains("not a whole safetensors file"));
    }

    #[test]
    fn of_very_many_surplus_tensors_a_few_are_named() {
        let names: Vec<_> = (0..1000).map(|i| format!("t{i:03}")).collect();
        let tensors: Vec<_> = names.iter().map(|name| (name.as_str(), Tensor::ones([1], CPU))).collect();
        assert!(error(&file(&tensors), Kind::Float, |_| Ok(())).ends_with("t014, t015 and 984 more"));
    }

    #[test]
    fn only_a_regular_file_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let link = |name: &str, to: &std::path::Path| {
            let link = folder.path().join(name);
            std::os::unix::fs::symlink(to, &link).unwrap();
            link
        };
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let [zero, loops, dangling] =
            ["/dev/zero", "loops", "nothing"].map(|to| link(to.trim_start_matches("/dev/"), to.as_ref()));
        for path in [folder.path(), &fifo, &zero, &loops, &dangling] {
            let error = format!("{:#}", Weights::open(path, Device::Cpu, Kind::Float).unwrap_err());
            assert!(error.starts_with(&format!("can't read {}: ", path.display())), "{error}");
        }
        let good = file(&[("a.weight", Tensor::ones([2, 3], CPU))]);
        let weights = Weights::open(&link("good", good.path()), Device::Cpu, Kind::Float).unwrap();
        assert_eq!(weights.root().sub("a").shape("weight"), Some(vec![2, 3]));
    }

    /// Against libtorch's own conversion and layout, over several windows of the file and unaligned in it.
    #[test]
    fn a_parameter_has_the_file_s_values_in_the_kind_and_layout_asked_for() {
        for stored in [Kind::Float, Kind::Half, Kind::BFloat16] {
            let shapes: [&[i64]; 5] = [&[64, 40, 3, 3], &[7, 1, 3, 3], &[8, 5, 1, 1], &[1300, 1000], &[]];
            let tensors: Vec<_> = shapes.iter().map(|shape| Tensor::randn(*shape, CPU).to_kind(stored)).collect();
            let names = ["a", "b", "c", "d", "e"];
            let file = file(&names.into_iter().zip(tensors.iter().map(Tensor::shallow_clone)).collect::<Vec<_>>());
            shift(file.path());
            for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
                let weights = Weights::open(file.path(), Device::Cpu, kind).unwrap();
                for (name, tensor) in names.into_iter().zip(&tensors) {
                    let found = weights.root().get(name, &tensor.size(), Init::Const(0.0)).unwrap();
                    assert_eq!((found.kind(), &*found), (kind, &tensor.to_kind(kind)), "{stored:?} {name}");
                    assert!(found.dim() != 4 || found.permute([0, 2, 3, 1]).is_contiguous());
                }
                assert!(weights.finish().unwrap().is_empty());
            }
        }
    }

    /// Moves a file's data to an odd place: by a blank at the end of its header.
    fn shift(path: &std::path::Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        bytes.insert(8 + length as usize, b' ');
        bytes[..8].copy_from_slice(&(length + 1).to_le_bytes());
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_file_cut_while_it_is_read_is_an_error() {
        let good = file(&[("a.weight", Tensor::ones([3 << 20], CPU))]);
        let weights = Weights::open(good.path(), Device::Cpu, Kind::Float).unwrap();
        good.as_file().set_len(5 << 20).unwrap();
        let error = a(&weights.root(), &[3 << 20]).unwrap_err();
        assert!(format!("{error:#}").contains("can't be read any more"), "{error:#}");
    }

    #[test]
    fn shapes_take_no_memory() {
        let weights = Weights::shapes();
        let tensor = weights.root().sub("a").get("weight", &[1 << 20, 1 << 20], Init::Const(0.0)).unwrap();
        assert_eq!(tensor.size(), [1 << 20, 1 << 20]);
        assert!(weights.finish().unwrap().contains_key("a.weight"));
    }

    #[test]
    fn shapes_end_at_a_number() {
        let weights = Weights::shapes();
        let get = |i: usize| weights.root().sub(i).get("weight", &[1], Init::Const(0.0)).map(drop);
        assert!((0..MAX_TENSORS).all(|i| get(i).is_ok()));
        let error = get(MAX_TENSORS).unwrap_err();
        assert!(error.to_string().contains("asks for more than 20000 tensors"), "{error}");
    }
}
