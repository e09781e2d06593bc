//! From PyTorch's pickles to safetensors, without running what a pickle asks for.
//!
//! A checkpoint is read in place and written tensor by tensor; what it claims is checked against its bytes first. The new
//! file has its name from the moment it is whole.

mod checkpoint;
mod folder;
mod pickle;
mod zip;

pub use checkpoint::Checkpoint;
pub use folder::{FoundPickle, find};

use crate::harmonizers::files;
use crate::nets::weights;
use anyhow::{Context, Result};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// What became of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    pub tensors: usize,
    /// Size of the safetensors file.
    pub bytes: u64,
    /// Names of tensors that are no weights and were left out.
    pub dropped: Vec<String>,
}

/// Converts the file `pickle` to the file `safetensors`, every kind and bit kept. `progress` is told again and again how many
/// of how many bytes, read and written, are behind it. Errors name `pickle` and what it asks for or lacks.
pub fn convert(pickle: &Path, safetensors: &Path, progress: &dyn Fn(u64, u64)) -> Result<Converted> {
    read(pickle, |checkpoint| {
        checkpoint.verify(progress)?;
        files::write_whole(safetensors, |part| {
            checkpoint.write(part, progress)?;
            // Whatever the limits on either side, nothing is converted that loading refuses.
            weights::stored(part).map(drop)
        })?;
        let bytes = safetensors.metadata()?.len();
        Ok(Converted { tensors: checkpoint.tensors(), bytes, dropped: checkpoint.dropped().to_vec() })
    })
    .with_context(|| pickle.display().to_string())
}

/// Text out of a file, whose author may have meant it for a terminal: escaped, its beginning alone where it is long.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?} and {} bytes more", &text[..end], text.len() - end),
        None => format!("{text:?}"),
    }
}

fn read<T>(pickle: &Path, then: impl FnOnce(&Checkpoint) -> Result<T>) -> Result<T> {
    let file = File::open(pickle)?;
    // SAFETY: the map is read only. A file that somebody cuts while it is read ends the program, as it would any that maps
    // its weights; one that is changed gives other values, each of which is as good as any for an f32.
    let bytes = unsafe { Mmap::map(&file) }?;
    then(&Checkpoint::read(&bytes)?)
}
