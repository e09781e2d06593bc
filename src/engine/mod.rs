//! Inference for a stream of frames: proxies in, transfers out, on worker threads of its own. No GStreamer here.
//!
//! Every worker runs torch on one thread (libgomp's spinning barriers are ruinous beside other work) and without gradients.
//! A waiting caller can always be released by `Pending::cancel`, whatever inference is doing.

mod exit;
mod follow;
mod keyframes;
mod pending;
mod running_time;
mod scenes;
pub mod still;
pub mod stream;

pub use exit::settle;
pub use follow::Follow;
pub use keyframes::{FramePosition, Keyframes, MAX_AHEAD, Temporal};
pub use pending::Pending;
pub use running_time::RunningTime;
pub use scenes::Moment;
pub use stream::{Applied, Ended, Entry, Frame, Outcome, Parameters, Policy, Ready, Stopped, Stream};

use crate::diffusion::{Noise, NoiseMode};
use crate::frame::{Descriptor, Mask, Proxy, Region, View};
use crate::harmonizers::{self, Harmonizer, ModelSpec, Precision, ProxyGrid, Run, Sampling};
use crate::recycle::unused;
use crate::transfer::{Fit, Transfer};
use anyhow::{Context, Result, bail, ensure};
use pending::Promise;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// What one inference depends on besides its proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Request {
    pub sampling: Sampling,
    /// Key of the noise.
    pub seed: u64,
    pub noise: NoiseMode,
}

/// How often a load asks whether it has been given up, while its workers warm up.
const ASKED_EVERY: Duration = Duration::from_millis(20);
/// Long side of the largest proxy that a CPU warms up with.
const WARM_UP: u32 = 128;

struct InferenceJob {
    proxy: Arc<Proxy>,
    request: Request,
    promise: Promise,
}

/// Inferences that were queued, and those of them that have ended.
#[derive(Debug, Default)]
struct Counts {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

/// A loaded model and its workers. Dropping it never waits: workers end with the job at hand.
pub struct Engine {
    /// Behind a lock for callers on several threads.
    jobs: Mutex<Sender<InferenceJob>>,
    grid: ProxyGrid,
    max_steps: u32,
    device: String,
    precision: Precision,
    counts: Arc<Counts>,
}

/// Has libtorch make what it makes at its first convolution and its first product of matrices. It is torn down at the end of the
/// process before whatever was registered earlier, so the exit can be held for a model that is still being warmed up only if
/// this has come first.
fn set_up_libtorch() -> Result<()> {
    let ones = |shape: &[i64]| Tensor::f_ones(shape, (Kind::Float, Device::Cpu));
    // Small ones don't go the way of those of a network.
    let (picture, kernel) = (ones(&[16, 64, 32, 32])?, ones(&[64, 64, 3, 3])?);
    let _seen = picture.f_conv2d(&kernel, None::<Tensor>, [2; 2], [1; 2], [1; 2], 1)?;
    let _product = ones(&[64, 64])?.f_mm(&ones(&[64, 64])?)?;
    Ok(())
}

impl Engine {
    /// Loads what `spec` asks for, once for all `workers`, and runs each of them once, which finds what can't run and makes what
    /// is made at the first run. Ends with an error soon after `is_given_up`, which is asked from this thread.
    pub fn load(spec: &ModelSpec, workers: usize, is_given_up: &dyn Fn() -> bool) -> Result<Self> {
        let _busy = exit::Busy::new().context("the process is ending")?;
        exit::hold();
        tch::set_num_threads(1);
        set_up_libtorch()?;
        exit::hold();
        let device = harmonizers::device(&spec.device)?;
        let is_given_up = || is_given_up() || exit::is_exiting();
        let begun = Instant::now();
        let model = harmonizers::shared(&spec.model, device, spec.precision, &is_given_up)?;
        let loaded = begun.elapsed();
        let engine = Self::new(model, device, workers, &is_given_up)?;
        let Self { device, precision, .. } = &engine;
        let warm = begun.elapsed() - loaded;
        log::info!("{} on {device} in {precision}: there in {loaded:?}, warm in another {warm:?}", spec.model);
        Ok(engine)
    }

