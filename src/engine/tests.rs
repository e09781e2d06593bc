use super::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Brightens by `gain`; slow, panicking or not finite on demand.
struct Fake {
    gain: f64,
    crop: bool,
    takes: Duration,
    panics_on_seed: bool,
}

impl Harmonizer for Fake {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn grid(&self) -> ProxyGrid {
        ProxyGrid { long_side: 16, multiple: 8, cell: 1, crop: self.crop }
    }

    fn harmonize(&self, composite: &Tensor, _mask: &Tensor, run: &Run) -> Result<Tensor> {
        thread::sleep(self.takes);
        assert!(!(self.panics_on_seed && *run.noise == Noise::fixed(13)), "unlucky");
        Ok(composite.f_mul_scalar(self.gain)?)
    }
}

fn fake(gain: f64, takes: Duration) -> Arc<dyn Harmonizer> {
    Arc::new(Fake { gain, crop: false, takes, panics_on_seed: true })
}

pub fn proxy(level: f32) -> Proxy {
    let ramp = |i: usize| level + 0.3 * (i % 16) as f32 / 16.0;
    let rgb = (0..3 * 128).map(ramp).collect();
    Proxy { width: 16, height: 8, region: None, rgb, mask: vec![1.0; 128] }
}

/// Answers with every colour a fifth brighter: at once, when it is let, or not at all.
#[derive(Clone, Default)]
pub struct Switched(Arc<Switches>);

#[derive(Default)]
struct Switches {
    holds: AtomicBool,
    fails: AtomicBool,
    runs: AtomicUsize,
}

impl Switched {
    const WORKERS: usize = 2;

    pub fn engine(&self) -> Engine {
        Engine::new(Arc::new(self.clone()), Device::Cpu, Self::WORKERS, &|| false).unwrap()
    }

    pub fn hold(&self, holds: bool) {
        self.0.holds.store(holds, Ordering::SeqCst);
    }

    pub fn fail(&self, fails: bool) {
        self.0.fails.store(fails, Ordering::SeqCst);
    }

    /// Inferences begun since the warm-up.
    pub fn runs(&self) -> usize {
        self.0.runs.load(Ordering::SeqCst) - Self::WORKERS
    }
}

impl Harmonizer for Switched {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn grid(&self) -> ProxyGrid {
        ProxyGrid { long_side: 16, multiple: 8, cell: 1, crop: false }
    }

    fn harmonize(&self, _composite: &Tensor, _mask: &Tensor, _run: &Run) -> Result<Tensor> {
        bail!("it answers with transfers")
    }

    fn transfer(&self, _proxy: &Proxy, run: &Run) -> Option<Result<Transfer>> {
        self.0.runs.fetch_add(1, Ordering::SeqCst);
        while self.0.holds.load(Ordering::SeqCst) && run.check().is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        let mut transfer = Transfer::identity();
        (0..3).for_each(|channel| transfer.maps[0][4 * channel + 3] = 0.2);
        Some(if self.0.fails.load(Ordering::SeqCst) { Err(anyhow::anyhow!("no")) } else { Ok(transfer) })
    }
}

const REQUEST: Request = Request { sampling: Sampling { scheduler: None, steps: 0 }, seed: 1, noise: NoiseMode::Fixed };

#[test]
fn workers_and_order_don_t_change_a_result() {
    let run = |workers: usize| -> Vec<Arc<Transfer>> {
        let engine =
            Engine::load(&ModelSpec { device: "cpu".into(), ..Default::default() }, workers, &|| false).unwrap();
        let request = |i: u64| Request { sampling: Sampling { scheduler: None, steps: 2 }, seed: i, ..REQUEST };
        let proxies = (0..6).map(|i| engine.submit(proxy(0.1 * i as f32), request(i)));
        let pending: Vec<_> = proxies.collect();
        pending.iter().map(|p| p.wait().unwrap().unwrap()).collect()
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_ne!(one[0], one[1]);
}

#[test]
fn cancel_releases_who_waits_at_once() {
    let engine = Engine::new(fake(1.0, Duration::from_secs(1)), Device::Cpu, 1, &|| false).unwrap();
    let pending = engine.submit(proxy(0.2), REQUEST);
    let canceller = pending.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        canceller.cancel();
    });
    let start = Instant::now();
    assert!(pending.wait().is_none());
    assert!(start.elapsed() < Duration::from_millis(700), "{:?}", start.elapsed());
}

#[test]
fn dropping_the_engine_never_waits_and_tells_who_does() {
    let engine = Engine::new(fake(1.0, Duration::from_secs(1)), Device::Cpu, 1, &|| false).unwrap();
    let (first, second) = (engine.submit(proxy(0.2), REQUEST), engine.submit(proxy(0.3), REQUEST));
    let start = Instant::now();
    drop(engine);
    assert!(start.elapsed() < Duration::from_millis(500));
    assert!(first.wait().is_some_and(|r| r.is_ok()) && second.wait().is_some_and(|r| r.is_ok()));
}

#[test]
fn a_panicking_model_is_one_frame_s_error() {
    let engine = Engine::new(fake(1.0, Duration::ZERO), Device::Cpu, 1, &|| false).unwrap();
    let error = engine.submit(proxy(0.2), Request { seed: 13, ..REQUEST }).wait().unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("unlucky"), "{error:#}");
    assert!(engine.submit(proxy(0.2), REQUEST).wait().unwrap().is_ok());
}

#[test]
fn values_that_are_not_finite_are_an_error() {
    assert!(Engine::new(fake(f64::NAN, Duration::ZERO), Device::Cpu, 1, &|| false).is_err());
}

