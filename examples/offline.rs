//! Harmonizes frames in memory, without a pipeline: `cargo run --release --example offline`.
//!
//! A grey square moves over a sunset that isn't filmed but computed, and each frame's grey is printed before and after.

use anyhow::{Result, bail};
use gstharmonize::engine::still::Still;
use gstharmonize::engine::{Engine, Entry, Outcome, Parameters, Policy, Stream, Temporal};
use gstharmonize::harmonizers::ModelSpec;
use std::sync::Arc;

const WIDTH: usize = 192;
const HEIGHT: usize = 108;
const FRAMES: i64 = 12;
/// 25 frames a second.
const DURATION: i64 = 40_000_000;

/// A square of grey over orange that darkens downwards, and its mask.
fn frame(number: i64) -> Result<(Still, Vec<u8>)> {
    let is_foreground = |x: usize, y: usize| (40..80).contains(&y) && (x as i64 - 30 - 4 * number).abs() < 20;
    let pixels = (0..WIDTH * HEIGHT).map(|i| (i % WIDTH, i / WIDTH));
    let colour = |(x, y): (usize, usize)| match is_foreground(x, y) {
        true => [150, 150, 150],
        false => [220, 130, 60].map(|c: usize| (c * (HEIGHT - y / 2) / HEIGHT) as u8),
    };
    let rgb = pixels.clone().flat_map(colour).collect();
    let mask = pixels.map(|(x, y)| if is_foreground(x, y) { 255 } else { 0 }).collect();
    Ok((Still::new(WIDTH, HEIGHT, rgb)?, mask))
}

fn main() -> Result<()> {
    let engine = Engine::load(&ModelSpec::default(), 1, &|| false)?;
    let stream = Stream::default();
    let temporal = Temporal { interval: 0, smoothing: 0.95, detection: true };
    let parameters = Parameters { strength: 1.0, temporal, ..Default::default() };
    let mut left = 0;
    for number in 0..FRAMES {
        let (frame, mask) = frame(number)?;
        let mask = Arc::new(frame.mask(&mask, WIDTH, HEIGHT));
        let time = number * DURATION;
        let entry = Entry { frame, mask, time, running_time: time, begins: false, is_margin: false, parameters };
        // An inference that fails is this program's error.
        stream.push(&engine, entry, Policy::Exact { shows_first: false }, &mut |ended| ended.map(drop))?;
        leave(&stream, &mut left, false)?;
    }
    leave(&stream, &mut left, true)
}

/// Frames leave as soon as all is known that theirs depend on.
fn leave(stream: &Stream<Still>, left: &mut usize, end: bool) -> Result<()> {
    while let Some(ready) = stream.next(end, 0, &mut |ended| ended.map(drop)) {
        let Outcome::Harmonized(_) = ready.outcome? else { bail!("a frame was not harmonized") };
        let middle = 3 * (60 * WIDTH + 30 + 4 * *left);
        println!("frame {left}: grey [150, 150, 150] is now {:?}", &ready.frame.rgb()[middle..middle + 3]);
        *left += 1;
    }
    Ok(())
}
