//! Chaos: the element `harmonize` in a pipeline in which everything happens that happens in pipelines, at random, while
//! DESIGN.md's promises are checked throughout. `ops` says what happens, `ledger` what is promised of buffers, `watch` of
//! time and of warnings.
//!
//! A run is a seed and a number of operations, each for a live pipeline and for one that isn't:
//!
//!     CHAOS_SEED=7 CHAOS_OPERATIONS=10000 cargo test --test chaos -- --nocapture
//!
//! Without a seed it takes one from the clock and prints it; a failure prints it again with the last operations. The same
//! seed draws the same operations, but not the same threads' turns: run it a few times. With `GST_DEBUG` set, GStreamer's
//! log goes where that says instead of into the failure's report.

mod buffers;
#[allow(dead_code, reason = "the fake engine alone is wanted here")]
#[path = "../support/common/mod.rs"]
mod common;
mod ledger;
mod model;
mod ops;
mod picture;
mod random;
mod rig;
mod settle;
mod source;
mod watch;

use ops::Op;
use random::Random;
use rig::Rig;
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// Both pipelines together take some 20 s.
const OPERATIONS: u64 = 700;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn chaos(live: bool) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = watch::lock(&ONE_AT_A_TIME);
    common::init();
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("CHAOS_SEED").unwrap_or(clock.as_millis() as u64 % 1_000_000);
    let operations = number("CHAOS_OPERATIONS").unwrap_or(OPERATIONS);
    let title = format!("CHAOS_SEED={seed} CHAOS_OPERATIONS={operations}, live: {live}");
    let _ = writeln!(std::io::stderr(), "{title}");
    watch::begin(title);
    let run = move || {
        let mut random = Random(seed);
        let mut rig = Rig::new(live, random.chance(50));
        for number in 0..operations {
            watch::note(&format!("operation {number}"));
            rig.perform(&Op::draw(&mut random));
            std::thread::sleep(Duration::from_millis(random.pick(&[0, 1, 3, 10, 40])));
        }
        let seen = rig.end();
        let _ = writeln!(std::io::stderr(), "{seen:?}");
        assert!(operations < 300 || seen.changed > 0, "nothing was harmonized");
    };
    let thread = std::thread::Builder::new().name("chaos".into()).spawn(run).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_pipeline_of_files_keeps_its_promises() {
    chaos(false);
}

#[test]
fn a_live_pipeline_keeps_its_promises() {
    chaos(true);
}
