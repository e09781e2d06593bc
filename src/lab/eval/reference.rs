//! A harmonizer measured as DiffHarmony's authors measured theirs, so that published tables can be had again.
//!
//! Composite and mask come from the files straight to a square of the working size. What the model answers is cut to 8 bits,
//! scaled to 256 x 256 and measured there; through the refinement network it is scaled first and cut to 8 bits last. The
//! background is pasted before measuring. Nothing but the noise depends on chance, and the noise on the seed and the picture's
//! name alone.

use super::dataset::{Subset, Triple};
use super::metrics;
use super::scale::{square, square_mask};
use super::{Background, Measured, binary, each, foreground, paste_background};
use crate::diffusion::Philox;
use crate::pictures;
use anyhow::{Context, Result, ensure};
use image::{GrayImage, RgbImage};
use std::time::Instant;
use tch::{Kind, Tensor};

/// Side of the pictures that are refined and measured.
pub const SIDE: u32 = 256;

/// What a published harmonizer is made of. Tensors are f32 on the CPU, NCHW, a batch of one; pictures are 0..1, masks 0 or 1.
pub trait Stages: Sync {
    /// The ways in which latents become a picture, by the names that their results go under.
    fn decoders(&self) -> Vec<&'static str>;

    /// A picture of the composite's size for each of `decoders`. All noise is drawn from `seed`.
    fn harmonize(&self, composite: &Tensor, mask: &Tensor, seed: u64) -> Result<Vec<Tensor>>;

    fn has_refinement(&self) -> bool;

    /// A harmonized picture at 256 x 256 and what it was made of to the corrected picture.
    fn refine(&self, harmonized: &Tensor, mask: &Tensor, composite: &Tensor) -> Result<Tensor>;
}

/// The names of what is measured: the untouched composite, then at each size every decoder's picture without and with
/// refinement.
pub fn rows(stages: &dyn Stages, sizes: &[u32]) -> Vec<String> {
    let mut rows = vec!["composite".to_owned()];
    for size in sizes {
        for decoder in stages.decoders() {
            rows.push(format!("{decoder}-{size}"));
            if stages.has_refinement() {
                rows.push(format!("{decoder}-{size} + refinement"));
            }
        }
    }
    rows
}

/// Measures `stages` at working squares of `sizes` on every picture of `subsets`, with the backgrounds of [`Background::ALL`],
/// on `jobs` threads, each with one of torch; `on_done` is called after each picture. The result depends on `seed` and not on
/// `jobs`, the order or the other pictures. Ends at the first failure. A picture whose mask has no foreground at 256 x 256 is
/// `None`.
pub fn evaluate(
    subsets: &[Subset],
    stages: &dyn Stages,
    sizes: &[u32],
    seed: u64,
    jobs: usize,
    on_done: impl Fn() + Sync,
) -> Result<Vec<Vec<Option<Measured>>>> {
    let work = |triple: &Triple| {
        tch::set_num_threads(1);
        let _no_grad = tch::no_grad_guard();
        measure(triple, stages, sizes, seed)
    };
    each(subsets, jobs, work, on_done)
}

