//! A file that `torch.save` wrote: a zip archive with one pickle that describes tensors and an entry for each storage.

use super::pickle::{self, Tensor};
use super::quoted;
use super::zip::Archive;
use crate::nets::weights;
use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, View};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// `little` or `big`.
const MAX_BYTE_ORDER: usize = 16;

/// Tensors by name, each within the bytes of its storage.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    archive: Archive<'a>,
    /// Entries with the tensors' values.
    storages: BTreeSet<String>,
    tensors: BTreeMap<&'a str, Strided<'a>>,
    dropped: Vec<String>,
    /// Bytes of all storages, which are read to verify them.
    stored: u64,
    /// Bytes of all tensors, which are written.
    written: u64,
}

impl<'a> Checkpoint<'a> {
    /// Reads what the file describes, none of its values.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        refuse_others(bytes)?;
        let archive = Archive::new(bytes)?;
        let root = root(&archive)?;
        let entry = |name: &str| {
            let name = format!("{root}/{name}");
            let data = archive.get(&name)?.with_context(|| format!("entry {} is missing", quoted(&name)))?;
            Ok::<_, anyhow::Error>((name, data))
        };
        let order = archive.get(&format!("{root}/byteorder"))?.unwrap_or(b"little");
        ensure!(order.len() <= MAX_BYTE_ORDER, "its byte order is an entry of {} bytes", order.len());
        ensure!(
            order == b"little",
            "its byte order is {}: on a machine you trust load it with PyTorch and save it again",
            quoted(&String::from_utf8_lossy(order))
        );
        let (mut storages, mut tensors, mut dropped) = (BTreeSet::new(), BTreeMap::new(), vec![]);
        let mut stored = 0;
        for (name, tensor) in pickle::state_dict(entry("data.pkl")?.1)? {
            ensure!(
                name.len() <= weights::MAX_NAME && !name.contains(char::is_control),
                "tensor {} has a name that no network's has",
                quoted(name)
            );
            if weights::is_position_ids(name) {
                dropped.push(name.to_owned());
                continue;
            }
            let (storage, data) = entry(&format!("data/{}", tensor.storage))?;
            let size = data.len() as u64;
            tensors.insert(name, Strided::new(tensor, data).with_context(|| format!("tensor {}", quoted(name)))?);
            if storages.insert(storage) {
                stored += size;
            }
        }
        ensure!(!tensors.is_empty(), "it holds no weights");
        let written = tensors.values().map(|tensor| tensor.length as u64).sum();
        ensure!(stored <= bytes.len() as u64, "its entries overlap");
        // Names may share a storage, but not so that a small file fills a disk.
        ensure!(written <= 2 * bytes.len() as u64, "it gives the same values too many names");
        Ok(Self { archive, storages, tensors, dropped, stored, written })
    }

    /// How many tensors there are to write.
    pub fn tensors(&self) -> usize {
        self.tensors.len()
    }

    /// Names of tensors that are no weights.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Reads every value once and refuses a file that was damaged since it was saved.
    pub fn verify(&self, progress: &dyn Fn(u64, u64)) -> Result<()> {
        let mut done = 0;
        for storage in &self.storages {
            self.archive.verify(storage)?;
            done += self.archive.get(storage)?.map_or(0, |data| data.len() as u64);
            progress(done, self.stored + self.written);
        }
        Ok(())
    }

    /// Writes a safetensors file.
    pub fn write(&self, path: &Path, progress: &dyn Fn(u64, u64)) -> Result<()> {
        let (done, of) = (Cell::new(self.stored), self.stored + self.written);
        let views = self.tensors.iter().map(|(name, tensor)| (name, Writing { tensor, of, done: &done, progress }));
        let format = [("format".to_owned(), "pt".to_owned())].into();
        Ok(safetensors::serialize_to_file(views, Some(format), path)?)
    }
}

/// The folder that an archive's entries lie in.
fn root<'a>(archive: &'a Archive) -> Result<&'a str> {
    let mut pickles = archive.names().filter_map(|name| name.strip_suffix("/data.pkl")).filter(|n| !n.contains('/'));
    let (Some(root), None) = (pickles.next(), pickles.next()) else {
        bail!("it is a zip archive, but not one that torch.save wrote: it has no data.pkl");
    };
    Ok(root)
}

