//! pipelines/rtp-overlay.sh, all three parts on loopback with one packet of a hundred lost on both links: is the picture there,
//! do timestamps go forward, is it in time with the sound?
//!
//! The launch lines are the script's own. Every frame that is sent carries its number in its picture, and the sound ticks on
//! the full second: what the receiver decodes tells when each was filmed and when it is to be shown. It runs for 10 s, or for
//! HARMONIZE_RTP_SECONDS and is strict then; with `--nocapture` it prints its figures. A plugin found on GST_PLUGIN_PATH is
//! taken before the one built with the test.

use gst::prelude::*;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const WIDTH: usize = 320;
const HEIGHT: usize = 180;
const RATE: u64 = 30;
const FRAME: i64 = 1_000_000_000 / RATE as i64;
/// By then the sender reports that put picture and sound in step have come over both links.
const SETTLING: i64 = 3_000_000_000;
/// The frame's number, one bit a block along the upper edge, least first.
const BITS: usize = 16;
const BLOCK: usize = WIDTH / BITS;

/// What the script gives to gst-launch-1.0, caught by a stand-in of that name.
fn launch_line(folder: &Path, args: &[&str]) -> Vec<String> {
    let stand_in = folder.join("gst-launch-1.0");
    fs::write(&stand_in, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/rtp-overlay.sh"))
        .args(args)
        .env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()))
        .envs([("SIZE", format!("{WIDTH}x{HEIGHT}")), ("RATE", RATE.to_string())])
        .envs([("LOSS", "0.01"), ("PORT", "15000")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let words = String::from_utf8(output.stdout).unwrap();
    words.lines().filter(|word| *word != "-e").map(String::from).collect()
}

fn pipeline(words: &[String]) -> gst::Pipeline {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    gst::parse::launchv(&words).unwrap().downcast().unwrap()
}

fn pad(pipeline: &gst::Pipeline, element: &str, pad: &str) -> gst::Pad {
    pipeline.by_name(element).unwrap_or_else(|| panic!("no {element}")).static_pad(pad).unwrap()
}

/// The running time of `buffer` on `pad` as a time of the clock, which all pipelines of a process share.
fn clock_time(pad: &gst::Pad, buffer: &gst::BufferRef) -> i64 {
    let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
    let segment = segment.segment().downcast_ref::<gst::ClockTime>().unwrap();
    let base = pad.parent_element().unwrap().base_time().unwrap();
    (segment.to_running_time(buffer.pts()).unwrap() + base).nseconds() as i64
}

/// Writes each frame's number into the picture that `pipeline` sends.
fn number_frames(pipeline: &gst::Pipeline) {
    pad(pipeline, "picture", "src").add_probe(gst::PadProbeType::BUFFER, |_, info| {
        let buffer = info.buffer_mut().unwrap().make_mut();
        let number = (buffer.pts().unwrap().nseconds() * RATE + 500_000_000) / 1_000_000_000;
        let mut map = buffer.map_writable().unwrap();
        for row in map.chunks_mut(WIDTH).take(BLOCK) {
            for (bit, block) in row.chunks_mut(BLOCK).enumerate() {
                block.fill(if number >> bit & 1 == 1 { 235 } else { 16 });
            }
        }
        gst::PadProbeReturn::Ok
    });
}

fn number(luma: &[u8]) -> u64 {
    let centre = BLOCK / 2;
    (0..BITS).map(|bit| u64::from(luma[centre * WIDTH + bit * BLOCK + centre] > 125) << bit).sum()
}

/// What the receiver got: times of the clock in ns.
#[derive(Default)]
struct Received {
    /// Each frame's time and number, each tick's beginning.
    frames: Vec<(i64, u64)>,
    ticks: Vec<i64>,
    corrupt: usize,
    sound_until: i64,
    sound_backwards: usize,
    loud_until: i64,
}

fn watch(pipeline: &gst::Pipeline) -> Arc<Mutex<Received>> {
    let received = Arc::new(Mutex::new(Received::default()));
    let seen = received.clone();
    pad(pipeline, "picture", "sink").add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        let seen = &mut *seen.lock().unwrap();
        seen.corrupt += usize::from(buffer.flags().contains(gst::BufferFlags::CORRUPTED));
        seen.frames.push((clock_time(pad, buffer), number(&buffer.map_readable().unwrap())));
        gst::PadProbeReturn::Ok
    });
    let seen = received.clone();
    pad(pipeline, "sound", "sink").add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        let seen = &mut *seen.lock().unwrap();
        let start = clock_time(pad, buffer);
        seen.sound_backwards += usize::from(start < seen.sound_until);
        seen.sound_until = start;
        // 48 kHz, two channels of S16LE
        for (i, sample) in buffer.map_readable().unwrap().chunks_exact(4).enumerate() {
            let time = start + i as i64 * 1_000_000 / 48;
            if i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs() > 3000 {
                if time - seen.loud_until > 300_000_000 {
                    seen.ticks.push(time);
                }
                seen.loud_until = time;
            }
        }
        gst::PadProbeReturn::Ok
    });
    received
}

