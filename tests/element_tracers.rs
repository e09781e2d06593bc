//! What GStreamer's own tracers and debug categories show of the element. One test in a process of its own,
//! because tracers are chosen before GStreamer's start and its log goes to one function.

#[allow(dead_code, reason = "no rig is wanted here")]
#[path = "support/common/mod.rs"]
mod common;

use common::*;
use gst::prelude::*;
use gstharmonize::elements::harmonize::Harmonize;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FRAMES: usize = 12;
const TRACERS: &str = "latency(flags=pipeline+element)";
const WORK: Duration = Duration::from_millis(25);

#[derive(Default)]
struct Log {
    /// Nanoseconds from the source to the sink, and from the element's sink pad to its source pad.
    pipeline: Vec<u64>,
    element: Vec<u64>,
    categories: BTreeSet<String>,
    lines: Vec<String>,
}

impl Log {
    fn take(&mut self, category: &str, line: &str) {
        let time = || {
            let structure = line.parse::<gst::Structure>().ok()?;
            let named = |field: &str, name: &str| structure.get::<String>(field).is_ok_and(|value| value == name);
            let is_ours = named("element", "h") || named("src-element", "composite");
            is_ours.then(|| structure.get::<u64>("time").ok()).flatten()
        };
        match category {
            "GST_TRACER" if line.starts_with("latency,") => self.pipeline.extend(time()),
            "GST_TRACER" if line.starts_with("element-latency,") => self.element.extend(time()),
            _ if category.starts_with("harmonize") => {
                self.categories.insert(category.to_owned());
                self.lines.push(line.to_owned());
            }
            _ => (),
        }
    }
}

/// Whether GStreamer's own latency tracer lets a stock pipeline through: that of 1.26.2 blocks a thread on a lock that this
/// thread holds.
fn the_tracer_works() -> bool {
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "videotestsrc", "num-buffers=5", "!", "fakesink"]).env("GST_TRACERS", TRACERS);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..100 {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Not eprintln!, which is shown for failing tests only.
    let _ =
        writeln!(std::io::stderr(), "SKIPPED in part: this GStreamer's latency tracer hangs `videotestsrc ! fakesink`");
    false
}

#[test]
fn the_latency_tracer_and_the_log_tell_what_happens_to_a_frame() {
    let is_traced = the_tracer_works();
    if is_traced {
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe { std::env::set_var("GST_TRACERS", TRACERS) };
    }
    init();
    let log = Arc::<Mutex<Log>>::default();
    let seen = log.clone();
    gst::log::remove_default_log_function();
    gst::log::add_log_function(move |category, _, _, _, _, _, message| {
        seen.lock().unwrap().take(category.name(), &message.get().unwrap_or_default());
    });
    gst::log::set_threshold_from_string("GST_TRACER:7,harmonize:6,harmonize-engine:6", true);

    let pipeline = gst::parse::launch(&format!(
        "harmonize name=h ! queue ! fakesink name=out sync=true \
         videotestsrc name=composite is-live=true num-buffers={FRAMES} ! video/x-raw,format=I420,width=32,height=18,framerate=20/1 ! h.sink \
         videotestsrc is-live=true pattern=white ! video/x-raw,format=GRAY8,width=32,height=18,framerate=20/1 ! h.mask"
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let element = pipeline.by_name("h").unwrap().downcast::<Harmonize>().unwrap();
    element.set_property_from_str("mode", "exact");
    // A frame's time in the element is then that of its own inference.
    element.set_property("smoothing", 0.0);
    element.set_loader(Fake::slow(WORK).loader());
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &kinds).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    // The engine's own category has a voice without the element's.
    let folder = model();
    let engine = real(folder.path().to_str().unwrap(), "cpu");
    engine.set_state(gst::State::Paused).unwrap();
    until("the model", || engine.property_value("model-state").serialize().unwrap() == "ready");
    engine.set_state(gst::State::Null).unwrap();

    let log = std::mem::take(&mut *log.lock().unwrap());
    // The tracer leaves the first frame or two out while pads are still being linked up.
    let traced = log.element.len().min(log.pipeline.len());
    assert!(traced >= FRAMES - 2 || !is_traced, "{:?}", log.element);
    for &time in &log.element {
        assert!(time >= WORK.as_nanos() as u64, "a frame can't take less than its inference: {time}");
        // It takes no more than the wait for its mask, its work, and a machine's hiccup.
        assert!(time < 2_000_000_000, "{time}");
    }
    assert!(log.pipeline.iter().zip(&log.element).all(|(pipeline, element)| pipeline >= element));
    let categories: Vec<_> = log.categories.iter().map(String::as_str).collect();
    assert_eq!(categories, ["harmonize", "harmonize-engine"]);
    let time = log.lines.iter().filter_map(|line| line.strip_suffix(" is harmonized")).next_back().unwrap();
    let mask = log.lines.iter().find(|line| line.starts_with(&format!("{time} goes with the mask at "))).unwrap();
    assert!(mask.ends_with(": Head") || mask.ends_with(": Held"), "{mask}");
    for what in [time.replace("The composite", "begins, for the frame"), "warm in another".into()] {
        assert!(log.lines.iter().any(|line| line.contains(&what)), "{what} is not in {:#?}", log.lines);
    }
}