/// Names what people have in place of a checkpoint.
fn refuse_others(bytes: &[u8]) -> Result<()> {
    // The number that PyTorch began its files with before 1.6, pickled.
    const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    ensure!(
        !bytes.starts_with(LEGACY),
        "it is in the format PyTorch had before 1.6: on a machine you trust save it again with a current one, `python3 -c \
         \"import sys, torch; f = sys.argv[1]; torch.save(torch.load(f, map_location='cpu', weights_only=True), f)\" FILE`"
    );
    ensure!(
        !bytes.starts_with(b"version https://git-lfs"),
        "it is a Git LFS pointer, not the file: run `git lfs pull`"
    );
    let text = bytes.trim_ascii_start();
    ensure!(!text.starts_with(b"<"), "it is a web page: the download failed, fetch it again in a browser");
    ensure!(bytes.starts_with(b"PK"), "it is not a file that torch.save wrote");
    Ok(())
}

/// A tensor's kind and shape, and the bytes from its first to its last value.
#[derive(Debug)]
struct Strided<'a> {
    kind: Dtype,
    shape: Vec<usize>,
    /// In bytes.
    strides: Vec<usize>,
    data: &'a [u8],
    /// Bytes of all values side by side.
    length: usize,
}

impl<'a> Strided<'a> {
    fn new(tensor: Tensor, storage: &'a [u8]) -> Result<Self> {
        let Tensor { kind, offset, shape, strides, .. } = tensor;
        ensure!(
            matches!(kind, Dtype::F32 | Dtype::F16 | Dtype::BF16),
            "it is of kind {kind:?}: weights are F32, F16 or BF16"
        );
        let size = kind.bitsize() / 8;
        let beyond = || format!("shape {shape:?} and strides {strides:?} reach beyond its {} bytes", storage.len());
        let length = shape.iter().try_fold(size, |length, d| length.checked_mul(*d)).with_context(beyond)?;
        // An expanded tensor sees a value more than once.
        ensure!(length <= storage.len(), beyond());
        // The stride of a single value is of no effect and may be anything.
        let bytes = |(d, stride): (&usize, &usize)| if *d == 1 { Some(0) } else { stride.checked_mul(size) };
        let strides: Option<Vec<_>> = shape.iter().zip(&strides).map(bytes).collect();
        let strides = strides.with_context(beyond)?;
        let data = if length == 0 {
            &[]
        } else {
            let last = shape
                .iter()
                .zip(&strides)
                .try_fold(size, |end, (d, stride)| end.checked_add((d - 1).checked_mul(*stride)?));
            let start = offset.checked_mul(size).with_context(beyond)?;
            let from = storage.get(start..).with_context(beyond)?;
            from.get(..last.with_context(beyond)?).with_context(beyond)?
        };
        Ok(Self { kind, shape, strides, data, length })
    }

    fn is_contiguous(&self, mut dense: usize) -> bool {
        self.shape.iter().zip(&self.strides).rev().all(|(d, stride)| {
            let fits = *d == 1 || *stride == dense;
            dense *= d;
            fits
        })
    }

    /// The values side by side, the last dimension innermost.
    fn values(&self) -> Cow<'a, [u8]> {
        let size = self.kind.bitsize() / 8;
        if self.length == 0 || self.is_contiguous(size) {
            return Cow::Borrowed(&self.data[..self.length]);
        }
        let mut values = Vec::with_capacity(self.length);
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        while values.len() < self.length {
            values.extend_from_slice(&self.data[at..at + size]);
            for ((i, d), stride) in index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
                *i += 1;
                at += stride;
                if *i < *d {
                    break;
                }
                at -= d * stride;
                *i = 0;
            }
        }
        Cow::Owned(values)
    }
}

/// A tensor that tells when it is written.
struct Writing<'a> {
    tensor: &'a Strided<'a>,
    done: &'a Cell<u64>,
    of: u64,
    progress: &'a dyn Fn(u64, u64),
}

impl View for Writing<'_> {
    fn dtype(&self) -> Dtype {
        self.tensor.kind
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.done.set(self.done.get() + self.tensor.length as u64);
        (self.progress)(self.done.get(), self.of);
        self.tensor.values()
    }

    fn data_len(&self) -> usize {
        self.tensor.length
    }
}