    /// An engine of `workers` threads, at least one, that share `model` on `device`; `is_given_up` as in `load`.
    pub fn new(
        model: Arc<dyn Harmonizer>,
        device: Device,
        workers: usize,
        is_given_up: &dyn Fn() -> bool,
    ) -> Result<Self> {
        ensure!(workers > 0, "an engine needs at least one worker");
        let (grid, max_steps, precision) = (model.grid(), model.max_steps(), model.precision());
        let (jobs, inbox) = channel();
        let inbox = Arc::new(Mutex::new(inbox));
        let (warm, warmed) = channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let counts = Arc::<Counts>::default();
        for i in 0..workers {
            let memory = RefCell::default();
            let (model, inbox, counts) = (Arc::clone(&model), Arc::clone(&inbox), Arc::clone(&counts));
            let worker = Worker { model, device, inbox, counts, memory };
            let (warm, given_up) = (warm.clone(), Arc::clone(&given_up));
            thread::Builder::new()
                .name(format!("harmonize-{i}"))
                .spawn(move || worker.run(&warm, &given_up))
                .context("can't start an inference thread")?;
        }
        // With the workers' own ends alone, a thread that dies is an error below and not a wait without end.
        drop(warm);
        for _ in 0..workers {
            let warmed = loop {
                match warmed.recv_timeout(ASKED_EVERY) {
                    Err(RecvTimeoutError::Timeout) => given_up.fetch_or(is_given_up(), Ordering::Relaxed),
                    ended => break ended,
                };
            };
            warmed.context("an inference thread ended while it was warming up")?.context("warm-up")?;
        }
        exit::hold();
        let device = match device {
            Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        };
        Ok(Self { jobs: Mutex::new(jobs), grid, max_steps, device, precision, counts })
    }

    /// What the model is to see of a frame with `mask`; `long_side` of the proxy 0 takes the model's own. Where the model
    /// wants crops, the proxy has the same size for all of them, and no more pixels than its region.
    pub fn view(&self, mask: &Mask, long_side: u32) -> View {
        let (cols, rows) = self.grid.size(mask.width, mask.height, long_side);
        let region = if self.grid.crop { Region::around(mask, cols.max(rows)) } else { None };
        View { region, cols, rows }
    }

    /// Whether the model can be run as `sampling` says.
    pub fn check(&self, sampling: Sampling) -> Result<()> {
        sampling.check(self.max_steps)
    }

    /// The device it runs on: `cpu` or `cuda:N`.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The kind of the model's weights, never `Auto`.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Sides of the cells of proxy pixels that share a colour map.
    pub fn cell(&self) -> usize {
        self.grid.cell as usize
    }

    /// How many inferences were queued, and how many of them have ended.
    pub fn counts(&self) -> (usize, usize) {
        let Counts { begun, ended } = &*self.counts;
        (begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst))
    }

    /// Queues an inference. Its result depends on `proxy` and `request` alone, not on the workers or the queue. When it is
    /// there, the caller's `Arc` is the only one again.
    pub fn submit(&self, proxy: impl Into<Arc<Proxy>>, request: Request) -> Pending {
        let (put_off, pending) = self.put_off(proxy, request);
        put_off.begin();
        pending
    }

    /// The same, but that it is not queued before it is begun.
    pub fn put_off(&self, proxy: impl Into<Arc<Proxy>>, request: Request) -> (PutOff, Pending) {
        let (promise, pending) = Pending::new();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (
            PutOff { jobs, counts: self.counts.clone(), job: InferenceJob { proxy: proxy.into(), request, promise } },
            pending,
        )
    }
}

/// An inference that is not queued yet. Dropped, it tells who waits that it came to nothing.
pub struct PutOff {
    jobs: Sender<InferenceJob>,
    counts: Arc<Counts>,
    job: InferenceJob,
}

impl PutOff {
    /// Queues it.
    pub fn begin(self) {
        log::trace!("inference {} is queued", self.job.promise.id());
        self.job.promise.begin();
        self.counts.begun.fetch_add(1, Ordering::SeqCst);
        // A job that finds no worker left is dropped, and its promise tells who waits.
        let _ = self.jobs.send(self.job);
    }
}

/// One inference thread: the model and the queue it shares with the others.
struct Worker {
    model: Arc<dyn Harmonizer>,
    device: Device,
    inbox: Arc<Mutex<Receiver<InferenceJob>>>,
    counts: Arc<Counts>,
    memory: RefCell<Memory>,
}

