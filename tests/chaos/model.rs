//! A harmonizer whose speed and faults change under way, and the loading of it.

use super::common::{Answer, Fake, engine};
use super::watch::lock;
use anyhow::{Result, bail};
use gstharmonize::elements::harmonize::Loader;
use gstharmonize::frame::Proxy;
use gstharmonize::harmonizers::Run;
use gstharmonize::transfer::Transfer;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How a panic that is meant begins.
pub const MEANT: &str = "chaos means it";
pub const NO_MEMORY: &str = "no memory left";
pub const ON_FIRE: &str = "the disk is on fire";
pub const LOAD_PANICKED: &str = "its loading panicked";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    #[default]
    Works,
    Fails,
    Panics,
}

#[derive(Default)]
pub struct Model {
    fake: Mutex<Arc<Fake>>,
    load: Mutex<(Load, Duration)>,
}

impl Model {
    pub fn set(&self, delay: Duration, fails: bool) {
        *lock(&self.fake) = Arc::new(Fake { delay, fails: fails.then_some(NO_MEMORY), ..Fake::default() });
    }

    pub fn set_load(&self, load: Load, delay: Duration) {
        *lock(&self.load) = (load, delay);
    }

    pub fn load(&self) -> Load {
        lock(&self.load).0
    }

    /// Whether an inference takes longer than anyone waits for a frame.
    pub fn is_slow(&self) -> bool {
        self.fake().delay > Duration::from_secs(1)
    }

    pub fn fails(&self) -> bool {
        self.fake().fails.is_some()
    }

    fn fake(&self) -> Arc<Fake> {
        lock(&self.fake).clone()
    }

    pub fn loader(self: &Arc<Self>) -> Arc<Loader> {
        let model = self.clone();
        Arc::new(move |_, _, is_given_up| {
            let start = Instant::now();
            // Read again and again, so that a load under way ends when all gets well.
            while start.elapsed() < lock(&model.load).1 {
                if is_given_up() {
                    bail!("given up");
                }
                thread::sleep(Duration::from_millis(1));
            }
            match model.load() {
                Load::Works => engine(&model),
                Load::Fails => bail!(ON_FIRE),
                Load::Panics => panic!("{MEANT}"),
            }
        })
    }
}

impl Answer for Model {
    fn answer(&self, proxy: &Proxy, run: &Run) -> Result<Transfer> {
        self.fake().answer(proxy, run)
    }
}
