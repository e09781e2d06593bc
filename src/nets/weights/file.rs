//! A safetensors file in memory or mapped, its tensors copied out one at a time.
//!
//! Pages of a mapped file that have been copied are given back at once: what is resident at any moment is the parameters made
//! so far and a few megabytes of the file. A file that somebody cuts while it is being read is an error where the kernel says
//! so before the pages are read (Linux 5.14), else, and in the instant between, a SIGBUS, as with any mapped file; what
//! somebody writes into it meanwhile is checked as it is copied.

use super::header::{self, Stored};
use super::values::{Copier, Layout, Value};
use anyhow::{Context, Result, anyhow, bail, ensure};
use memmap2::{Advice, Mmap, UncheckedAdvice};
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Bytes of a mapped file that are resident at once.
const WINDOW: usize = 4 << 20;
/// Bytes before and after a page that may become resident with it: Linux maps 64 KiB around one that it has cached.
const AROUND: usize = 1 << 20;

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    /// Inside the plugin.
    Static(&'static [u8]),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

/// Which of a file's tensors have not been taken yet, and their bytes.
#[derive(Debug)]
pub struct File {
    bytes: Bytes,
    pub left: BTreeMap<String, Stored>,
}

impl File {
    /// Maps a regular file. Nothing else is opened: a FIFO would block, a device never end.
    pub fn open(path: &Path) -> Result<Self> {
        ensure!(path.metadata()?.is_file(), "it is not a regular file");
        let file = std::fs::File::open(path)?;
        // SAFETY: the bytes are only ever copied out as numbers, of which any are valid, and are checked after they were copied.
        // The file may shrink under the map: see this file's head.
        let map = unsafe { Mmap::map(&file)? };
        let left = header::read(&map)?;
        Ok(Self { bytes: Bytes::Mapped(map), left })
    }

    pub fn within(bytes: &'static [u8]) -> Result<Self> {
        Ok(Self { left: header::read(bytes)?, bytes: Bytes::Static(bytes) })
    }

    /// The tensor `name` on the CPU in `kind`: f32, f16 or bf16. Channels are innermost where it has four dimensions.
    pub fn copy(&self, name: &str, tensor: &Stored, kind: Kind) -> Result<Tensor> {
        match kind {
            Kind::Float => self.copy_as::<f32>(name, tensor),
            Kind::Half => self.copy_as::<half::f16>(name, tensor),
            Kind::BFloat16 => self.copy_as::<half::bf16>(name, tensor),
            other => bail!("parameters are of kind Float, Half or BFloat16, not {other:?}"),
        }
    }

    fn copy_as<T: Value>(&self, name: &str, tensor: &Stored) -> Result<Tensor> {
        let (shape, order) = match tensor.shape[..] {
            [o, i, h, w] => (vec![o, h, w, i], Some([0, 3, 1, 2])),
            _ => (tensor.shape.clone(), None),
        };
        let layout = match tensor.shape[..] {
            [_, i, h, w] if i > 1 && h * w > 1 => Layout::ChannelsLast { channels: i as usize, taps: (h * w) as usize },
            _ => Layout::AsStored,
        };
        let parameter = Tensor::f_empty(&shape, (T::KIND, Device::Cpu))?;
        let numel = parameter.numel();
        if numel > 0 {
            // SAFETY: a new contiguous tensor has `numel` values of its kind at its data pointer, aligned for any kind, and
            // nobody else refers to it yet.
            let values = unsafe { std::slice::from_raw_parts_mut(parameter.data_ptr().cast::<T>(), numel) };
            self.fill(name, tensor, layout, values)?;
        }
        Ok(match order {
            Some(order) => parameter.f_permute(order)?,
            None => parameter,
        })
    }

    fn fill<T: Value>(&self, name: &str, tensor: &Stored, layout: Layout, values: &mut [T]) -> Result<()> {
        let mut copier = Copier::new(tensor.dtype, layout, values.len());
        let size = tensor.dtype.size();
        let window = (WINDOW / size / copier.block()).max(1) * copier.block();
        let starts = tensor.range.clone().step_by(window * size);
        for (start, values) in starts.zip(values.chunks_mut(window)) {
            let range = start..start + values.len() * size;
            self.expect(range.clone())?;
            copier.copy(&self.bytes[range.clone()], values).map_err(|fault| anyhow!("tensor {name} {fault}"))?;
            self.release(range);
        }
        Ok(())
    }

    /// Brings these bytes into memory, unless they are gone: beyond the file's end now, or on a disk that fails.
    fn expect(&self, range: Range<usize>) -> Result<()> {
        const EFAULT: i32 = 14;
        let Bytes::Mapped(map) = &self.bytes else { return Ok(()) };
        match map.advise_range(Advice::PopulateRead, range.start, range.len()) {
            Err(e) if e.raw_os_error() == Some(EFAULT) => Err(e).context("the file was cut, or can't be read any more"),
            // Kernels before 5.14 don't know the advice, and none needs it.
            _ => Ok(()),
        }
    }

    /// Gives back the pages of these bytes, and those around that the kernel brought along.
    fn release(&self, range: Range<usize>) {
        let Bytes::Mapped(map) = &self.bytes else { return };
        let (start, end) = (range.start.saturating_sub(AROUND), map.len().min(range.end + AROUND));
        // SAFETY: the map is never written to, so that its pages are the file's and come back when they are read again.
        let released = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        // Refused where a process has locked its memory, which has room for the whole file then.
        drop(released);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As all of a process' memory may be, for the sake of real time: the kernel then refuses to take pages back.
    #[test]
    fn a_file_that_is_locked_in_memory_is_read_too() {
        let good = tempfile::NamedTempFile::new().unwrap();
        let ones = Tensor::ones([1000], (Kind::Float, Device::Cpu));
        Tensor::write_safetensors(&[("a", &ones)], good.path()).unwrap();
        let file = File::open(good.path()).unwrap();
        // SAFETY: these bytes are mapped, and mlock changes nothing in them.
        let refused = unsafe { libc::mlock(file.bytes.as_ptr().cast(), file.bytes.len()) };
        assert_eq!(refused, 0, "{}", std::io::Error::last_os_error());
        assert_eq!(file.copy("a", &file.left["a"], Kind::Float).unwrap(), ones);
    }
}
