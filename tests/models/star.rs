//! `star` answers patch by patch: its patches must not be seen.

use crate::shared;
use gstharmonize::diffusion::Noise;
use gstharmonize::harmonizers::{self, Precision, Run, Sampling};
use gstharmonize::lab::eval::dataset;
use gstharmonize::lab::eval::grid::{Change, visibility};
use gstharmonize::pictures;
use image::imageops::{FilterType, resize};
use std::io::Write;
use tch::{Device, Kind, Tensor};

const SIDE: u32 = 96;
/// Of star's patches, in pixels of the proxy.
const PATCH: f64 = 8.0;
/// Steps of the change at patch borders over those within patches, at most.
const PROMISED: f64 = 1.15;

/// B x 3 x SIDE x SIDE in 0..1.
fn tensor(samples: &[u8], channels: i64) -> Tensor {
    let side = i64::from(SIDE);
    let pixels = Tensor::from_slice(samples).view([1, side, side, channels]).permute([0, 3, 1, 2]);
    pixels.to_kind(Kind::Float).contiguous() / 255.0
}

/// How much the patches of `model`'s changes show on the proxies of the composites in `data/val`.
fn visible(model: &str, root: &std::path::Path) -> f64 {
    let _guard = tch::no_grad_guard();
    let model = harmonizers::load(model, Device::Cpu, Precision::Auto, &|| false).unwrap();
    let noise = Noise::fixed(0);
    let mut kept = Vec::new();
    for subset in dataset::subsets(root).unwrap() {
        for triple in &subset.triples {
            let composite =
                resize(&pictures::open(&triple.composite).unwrap().into_rgb8(), SIDE, SIDE, FilterType::Triangle);
            let mask = resize(&pictures::open(&triple.mask).unwrap().into_luma8(), SIDE, SIDE, FilterType::Triangle);
            let inside: Vec<bool> = mask.iter().map(|&m| m == 255).collect();
            let (composite, mask) = (tensor(&composite, 3), tensor(&mask, 1));
            let harmonized = model.harmonize(&composite, &mask, &Run::new(&noise, Sampling::default())).unwrap();
            let change = Vec::<f32>::try_from(&(harmonized - composite).contiguous().flatten(0, -1)).unwrap();
            kept.push((change, inside));
        }
    }
    let side = SIDE as usize;
    let changes: Vec<_> =
        kept.iter().map(|(samples, inside)| Change { samples, inside, width: side, height: side }).collect();
    visibility(&changes, PATCH)
}

#[test]
fn the_patches_of_star_do_not_show() {
    let Some(root) = shared::folder("data/val") else { return };
    let [star, compact] = ["star", "compact"].map(|model| visible(model, &root));
    let _ = writeln!(std::io::stderr(), "patch grid: star {star:.3}, compact, which has no patches, {compact:.3}");
    assert!((compact - 1.0).abs() < 0.1, "a network without patches has {compact:.3}");
    assert!(star < PROMISED, "steps at patch borders are {star:.3} of those within");
}
