//! The zip archives that PyTorch saves: a directory of stored entries, read in place.
//!
//! rawzip reads the directory, without memory for what a damaged file claims to have. What it leaves to its callers is here: that
//! the entries are as many as were claimed, that none leads out or is there twice, and that each lies in the file as it was stored.

use super::quoted;
use anyhow::{Context, Result, bail, ensure};
use rawzip::{CompressionMethod, ZipArchive, ZipArchiveEntryWayfinder, ZipFileHeaderRecord, ZipSliceArchive};
use std::collections::BTreeMap;

/// A checkpoint has one for each tensor and a few more.
const MAX_ENTRIES: u64 = 1 << 18;

#[derive(Clone, Copy, Debug)]
struct Entry {
    encrypted: bool,
    method: CompressionMethod,
    crc: u32,
    size: u64,
    place: ZipArchiveEntryWayfinder,
}

/// An archive by its entries' names.
#[derive(Debug)]
pub struct Archive<'a> {
    archive: ZipSliceArchive<&'a [u8]>,
    entries: BTreeMap<String, Entry>,
}

impl<'a> Archive<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let archive = ZipArchive::from_slice(bytes).ok().filter(|found| found.end_offset() == bytes.len() as u64);
        let archive = archive.context("not a whole zip archive: it was cut short or damaged")?;
        let count = archive.entries_hint();
        ensure!(count <= MAX_ENTRIES, "it claims {count} entries, more than weights need");
        let mut entries = BTreeMap::new();
        for record in archive.entries().take(count as usize) {
            let record = record.context("the directory is damaged")?;
            let (name, entry) = entry(&record)?;
            ensure!(entries.insert(name.to_owned(), entry).is_none(), "it has two entries {}", quoted(name));
        }
        let there = entries.len() as u64;
        ensure!(there == count, "the directory is damaged: it claims {count} entries and has {there}");
        Ok(Self { archive, entries })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What is stored under `name`; none where there is no such entry.
    pub fn get(&self, name: &str) -> Result<Option<&'a [u8]>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        ensure!(!entry.encrypted, "entry {} is encrypted", quoted(name));
        ensure!(
            entry.method == CompressionMethod::STORE,
            "entry {} is compressed, which PyTorch's files are not",
            quoted(name)
        );
        let data = || {
            let (start, _) = self.archive.get_entry(entry.place).ok()?.compressed_data_range();
            let data: &'a [u8] = self.archive.get_ref();
            data.get(usize::try_from(start).ok()?..)?.get(..usize::try_from(entry.size).ok()?)
        };
        data().map(Some).with_context(|| format!("entry {} lies outside the file", quoted(name)))
    }

    /// Refuses the entry `name` where its bytes are not those that were stored.
    pub fn verify(&self, name: &str) -> Result<()> {
        let (Some(entry), Some(data)) = (self.entries.get(name), self.get(name)?) else {
            bail!("entry {} is missing", quoted(name));
        };
        // PyTorch writes 0 where it was told not to compute the sum. (crc32fast is several times as fast as rawzip's own sum.)
        let intact = entry.crc == 0 || entry.crc == crc32fast::hash(data);
        ensure!(intact, "entry {} is damaged: its checksum doesn't fit", quoted(name));
        Ok(())
    }
}

fn entry<'a>(record: &ZipFileHeaderRecord<'a>) -> Result<(&'a str, Entry)> {
    let name = std::str::from_utf8(record.file_path().as_bytes()).context("an entry's name is not UTF-8")?;
    let inside = !name.starts_with('/') && name.split(['/', '\\']).all(|part| part != "..");
    ensure!(inside, "its entry {} leads out of the archive", quoted(name));
    let entry = Entry {
        encrypted: record.flags().is_encrypted(),
        method: record.compression_method(),
        crc: record.crc32(),
        size: record.uncompressed_size_hint(),
        place: record.wayfinder(),
    };
    Ok((name, entry))
}
