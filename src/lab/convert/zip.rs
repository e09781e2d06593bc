//! The zip archives that PyTorch saves: a directory of stored entries, read in place.
//!
//! Our own, because a general reader reserves memory for as many entries as a damaged file claims to have. Here every
//! position is checked against the file and nothing is copied.

use super::quoted;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
const END_LENGTH: usize = 22;
const MAX_COMMENT: usize = 65535;
/// A checkpoint has one for each tensor and a few more.
const MAX_ENTRIES: u64 = 1 << 18;

#[derive(Clone, Copy, Debug)]
struct Entry {
    encrypted: bool,
    method: u16,
    crc: u32,
    size: u64,
    /// Of its local header.
    position: u64,
}

/// An archive by its entries' names.
#[derive(Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    entries: HashMap<&'a str, Entry>,
}

impl<'a> Archive<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (count, start) = directory(bytes).context("not a whole zip archive: it was cut short or damaged")?;
        ensure!(count <= MAX_ENTRIES, "it claims {count} entries, more than weights need");
        let mut entries = HashMap::new();
        let mut rest = tail(bytes, start).context("the directory lies outside the file")?;
        for _ in 0..count {
            let (name, entry, after) = entry(rest).context("the directory is damaged")?;
            let name = std::str::from_utf8(name).context("an entry's name is not UTF-8")?;
            let inside = !name.starts_with('/') && name.split(['/', '\\']).all(|part| part != "..");
            ensure!(inside, "its entry {} leads out of the archive", quoted(name));
            ensure!(entries.insert(name, entry).is_none(), "it has two entries {}", quoted(name));
            rest = after;
        }
        Ok(Self { bytes, entries })
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().copied()
    }

    /// What is stored under `name`; none where there is no such entry.
    pub fn get(&self, name: &str) -> Result<Option<&'a [u8]>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        ensure!(!entry.encrypted, "entry {} is encrypted", quoted(name));
        ensure!(entry.method == 0, "entry {} is compressed, which PyTorch's files are not", quoted(name));
        let data = || {
            let local = tail(self.bytes, entry.position)?.strip_prefix(LOCAL)?;
            let header = 26 + usize::from(u16_at(local, 22)?) + usize::from(u16_at(local, 24)?);
            local.get(header..)?.get(..usize::try_from(entry.size).ok()?)
        };
        data().map(Some).with_context(|| format!("entry {} lies outside the file", quoted(name)))
    }

    /// Refuses the entry `name` where its bytes are not those that were stored.
    pub fn verify(&self, name: &str) -> Result<()> {
        let (Some(entry), Some(data)) = (self.entries.get(name), self.get(name)?) else {
            bail!("entry {} is missing", quoted(name));
        };
        // PyTorch writes 0 where it was told not to compute the sum.
        let intact = entry.crc == 0 || entry.crc == crc32fast::hash(data);
        ensure!(intact, "entry {} is damaged: its checksum doesn't fit", quoted(name));
        Ok(())
    }
}

/// How many entries there are, and where the directory begins.
fn directory(bytes: &[u8]) -> Option<(u64, u64)> {
    let last = bytes.len().checked_sub(END_LENGTH)?;
    let first = last.saturating_sub(MAX_COMMENT);
    let end = (first..=last).rev().find(|&at| {
        let comment = u16_at(bytes, at + 20).map(usize::from);
        bytes[at..].starts_with(END) && comment == Some(bytes.len() - at - END_LENGTH)
    })?;
    let locator = end.checked_sub(20).map(|at| &bytes[at..end]).filter(|bytes| bytes.starts_with(LOCATOR_64));
    match locator {
        Some(locator) => {
            let end = tail(bytes, u64_at(locator, 8)?)?;
            if !end.starts_with(END_64) {
                return None;
            }
            Some((u64_at(end, 32)?, u64_at(end, 48)?))
        }
        None => Some((u16_at(bytes, end + 10)?.into(), u32_at(bytes, end + 16)?.into())),
    }
}

/// The name and place of the directory's first entry, and the directory behind it.
fn entry(directory: &[u8]) -> Option<(&[u8], Entry, &[u8])> {
    if !directory.starts_with(ENTRY) {
        return None;
    }
    let length = |at| u16_at(directory, at).map(usize::from);
    let (name, rest) = directory.get(46..)?.split_at_checked(length(28)?)?;
    let (mut extra, rest) = rest.split_at_checked(length(30)?)?;
    let rest = rest.get(length(32)?..)?;
    let mut wide: &[u8] = &[];
    while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let (field, behind) = extra.get(4..)?.split_at_checked(length.into())?;
        if id == 1 {
            wide = field;
        }
        extra = behind;
    }
    // What doesn't fit 32 bits stands in the extra field, in this order.
    let mut number = |at| match u32_at(directory, at)? {
        u32::MAX => {
            let number = u64_at(wide, 0)?;
            wide = &wide[8..];
            Some(number)
        }
        number => Some(number.into()),
    };
    let size = number(24)?;
    number(20)?;
    let position = number(42)?;
    let (flags, method, crc) = (u16_at(directory, 8)?, u16_at(directory, 10)?, u32_at(directory, 16)?);
    Some((name, Entry { encrypted: flags & 1 != 0, method, crc, size, position }, rest))
}

fn tail(bytes: &[u8], from: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(from).ok()?..)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}
