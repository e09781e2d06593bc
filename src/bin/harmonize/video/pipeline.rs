//! The pipeline around the element `harmonize`: a launch line of fixed shape, whose `uridecodebin`s are linked when their
//! streams turn up; sound goes from the decoder to the muxer beside it.
//!
//! Everything here can be sought in, and is then as if it had been played up to there: a matte or background that is over
//! shows its last frame, and frames lie on the film's own grid.

use super::shard::Shard;
use crate::clip::Clip;
use crate::film::{self, child, launch, link_sound};
use crate::packets;
use crate::playing::Playing;
use anyhow::{Context, Result, ensure};
use gst::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What becomes of the harmonized frames.
pub struct Output {
    pub muxer: &'static str,
    /// Elements in a launch line, up to one that the muxer takes from.
    pub encoder: &'static str,
    pub sound: bool,
    pub shard: Option<Arc<Shard>>,
}

/// Grey of the whole range whatever the film's own; the same conversion for the compositor's alpha and for `harmonize`.
const MATTE: &str = "video/x-raw,format=GRAY8,colorimetry=1:0:0:0";
/// The picture's, from its foreground to the encoder.
const LABEL: &str = "video/x-raw,colorimetry=bt709";

/// What takes a mask's film in: its alpha where that says anything, else its luma (editors add an opaque alpha to any film).
fn matte(mask: &Clip, convert: &str) -> Result<String> {
    Ok(if has_matte(mask)? { format!("alphamask name=mask ! {convert}") } else { format!("{convert} name=mask") })
}

/// Whether the first frame of `clip` has an alpha that is not opaque everywhere.
fn has_matte(clip: &Clip) -> Result<bool> {
    let line =
        "uridecodebin name=file ! videoconvert ! video/x-raw,format=RGBA ! appsink name=sink sync=false max-buffers=1";
    let pipeline = launch(line)?;
    child(&pipeline, "file")?.set_property("uri", &clip.uri);
    let sample = Playing::start(pipeline)?.pull().with_context(|| clip.path.display().to_string())?;
    let Some(buffer) = sample.as_ref().and_then(|sample| sample.buffer()) else { return Ok(false) };
    Ok(buffer.map_readable()?.chunks_exact(4).any(|pixel| pixel[3] != 255))
}

/// composite and mask -> harmonize
pub fn composited(composite: &Clip, mask: &Clip, output: &Output) -> Result<gst::Pipeline> {
    let Output { muxer, encoder, .. } = output;
    let pipeline = launch(&format!(
        "videoconvert name=composite ! queue ! h.sink \
         {matte} {freeze} ! {MATTE} ! queue ! h.mask \
         harmonize name=h ! queue ! {encoder} ! {muxer} name=mux ! filesink name=file",
        matte = matte(mask, "videoconvert")?,
        freeze = if mask.still { "! imagefreeze" } else { "" },
    ))?;
    read(&pipeline, composite, "composite", Role::Picture(output))?;
    read(&pipeline, mask, "mask", Role::Beside(output))?;
    Ok(pipeline)
}

/// (foreground + matte) over background, and the matte -> harmonize. Everything runs on the foreground's frame rate, on which
/// `compositor` stamps its frames, so that composite and matte of a frame carry the same time, and the background's frame is
/// the one nearest to it: left to itself, `compositor` takes one that depends on those before.
pub fn layered(foreground: &Clip, mask: &Clip, background: &Clip, output: &Output) -> Result<gst::Pipeline> {
    let Output { muxer, encoder, .. } = output;
    let (width, height, rate) = (foreground.width, foreground.height, foreground.rate);
    ensure!(rate.numer() > 0, "{}: its frame rate is not known", foreground.path.display());
    let [x, y, w, h] = cover(background.aspect, foreground);
    let grid = grid(rate);
    let rate = format!("video/x-raw,framerate={}/{}", rate.numer(), rate.denom());
    let pipeline = launch(&format!(
        "videoconvert name=foreground ! {LABEL},format=I420 ! videorate ! {rate} ! queue ! merge.sink \
         {matte} {freeze} ! {MATTE},width={width},height={height} ! videorate ! {rate} ! tee name=matte \
         matte. ! queue ! merge.mask \
         matte. ! queue max-size-buffers=8 max-size-bytes=0 max-size-time=0 ! h.mask \
         alphamerge name=merge ! queue ! layers.sink_1 \
         videoconvert name=background {freeze_background} ! videorate ! {rate} ! queue ! layers.sink_0 \
         compositor name=layers background=black sink_0::repeat-after-eos=true sink_0::xpos={x} sink_0::ypos={y} \
           sink_0::width={w} sink_0::height={h} sink_0::zorder=0 sink_1::zorder=1 ! \
         {rate},width={width},height={height} ! videoconvert ! {LABEL},format=I420 ! queue ! h.sink \
         harmonize name=h ! queue ! {encoder} ! {muxer} name=mux ! filesink name=file",
        matte = matte(mask, "videoconvertscale")?,
        freeze = if mask.still { "! imagefreeze" } else { "" },
        freeze_background = if background.still { "! imagefreeze" } else { "" },
    ))?;
    read(&pipeline, foreground, "foreground", Role::Picture(output))?;
    read(&pipeline, mask, "mask", Role::Beside(output))?;
    read(&pipeline, background, "background", Role::Beside(output))?;
    hold_matte(&child(&pipeline, "matte")?, mask)?;
    end_with_foreground(&child(&pipeline, "layers")?)?;
    // A seek starts the grids of `videorate` and `compositor` anew, and cuts short or off the frames that straddle its ends,
    // so those lie as far outside as the longest of them lasts.
    let straddle = [foreground, mask, background].into_iter().filter(|clip| !clip.still).map(Clip::frame).max();
    let straddle = straddle.unwrap_or_default();
    for pad in ["sink", "mask"] {
        let pad = child(&pipeline, "h")?.static_pad(pad).context("harmonize without its pads")?;
        move_seeks(&pad, straddle, move |start| {
            let start = start.saturating_sub(straddle);
            start - start % grid
        });
    }
    once_a_seek(&child(&pipeline, "matte")?.static_pad("sink").context("tee without sink")?);
    flush_together(&child(&pipeline, "merge")?)?;
    Ok(pipeline)
}

