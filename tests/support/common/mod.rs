//! What the element tests share: an engine without a model, streams to feed, and a run from streams to output buffers.

pub mod manual;
pub mod rig;

use anyhow::{Result, bail};
use gst::prelude::*;
use gst_check::Harness;
use gstharmonize::elements::harmonize::{Harmonize, Loader};
use gstharmonize::engine::Engine;
use gstharmonize::frame::{Proxy, Region};
use gstharmonize::harmonizers::compact::{Compact, CompactConfig};
use gstharmonize::harmonizers::{Harmonizer, Precision, ProxyGrid, Run};
use gstharmonize::nets::Weights;
use gstharmonize::transfer::{ColourMap, Transfer};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, Weak};
use std::thread;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstharmonize::plugin_register_static().unwrap();
    });
}

/// More inferences than any test has under way, so that each begins at once.
const WORKERS: usize = 32;

/// What stands in for a model: it answers with transfers, and takes no part in the warm-up.
pub struct Warm<M> {
    model: Arc<M>,
    runs: AtomicUsize,
}

/// Answers an inference; `run` tells whether nobody waits any more.
pub trait Answer: Send + Sync + 'static {
    fn answer(&self, proxy: &Proxy, run: &Run) -> Result<Transfer>;
}

impl<M: Answer> Harmonizer for Warm<M> {
    fn grid(&self) -> ProxyGrid {
        ProxyGrid { long_side: 8, multiple: 2, cell: 1, crop: false }
    }

    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn harmonize(&self, _composite: &Tensor, _mask: &Tensor, _run: &Run) -> Result<Tensor> {
        bail!("it answers with transfers")
    }

    fn transfer(&self, proxy: &Proxy, run: &Run) -> Option<Result<Transfer>> {
        let is_warm_up = self.runs.fetch_add(1, Ordering::SeqCst) < WORKERS;
        Some(if is_warm_up { Ok(Transfer::identity()) } else { self.model.answer(proxy, run) })
    }
}

/// An engine of `model`.
pub fn engine<M: Answer>(model: &Arc<M>) -> Result<Arc<Engine>> {
    let warm = Warm { model: model.clone(), runs: AtomicUsize::new(0) };
    Ok(Arc::new(Engine::new(Arc::new(warm), Device::Cpu, WORKERS, &|| false)?))
}

/// The one engine of a model, as long as somebody has it: the model itself doesn't, whom it would keep for ever.
#[derive(Default)]
pub struct OneEngine(Mutex<Weak<Engine>>);

impl OneEngine {
    pub fn of<M: Answer>(&self, model: &Arc<M>) -> Result<Arc<Engine>> {
        let mut known = self.0.lock().unwrap();
        if let Some(engine) = known.upgrade() {
            return Ok(engine);
        }
        let engine = engine(model)?;
        *known = Arc::downgrade(&engine);
        Ok(engine)
    }

    /// Inferences that were begun, and that have ended.
    pub fn counts(&self) -> (usize, usize) {
        self.0.lock().unwrap().upgrade().map_or((0, 0), |engine| engine.counts())
    }
}

/// A fixed transfer, as slow or as faulty as a test wants it.
#[derive(Default)]
pub struct Fake {
    pub delay: Duration,
    pub fails: Option<&'static str>,
    /// The part of the frame that its transfers are for; `None` is the whole.
    pub region: Option<Region>,
    /// Inferences that it was asked for.
    pub asked: AtomicUsize,
    pub engine: OneEngine,
}

impl Fake {
    pub fn slow(delay: Duration) -> Arc<Self> {
        Arc::new(Self { delay, ..Self::default() })
    }

    /// Inferences begun so far.
    pub fn count(&self) -> usize {
        let begun = self.engine.counts().0;
        begun.max(self.asked.load(Ordering::SeqCst))
    }

    /// The one engine of it, as long as somebody has it.
    pub fn engine(self: &Arc<Self>) -> Result<Arc<Engine>> {
        self.engine.of(self)
    }

    pub fn loader(self: &Arc<Self>) -> Arc<Loader> {
        let fake = self.clone();
        Arc::new(move |_, _, _| fake.engine())
    }
}

/// Moves every colour far enough to be seen in every format, and differently across the picture.
pub fn transfer() -> Transfer {
    let map = |gain: f32, lift: f32| {
        ColourMap([gain, 0.1, 0.0, lift, 0.0, gain, 0.1, lift / 2.0, 0.1, 0.0, gain, -lift / 3.0])
    };
    let maps = vec![map(0.5, 0.3), map(0.6, 0.2), map(0.4, 0.35), map(0.5, 0.25)];
    Transfer { cols: 2, rows: 2, maps, ..Transfer::identity() }
}

impl Answer for Fake {
    fn answer(&self, proxy: &Proxy, run: &Run) -> Result<Transfer> {
        let begun = Instant::now();
        self.asked.fetch_add(1, Ordering::SeqCst);
        if proxy.mask.iter().all(|&m| m == 0.0) {
            // A panic would be the engine's to catch.
            eprintln!("an empty mask needs no inference");
            std::process::abort();
        }
        while begun.elapsed() < self.delay {
            run.check()?;
            thread::sleep((self.delay - begun.elapsed().min(self.delay)).min(Duration::from_millis(2)));
        }
        self.fails.map_or(Ok(Transfer { region: self.region, ..transfer() }), |why| bail!(why))
    }
}

