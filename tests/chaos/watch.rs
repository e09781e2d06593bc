//! Sees to it that nothing hangs and no warning goes unheard, and tells all that is known when something does.
//!
//! Time is counted in ticks of a thread that sleeps: on a machine with other work to do it ticks more slowly, as does all
//! that it watches.

use once_cell::sync::Lazy;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(10);
/// Ticks that one operation may take: 2 s.
pub const PATIENCE: u64 = 200;
/// Lines of each of the two logs that are kept.
const KEPT: usize = 400;

static TICKS: AtomicU64 = AtomicU64::new(0);
static START: Lazy<Instant> = Lazy::new(Instant::now);
static WATCH: Lazy<Mutex<Watch>> = Lazy::new(Mutex::default);

#[derive(Default)]
struct Watch {
    title: String,
    journal: VecDeque<String>,
    debug: VecDeque<String>,
    under_way: BTreeMap<u64, (u64, String)>,
    next: u64,
    violation: Option<String>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(lines: &mut VecDeque<String>, text: &str) {
    if lines.len() == KEPT {
        lines.pop_front();
    }
    let thread = thread::current();
    lines.push_back(format!("{:9.4} {:<14.14} {text}", START.elapsed().as_secs_f64(), thread.name().unwrap_or("?")));
}

/// Notes what happens, for the report.
pub fn note(text: &str) {
    keep(&mut lock(&WATCH).journal, text);
}

/// Notes that a promise is broken; the first one counts.
pub fn violated(text: String) {
    note(&format!("VIOLATED: {text}"));
    lock(&WATCH).violation.get_or_insert(text);
}

/// Ends the process if a promise has been broken: nothing of it can be relied on any more.
pub fn check() {
    let violation = lock(&WATCH).violation.take();
    if let Some(violation) = violation {
        end(&violation);
    }
}

fn end(why: &str) -> ! {
    // What goes through `eprintln!` would be kept back for the end of the test.
    let _ = writeln!(std::io::stderr(), "{}", report(why));
    std::process::abort()
}

pub fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// Does `act`, and ends the process if that hangs.
pub fn watched<R>(what: &str, act: impl FnOnce() -> R) -> R {
    note(what);
    let id = {
        let mut watch = lock(&WATCH);
        watch.next += 1;
        let id = watch.next;
        watch.under_way.insert(id, (ticks(), what.into()));
        id
    };
    let result = act();
    lock(&WATCH).under_way.remove(&id);
    result
}

fn report(why: &str) -> String {
    let watch = lock(&WATCH);
    let mut text = String::new();
    for (title, lines) in [("GStreamer's log", &watch.debug), ("The test's log", &watch.journal)] {
        let _ = writeln!(text, "{title}, the last {} lines:", lines.len());
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    for (since, what) in watch.under_way.values() {
        let _ = writeln!(text, "Under way for {} ms: {what}", (ticks() - since) * TICK.as_millis() as u64);
    }
    let _ = writeln!(text, "{}\n{why}", watch.title);
    text
}

/// Where every thread stands, if there is a debugger.
pub fn threads() -> String {
    let pid = std::process::id().to_string();
    let gdb = Command::new("gdb").args(["-p", &pid, "-batch", "-ex", "thread apply all bt 18"]).output();
    gdb.map_or_else(|error| format!("no gdb: {error}"), |out| String::from_utf8_lossy(&out.stdout).into_owned())
}

fn tick() {
    loop {
        thread::sleep(TICK);
        let now = TICKS.fetch_add(1, Ordering::Relaxed) + 1;
        let hung = |(since, _): &&(u64, String)| now.saturating_sub(*since) > PATIENCE;
        let what = lock(&WATCH).under_way.values().find(hung).map(|(_, what)| what.clone());
        if let Some(what) = what {
            note(&threads());
            end(&format!("This hangs: {what}"));
        }
    }
}

/// Starts the clock and listens to panics, to GLib's warnings and to GStreamer's log. `title` heads the report.
pub fn begin(title: String) {
    let mut watch = lock(&WATCH);
    watch.title = title;
    watch.journal.clear();
    watch.debug.clear();
    watch.violation = None;
    drop(watch);
    static ONCE: Lazy<()> = Lazy::new(|| {
        Lazy::force(&START);
        thread::Builder::new().name("watch".into()).spawn(tick).unwrap();
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload_as_str().is_some_and(|text| text.starts_with(super::model::MEANT)) {
                return;
            }
            if thread::current().name() != Some("chaos") {
                violated(format!("Panicked: {info}"));
            }
            previous(info);
        }));
        glib::log_set_writer_func(|level, fields| {
            let text = |key| fields.iter().find(|field| field.key() == key).and_then(|field| field.value_str());
            let (domain, message) = (text("GLIB_DOMAIN").unwrap_or(""), text("MESSAGE").unwrap_or(""));
            match level {
                glib::LogLevel::Error | glib::LogLevel::Critical | glib::LogLevel::Warning => {
                    violated(format!("{domain} {level:?}: {message}"));
                }
                _ => (),
            }
            glib::LogWriterOutput::Handled
        });
        // The default function would print what the report wants.
        if std::env::var_os("GST_DEBUG").is_none() {
            gst::log::remove_default_log_function();
            gst::log::set_threshold_from_string("harmonize:5,aggregator:5", false);
        }
        gst::log::add_log_function(|category, level, _, function, _, object, message| {
            let object = object.map(|object| object.to_string()).unwrap_or_default();
            let text = message.get().map(|text| text.to_string()).unwrap_or_default();
            keep(&mut lock(&WATCH).debug, &format!("{level:?} {} {object} {function}: {text}", category.name()));
        });
    });
    Lazy::force(&ONCE);
}
