//! Films being written: containers, sound, and the wait for the end.

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use std::path::Path;

/// Sound that every container here takes as it is.
pub const AAC: &str = "audio/mpeg,mpegversion=4,framed=true";

pub fn muxer(output: &Path) -> Result<&'static str> {
    Ok(match output.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => "mp4mux",
        "mov" => "qtmux",
        "mkv" => "matroskamux",
        _ => bail!("{}: can't write this kind of file, name it .mp4, .mov or .mkv", output.display()),
    })
}

pub fn launch(line: &str) -> Result<gst::Pipeline> {
    let pipeline = gst::parse::launch(line)
        .context("GStreamer lacks an element (on Debian: apt install gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav)")?;
    pipeline.downcast().map_err(|_| anyhow::anyhow!("not a pipeline"))
}

pub fn child(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element> {
    pipeline.by_name(name).with_context(|| format!("no element {name} in the pipeline"))
}

/// A `uridecodebin` for `uri`; with `sound`, it leaves AAC as it is.
pub fn decoder(uri: &str, sound: bool) -> Result<gst::Element> {
    let decoder = gst::ElementFactory::make("uridecodebin").property("uri", uri).build()?;
    if sound {
        let mut caps = decoder.property::<gst::Caps>("caps");
        caps.merge(AAC.parse::<gst::Caps>()?);
        decoder.set_property("caps", caps);
    }
    Ok(decoder)
}

/// From a decoder's `pad` into the element `mux`, through an encoder where it is raw.
pub fn link_sound(pipeline: &gst::Pipeline, pad: &gst::Pad, encode: bool) -> Result<()> {
    // The encoder behind `harmonize` holds back seconds of frames, so the sound must be free to wait as long.
    let queue = "queue max-size-buffers=0 max-size-bytes=0 max-size-time=0";
    let encoder = if encode { "! audioconvert ! audioresample ! avenc_aac bitrate=192000" } else { "" };
    let branch = gst::parse::bin_from_description(&format!("{queue} {encoder} ! aacparse"), true)?;
    pipeline.add(&branch)?;
    branch.link_pads(Some("src"), &child(pipeline, "mux")?, Some("audio_%u"))?;
    branch.sync_state_with_parent()?;
    pad.link(&branch.static_pad("sink").context("no sink")?)?;
    Ok(())
}

/// Waits until `done` or the end of the stream; true at the end. Warnings go to `warn`; an error's message is the error.
pub fn wait(bus: &gst::Bus, mut done: impl FnMut() -> Result<bool>, warn: impl Fn(String)) -> Result<bool> {
    loop {
        let message = bus.timed_pop(100 * gst::ClockTime::MSECOND);
        if done()? {
            return Ok(false);
        }
        let Some(message) = message else { continue };
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(true),
            gst::MessageView::Error(error) => bail!("{}", sentence(error.error(), error.debug())),
            gst::MessageView::Warning(warning) => warn(sentence(warning.error(), warning.debug())),
            _ => (),
        }
    }
}

/// The message, and where GStreamer hides the cause in the debug text, its last line.
pub fn sentence(error: glib::Error, debug: Option<glib::GString>) -> String {
    let message = error.message().trim_end_matches('.').to_owned();
    match debug.as_deref().and_then(|debug| debug.lines().nth(1)) {
        Some(cause) if !message.contains(cause) => format!("{message}: {}", cause.trim_end_matches([':', '.'])),
        _ => message,
    }
}