/// Does what gst-launch-1.0 does with the buses until `end`.
fn run(pipelines: &[&gst::Pipeline], end: Instant) {
    let kinds = [gst::MessageType::Latency, gst::MessageType::Error];
    while Instant::now() < end {
        for pipeline in pipelines {
            let Some(message) = pipeline.bus().unwrap().timed_pop_filtered(20 * gst::ClockTime::MSECOND, &kinds) else {
                continue;
            };
            match message.view() {
                gst::MessageView::Latency(_) => drop(pipeline.recalculate_latency()),
                _ => panic!("{message:?}"),
            }
        }
    }
}

/// The sum of `field` over the statistics of all jitter buffers in `pipeline`.
fn jitter_buffers(pipeline: &gst::Pipeline, field: &str) -> u64 {
    let elements = pipeline.iterate_recurse().into_iter().map(Result::unwrap);
    let buffers = elements.filter(|e| e.factory().is_some_and(|f| f.name() == "rtpjitterbuffer"));
    buffers.map(|e| e.property::<gst::Structure>("stats").get::<u64>(field).unwrap()).sum()
}

/// What the received frames and ticks say. Times are in ns.
struct Figures {
    received: usize,
    /// Frames that show a later number than the one before, of all numbers between the first and the last.
    fresh: usize,
    sent: u64,
    ticks: usize,
    /// By how much each fresh frame comes later than the sound that belongs to it, the smallest first.
    off: Vec<i64>,
    /// The largest of these in the time of settling.
    settling: i64,
    backwards: usize,
    sound_backwards: usize,
    /// How long one picture stood: shown again by the overlay, or nothing new from the second link.
    stood: i64,
}

impl Figures {
    fn of(received: &Received, start: i64) -> Self {
        // Until the programme is there the overlay's background is black, number 0.
        let first = received.frames.iter().position(|(_, n)| *n > 0).expect("no frame came through");
        let frames = &received.frames[first..];
        let fresh: Vec<_> = frames.windows(2).filter(|w| w[1].1 > w[0].1).map(|w| w[1]).collect();
        // How long after its filming a frame is shown, less how long after its sounding the nearest tick is heard.
        let off = |(time, n): &(i64, u64)| {
            let shown = time - start - *n as i64 * 1_000_000_000 / RATE as i64;
            let tick = received.ticks.iter().min_by_key(|tick| (*tick - time).abs()).expect("no tick came through");
            shown - (tick - start).rem_euclid(1_000_000_000)
        };
        // Until the first sender reports have come, both streams are placed by their arrival.
        let (settling, settled): (Vec<_>, Vec<_>) = fresh.iter().partition(|(time, _)| time - frames[0].0 < SETTLING);
        let by_size = |frames: Vec<&(i64, u64)>| {
            let mut off: Vec<_> = frames.into_iter().map(off).collect();
            off.sort_by_key(|off| off.abs());
            off
        };
        let off = by_size(settled);
        assert!(!off.is_empty(), "nothing came through after the first seconds");
        Self {
            received: frames.len(),
            fresh: fresh.len(),
            sent: frames[frames.len() - 1].1 - frames[0].1,
            ticks: received.ticks.len(),
            off,
            settling: by_size(settling).last().copied().unwrap_or(0),
            backwards: frames.windows(2).filter(|w| w[1].0 <= w[0].0).count(),
            sound_backwards: received.sound_backwards,
            stood: fresh.windows(2).map(|w| w[1].0 - w[0].0).max().unwrap_or(0),
        }
    }

