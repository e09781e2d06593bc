//! Inference for a stream of frames: proxies in, transfers out, on worker threads of its own. No GStreamer here.
//!
//! Every worker runs torch on one thread (libgomp's spinning barriers are ruinous beside other work) and without gradients.
//! A waiting caller can always be released by `Pending::cancel`, whatever inference is doing.

use crate::frame::Proxy;
use crate::transfer::Transfer;
use anyhow::Result;

/// What one inference depends on besides its proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Sampler steps; 0 takes the model's own number.
    pub steps: u32,
    /// Key of the noise.
    pub seed: u64,
}

/// A loaded model and its workers. Dropping it never waits: workers end with the job at hand.
pub struct Engine {}

impl Engine {
    /// Loads `model` (a built-in name or a folder) onto `device` (`auto`, `cpu`, `cuda`, `cuda:N`), once per worker thread,
    /// and runs it once so that the first frame costs what every frame costs.
    pub fn load(_model: &str, _device: &str, _workers: usize) -> Result<Self> {
        todo!()
    }

    /// The proxy size for a frame; `long_side` 0 takes the model's own.
    pub fn proxy_size(&self, _width: usize, _height: usize, _long_side: u32) -> (usize, usize) {
        todo!()
    }

    /// The device it runs on: `cpu` or `cuda:N`.
    pub fn device(&self) -> &str {
        todo!()
    }

    /// Queues an inference. Results don't depend on the number of workers or on the order of the queue.
    pub fn submit(&self, _proxy: Proxy, _sampling: Sampling) -> Pending {
        todo!()
    }
}

/// An inference under way. Clones stand for the same one.
#[derive(Clone)]
pub struct Pending {}

impl Pending {
    /// Blocks until the transfer is there; `None` once cancelled.
    pub fn wait(&self) -> Option<Result<Transfer>> {
        todo!()
    }

    /// Releases everyone who waits. The worker's result is thrown away.
    pub fn cancel(&self) {
        todo!()
    }
}
