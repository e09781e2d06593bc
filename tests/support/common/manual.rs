//! A model that answers when a test says so, with a lift of all colours that the test chooses.

use super::*;
use gstharmonize::diffusion::Noise;

#[derive(Default)]
pub struct Manual {
    jobs: Mutex<Vec<Arc<ManualJob>>>,
    /// Steps and noise of each.
    pub requests: Mutex<Vec<(u32, Noise)>>,
    engine: OneEngine,
}

#[derive(Default)]
struct ManualJob {
    answer: Mutex<Option<Result<Transfer>>>,
    changed: Condvar,
}

/// Lifts every colour by `codes` of 255.
pub fn lift(codes: u8) -> Transfer {
    let by = f32::from(codes) / 255.0;
    let maps = vec![ColourMap([1.0, 0.0, 0.0, by, 0.0, 1.0, 0.0, by, 0.0, 0.0, 1.0, by])];
    Transfer { maps, ..Transfer::identity() }
}

impl Manual {
    /// Inferences begun so far.
    pub fn count(&self) -> usize {
        self.engine.counts().0
    }

    /// Those of them that the model is at, or has answered.
    pub fn asked(&self) -> usize {
        self.jobs.lock().unwrap().len()
    }

    /// Ends inference `n`, once it has begun.
    pub fn answer(&self, n: usize, answer: Result<Transfer>) {
        until("the inference", || self.asked() > n);
        let (_, ended) = self.engine.counts();
        let job = self.jobs.lock().unwrap()[n].clone();
        // One that was cancelled may have ended before: the list has it, and this does.
        let has_ended = Arc::strong_count(&job) == 2;
        *job.answer.lock().unwrap() = Some(answer);
        job.changed.notify_all();
        until("its end", || has_ended || (Arc::strong_count(&job) == 2 && self.engine.counts().1 > ended));
    }

    pub fn engine(self: &Arc<Self>) -> Result<Arc<Engine>> {
        self.engine.of(self)
    }

    pub fn loader(self: &Arc<Self>) -> Arc<Loader> {
        let model = self.clone();
        Arc::new(move |_, _, _| model.engine())
    }

    /// An element in `mode` with this model.
    pub fn element(self: &Arc<Self>, mode: &str) -> Harmonize {
        let element = element(&Arc::default());
        element.set_property_from_str("mode", mode);
        element.set_loader(self.loader());
        element
    }
}

impl Answer for Manual {
    fn answer(&self, _proxy: &Proxy, run: &Run) -> Result<Transfer> {
        let job = Arc::<ManualJob>::default();
        self.requests.lock().unwrap().push((run.sampling.steps, *run.noise));
        self.jobs.lock().unwrap().push(job.clone());
        loop {
            let answer = job.answer.lock().unwrap();
            let (mut answer, _) = job.changed.wait_timeout(answer, Duration::from_millis(2)).unwrap();
            if let Some(answer) = answer.take() {
                return answer;
            }
            drop(answer);
            run.check()?;
        }
    }
}
