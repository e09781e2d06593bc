use super::*;
use crate::frame::{Mask, View};
use crate::harmonizers::Precision;
use anyhow::bail;
use std::sync::atomic::{AtomicBool, Ordering};

/// Answers at once, or not before it is told to.
#[derive(Default)]
struct Model {
    holds: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
}

impl Infer for Model {
    fn view(&self, _mask: &Mask, _long_side: u32) -> View {
        View::whole(1, 1)
    }

    fn device(&self) -> &str {
        "cpu"
    }

    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn submit(&self, _proxy: Arc<Proxy>, _request: Request) -> Arc<dyn Job> {
        Arc::new(Self { holds: self.holds.clone(), fails: self.fails.clone() })
    }
}

impl Job for Model {
    fn id(&self) -> u64 {
        0
    }

    fn wait(&self) -> Option<Result<Arc<Transfer>>> {
        Some(if self.fails.load(Ordering::SeqCst) { Err(anyhow::anyhow!("no")) } else { Ok(Arc::default()) })
    }

    fn poll(&self) -> Poll<Option<Result<Arc<Transfer>>>> {
        if self.holds.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(self.wait()) }
    }

    fn took(&self) -> Option<Duration> {
        Some(Duration::from_millis(7))
    }

    fn cancel(&self) {}
}

fn proxy() -> Proxy {
    Proxy { width: 1, height: 1, region: None, rgb: vec![0.0; 3], mask: vec![1.0] }
}

fn infer(inference: &Inference) -> bool {
    inference.infer(&Model::default(), proxy(), Request::default(), 0).is_some()
}

fn loaded() -> Option<Loaded> {
    Some(Loaded { engine: Arc::new(Model::default()), spec: ModelSpec::default(), workers: 1 })
}

fn ready() -> Inference {
    let inference = Inference::default();
    let (load, _) = inference.begin_load(false);
    assert_eq!(inference.finish_load(load, loaded()), Finish::Ready);
    inference
}

#[test]
fn a_flush_that_nobody_waited_for_is_remembered_until_the_resume() {
    let inference = ready();
    inference.flush();
    assert_eq!(inference.wait_until_ready().err(), Some(Unavailable::Flushing));
    assert!(!infer(&inference));
    inference.resume();
    assert!(inference.wait_until_ready().is_ok() && infer(&inference));
}

#[test]
fn a_load_that_was_given_up_changes_nothing() {
    let inference = Inference::default();
    let (first, _) = inference.begin_load(false);
    assert!(inference.give_up_load(), "it was loading");
    let (second, gave_up) = inference.begin_load(false);
    assert!(!gave_up);
    assert_eq!(inference.finish_load(first, loaded()), Finish::GivenUp);
    assert_eq!(inference.state(), ModelState::Loading);
    assert_eq!(inference.finish_load(second, None), Finish::Failed);
    assert_eq!(
        (inference.state(), inference.wait_until_ready().err()),
        (ModelState::Failed, Some(Unavailable::Failed))
    );
    assert!(!inference.give_up_load(), "it was not loading any more");
}

#[test]
fn the_model_in_use_stays_until_the_next_one_is_there() {
    let inference = ready();
    let (failing, _) = inference.begin_load(true);
    assert!(inference.wait_until_ready().is_ok());
    assert_eq!(inference.finish_load(failing, None), Finish::Kept);
    assert_eq!(inference.state(), ModelState::Ready);
    let (given_up, _) = inference.begin_load(true);
    let (next, gave_up) = inference.begin_load(true);
    assert!(gave_up);
    assert_eq!(inference.finish_load(given_up, None), Finish::GivenUp);
    let spec = ModelSpec { model: "next".into(), ..Default::default() };
    let engine = Arc::new(Model::default());
    assert_eq!(inference.finish_load(next, Some(Loaded { engine, spec, workers: 1 })), Finish::Ready);
    assert_eq!(inference.loaded().unwrap().spec.model, "next");
    inference.begin_load(false);
    assert_eq!(
        inference.state(),
        ModelState::Loading,
        "a start does not go on with another model than it was asked for"
    );
}

#[test]
fn the_newest_transfer_is_that_of_the_last_inference_that_ended() -> Result<()> {
    let (inference, model) = (ready(), Model::default());
    let at =
        |newest: Option<Newest>| newest.inspect(|of| assert_eq!(of.proxy.rgb[0], of.time as f32)).map(|of| of.time);
    let of = |time| Proxy { rgb: vec![time as f32; 3], ..proxy() };
    let begin = |time| inference.begin(&model, of(time), Request::default(), time).map(drop);
    assert!(inference.newest().0.is_none() && !inference.is_inferring());
    begin(1);
    assert!(inference.is_inferring());
    let (newest, ended) = inference.newest();
    assert_eq!((at(newest), ended.transpose()?), (Some(1), Some(Duration::from_millis(7))));
    model.holds.store(true, Ordering::SeqCst);
    begin(2);
    let (newest, ended) = inference.newest();
    assert!(at(newest) == Some(1) && ended.is_none() && inference.is_inferring(), "nobody waits");
    model.holds.store(false, Ordering::SeqCst);
    assert_eq!(at(inference.newest().0), Some(2));
    model.fails.store(true, Ordering::SeqCst);
    begin(3);
    match inference.newest() {
        (None, Some(Err(_))) => Ok(()),
        _ => bail!("a failure is told, and leaves no transfer"),
    }
}

#[test]
fn who_only_looks_sees_what_the_last_frame_took_until_a_flush() {
    let inference = ready();
    assert!(infer(&inference) && inference.current().is_none(), "no frame has taken it");
    let (newest, _) = inference.newest();
    inference.show(newest.unwrap());
    assert!(inference.current().is_some());
    inference.flush();
    assert!(inference.current().is_none());
}

#[test]
fn a_flush_releases_whoever_waits_for_one_of_several_inferences() {
    let (inference, model) = (ready(), Model::default());
    let queue = || inference.queue(&model, Arc::new(proxy()), Request::default(), 0);
    let [first, second] = [queue(), queue()].map(Option::unwrap);
    assert!(inference.finish(&first).unwrap().is_ok());
    assert_eq!(inference.lock().queued.len(), 1, "what has ended is let go");
    inference.flush();
    assert!(inference.lock().queued.is_empty());
    assert!(queue().is_none());
    drop(second);
}

#[test]
fn a_flush_forgets_the_newest_transfer_and_what_was_under_way() {
    let (inference, model) = (ready(), Model::default());
    assert!(infer(&inference) && inference.newest().0.is_some());
    model.holds.store(true, Ordering::SeqCst);
    inference.begin(&model, proxy(), Request::default(), 5);
    inference.flush();
    inference.resume();
    model.holds.store(false, Ordering::SeqCst);
    assert!(inference.newest().0.is_none() && !inference.is_inferring());
}
