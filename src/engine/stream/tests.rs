use super::super::still::Still;
use super::super::tests::Switched;
use super::*;

const MS: i64 = 1_000_000;
/// What `Switched` adds to every colour, in codes of 255.
const LIFT: u8 = 51;

fn still(grey: u8) -> Still {
    Still::new(16, 8, vec![grey; 3 * 128]).unwrap()
}

fn entry(number: i64, temporal: Temporal) -> Entry<(i64, Still)> {
    let parameters = Parameters { strength: 1.0, temporal, ..Default::default() };
    let mask = Arc::new(Mask { width: 16, height: 8, data: vec![255; 128] });
    let (frame, time) = ((number, still(100)), 40 * MS * number);
    Entry { frame, mask, time, running_time: time, begins: false, is_margin: false, parameters }
}

/// A frame with its number.
impl Frame for (i64, Still) {
    fn read<R>(&self, f: impl FnOnce(&Picture) -> R) -> Result<R> {
        self.1.read(f)
    }

    fn write<R>(&mut self, f: impl FnOnce(&mut PictureMut) -> R) -> Result<R> {
        self.1.write(f)
    }
}

fn pass_on(ended: Ended) -> Result<()> {
    ended.map(drop)
}

/// The frames that leave by now: their numbers, and by how much they were lifted.
fn leaving(stream: &Stream<(i64, Still)>, end: bool) -> Vec<(i64, Option<u8>)> {
    let ready = std::iter::from_fn(|| stream.next(end, 0, &mut pass_on));
    ready
        .map(|ready| {
            let (number, still) = ready.frame;
            let lift = still.into_rgb()[0] - 100;
            match ready.outcome.unwrap() {
                Outcome::Harmonized(applied) => assert!(applied.time <= 40 * MS * number && lift > 0),
                _ => assert_eq!(lift, 0),
            }
            (number, Some(lift).filter(|&lift| lift > 0))
        })
        .collect()
}

const EXACT: Policy = Policy::Exact { shows_first: false };

#[test]
fn in_exact_a_frame_waits_for_the_keyframe_after_it_and_what_passes_waits_behind() {
    let (stream, model) = (Stream::default(), Switched::default());
    let engine = model.engine();
    let temporal = Temporal { interval: 80 * MS as u64, smoothing: 0.0, detection: false };
    stream.push(&engine, entry(0, temporal), EXACT, &mut pass_on).unwrap();
    stream.push(&engine, entry(1, temporal), EXACT, &mut pass_on).unwrap();
    stream.pass((2, still(100)), 80 * MS);
    assert_eq!(leaving(&stream, false), [(0, Some(LIFT))], "frame 1 is between two keyframes");
    stream.push(&engine, entry(3, temporal), EXACT, &mut pass_on).unwrap();
    stream.push(&engine, entry(4, temporal), EXACT, &mut pass_on).unwrap();
    assert_eq!(leaving(&stream, false)[..2], [(1, Some(LIFT)), (2, None)]);
    stream.push(&engine, entry(5, temporal), EXACT, &mut pass_on).unwrap();
    let rest = leaving(&stream, true);
    assert_eq!(rest.last(), Some(&(5, Some(LIFT))), "all leave at the end");
    assert!(stream.current().is_some());
}

#[test]
fn what_is_a_margin_is_seen_and_never_shown() {
    let (stream, model) = (Stream::default(), Switched::default());
    let engine = model.engine();
    let margin = Entry { is_margin: true, ..entry(0, Temporal::default()) };
    stream.push(&engine, margin, Policy::Exact { shows_first: true }, &mut pass_on).unwrap();
    stream.push(&engine, entry(1, Temporal::default()), Policy::Exact { shows_first: true }, &mut pass_on).unwrap();
    let margin = stream.next(false, 0, &mut pass_on).unwrap();
    assert!(matches!(margin.outcome, Ok(Outcome::Margin)));
    assert_eq!(leaving(&stream, false), [(1, Some(LIFT))]);
}

