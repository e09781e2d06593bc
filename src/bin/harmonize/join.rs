//! `harmonize join`: pieces of a film behind one another, their pictures as they are, with the film's own sound.
//!
//! Every piece says where in the film it belongs, so times are those that one process would have written, whatever a
//! container makes of a piece's length. Pieces are read one after the other; however many there are, one is open.

use crate::clip;
use crate::film;
use crate::output::{OutputFile, refuse_overwriting};
use crate::packets::{self, Packet};
use crate::range::{Place, Range, seconds};
use crate::video::gate;
use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Join pieces of a film that `harmonize video` rendered with --start and --stop
///
/// Pictures are copied, not encoded again, so this takes as long as copying the files. Every frame gets the time it would have
/// in a film rendered in one piece.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  harmonize join a.mkv b.mkv c.mkv -o harmonized.mkv
  harmonize join piece-*.mp4 -o harmonized.mp4 --sound composite.mp4
You should see nothing, and a film with all frames of the pieces. The film's name ends as the pieces' do: each container
rounds times in its own way. Times are those of one process to the last tick, but for H.264 in .mkv at rates like 29.97, where
Matroska may round a frame by a millisecond. Pieces come in the order of the film and have to meet: a piece that is missing, doubled or from
another film's settings is an error. Sound of the pieces themselves is left out, because it would click where they meet.")]
pub struct Args {
    /// The pieces, in the order of the film
    #[arg(required = true, value_name = "PIECE")]
    pieces: Vec<PathBuf>,

    /// Film to write, in the pieces' container
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Take the sound of this film, as a rule the composite or foreground the pieces were made of
    #[arg(long, value_name = "FILM")]
    sound: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    gst::init()?;
    let inputs = args.pieces.iter().chain(&args.sound);
    refuse_overwriting([args.output.as_path()], inputs.map(PathBuf::as_path))?;
    join(&args.pieces, &args.output, args.sound.as_deref())
}

/// Where the joined film's times begin on the way to the muxer: decoding times lie before it.
const BASE: gst::ClockTime = gst::ClockTime::from_seconds(3600);

pub fn join(pieces: &[PathBuf], output: &Path, sound: Option<&Path>) -> Result<()> {
    let muxer = film::muxer(output)?;
    for piece in pieces {
        let is_matroska = film::muxer(piece)? == "matroskamux";
        ensure!(
            is_matroska == (muxer == "matroskamux"),
            "{} and {} are different kinds of file: name the film as the pieces are named",
            piece.display(),
            output.display()
        );
    }
    let places = pieces.iter().map(|piece| Place::read(piece)).collect::<Result<Vec<_>>>()?;
    let film = meet(pieces, &places)?;
    let pipeline = film::launch(&format!("{muxer} name=mux ! filesink name=file queue name=pictures ! mux.video_0"))?;
    let part = OutputFile::of(output)?;
    film::child(&pipeline, "file")?.set_property("location", part.location()?);
    if !film.is_whole() {
        let zero = gst::ClockTime::from_nseconds(places[0].zero);
        let (numer, denom) = places[0].rate;
        Place::new(film, zero, gst::Fraction::new(numer, denom)).write(&film::child(&pipeline, "mux")?)?;
    }
    let joined = write(&pipeline, pieces, &places, sound, film);
    pipeline.set_state(gst::State::Null)?;
    joined?;
    part.keep()
}

/// The range that the pieces make up together.
fn meet(pieces: &[PathBuf], places: &[Place]) -> Result<Range> {
    let told = |time: Option<u64>| time.map_or("the film's end".to_owned(), |t| format!("{} s", clock(t)));
    for (piece, place) in pieces.windows(2).zip(places.windows(2)) {
        ensure!(
            place[0].stop == Some(place[1].start),
            "{} ends at {} and {} begins at {} s: give pieces that meet, in order",
            piece[0].display(),
            told(place[0].stop),
            piece[1].display(),
            clock(place[1].start)
        );
    }
    let (first, last) = places.first().zip(places.last()).context("there are no pieces to join")?;
    let start = Some(first.start).filter(|start| *start > 0);
    Ok(Range { start: start.map(gst::ClockTime::from_nseconds), stop: last.stop.map(gst::ClockTime::from_nseconds) })
}

fn clock(nanoseconds: u64) -> String {
    seconds(gst::ClockTime::from_nseconds(nanoseconds))
}

/// Runs the muxer's pipeline, with the pieces fed into it.
fn write(
    pipeline: &gst::Pipeline,
    pieces: &[PathBuf],
    places: &[Place],
    sound: Option<&Path>,
    film: Range,
) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline without bus")?;
    let go_on = || {
        let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) else { return Ok(()) };
        // Who waits for room in it goes on.
        let _ = pipeline.set_state(gst::State::Null);
        match message.view() {
            gst::MessageView::Error(error) => bail!("{}", film::sentence(error.error(), error.debug())),
            _ => Ok(()),
        }
    };
    let linked = sound.map(|sound| add_sound(pipeline, sound, film, places[0].zero)).transpose()?;
    // When this fails, its ERROR message says why.
    let _ = pipeline.set_state(gst::State::Playing);
    if let Some(linked) = linked {
        // The muxer has to know of the sound before the first picture.
        while linked.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
            go_on()?;
        }
    }
    let target = film::child(pipeline, "pictures")?.static_pad("sink").context("a queue without sink")?;
    let first = Arc::default();
    for (piece, place) in pieces.iter().zip(places) {
        let take = copy(&target, place, places[0].zero, &first, film::muxer(piece)? == "matroskamux");
        let copied = packets::each(piece, take, go_on);
        // Where the muxer fails, its own words are the better ones.
        go_on().and(copied)?;
    }
    target.send_event(gst::event::Eos::new());
    film::wait(&bus, || Ok(false), |warning| eprintln!("harmonize: {warning}")).map(drop)
}

