//! Pictures in iHarmony4's layout.
//!
//! A subset is a folder with `composite_images/ID_LABEL_N.jpg`, `masks/ID_LABEL.png`, `real_images/ID.jpg` and a list
//! `NAME_test.txt` with one composite a line (its folders, if any, don't matter). IDs may hold underscores. A list `test.jsonl`
//! beside the subsets, as DiffHarmony's scripts read it, comes first where it is: an object a line, its `file_name` being
//! `SUBSET/composite_images/ID_LABEL_N.jpg`.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A composite, where its foreground is, and what it should look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triple {
    pub composite: PathBuf,
    pub mask: PathBuf,
    pub real: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    pub name: String,
    pub triples: Vec<Triple>,
}

impl Subset {
    /// The real pictures in the composites' place: foregrounds that fit already.
    pub fn of_real(mut self) -> Self {
        self.triples.iter_mut().for_each(|triple| triple.composite.clone_from(&triple.real));
        self
    }
}

/// The subsets under `root`, which is one itself or the parent of several; in the order of their names, triples in the
/// order of their list. Fails when there are none, when a list is missing or empty, or when it names a picture that isn't there.
pub fn subsets(root: &Path) -> Result<Vec<Subset>> {
    ensure!(root.is_dir(), "{}: no such folder", root.display());
    let list = root.join("test.jsonl");
    if list.is_file() {
        return listed(root, &list);
    }
    if is_subset(root) {
        return Ok(vec![subset(root)?]);
    }
    let mut folders: Vec<PathBuf> = entries(root)?.into_iter().filter(|path| is_subset(path)).collect();
    folders.sort();
    ensure!(
        !folders.is_empty(),
        "{}: neither this folder nor one in it holds composite_images/, masks/ and real_images/ as iHarmony4 does",
        root.display()
    );
    let subsets: Vec<Subset> = folders.iter().map(|folder| subset(folder)).collect::<Result<_>>()?;
    for (index, subset) in subsets.iter().enumerate() {
        let twice = subsets[..index].iter().any(|other| other.name == subset.name);
        ensure!(!twice, "{}: two folders in it are called {} by their lists", root.display(), subset.name);
    }
    Ok(subsets)
}

/// The subsets that test.jsonl names.
fn listed(root: &Path, list: &Path) -> Result<Vec<Subset>> {
    #[derive(serde::Deserialize)]
    struct Entry {
        file_name: String,
    }
    let text = std::fs::read_to_string(list).with_context(|| list.display().to_string())?;
    let mut subsets: BTreeMap<String, Vec<Triple>> = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{} line {}", list.display(), number + 1);
        let Entry { file_name } = serde_json::from_str(line).with_context(place)?;
        let Some((folder, file)) = file_name.rsplit_once("/composite_images/") else {
            bail!("{}: {file_name} is not named SUBSET/composite_images/ID_LABEL_N.jpg", place());
        };
        let triple = triple(&root.join(folder), file).with_context(place)?;
        let name = folder.rsplit('/').next().unwrap_or(folder);
        subsets.entry(name.to_owned()).or_default().push(triple);
    }
    ensure!(!subsets.is_empty(), "{}: the list is empty", list.display());
    Ok(subsets.into_iter().map(|(name, triples)| Subset { name, triples }).collect())
}

fn is_subset(folder: &Path) -> bool {
    folder.join("composite_images").is_dir()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    read().with_context(|| folder.display().to_string())
}

fn subset(folder: &Path) -> Result<Subset> {
    // The name is the list's, not the folder's: a folder may have been renamed, or be "."
    let mut lists: Vec<PathBuf> = entries(folder)?.into_iter().filter(|path| subset_name(path).is_some()).collect();
    lists.sort();
    let [list] = &lists[..] else {
        bail!("{}: {} lists NAME_test.txt of the pictures to measure, one is needed", folder.display(), lists.len());
    };
    let text = std::fs::read_to_string(list).with_context(|| list.display().to_string())?;
    let triples = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| triple(folder, line).with_context(|| format!("{}: {line}", list.display())))
        .collect::<Result<Vec<_>>>()?;
    ensure!(!triples.is_empty(), "{}: the list is empty", list.display());
    Ok(Subset { name: subset_name(list).unwrap_or_default(), triples })
}

fn subset_name(list: &Path) -> Option<String> {
    Some(list.file_name()?.to_str()?.strip_suffix("_test.txt")?.to_owned())
}

fn triple(folder: &Path, line: &str) -> Result<Triple> {
    let file = line.rsplit('/').next().unwrap_or(line);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let (id_label, _) = stem.rsplit_once('_').context("not named ID_LABEL_N.jpg")?;
    let (id, _) = id_label.rsplit_once('_').context("not named ID_LABEL_N.jpg")?;
    let triple = Triple {
        composite: folder.join("composite_images").join(file),
        mask: folder.join("masks").join(format!("{id_label}.png")),
        real: folder.join("real_images").join(format!("{id}.jpg")),
    };
    for path in [&triple.composite, &triple.mask, &triple.real] {
        ensure!(path.is_file(), "{}: no such file", path.display());
    }
    Ok(triple)
}