#[test]
fn in_live_no_frame_waits_and_each_takes_what_has_been_found_by_now() {
    let (stream, model) = (Stream::default(), Switched::default());
    let engine = model.engine();
    let live = Policy::Live { waits: false };
    model.hold(true);
    stream.push(&engine, entry(0, Temporal::default()), live, &mut pass_on).unwrap();
    let first = stream.next(false, 0, &mut pass_on).unwrap();
    assert!(matches!(first.outcome, Ok(Outcome::NotReady)));
    model.hold(false);
    let found = (1..2000).find(|&number| {
        stream.push(&engine, entry(number, Temporal::default()), live, &mut pass_on).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        matches!(stream.next(false, 0, &mut pass_on).unwrap().outcome, Ok(Outcome::Harmonized(_)))
    });
    assert!(found.is_some());
}

#[test]
fn in_live_the_first_frame_of_a_scene_may_wait() {
    let (stream, model) = (Stream::default(), Switched::default());
    let engine = model.engine();
    stream.push(&engine, entry(0, Temporal::default()), Policy::Live { waits: true }, &mut pass_on).unwrap();
    assert_eq!(leaving(&stream, false), [(0, Some(LIFT))]);
}

#[test]
fn a_failure_is_the_frame_s_where_the_caller_lets_it_pass_and_an_error_where_not() {
    let (stream, model) = (Stream::default(), Switched::default());
    let engine = model.engine();
    model.fail(true);
    stream.push(&engine, entry(0, Temporal::default()), EXACT, &mut pass_on).unwrap();
    let told = std::cell::Cell::new(0);
    let mut tell = |ended: Ended| {
        told.set(told.get() + u32::from(ended.is_err()));
        Ok(())
    };
    assert!(matches!(stream.next(false, 0, &mut tell).unwrap().outcome, Ok(Outcome::Failed)));
    assert_eq!(told.get(), 1);
    stream.push(&engine, entry(1, Temporal::default()), EXACT, &mut pass_on).unwrap();
    let refused = stream.next(false, 0, &mut pass_on).unwrap();
    assert!(matches!(refused.outcome, Err(Stopped::Failed(_))));
}

#[test]
fn a_flush_ends_the_wait_for_a_frame_and_a_reset_tells_which_frames_waited() {
    let (stream, model) = (Stream::default(), Switched::default());
    let engine = model.engine();
    model.hold(true);
    for number in [0, 1, 2] {
        let entry = Entry { is_margin: number == 2, ..entry(number, Temporal::default()) };
        stream.push(&engine, entry, EXACT, &mut pass_on).unwrap();
    }
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stream.next(false, 0, &mut pass_on).unwrap().outcome);
        std::thread::sleep(Duration::from_millis(20));
        stream.flush();
        assert!(matches!(waiting.join().unwrap(), Err(Stopped::Flushed)));
    });
    let refused = stream.push(&engine, entry(3, Temporal::default()), EXACT, &mut pass_on);
    assert!(matches!(refused, Err(Stopped::Flushed)));
    assert_eq!(stream.reset().map(|(number, _)| number).collect::<Vec<_>>(), [1]);
    stream.resume();
    model.hold(false);
    stream.push(&engine, entry(0, Temporal::default()), EXACT, &mut pass_on).unwrap();
    assert_eq!(leaving(&stream, false), [(0, Some(LIFT))]);
}

#[test]
fn frames_stay_for_as_many_workers_as_are_to_be_busy() {
    let (stream, model) = (Stream::default(), Switched::default());
    let engine = model.engine();
    for number in [0, 1, 2] {
        stream.push(&engine, entry(number, Temporal::default()), EXACT, &mut pass_on).unwrap();
    }
    let left = std::iter::from_fn(|| stream.next(false, 2, &mut pass_on)).map(|ready| ready.frame.0);
    assert_eq!(left.collect::<Vec<_>>(), [0]);
}