/// Wants proxies that no memory holds, which kills the worker that makes the first one.
struct Boundless;

impl Harmonizer for Boundless {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn grid(&self) -> ProxyGrid {
        ProxyGrid { long_side: u32::MAX, multiple: u32::MAX, cell: 1, crop: false }
    }

    fn harmonize(&self, composite: &Tensor, _mask: &Tensor, _run: &Run) -> Result<Tensor> {
        Ok(composite.shallow_clone())
    }
}

#[test]
fn a_worker_that_dies_while_it_warms_up_is_an_error_not_a_wait() {
    let (send, ended) = channel();
    thread::spawn(move || send.send(Engine::new(Arc::new(Boundless), Device::Cpu, 1, &|| false).map(drop)));
    let error = ended.recv_timeout(Duration::from_secs(20)).expect("still waiting").unwrap_err();
    assert!(format!("{error:#}").contains("warming up"), "{error:#}");
}

/// A mask that is full on 10 x 6 pixels from (x, y) on.
fn small_foreground(x: usize, y: usize) -> Mask {
    let (width, height) = (160, 90);
    let inside = |i: &usize| (x..x + 10).contains(&(i % width)) && (y..y + 6).contains(&(i / width));
    Mask { width, height, data: (0..width * height).map(|i| if inside(&i) { 255 } else { 0 }).collect() }
}

#[test]
fn a_model_that_wants_crops_sees_small_foregrounds_in_one() {
    let engine = |crop| {
        let model = Fake { gain: 1.5, crop, takes: Duration::ZERO, panics_on_seed: false };
        Engine::new(Arc::new(model), Device::Cpu, 1, &|| false).unwrap()
    };
    let mask = small_foreground(140, 80);
    assert_eq!(engine(false).view(&mask, 0), View::whole(16, 8));
    let engine = engine(true);
    let view = engine.view(&mask, 0);
    assert_eq!(view, View { region: Some(Region { x: 136, y: 78, width: 20, height: 12 }), cols: 16, rows: 8 });
    assert_eq!(engine.view(&mask, 64).region.map(|region| region.width), Some(80), "no magnification");
    assert_eq!(engine.view(&mask, 88), View::whole(88, 48));
    let filled = Mask { data: vec![255; 160 * 90], ..mask.clone() };
    assert_eq!(engine.view(&filled, 0), View::whole(16, 8));

    // Through the engine, and back to its place on the frame.
    let seen = Proxy { region: view.region, ..proxy(0.2) };
    let transfer = engine.submit(seen, REQUEST).wait().unwrap().unwrap();
    assert_eq!((transfer.region, transfer.cols, transfer.rows), (view.region, 16, 8));
}

#[test]
fn a_proxy_is_the_caller_s_alone_again_when_its_transfer_is_there() {
    let model = Fake { gain: 1.5, crop: false, takes: Duration::ZERO, panics_on_seed: false };
    let engine = Engine::new(Arc::new(model), Device::Cpu, 1, &|| false).unwrap();
    for _ in 0..20 {
        let seen = Arc::new(proxy(0.2));
        engine.submit(seen.clone(), REQUEST).wait().unwrap().unwrap();
        assert_eq!(Arc::strong_count(&seen), 1);
    }
}

/// Goes on until it is cancelled, for half a minute at most; counts the runs that it has ended.
struct Patient {
    ended: Arc<AtomicUsize>,
}

impl Harmonizer for Patient {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn grid(&self) -> ProxyGrid {
        ProxyGrid { long_side: 16, multiple: 8, cell: 1, crop: false }
    }

    fn harmonize(&self, composite: &Tensor, _mask: &Tensor, run: &Run) -> Result<Tensor> {
        let steps = if run.sampling.steps > 0 { run.sampling.steps } else { 3000 };
        let end = (0..steps).try_for_each(|_| {
            thread::sleep(Duration::from_millis(10));
            run.check()
        });
        self.ended.fetch_add(1, Ordering::SeqCst);
        end.map(|()| composite.shallow_clone())
    }
}

#[test]
fn a_cancelled_inference_makes_way_for_the_next() {
    let ended = Arc::new(AtomicUsize::new(0));
    let engine = Engine::new(Arc::new(Patient { ended: ended.clone() }), Device::Cpu, 1, &|| false).unwrap();
    let long = engine.submit(proxy(0.2), REQUEST);
    thread::sleep(Duration::from_millis(50));
    long.cancel();
    let start = Instant::now();
    let quick = Request { sampling: Sampling { scheduler: None, steps: 1 }, ..REQUEST };
    assert!(engine.submit(proxy(0.2), quick).wait().unwrap().is_ok());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(ended.load(Ordering::SeqCst), 3, "the warm-up, the cancelled run and the next");
}

#[test]
fn a_load_that_is_given_up_ends_in_its_warm_up() {
    struct Endless;

    impl Harmonizer for Endless {
        fn precision(&self) -> Precision {
            Precision::F32
        }

        fn grid(&self) -> ProxyGrid {
            ProxyGrid { long_side: 16, multiple: 8, cell: 1, crop: false }
        }

        fn harmonize(&self, _composite: &Tensor, _mask: &Tensor, run: &Run) -> Result<Tensor> {
            loop {
                thread::sleep(Duration::from_millis(5));
                run.check()?;
            }
        }
    }

    let asked = AtomicUsize::new(0);
    let given_up = || asked.fetch_add(1, Ordering::SeqCst) > 2;
    let error = Engine::new(Arc::new(Endless), Device::Cpu, 2, &given_up).err().unwrap();
    assert!(format!("{error:#}").contains("cancelled"), "{error:#}");
}
