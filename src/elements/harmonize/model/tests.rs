use super::*;
use crate::engine::tests::Switched;

fn loaded() -> Option<Loaded> {
    Some(Loaded { engine: Arc::new(Switched::default().engine()), spec: ModelSpec::default(), workers: 1 })
}

fn ready() -> Model {
    let model = Model::default();
    let (load, _) = model.begin_load(false);
    assert_eq!(model.finish_load(load, loaded()), Finish::Ready);
    model
}

#[test]
fn a_flush_that_nobody_waited_for_is_remembered_until_the_resume() {
    let model = ready();
    model.flush();
    assert_eq!(model.wait_until_ready().err(), Some(Unavailable::Flushing));
    assert_eq!(model.ready().err(), Some(Unavailable::Flushing));
    model.resume();
    assert!(model.wait_until_ready().is_ok() && model.ready().unwrap().is_some());
}

#[test]
fn a_load_that_was_given_up_changes_nothing() {
    let model = Model::default();
    let (first, _) = model.begin_load(false);
    assert!(model.give_up_load(), "it was loading");
    let (second, gave_up) = model.begin_load(false);
    assert!(!gave_up);
    assert_eq!(model.finish_load(first, loaded()), Finish::GivenUp);
    assert_eq!(model.state(), ModelState::Loading);
    assert_eq!(model.finish_load(second, None), Finish::Failed);
    assert_eq!((model.state(), model.wait_until_ready().err()), (ModelState::Failed, Some(Unavailable::Failed)));
    assert!(!model.give_up_load(), "it was not loading any more");
}

#[test]
fn the_model_in_use_stays_until_the_next_one_is_there() {
    let model = ready();
    let (failing, _) = model.begin_load(true);
    assert!(model.wait_until_ready().is_ok());
    assert_eq!(model.finish_load(failing, None), Finish::Kept);
    assert_eq!(model.state(), ModelState::Ready);
    let (given_up, _) = model.begin_load(true);
    let (next, gave_up) = model.begin_load(true);
    assert!(gave_up);
    assert_eq!(model.finish_load(given_up, None), Finish::GivenUp);
    let spec = ModelSpec { model: "next".into(), ..Default::default() };
    let engine = Arc::new(Switched::default().engine());
    assert_eq!(model.finish_load(next, Some(Loaded { engine, spec, workers: 1 })), Finish::Ready);
    assert_eq!(model.loaded().unwrap().spec.model, "next");
    model.begin_load(false);
    assert_eq!(model.state(), ModelState::Loading, "a start does not go on with another model than it was asked for");
}