/// What is done with each picture of a piece at `place`: it goes into `target` at its time after `zero`. `first` holds the caps
/// of the first piece once they are known.
fn copy(
    target: &gst::Pad,
    place: &Place,
    zero: u64,
    first: &Arc<Mutex<Option<gst::Caps>>>,
    is_matroska: bool,
) -> impl FnMut(Packet) -> Result<()> + Send + 'static {
    let (target, first, rate) = (target.clone(), first.clone(), place.rate);
    // One that claims to lie before the first is put where that is.
    let shift = (BASE + gst::ClockTime::from_nseconds(place.zero.saturating_sub(zero))).nseconds() as i64;
    let mut is_begun = false;
    move |packet| {
        if !std::mem::replace(&mut is_begun, true) {
            let caps = packet.pad.current_caps().context("its pictures are of no kind")?;
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            match &*first {
                Some(first) => ensure!(
                    is_alike(first, &caps),
                    "its pictures are encoded otherwise than those of the first piece: render all pieces with the same options"
                ),
                None => begin(&target, packet.pad, &caps, rate)?,
            }
            first.get_or_insert(caps);
        }
        // Matroska's demuxer begins with the first picture, which is as long after zero as zero was rounded.
        let segment = if is_matroska { Some(gst::FormattedSegment::new()) } else { packet.segment() };
        let segment = segment.context("its times mean nothing")?;
        let at = |time| {
            let time = match segment.to_running_time_full(time?)? {
                gst::Signed::Positive(time) => time.nseconds() as i64,
                gst::Signed::Negative(time) => -(time.nseconds() as i64),
            };
            u64::try_from(time + shift).ok().map(gst::ClockTime::from_nseconds)
        };
        let mut buffer = packet.buffer;
        let (pts, dts) = (at(buffer.pts()), at(buffer.dts()));
        let writable = buffer.make_mut();
        writable.set_pts(pts);
        writable.set_dts(dts);
        target.chain(buffer).map(drop).context("the film can't be written")
    }
}

/// Whether one decoder setup serves both.
fn is_alike(a: &gst::Caps, b: &gst::Caps) -> bool {
    let (Some(a), Some(b)) = (a.structure(0), b.structure(0)) else { return false };
    let same =
        |field| a.value(field).ok().map(|v| v.serialize().ok()) == b.value(field).ok().map(|v| v.serialize().ok());
    a.name() == b.name() && ["width", "height", "codec_data", "colorimetry"].into_iter().all(same)
}

/// Sends `target` what goes before the first picture, taken from the first piece's `pad`.
fn begin(target: &gst::Pad, pad: &gst::Pad, caps: &gst::Caps, (numer, denom): (i32, i32)) -> Result<()> {
    // What muxers ask for over what demuxers tell: with Matroska's FFV1 that is a field more.
    let mut caps = target.query_caps(Some(caps));
    ensure!(!caps.is_empty(), "its pictures don't fit the film's kind of file");
    caps.fixate();
    if numer > 0 {
        // The muxer counts time in fractions of a frame.
        caps.make_mut().set("framerate", gst::Fraction::new(numer, denom));
    }
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(BASE);
    segment.set_position(BASE);
    target.send_event(gst::event::StreamStart::new("pictures"));
    target.send_event(gst::event::Caps::new(&caps));
    target.send_event(gst::event::Segment::new(&segment));
    for i in 0.. {
        let Some(tags) = pad.sticky_event::<gst::event::Tag>(i) else { break };
        let mut tags = tags.tag_owned();
        tags.make_mut().remove::<gst::tags::Comment>();
        target.send_event(gst::event::Tag::new(tags));
    }
    Ok(())
}

/// The first sound of `path` into the muxer, kept to the film's range, which begins at `zero`. Something comes when all its
/// streams are known.
fn add_sound(pipeline: &gst::Pipeline, path: &Path, film: Range, zero: u64) -> Result<Receiver<()>> {
    let (uri, info) = clip::discover(path)?;
    ensure!(!info.audio_streams().is_empty(), "{}: no sound in it", path.display());
    let decoder = film::decoder(&uri, true)?;
    decoder.set_property("expose-all-streams", false);
    decoder.set_property("caps", format!("audio/x-raw(ANY);{}", film::AAC).parse::<gst::Caps>()?);
    let (weak, path) = (pipeline.downgrade(), path.to_owned());
    let zero = gst::ClockTime::from_nseconds(zero);
    decoder.connect_pad_added(move |decoder, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let is_raw = caps.structure(0).is_some_and(|s| s.name() == "audio/x-raw");
        if !film.is_whole() {
            gate::gate(pad, film, true, move |_| Some(zero));
        }
        if let Err(error) = film::link_sound(&pipeline, pad, is_raw) {
            gst::element_error!(
                decoder,
                gst::StreamError::Format,
                ("{}: its sound doesn't fit: {error:#}", path.display())
            );
        }
    });
    let (tell, told) = channel();
    decoder.connect_no_more_pads(move |_| {
        let _ = tell.send(());
    });
    pipeline.add(&decoder)?;
    Ok(told)
}