/// Where a picture of `aspect` lies so that it fills the frame, centred: x, y, width, height.
fn cover(aspect: f64, frame: &Clip) -> [i32; 4] {
    let (width, height) = (f64::from(frame.width), f64::from(frame.height));
    let (w, h) = if aspect > frame.aspect {
        (width * aspect / frame.aspect, height)
    } else {
        (width, height * frame.aspect / aspect)
    };
    [(width - w) / 2.0, (height - h) / 2.0, w, h].map(|v| v.round() as i32)
}

/// Holds the last matte for as long as there are frames, so that neither `alphamerge` nor `harmonize` misses one. `matte` is
/// the tee that takes them in.
fn hold_matte(matte: &gst::Element, mask: &Clip) -> Result<()> {
    let sink = matte.static_pad("sink").context("tee without sink")?;
    let source = sink.peer().context("nothing feeds the matte")?;
    let last = Arc::new(Mutex::new(None));
    let held = last.clone();
    source.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let (Ok(mut last), Some(buffer)) = (last.lock(), info.buffer()) {
            *last = Some(buffer.copy());
        }
        gst::PadProbeReturn::Ok
    });
    let frame = mask.frame();
    on_eos(&source, move || {
        let Some(mut buffer) = held.lock().ok().and_then(|mut held| held.take()) else { return };
        // Ends when the pipeline is taken down, which is what refuses the buffer.
        loop {
            let time = buffer.pts().map(|time| time + buffer.duration().unwrap_or(frame));
            buffer.make_mut().set_pts(time);
            if sink.chain(buffer.clone()).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Counts the buffers that pass `pad`.
pub fn count(pad: &gst::Pad) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    count
}

/// True from the moment EOS reaches `pad`, when `then` is called.
pub fn on_eos(pad: &gst::Pad, then: impl Fn() + Send + Sync + 'static) -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let ends = ended.clone();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if matches!(&info.data, Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Eos) {
            ends.store(true, Ordering::SeqCst);
            then();
        }
        gst::PadProbeReturn::Ok
    });
    ended
}

