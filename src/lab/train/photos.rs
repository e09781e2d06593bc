//! What training composites are made of: photographs with label maps, object-shaped masks, and measured changes of colour.

use crate::harmonizers::training::Random;
use crate::nets::weights;
use anyhow::{Context, Result, ensure};
use image::imageops::{FilterType, thumbnail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Photographs are kept at this long side: more than twice what the network sees, room for crops.
const LONG_SIDE: u32 = 288;
/// A region smaller than this share of its photograph makes no foreground.
const MIN_REGION: f64 = 0.01;

/// An 8-bit RGB picture with one label a pixel, 0 for none; `regions` are the labels large enough to be a foreground.
pub struct Photo {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
    pub labels: Vec<u8>,
    pub regions: Vec<u8>,
    /// The letters that its file's name begins with: photographs of one collection.
    pub source: String,
}

/// An object's silhouette, 0 or 255.
pub struct Shape {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

/// Polynomial over (r, g, b, rg, rb, gb, r2, g2, b2, rgb, 1) for each channel, RGB in 0..255.
pub type Polynomial = [[f32; 11]; 3];

/// Polynomial over (r, g, b, rg, rb, gb, r2, g2, b2) for each channel, RGB in 0..1.
pub type Quadratic = [[f32; 9]; 3];

/// A 3-D table of `size`^3 RGB values in 0..1, in [b][g][r] order.
pub struct Look {
    pub size: usize,
    pub values: Vec<[f32; 3]>,
}

/// Everything in a folder: photographs, or photos/ with masks/ and the tables of colour changes beside it.
#[derive(Default)]
pub struct Data {
    pub photos: Vec<Photo>,
    pub shapes: Vec<Shape>,
    pub to_standard: Vec<Polynomial>,
    pub from_standard: Vec<Polynomial>,
    pub looks: Vec<Look>,
    /// A retoucher's changes, and their inverses.
    pub retouch: Vec<Look>,
    /// What cameras make of a well-balanced picture, ten settings for each of as many cameras' pictures.
    pub white_balance: Vec<Quadratic>,
}

impl Data {
    /// Reads a folder; `progress` hears of every photograph.
    pub fn read(folder: &Path, progress: &indicatif::ProgressBar) -> Result<Self> {
        let mut data = Self::default();
        let within = folder.join("photos");
        let photos = if within.is_dir() { within.as_path() } else { folder };
        let files = photographs(photos)?;
        ensure!(!files.is_empty(), "there are no photographs (*.jpg, *.png) in {}", photos.display());
        progress.set_length(files.len() as u64);
        let read = &|files: &[PathBuf]| -> Result<Vec<Photo>> {
            let one = |file: &PathBuf| photo(file).with_context(|| format!("photograph {}", file.display()));
            files.iter().map(|file| one(file).inspect(|_| progress.inc(1))).collect()
        };
        let part = files.len().div_ceil(std::thread::available_parallelism()?.get());
        let parts: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = files.chunks(part).map(|files| scope.spawn(move || read(files))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        for part in parts {
            data.photos.extend(part?);
        }
        if folder.join("masks").is_dir() {
            for file in pictures(&folder.join("masks"), &["png"])? {
                data.shapes.push(shape(&file).with_context(|| format!("mask {}", file.display()))?);
            }
        }
        let illuminants = folder.join("illuminants.safetensors");
        if illuminants.exists() {
            data.to_standard = polynomials(&illuminants, "to_standard")?;
            data.from_standard = polynomials(&illuminants, "from_standard")?;
        }
        let white_balance = folder.join("whitebalance.safetensors");
        if white_balance.exists() {
            data.white_balance = polynomials(&white_balance, "polynomials")?;
        }
        for (looks, file) in [(&mut data.looks, "looks.safetensors"), (&mut data.retouch, "retouch.safetensors")] {
            let file = folder.join(file);
            if file.exists() {
                *looks = read_looks(&file)?;
            }
        }
        Ok(data)
    }
}

/// Photographs by where they are from: a source is as likely as the square root of how many it has, so that none rules.
pub struct Sources {
    photos: Vec<Vec<usize>>,
    /// Upper ends of the sources' parts of 0..1.
    ends: Vec<f64>,
}

impl Sources {
    /// Of the photographs with these numbers; there is at least one.
    pub fn new(data: &Data, numbers: &[usize]) -> Self {
        let mut photos = BTreeMap::<&str, Vec<usize>>::new();
        numbers.iter().for_each(|&i| photos.entry(&data.photos[i].source).or_default().push(i));
        let photos: Vec<_> = photos.into_values().collect();
        let weight = |photos: &Vec<usize>| (photos.len() as f64).sqrt();
        let total: f64 = photos.iter().map(weight).sum();
        let ends = photos.iter().scan(0.0, |end, photos| {
            *end += weight(photos) / total;
            Some(*end)
        });
        Self { ends: ends.collect(), photos }
    }

    pub fn draw<'a>(&self, random: &mut Random, data: &'a Data) -> &'a Photo {
        let place = random.uniform(0.0, 1.0);
        let source = self.ends.iter().position(|&end| place < end).unwrap_or(self.ends.len() - 1);
        let photos = &self.photos[source];
        &data.photos[photos[random.index(photos.len())]]
    }
}

/// Files with one of these extensions, by name, so that a seed means the same everywhere.
fn pictures(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| format!("can't read folder {}", folder.display()))?;
    let is_one = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        extensions.iter().any(|one| one.eq_ignore_ascii_case(extension))
    };
    let mut files: Vec<_> = entries.flatten().map(|e| e.path()).filter(is_one).collect();
    files.sort();
    Ok(files)
}