    fn median(&self) -> i64 {
        self.off[self.off.len() / 2]
    }

    fn largest(&self) -> i64 {
        self.off[self.off.len() - 1]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let late = self.off.iter().filter(|off| off.abs() >= FRAME).count();
        let [largest, median, settling] = [self.largest(), self.median(), self.settling].map(ms);
        writeln!(
            f,
            "{} frames received, {} of {} numbers, {} ticks",
            self.received, self.fresh, self.sent, self.ticks
        )?;
        writeln!(
            f,
            "lip sync off by {largest:.1} ms at most, {median:.1} ms median, by a frame or more {late} times; {settling:.1} ms before the reports"
        )?;
        write!(f, "timestamps backwards: {} of the picture, {} of the sound; ", self.backwards, self.sound_backwards)?;
        write!(f, "one picture stood {:.0} ms at most", ms(self.stood))
    }
}

fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

/// A subject with soft edges in the lower right quarter.
fn subject(path: &Path) {
    image::RgbaImage::from_fn(WIDTH as u32, HEIGHT as u32, |x, y| {
        let (x, y) = (x as f32 - 240.0, y as f32 - 125.0);
        let alpha = ((45.0 - x.hypot(y)) / 6.0).clamp(0.0, 1.0);
        image::Rgba([200, 140, 90, (255.0 * alpha) as u8])
    })
    .save(path)
    .unwrap();
}

#[test]
fn picture_and_sound_come_through_losses_together() {
    gst::init().unwrap();
    if gst::ElementFactory::find("harmonize").is_none() {
        gstharmonize::plugin_register_static().unwrap();
    }
    let asked = std::env::var("HARMONIZE_RTP_SECONDS").ok();
    let seconds = asked.as_ref().map_or(10, |s| s.parse::<u64>().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let still = folder.path().join("subject.png");
    subject(&still);

    let [sender, overlay, receiver] = [&["send"][..], &["overlay", still.to_str().unwrap()], &["receive", "none"]]
        .map(|args| pipeline(&launch_line(folder.path(), args)));
    let all = [&sender, &overlay, &receiver];
    let harmonize = overlay.by_name("h").unwrap();
    number_frames(&sender);
    let received = watch(&receiver);

    overlay.set_state(gst::State::Paused).unwrap();
    let loaded = Instant::now() + Duration::from_secs(60);
    while harmonize.property_value("model-state").serialize().unwrap() != "ready" {
        assert!(Instant::now() < loaded, "the model doesn't load");
        run(&all, Instant::now() + Duration::from_millis(100));
    }
    for pipeline in all {
        pipeline.set_state(gst::State::Playing).unwrap();
    }
    run(&all, Instant::now() + Duration::from_secs(seconds));

    let start = sender.base_time().unwrap().nseconds() as i64;
    let (overlay_lost, receiver_lost) = (jitter_buffers(&overlay, "num-lost"), jitter_buffers(&receiver, "num-lost"));
    let stats = harmonize.property::<gst::Structure>("stats");
    for pipeline in all {
        pipeline.set_state(gst::State::Null).unwrap();
    }

    let received = received.lock().unwrap();
    let figures = Figures::of(&received, start);
    println!(
        "{seconds} s: {figures}\npackets lost after error correction: {overlay_lost} and {receiver_lost}; corrupt frames {}\n{stats}",
        received.corrupt
    );
    assert_eq!((figures.backwards, received.sound_backwards), (0, 0), "timestamps went backwards");
    assert!(figures.median().abs() < FRAME, "lip sync is off by {} ms", ms(figures.median()));
    assert!(stats.get::<u64>("harmonized").unwrap() > 0, "{stats}");
    // Short runs are for any machine, and one that has too much to do shows frames late.
    if asked.is_some() {
        assert!(figures.largest().abs() < FRAME, "lip sync is off by {} ms", ms(figures.largest()));
        assert!(received.ticks.len() as u64 + 2 >= seconds, "{} ticks", received.ticks.len());
        assert!(
            figures.fresh as f64 > 0.95 * figures.sent as f64,
            "{} of {} came through",
            figures.fresh,
            figures.sent
        );
    }
}
