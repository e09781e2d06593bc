//! The action signal `export-look`: from any thread, at any time, in either mode.

use crate::common::manual::{Manual, lift};
use crate::common::rig::Rig;
use crate::common::*;
use gst::prelude::*;
use gstharmonize::elements::harmonize::Harmonize;
use std::path::Path;
use std::sync::Arc;
use std::thread;

fn export(element: &Harmonize, path: &Path) -> bool {
    element.emit_by_name("export-look", &[&path.to_str().unwrap()])
}

/// What a look makes of mid grey, in codes of 255.
fn grey(path: &Path) -> f64 {
    let text = std::fs::read_to_string(path).unwrap();
    let mut table = text.lines().skip_while(|line| !line.starts_with("DOMAIN_MAX")).skip(1);
    let middle = table.nth(16 * (1 + 33 + 33 * 33)).unwrap();
    255.0 * middle.split(' ').next().unwrap().parse::<f64>().unwrap()
}

/// The element messages that tell of looks.
fn told(rig: &Rig) -> Vec<gst::Structure> {
    let messages = rig.bus.iter_filtered(&[gst::MessageType::Element]);
    let structures = messages.filter_map(|message| message.structure().map(ToOwned::to_owned));
    structures.filter(|structure| structure.name() == "application/x-harmonize-look").collect()
}

#[test]
fn the_look_is_that_of_the_last_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("look.cube");
    let model = Arc::<Manual>::default();
    let mut rig = Rig::new(model.element("exact"));
    assert!(!export(&rig.element, &path) && !path.exists());
    let warnings = rig.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("no transfer yet"), "{warnings:?}");

    for (n, by) in [20, 40].into_iter().enumerate() {
        rig.push(n as u64);
        model.answer(n, Ok(lift(by)));
        assert_eq!(rig.out_lift(n as u64), by);
        assert!(export(&rig.element, &path));
        assert!((grey(&path) - 127.5 - f64::from(by)).abs() < 0.01, "{}", grey(&path));
        let told = told(&rig);
        assert_eq!(told.len(), 1);
        let figure = |name: &str| told[0].get::<f64>(name).unwrap();
        assert_eq!(told[0].get::<&str>("location").unwrap(), path.to_str().unwrap());
        assert!(figure("rms") < 0.01 && figure("maximum") < 0.01 && (figure("untouched") - f64::from(by)).abs() < 0.01);
    }
    rig.element.set_property("strength", 0.5);
    assert!(export(&rig.element, &path));
    assert!((grey(&path) - 127.5 - 20.0).abs() < 0.01, "what frames get by now: {}", grey(&path));
    assert_eq!(rig.warnings().len(), 0);

    let nowhere = folder.path().join("nowhere/look.cube");
    assert!(!export(&rig.element, &nowhere));
    assert!(!rig.element.emit_by_name::<bool>("export-look", &[&None::<String>]));
    let warnings = rig.warnings();
    assert!(warnings[0].contains("nowhere/look.cube: No such file") && warnings.len() == 2, "{warnings:?}");

    rig.flush();
    assert!(!export(&rig.element, &path), "a flush forgets the transfer");
    rig.element.set_state(gst::State::Null).unwrap();
    assert!(!export(&rig.element, &path));
}

#[test]
fn in_live_mode_it_is_the_transfer_in_use_and_disturbs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("look.cube");
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    assert_eq!(rig.lifted(0), 0);
    assert!(!export(&rig.element, &path), "nothing but an inference under way");
    model.answer(0, Ok(lift(20)));
    assert!(!export(&rig.element, &path), "no frame has taken it up");
    assert_eq!(rig.lifted(1), 20);
    model.answer(1, Ok(lift(60)));
    let element = rig.element.clone();
    let file = path.clone();
    assert!(at_once("a look from another thread", || thread::spawn(move || export(&element, &file)).join().unwrap()));
    assert!((grey(&path) - 147.5).abs() < 0.01, "the next one is not in use yet: {}", grey(&path));
    assert_eq!(rig.lifted(2), 60);
    assert_eq!((rig.stat("transfers"), rig.stat("harmonized")), (2, 2));
}

/// Looks taken all the time from two threads, while frames, a flush and a restart go by.
#[test]
fn it_works_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(element(&Arc::default()));
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads = [0, 1].map(|i| {
        let (element, done) = (rig.element.clone(), done.clone());
        let path = folder.path().join(format!("{i}.cube"));
        thread::spawn(move || {
            let mut written = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                written += usize::from(export(&element, &path));
            }
            written
        })
    });
    for n in 0..20 {
        assert_ne!(rig.lifted(n), 0);
    }
    rig.flush();
    assert_ne!(rig.lifted(0), 0);
    rig.restart();
    assert_ne!(rig.lifted(0), 0);
    until("a look", || !told(&rig).is_empty());
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    let written = threads.map(|thread| thread.join().unwrap());
    assert!(written.iter().sum::<usize>() > 0);
    assert_eq!((rig.stat("frames-in"), rig.stat("dropped")), (1, 0));
}