fn measure(triple: &Triple, stages: &dyn Stages, sizes: &[u32], seed: u64) -> Result<Option<Measured>> {
    let mask = binary(&triple.mask)?;
    let small_mask = square_mask(&mask, SIDE);
    let Some((foreground, share)) = foreground(&small_mask) else { return Ok(None) };
    let composite = pictures::open(&triple.composite)?.into_rgb8();
    let real = square(&pictures::open(&triple.real)?.into_rgb8(), SIDE);
    let small_composite = square(&composite, SIDE);
    let refinement = Refinement { stages, mask: mask_tensor(&small_mask)?, composite: tensor(&small_composite)? };
    let seed = picture_seed(seed, triple);

    let mut pictures = vec![small_composite.clone()];
    let mut took = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let (composite, mask) = (tensor(&square(&composite, size))?, mask_tensor(&square_mask(&mask, size))?);
        let start = Instant::now();
        let harmonized = stages.harmonize(&composite, &mask, seed).with_context(|| format!("working size {size}"))?;
        let (found, expected) = (harmonized.len(), stages.decoders().len());
        ensure!(
            found == expected,
            "the model answered with {found} pictures, not with one for each of {expected} decoders"
        );
        for harmonized in &harmonized {
            ensure!(harmonized.size() == composite.size(), "the model answered with shape {:?}", harmonized.size());
            pictures.push(square(&picture(harmonized)?, SIDE));
            if stages.has_refinement() {
                pictures.push(refinement.run(harmonized)?);
            }
        }
        took.push(start.elapsed());
    }
    let figures = |picture: RgbImage| {
        let measured = |background: &Background| {
            let mut pasted = picture.clone();
            let background = match background {
                Background::Real => &real,
                Background::Composite => &small_composite,
            };
            paste_background(&mut pasted, background, foreground.iter().copied());
            metrics::measure(&pasted, &real, &foreground)
        };
        Background::ALL.iter().map(measured).collect()
    };
    Ok(Some(Measured { foreground: share, rows: pictures.into_iter().map(figures).collect(), took }))
}

struct Refinement<'a> {
    stages: &'a dyn Stages,
    mask: Tensor,
    composite: Tensor,
}

impl Refinement<'_> {
    /// 1 x 3 x S x S in 0..1, not yet cut to 8 bits.
    fn run(&self, harmonized: &Tensor) -> Result<RgbImage> {
        let side = i64::from(SIDE);
        let small = harmonized.f_internal_upsample_bilinear2d_aa([side, side], false, None, None)?;
        let small = small.f_clamp(0.0, 1.0)?;
        let refined = self.stages.refine(&small, &self.mask, &self.composite).context("refinement")?;
        ensure!(refined.size() == small.size(), "refinement answered with shape {:?}", refined.size());
        picture(&refined)
    }
}

/// The key of all noise that one picture sees: `seed` and the name of its file, wherever the data set lies.
fn picture_seed(seed: u64, triple: &Triple) -> u64 {
    // FNV-1a, which unlike std's hash is the same in every version.
    let name = triple.composite.file_name().unwrap_or_default().as_encoded_bytes();
    let hash = name
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let [low, high, ..] = Philox::new(seed).words([hash as u32, (hash >> 32) as u32, 0, 0]);
    u64::from(high) << 32 | u64::from(low)
}

/// 1 x 3 x h x w in 0..1.
fn tensor(picture: &RgbImage) -> Result<Tensor> {
    planes(picture, picture.dimensions(), 3)
}

/// 1 x 1 x h x w of 0 and 1.
fn mask_tensor(mask: &GrayImage) -> Result<Tensor> {
    planes(mask, mask.dimensions(), 1)
}

fn planes(bytes: &[u8], (width, height): (u32, u32), channels: i64) -> Result<Tensor> {
    let rows = Tensor::f_from_slice(bytes)?.f_view([1, i64::from(height), i64::from(width), channels])?;
    Ok(rows.f_permute([0, 3, 1, 2])?.f_contiguous()?.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?)
}

/// 1 x 3 x h x w in 0..1 to 8 bits, cut and not rounded, as torchvision does where the authors write their pictures.
fn picture(tensor: &Tensor) -> Result<RgbImage> {
    let finite = tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
    ensure!(finite, "the model answered with values that are not finite");
    let (_, _, height, width) = tensor.size4()?;
    let bytes = tensor.f_clamp(0.0, 1.0)?.f_mul_scalar(255.0)?.f_to_kind(Kind::Uint8)?;
    let bytes = Vec::<u8>::try_from(&bytes.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_view([-1])?)?;
    RgbImage::from_raw(width as u32, height as u32, bytes).context("the model's answer is no RGB picture")
}