/// Ends the composite with its foreground (`sink_1`), however long the background is.
fn end_with_foreground(compositor: &gst::Element) -> Result<()> {
    let foreground = compositor.static_pad("sink_1").context("compositor without sink_1")?;
    let (frames, ended) = (count(&foreground), on_eos(&foreground, || ()));
    let out = Arc::new(AtomicU64::new(0));
    let again = (frames.clone(), out.clone(), ended.clone());
    foreground.add_probe(gst::PadProbeType::EVENT_FLUSH, move |_, _| {
        again.0.store(0, Ordering::SeqCst);
        again.1.store(0, Ordering::SeqCst);
        again.2.store(false, Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    compositor.static_pad("src").context("compositor without src")?.add_probe(
        gst::PadProbeType::BUFFER,
        move |_, info| {
            // Frames go out on the foreground's own grid, one for each of its frames.
            if ended.load(Ordering::SeqCst) && out.load(Ordering::SeqCst) >= frames.load(Ordering::SeqCst) {
                info.flow_res = Err(gst::FlowError::Eos);
                return gst::PadProbeReturn::Handled;
            }
            out.fetch_add(1, Ordering::SeqCst);
            gst::PadProbeReturn::Ok
        },
    );
    Ok(())
}

/// Shortest time, in nanoseconds, that is a whole number of frames without being rounded.
fn grid(rate: gst::Fraction) -> u64 {
    let (frames, seconds) = (rate.numer() as u128, rate.denom() as u128);
    let frame = 1_000_000_000 * seconds;
    let (mut a, mut b) = (frames, frame);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    u64::try_from(frame / a).unwrap_or(u64::MAX)
}

/// Moves the start of every seek that goes upstream through `pad`, and puts its end off by `late`.
fn move_seeks(
    pad: &gst::Pad,
    late: gst::ClockTime,
    moved: impl Fn(gst::ClockTime) -> gst::ClockTime + Send + Sync + 'static,
) {
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let Some(gst::PadProbeData::Event(event)) = &info.data else { return gst::PadProbeReturn::Ok };
        let gst::EventView::Seek(seek) = event.view() else { return gst::PadProbeReturn::Ok };
        let (rate, flags, start_type, start, stop_type, stop) = seek.get();
        use gst::GenericFormattedValue::Time;
        if let (Time(Some(start)), Time(stop)) = (start, stop) {
            let stop = stop.map(|stop| stop + late);
            let seek = gst::event::Seek::builder(rate, flags, start_type, moved(start), stop_type, stop);
            info.data = Some(gst::PadProbeData::Event(seek.seqnum(event.seqnum()).build()));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Lets a seek that comes to `pad` by several ways go upstream once.
fn once_a_seek(pad: &gst::Pad) {
    let last = Mutex::new(None);
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let Some(gst::PadProbeData::Event(event)) = &info.data else { return gst::PadProbeReturn::Ok };
        if event.type_() != gst::EventType::Seek {
            return gst::PadProbeReturn::Ok;
        }
        let number = Some(event.seqnum());
        match last.lock() {
            Ok(mut last) if *last != number => {
                *last = number;
                gst::PadProbeReturn::Ok
            }
            _ => gst::PadProbeReturn::Handled,
        }
    });
}

/// Holds back what follows the flush of one of `alphamerge`'s inputs until the other's is over, or a frame from before would use
/// up mattes from behind it: the seek comes to the matte through `harmonize` as well, without passing `alphamerge`.
fn flush_together(merge: &gst::Element) -> Result<()> {
    // The pad that is held back.
    let held = Arc::new(Mutex::new(None::<(gst::Pad, gst::PadProbeId)>));
    for name in ["sink", "mask"] {
        let pad = merge.static_pad(name).context("alphamerge without inputs")?;
        let source = pad.peer().context("nothing feeds alphamerge")?;
        let held = held.clone();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH, move |_, info| {
            let Some(gst::PadProbeData::Event(event)) = &info.data else { return gst::PadProbeReturn::Ok };
            let Ok(mut held) = held.lock() else { return gst::PadProbeReturn::Ok };
            match (event.type_(), held.take()) {
                (gst::EventType::FlushStop, None) => {
                    let block = gst::PadProbeType::BLOCK_DOWNSTREAM;
                    let block = source.add_probe(block, |_, _| gst::PadProbeReturn::Ok);
                    *held = block.map(|block| (source.clone(), block));
                }
                // What comes behind the flush: that has been dealt with.
                (gst::EventType::Segment, Some((other, block))) if other != source => other.remove_probe(block),
                (_, still) => *held = still,
            }
            gst::PadProbeReturn::Ok
        });
    }
    Ok(())
}

/// What a file is to the pipeline.
enum Role<'a> {
    /// The frames that come out are its own, and so is their sound.
    Picture(&'a Output),
    /// Its last frame stays where it is over.
    Beside(&'a Output),
}

/// Decodes `clip` into the element called `name`, and the picture's sound into the muxer.
fn read(pipeline: &gst::Pipeline, clip: &Clip, name: &str, role: Role) -> Result<()> {
    let (sound, shard, last) = match role {
        Role::Picture(output) => (output.sound, output.shard.clone(), None),
        Role::Beside(output) => {
            (false, None, output.shard.as_deref().map(|shard| last(clip, shard)).transpose()?.flatten())
        }
    };
    let decoder = film::decoder(&clip.uri, sound)?;
    let video = child(pipeline, name)?.static_pad("sink").context("a converter without sink")?;
    let weak = pipeline.downgrade();
    let path = clip.path.clone();
    // All streams turn up before the first frame passes, so the muxer knows of the sound in time.
    decoder.connect_pad_added(move |decoder, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let linked = match caps.structure(0).map(|s| s.name().as_str()) {
            Some("video/x-raw") if !video.is_linked() => {
                if let Some(last) = last {
                    move_seeks(pad, gst::ClockTime::ZERO, move |start| start.min(last));
                }
                pad.link(&video).map(drop).context("its video doesn't fit")
            }
            Some(kind) if sound && kind.starts_with("audio/") => {
                if let Some(shard) = &shard {
                    shard.gate_sound(pad);
                }
                link_sound(&pipeline, pad, kind == "audio/x-raw").context("its sound doesn't fit")
            }
            // Subtitles, a second picture, a matte's sound
            _ => Ok(()),
        };
        if let Err(err) = linked {
            gst::element_error!(decoder, gst::StreamError::Format, ("{}: {err:#}", path.display()));
        }
    });
    pipeline.add(&decoder)?;
    Ok(())
}

/// When the last frame of `clip` starts, where the shard may begin after it: it is read from the file, which takes a while.
fn last(clip: &Clip, shard: &Shard) -> Result<Option<gst::ClockTime>> {
    let may_be_over = clip.has_sound || shard.range.begin() + clip.frame() >= clip.duration;
    if clip.still || !may_be_over {
        return Ok(None);
    }
    Ok(packets::times(&clip.path)?.last().copied())
}
