use super::super::super::tests::{Switched, proxy};
use super::*;
use anyhow::bail;
use std::time::Instant;

fn of(time: i64) -> Proxy {
    proxy(0.1 * time as f32)
}

fn infer(inferences: &Inferences, engine: &Engine) -> bool {
    inferences.infer(engine, of(0), Request::default(), 0).is_some()
}

/// The newest transfer once the inference that is under way has ended.
fn newest(inferences: &Inferences) -> (Option<Applied>, Ended) {
    let start = Instant::now();
    loop {
        if let (newest, Some(ended)) = inferences.newest() {
            return (newest, ended);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the inference doesn't end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_flush_that_nobody_waited_for_is_remembered_until_the_resume() {
    let (inferences, model) = (Inferences::default(), Switched::default());
    let engine = model.engine();
    inferences.flush();
    assert!(inferences.is_flushing() && !infer(&inferences, &engine));
    inferences.resume();
    assert!(infer(&inferences, &engine));
}

#[test]
fn the_newest_transfer_is_that_of_the_last_inference_that_ended() -> Result<()> {
    let (inferences, model) = (Inferences::default(), Switched::default());
    let engine = model.engine();
    let at = |newest: Option<Applied>| newest.inspect(|n| assert_eq!(*n.proxy, of(n.time))).map(|n| n.time);
    let begin = |time| inferences.begin(&engine, of(time), Request::default(), time).map(drop);
    assert!(inferences.newest().0.is_none() && !inferences.is_inferring());
    model.hold(true);
    begin(1);
    assert!(inferences.is_inferring());
    model.hold(false);
    let (first, ended) = newest(&inferences);
    assert_eq!(at(first), Some(1));
    ended?;
    model.hold(true);
    begin(2);
    let (before, ended) = inferences.newest();
    assert!(at(before) == Some(1) && ended.is_none() && inferences.is_inferring(), "nobody waits");
    model.hold(false);
    assert_eq!(at(newest(&inferences).0), Some(2));
    model.fail(true);
    begin(3);
    match newest(&inferences) {
        (None, Err(_)) => Ok(()),
        _ => bail!("a failure is told, and leaves no transfer"),
    }
}

#[test]
fn who_only_looks_sees_what_the_last_frame_took_until_a_flush() {
    let (inferences, model) = (Inferences::default(), Switched::default());
    let engine = model.engine();
    assert!(infer(&inferences, &engine) && inferences.current().is_none(), "no frame has taken it");
    let (newest, _) = inferences.newest();
    inferences.show(newest.unwrap());
    assert!(inferences.current().is_some());
    inferences.flush();
    assert!(inferences.current().is_none());
}

#[test]
fn a_flush_releases_whoever_waits_for_one_of_several_inferences() {
    let (inferences, model) = (Inferences::default(), Switched::default());
    let engine = model.engine();
    let queue = || inferences.queue(&engine, Arc::new(of(0)), Request::default(), 0);
    let first = queue().unwrap();
    assert!(inferences.finish(&first).unwrap().is_ok());
    assert!(inferences.lock().queued.is_empty(), "what has ended is let go");
    model.hold(true);
    let second = queue().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| inferences.finish(&second).is_none());
        std::thread::sleep(Duration::from_millis(20));
        inferences.flush();
        assert!(waiting.join().unwrap());
    });
    assert!(inferences.lock().queued.is_empty());
    assert!(queue().is_none());
}

#[test]
fn a_flush_forgets_the_newest_transfer_and_what_was_under_way() {
    let (inferences, model) = (Inferences::default(), Switched::default());
    let engine = model.engine();
    assert!(infer(&inferences, &engine) && inferences.newest().0.is_some());
    model.hold(true);
    inferences.begin(&engine, of(5), Request::default(), 5);
    inferences.flush();
    inferences.resume();
    model.hold(false);
    assert!(inferences.newest().0.is_none() && !inferences.is_inferring());
}

#[test]
fn what_was_put_off_begins_when_somebody_waits_and_not_before() {
    let (inferences, model) = (Inferences::default(), Switched::default());
    let engine = model.engine();
    let put_off = |time| inferences.put_off(&engine, Arc::new(of(time)), Request::default()).unwrap();
    let [first, second] = [1, 2].map(put_off);
    std::thread::sleep(Duration::from_millis(20));
    assert!(first.poll().is_pending() && second.poll().is_pending() && model.runs() == 0);
    assert!(inferences.finish(&second).unwrap().is_ok() && inferences.finish(&first).unwrap().is_ok());
    let third = put_off(3);
    inferences.forget();
    assert!(third.wait().is_none(), "forgotten, it keeps nobody");
    assert_eq!(model.runs(), 2);
}
