//! The parts of a frame's way, one by one, as their caller waits for them (inference on the engine's one worker), and a copy of
//! the frame beside them.
//!
//! Frames come as in a pipeline: each was copied into one of a few buffers that take turns, three frames before its own turn.

use super::rounds::{BenchPart, Entrant};
use super::scene::{Painting, Scene};
use super::{Args, Stage};
use anyhow::{Context, Result};
use gstharmonize::engine::{Engine, Request};
use gstharmonize::frame::{Mask, Proxy, View, proxy};
use gstharmonize::transfer::{Fit, Plan, Transfer, fit};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Buffers that take turns.
const BUFFERS: usize = 4;

/// Buffers that frames are copied into, and others to copy them to; all stages use the same ones.
#[derive(Default)]
struct Ring {
    frames: [Vec<u8>; BUFFERS],
    copies: [Vec<u8>; BUFFERS],
}

impl Ring {
    /// Room for frames of so many bytes, all of it touched.
    fn grow(&mut self, bytes: usize) {
        for buffer in self.frames.iter_mut().chain(&mut self.copies) {
            buffer.resize(buffer.len().max(bytes), 1);
        }
    }

    /// Times `work` on a frame and the buffer to copy it to, over and over; what it does to the frame is undone.
    fn time(&mut self, frame: &[u8], count: u32, mut work: impl FnMut(&mut [u8], &mut [u8])) -> Vec<Duration> {
        let warm = count as usize / 8 + BUFFERS;
        let timed = |i: usize| {
            self.frames[(i + BUFFERS - 1) % BUFFERS][..frame.len()].copy_from_slice(frame);
            let data = &mut self.frames[i % BUFFERS][..frame.len()];
            let copy = &mut self.copies[i % BUFFERS][..frame.len()];
            let start = Instant::now();
            work(data, copy);
            start.elapsed()
        };
        (0..warm + count as usize).map(timed).skip(warm).collect()
    }
}

/// Times what needs no frame.
fn time(count: u32, mut work: impl FnMut()) -> Vec<Duration> {
    let timed = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..count / 8 + count).map(timed).skip(count as usize / 8).collect()
}

/// What the model sees of frames with one mask, and what it makes of them.
struct Look {
    mask: Rc<Mask>,
    view: View,
    small: Arc<Proxy>,
    harmonized: Vec<f32>,
    transfer: Transfer,
}

impl Look {
    fn new(engine: &Engine, proxy_size: u32, scene: &Scene, mask: &Rc<Mask>) -> Self {
        let view = engine.view(mask, proxy_size);
        let small = proxy(&scene.picture(&scene.raw.data), mask, view);
        let harmonized = warmer(&small);
        let transfer = fit(&small, &harmonized, engine.cell());
        Self { mask: mask.clone(), view, small: Arc::new(small), harmonized, transfer }
    }
}

/// A change of colour that differs from place to place, as a model's does.
fn warmer(proxy: &Proxy) -> Vec<f32> {
    let area = proxy.width * proxy.height;
    let gain = |channel: usize, x: usize| [1.1, 1.0, 0.85][channel] * (0.9 + 0.2 * x as f32 / proxy.width as f32);
    let warm = |(i, v): (usize, &f32)| (v * gain(i / area, i % proxy.width)).min(1.0);
    proxy.rgb.iter().enumerate().map(warm).collect()
}

/// On a scene, a frame of it, and a buffer to copy that to.
type Work = dyn FnMut(&Scene, &mut [u8], &mut [u8]);

/// All stages share an engine and a ring of buffers.
pub struct Stages<'a> {
    args: &'a Args,
    /// None where nothing that is wanted asks for it.
    engine: Option<Rc<Engine>>,
    ring: Rc<RefCell<Ring>>,
}

impl<'a> Stages<'a> {
    pub fn new(args: &'a Args) -> Result<Self> {
        let is_needed = [Stage::Proxy, Stage::Model, Stage::Fit, Stage::Apply].into_iter().any(|s| args.wants(s));
        let engine = is_needed.then(|| args.model.load(1)).transpose()?.map(Rc::new);
        Ok(Self { args, engine, ring: Rc::default() })
    }

    /// Adds what is wanted at the painting's size.
    pub fn enter(&self, painting: &Painting, entrants: &mut Vec<Entrant<'a>>) -> Result<()> {
        let (args, size) = (self.args, painting.size);
        let mut looks = None;
        for format in args.formats() {
            let scene = Rc::new(Scene::new(painting, format)?);
            self.ring.borrow_mut().grow(scene.raw.data.len());
            let mut stage = |what, mut work: Box<Work>| {
                let (ring, scene) = (self.ring.clone(), scene.clone());
                let turn = move |count| {
                    Ok(ring.borrow_mut().time(&scene.raw.data, count, |data, copy| work(&scene, data, copy)))
                };
                entrants.push(Entrant::stage(BenchPart::new(what, size, Some(format)), turn));
            };
            if args.copies() {
                stage("memcpy", Box::new(|_, data, copy| copy.copy_from_slice(data)));
            }
            let Some(engine) = &self.engine else { continue };
            let [look, full] = looks.get_or_insert_with(|| {
                [&painting.mask, &painting.full]
                    .map(|m| Rc::new(Look::new(engine, args.model.options.proxy_size, &scene, m)))
            });
            if args.wants(Stage::Proxy) {
                let (look, mut small) = (look.clone(), Proxy::default());
                let work = move |scene: &Scene, data: &mut [u8], _: &mut [u8]| {
                    small.read(&scene.picture(data), &look.mask, look.view);
                };
                stage("proxy", Box::new(work));
            }
            let strength = args.model.options.strength as f32;
            for (what, look) in [("apply", look), ("apply full", full)] {
                if args.wants(Stage::Apply) {
                    let (look, mut plan) = (look.clone(), Plan::default());
                    let work = move |scene: &Scene, data: &mut [u8], _: &mut [u8]| {
                        plan.apply(&mut scene.picture_mut(data), &look.mask, &look.transfer, strength);
                    };
                    stage(what, Box::new(work));
                }
            }
        }
        if let Some((engine, [look, _])) = self.engine.as_ref().zip(looks) {
            self.enter_inference(size, engine, &look, entrants);
        }
        Ok(())
    }

    fn enter_inference(&self, size: [u32; 2], engine: &Rc<Engine>, look: &Rc<Look>, entrants: &mut Vec<Entrant<'a>>) {
        if self.args.wants(Stage::Fit) {
            let (engine, look) = (engine.clone(), look.clone());
            let (mut fit, mut transfer) = (Fit::default(), Transfer::default());
            let mut work = move || fit.fit(&look.small, &look.harmonized, engine.cell(), &mut transfer);
            let turn = move |count| Ok(time(count, &mut work));
            entrants.push(Entrant::stage(BenchPart::new("fit", size, None), turn));
        }
        if self.args.wants(Stage::Model) {
            let (engine, look) = (engine.clone(), look.clone());
            let request: Request = self.args.model.parameters().request;
            let infer = move || {
                let ended = engine.submit(look.small.clone(), request).wait();
                ended.context("the inference was cancelled")?.map(drop)
            };
            let turn = move |count| {
                // The first one tells of what fails.
                infer()?;
                Ok(time(count, || drop(infer())))
            };
            entrants.push(Entrant::stage(BenchPart::new("model + fit", size, None), turn));
        }
    }
}