/// An element in exact mode whose model is `fake` and takes each frame by itself, so that none waits for another. A harness is
/// a live source.
pub fn element(fake: &Arc<Fake>) -> Harmonize {
    init();
    let factory = gst::ElementFactory::make("harmonize").property_from_str("mode", "exact");
    let factory = factory.property("smoothing", 0.0).property("scene-detection", false);
    let element = factory.build().unwrap().downcast::<Harmonize>().unwrap();
    element.set_loader(fake.loader());
    element
}

/// An element whose model takes `delay` to load, and then can't be.
pub fn element_that_cannot_load(delay: Duration) -> Harmonize {
    let element = element(&Arc::default());
    element.set_loader(Arc::new(move |_, _, _| {
        thread::sleep(delay);
        bail!("the disk is on fire")
    }));
    element
}

/// An element as users get it.
pub fn real(model: &str, device: &str) -> Harmonize {
    init();
    let factory = gst::ElementFactory::make("harmonize").property_from_str("mode", "exact");
    let factory = factory.property("model", model).property("device", device);
    factory.build().unwrap().downcast().unwrap()
}

/// A folder with a small model of fresh weights.
pub fn model() -> tempfile::TempDir {
    let config = CompactConfig { channels: [8, 16, 16], emb_channels: 16, ..CompactConfig::default() };
    let weights = Weights::new(Device::Cpu);
    Compact::new(&weights.root(), config.clone(), Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    // A fresh model leaves its proxy alone, by weights of zero.
    let awake = |t: Tensor| if t.count_nonzero(None::<i64>).int64_value(&[]) == 0 { t.randn_like() * 0.1 } else { t };
    let tensors = weights.finish().unwrap().into_iter();
    let tensors: Vec<_> = tensors.map(|(name, t)| (name, awake(t.detach()).contiguous())).collect();
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder
}

pub enum Item {
    Buffer(gst::Buffer),
    Event(gst::Event),
}

/// What one pad is fed: caps, then the items, then EOS. The segment is TIME from 0 unless an item says otherwise.
pub struct Stream {
    pub caps: String,
    pub items: Vec<Item>,
}

impl Stream {
    pub fn new(caps: &str, buffers: impl IntoIterator<Item = gst::Buffer>) -> Self {
        Self { caps: caps.into(), items: buffers.into_iter().map(Item::Buffer).collect() }
    }

    pub fn event(mut self, at: usize, event: gst::Event) -> Self {
        self.items.insert(at, Item::Event(event));
        self
    }

    /// Feeds `pad` of `element` on a thread of its own. The harness that comes back would take the pad away with it.
    fn feed(self, element: &Harmonize, pad: &gst::Pad) -> thread::JoinHandle<Harness> {
        let mut harness = Harness::with_element(element, None, None);
        harness.add_element_sink_pad(pad);
        harness.set_src_caps_str(&self.caps);
        thread::spawn(move || {
            for item in self.items {
                match item {
                    Item::Buffer(buffer) => drop(harness.push(buffer)),
                    Item::Event(event) => drop(harness.push_event(event)),
                }
            }
            harness.push_event(gst::event::Eos::new());
            harness
        })
    }
}

/// The start of frame `n` at `rate` frames a second, in ns.
pub fn at(rate: u64, n: u64) -> u64 {
    (n * 1_000_000_000 + rate / 2) / rate
}

/// `count` frames of `data` at `rate` frames a second.
pub fn frames(rate: u64, count: u64, data: &[u8]) -> Vec<gst::Buffer> {
    (0..count).map(|n| buffer(at(rate, n), at(rate, n + 1) - at(rate, n), data)).collect()
}

/// Times are in ns.
pub fn buffer(pts: u64, duration: u64, data: &[u8]) -> gst::Buffer {
    init();
    let mut buffer = gst::Buffer::from_mut_slice(data.to_vec());
    let edit = buffer.get_mut().unwrap();
    edit.set_pts(gst::ClockTime::from_nseconds(pts));
    edit.set_duration(gst::ClockTime::from_nseconds(duration));
    buffer
}

pub fn gray(width: usize, height: usize, value: u8) -> Vec<u8> {
    vec![value; width.next_multiple_of(4) * height]
}

/// All that comes out of `element` for the two streams, and the messages it posted.
pub fn run(element: &Harmonize, composite: Stream, mask: Option<Stream>) -> (Vec<gst::Buffer>, Vec<gst::Message>) {
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let mut out = Harness::with_element(element, None, Some("src"));
    let mask = mask.map(|mask| mask.feed(element, &element.request_pad_simple("mask").unwrap()));
    let sink = composite.feed(element, &element.static_pad("sink").unwrap());
    out.play();
    let mut buffers = Vec::new();
    while let Ok(Some(buffer)) = out.pull_until_eos() {
        buffers.push(buffer);
    }
    // A mask that goes on beyond the composite's EOS is refused, and its thread ends.
    let fed = [Some(sink), mask].map(|thread| thread.map(|thread| thread.join().unwrap()));
    element.set_state(gst::State::Null).unwrap();
    drop(fed);
    (buffers, bus.iter().collect())
}

pub fn stat(element: &Harmonize, name: &str) -> u64 {
    element.property::<gst::Structure>("stats").get(name).unwrap()
}

pub fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// Waits until `met`, and fails after 10 s.
pub fn until(what: &str, met: impl Fn() -> bool) {
    let start = Instant::now();
    while !met() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} has not come to pass");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs `act` and fails if it takes longer than a moment.
pub fn at_once<R>(what: &str, act: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = act();
    assert!(start.elapsed() < Duration::from_millis(1500), "{what} took {:?}", start.elapsed());
    result
}