/// What a worker keeps from one inference to the next.
#[derive(Default)]
struct Memory {
    fit: Fit,
    harmonized: Vec<f32>,
    /// As many as a window may hold, so that they are used again.
    transfers: [Arc<Transfer>; 32],
}

impl Worker {
    fn run(self, warm: &Sender<Result<()>>, given_up: &AtomicBool) {
        tch::set_num_threads(1);
        let _no_grad = tch::no_grad_guard();
        self.work(warm, given_up);
        exit::dispose(self.model);
    }

    fn work(&self, warm: &Sender<Result<()>>, given_up: &AtomicBool) {
        let grid = self.model.grid();
        // What a GPU tunes it tunes to a size; a CPU needs none of a large model's own, which takes it seconds.
        let long_side = if self.device == Device::Cpu { grid.long_side.min(WARM_UP) } else { grid.long_side };
        let (width, height) = grid.size(16, 9, long_side);
        let (rgb, mask) = (vec![0.5; 3 * width * height], vec![1.0; width * height]);
        let grey = Proxy { width, height, region: None, rgb, mask };
        // The fewest steps that every sampler can take.
        let steps = self.model.max_steps().min(2);
        let request = Request { sampling: Sampling { steps, ..Default::default() }, ..Default::default() };
        let result = self.infer(&grey, request, &|| given_up.load(Ordering::Relaxed)).map(|_| ());
        let failed = result.is_err();
        if warm.send(result).is_err() || failed {
            return;
        }
        loop {
            let job = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(InferenceJob { proxy, request, promise }) = job else { return };
            let id = promise.id();
            if promise.is_cancelled() {
                log::debug!("inference {id} was cancelled before it began");
                self.counts.ended.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            let begun = Instant::now();
            let transfer = self.infer(&proxy, request, &|| promise.is_cancelled() || exit::is_exiting());
            let (took, size) = (begun.elapsed(), (proxy.width, proxy.height));
            match &transfer {
                Ok(_) => log::debug!("inference {id} of {}x{} took {took:?}", size.0, size.1),
                Err(error) => log::debug!("inference {id} failed after {took:?}: {error:#}"),
            }
            drop(proxy);
            promise.keep(transfer);
            self.counts.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A panic in a model is this frame's error, not the end of the thread.
    fn infer(&self, proxy: &Proxy, request: Request, is_cancelled: &dyn Fn() -> bool) -> Result<Arc<Transfer>> {
        let _busy = exit::Busy::new().context("the process is ending")?;
        catch_unwind(AssertUnwindSafe(|| self.transfer(proxy, request, is_cancelled))).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            bail!("inference panicked: {}", what.unwrap_or("no message"))
        })
    }

    fn transfer(&self, proxy: &Proxy, request: Request, is_cancelled: &dyn Fn() -> bool) -> Result<Arc<Transfer>> {
        let (h, w) = (proxy.height as i64, proxy.width as i64);
        let tensor = |values: &[f32], channels: i64| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_view([1, channels, h, w])?.f_to_device(self.device)?)
        };
        let noise = Noise::new(request.seed, request.noise, &proxy.mask, proxy.width);
        let run = Run { noise: &noise, sampling: request.sampling, is_cancelled };
        if let Some(transfer) = self.model.transfer(proxy, &run) {
            return transfer.map(Arc::new).context("inference failed");
        }
        let (composite, mask) = (tensor(&proxy.rgb, 3)?, tensor(&proxy.mask, 1)?);
        let harmonized = self.model.harmonize(&composite, &mask, &run).context("inference failed")?;
        ensure!(harmonized.size() == composite.size(), "the model answered with shape {:?}", harmonized.size());
        let harmonized = harmonized.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?;
        let mut memory = self.memory.borrow_mut();
        let Memory { fit, harmonized: values, transfers } = &mut *memory;
        values.resize(proxy.rgb.len(), 0.0);
        harmonized.f_copy_data(values, proxy.rgb.len())?;
        ensure!(values.iter().all(|v| v.is_finite()), "the model answered with values that are not finite");
        fit.fit(proxy, values, self.model.grid().cell as usize, unused(transfers));
        let [transfer, ..] = &*transfers;
        Ok(transfer.clone())
    }
}

#[cfg(test)]
pub(crate) mod tests;