/// The pictures in `folder` that are no label maps of others.
fn photographs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = pictures(folder, &["jpg", "jpeg", "png"])?;
    let maps: BTreeSet<PathBuf> = files.iter().filter_map(|file| labels(file)).collect();
    files.retain(|file| !maps.contains(file));
    Ok(files)
}

/// The label map or mask beside a photograph: NAME-mask.png, or NAME.png for a NAME of another extension.
fn labels(photo: &Path) -> Option<PathBuf> {
    let mut mask = photo.file_stem()?.to_owned();
    mask.push("-mask.png");
    [photo.with_file_name(mask), photo.with_extension("png")].into_iter().find(|file| file != photo && file.exists())
}

fn photo(file: &Path) -> Result<Photo> {
    let picture = image::open(file)?.into_rgb8();
    let scale = f64::from(LONG_SIDE) / f64::from(picture.width().max(picture.height()));
    let side = |length: u32| ((f64::from(length) * scale.min(1.0)).round() as u32).max(1);
    let (width, height) = (side(picture.width()), side(picture.height()));
    let rgb = thumbnail(&picture, width, height).into_raw();
    let labels = match labels(file) {
        Some(map) => {
            let map = image::open(&map).with_context(|| map.display().to_string())?.into_luma8();
            image::imageops::resize(&map, width, height, FilterType::Nearest).into_raw()
        }
        None => vec![0; (width * height) as usize],
    };
    let mut counts = [0usize; 256];
    labels.iter().for_each(|&l| counts[usize::from(l)] += 1);
    let smallest = MIN_REGION * labels.len() as f64;
    let regions = (1..=255u8).filter(|&l| counts[usize::from(l)] as f64 >= smallest).collect();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source = name.chars().take_while(|c| c.is_alphabetic()).collect();
    Ok(Photo { width: width as usize, height: height as usize, rgb, labels, regions, source })
}

fn shape(file: &Path) -> Result<Shape> {
    let picture = image::open(file)?.into_luma8();
    let picture = thumbnail(&picture, 96, (96 * picture.height() / picture.width().max(1)).max(1));
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let data = picture.into_raw().iter().map(|&v| if v >= 128 { 255 } else { 0 }).collect();
    Ok(Shape { width, height, data })
}

fn values(file: &Path, name: &str) -> Result<(Vec<i64>, Vec<f32>)> {
    let mut tensors = weights::read(file)?;
    let tensor = tensors.remove(name).with_context(|| format!("{} holds no tensor {name}", file.display()))?;
    Ok((tensor.size(), Vec::try_from(&tensor.f_flatten(0, -1)?)?))
}

/// Of `N` terms a channel.
fn polynomials<const N: usize>(file: &Path, name: &str) -> Result<Vec<[[f32; N]; 3]>> {
    let (shape, values) = values(file, name)?;
    let fits = shape.ends_with(&[3, N as i64]);
    ensure!(fits, "{name} in {} has shape {shape:?}, not [..., 3, {N}]", file.display());
    Ok(values.chunks_exact(3 * N).map(|p| std::array::from_fn(|c| std::array::from_fn(|k| p[c * N + k]))).collect())
}

fn read_looks(file: &Path) -> Result<Vec<Look>> {
    let (shape, values) = values(file, "luts")?;
    ensure!(
        matches!(shape[..], [_, a, b, c, 3] if a > 1 && a == b && b == c),
        "luts in {} has shape {shape:?}, not [n, s, s, s, 3]",
        file.display()
    );
    let size = shape[1] as usize;
    let looks = values.chunks_exact(size.pow(3) * 3);
    Ok(looks.map(|l| Look { size, values: l.chunks_exact(3).map(|v| [v[0], v[1], v[2]]).collect() }).collect())
}
