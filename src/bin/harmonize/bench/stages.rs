//! The parts of a frame's way, one by one, on this thread (inference on the engine's one worker).

use super::scene::{FORMATS, Scene};
use super::{Args, Row, SIZES, Stage};
use anyhow::{Context, Result};
use gstharmonize::frame::{Proxy, apply, proxy};
use gstharmonize::transfer::fit;
use indicatif::ProgressBar;
use std::time::{Duration, Instant};

pub fn measure(args: &Args, wanted: impl Fn(Stage) -> bool, bar: &ProgressBar, rows: &mut Vec<Row>) -> Result<()> {
    if ![Stage::Proxy, Stage::Model, Stage::Fit, Stage::Apply].into_iter().any(&wanted) {
        return Ok(());
    }
    let engine = args.model.load(1)?;
    let request = args.model.settings().request;
    let frames = args.frames as usize;
    for size @ [width, height] in SIZES {
        let view = |scene: &Scene| engine.view(&scene.mask, args.model.proxy_size);
        for (format, name) in FORMATS.into_iter().filter(|_| wanted(Stage::Proxy)) {
            bar.set_message(format!("proxy {width}x{height} {name}"));
            let scene = Scene::new(format, width, height);
            let times = time(frames, || drop(proxy(&scene.picture(), &scene.mask, view(&scene))));
            rows.push(Row::new("proxy", size, Some(name), &times));
        }
        let scene = Scene::new(FORMATS[0].0, width, height);
        let small = proxy(&scene.picture(), &scene.mask, view(&scene));
        let harmonized = warmer(&small);
        if wanted(Stage::Model) {
            bar.set_message(format!("model {width}x{height}"));
            engine.submit(small.clone(), request).wait().context("the inference was cancelled")??;
            let times = time(frames, || drop(engine.submit(small.clone(), request).wait()));
            rows.push(Row::new("model + fit", size, None, &times));
        }
        if wanted(Stage::Fit) {
            bar.set_message(format!("fit {width}x{height}"));
            let times = time(frames, || drop(fit(&small, &harmonized, engine.cell())));
            rows.push(Row::new("fit", size, None, &times));
        }
        for (format, name) in FORMATS.into_iter().filter(|_| wanted(Stage::Apply)) {
            bar.set_message(format!("apply {width}x{height} {name}"));
            let mut scene = Scene::new(format, width, height);
            let transfer = fit(&small, &harmonized, engine.cell());
            let times = time(frames, || {
                let (mut picture, mask) = scene.picture_mut();
                apply(&mut picture, mask, &transfer, args.model.strength as f32);
            });
            rows.push(Row::new("apply", size, Some(name), &times));
        }
    }
    Ok(())
}

/// A change of colour that differs from place to place, as a model's does.
fn warmer(proxy: &Proxy) -> Vec<f32> {
    let area = proxy.width * proxy.height;
    let gain = |channel: usize, x: usize| [1.1, 1.0, 0.85][channel] * (0.9 + 0.2 * x as f32 / proxy.width as f32);
    let warm = |(i, v): (usize, &f32)| (v * gain(i / area, i % proxy.width)).min(1.0);
    proxy.rgb.iter().enumerate().map(warm).collect()
}

fn time(frames: usize, mut work: impl FnMut()) -> Vec<Duration> {
    (0..frames / 8).for_each(|_| work());
    let timed = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..frames).map(timed).collect()
}
