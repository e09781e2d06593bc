//! What the element asks of a loaded model, and of an inference under way.

use crate::engine::{Engine, Pending, Request};
use crate::frame::{Mask, Proxy, View};
use crate::harmonizers::{Precision, Sampling};
use crate::transfer::Transfer;
use anyhow::Result;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What the element asks of a loaded model. `Engine` is the one there is; tests put a quick, slow or failing one in its place.
pub trait Infer: Send + Sync {
    /// What the model is to see of a frame with `mask`; `long_side` of the proxy 0 takes the model's own.
    fn view(&self, mask: &Mask, long_side: u32) -> View;
    fn device(&self) -> &str;
    fn precision(&self) -> Precision;
    /// Whether the model can be run as `sampling` says.
    fn check(&self, _sampling: Sampling) -> Result<()> {
        Ok(())
    }
    /// Queues an inference; returns at once.
    fn submit(&self, proxy: Arc<Proxy>, request: Request) -> Arc<dyn Job>;
}

/// An inference under way. Its result is handed out once.
pub trait Job: Send + Sync {
    /// What the engine's log calls it.
    fn id(&self) -> u64;
    /// Blocks until the transfer is there; `None` once cancelled.
    fn wait(&self) -> Option<Result<Arc<Transfer>>>;
    /// The same without blocking.
    fn poll(&self) -> Poll<Option<Result<Arc<Transfer>>>>;
    /// How long it took, once it is over.
    fn took(&self) -> Option<Duration>;
    /// Releases everyone who waits.
    fn cancel(&self);
}

impl Infer for Engine {
    fn view(&self, mask: &Mask, long_side: u32) -> View {
        self.view(mask, long_side)
    }

    fn device(&self) -> &str {
        self.device()
    }

    fn precision(&self) -> Precision {
        self.precision()
    }

    fn check(&self, sampling: Sampling) -> Result<()> {
        self.check(sampling)
    }

    fn submit(&self, proxy: Arc<Proxy>, request: Request) -> Arc<dyn Job> {
        Arc::new(self.submit(proxy, request))
    }
}

impl Job for Pending {
    fn id(&self) -> u64 {
        self.id()
    }

    fn wait(&self) -> Option<Result<Arc<Transfer>>> {
        self.wait()
    }

    fn poll(&self) -> Poll<Option<Result<Arc<Transfer>>>> {
        self.poll()
    }

    fn took(&self) -> Option<Duration> {
        self.took()
    }

    fn cancel(&self) {
        self.cancel()
    }
}
