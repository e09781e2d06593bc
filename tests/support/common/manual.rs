//! A model that answers when a test says so, with a lift of all colours that the test chooses.

use super::*;

#[derive(Default)]
pub struct Manual {
    jobs: Mutex<Vec<Arc<ManualJob>>>,
    pub requests: Mutex<Vec<Request>>,
}

#[derive(Default)]
struct ManualJob {
    answer: Mutex<Option<Option<Result<Arc<Transfer>>>>>,
    changed: Condvar,
}

/// Lifts every colour by `codes` of 255.
pub fn lift(codes: u8) -> Transfer {
    let by = f32::from(codes) / 255.0;
    let maps = vec![[1.0, 0.0, 0.0, by, 0.0, 1.0, 0.0, by, 0.0, 0.0, 1.0, by]];
    Transfer { maps, ..Transfer::identity() }
}

impl Manual {
    /// Inferences begun so far.
    pub fn count(&self) -> usize {
        self.jobs.lock().unwrap().len()
    }

    /// Ends inference `n`, once it has begun.
    pub fn answer(&self, n: usize, answer: Result<Transfer>) {
        until("the inference", || self.count() > n);
        self.jobs.lock().unwrap()[n].settle(Some(answer.map(Arc::new)));
    }

    /// An element in `mode` with this model.
    pub fn element(self: &Arc<Self>, mode: &str) -> Harmonize {
        let element = element(&Arc::default());
        element.set_property_from_str("mode", mode);
        let model = self.clone();
        element.set_loader(Arc::new(move |_, _, _| Ok(model.clone() as Arc<dyn Infer>)));
        element
    }
}

impl ManualJob {
    fn settle(&self, answer: Option<Result<Arc<Transfer>>>) {
        *self.answer.lock().unwrap() = Some(answer);
        self.changed.notify_all();
    }
}

impl Infer for Manual {
    fn view(&self, _mask: &Mask, _long_side: u32) -> View {
        View::whole(4, 2)
    }

    fn device(&self) -> &str {
        "manual:0"
    }

    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn submit(&self, _proxy: Arc<Proxy>, request: Request) -> Arc<dyn Job> {
        let job = Arc::<ManualJob>::default();
        self.jobs.lock().unwrap().push(job.clone());
        self.requests.lock().unwrap().push(request);
        job
    }
}

impl Job for ManualJob {
    fn id(&self) -> u64 {
        0
    }

    fn wait(&self) -> Option<Result<Arc<Transfer>>> {
        let answer = self.answer.lock().unwrap();
        self.changed.wait_while(answer, |answer| answer.is_none()).unwrap().replace(None).unwrap()
    }

    fn poll(&self) -> Poll<Option<Result<Arc<Transfer>>>> {
        let mut answer = self.answer.lock().unwrap();
        if answer.is_none() { Poll::Pending } else { Poll::Ready(answer.replace(None).unwrap()) }
    }

    fn took(&self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }

    fn cancel(&self) {
        self.settle(None);
    }
}
