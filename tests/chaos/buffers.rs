//! What sources push: numbered buffers of every shape, whose memory is counted while it is alive.

use super::picture;
use super::source::Quirk;
use gst_video::{VideoFormat, VideoInfo};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Buffers whose memory is alive.
pub static ALIVE: AtomicUsize = AtomicUsize::new(0);

struct Memory(Vec<u8>);

impl Memory {
    fn new(data: Vec<u8>) -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self(data)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Composite,
    Mask,
}

/// What caps can say.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub format: VideoFormat,
    pub width: u32,
    pub height: u32,
    /// 0 is a rate that caps do not tell.
    pub rate: i32,
}

impl Shape {
    pub fn info(&self) -> VideoInfo {
        let info = VideoInfo::builder(self.format, self.width, self.height).fps(gst::Fraction::new(self.rate, 1));
        info.build().unwrap()
    }
}

/// The next buffer of a source, with `quirk`.
pub fn make(
    role: Role,
    info: &VideoInfo,
    number: u64,
    pts: gst::ClockTime,
    duration: gst::ClockTime,
    quirk: Option<Quirk>,
) -> gst::Buffer {
    let mut data = match role {
        Role::Composite => picture::composite(info, number),
        Role::Mask => picture::mask(info, number),
    };
    match quirk {
        Some(Quirk::Short) => data.truncate(info.size() / 2),
        Some(Quirk::Empty) => data.clear(),
        _ => (),
    }
    let mut buffer = if data.is_empty() { gst::Buffer::new() } else { gst::Buffer::from_mut_slice(Memory::new(data)) };
    let edit = buffer.get_mut().unwrap();
    if !matches!(quirk, Some(Quirk::NoPts | Quirk::NoTime)) {
        edit.set_pts(pts);
    }
    if !matches!(quirk, Some(Quirk::NoDuration | Quirk::NoTime)) {
        edit.set_duration(duration);
    }
    edit.set_offset(number);
    edit.set_offset_end(number * 3);
    edit.set_flags(gst::BufferFlags::MARKER);
    let reference = gst::Caps::new_empty_simple("timestamp/x-chaos");
    gst::ReferenceTimestampMeta::add(edit, &reference, gst::ClockTime::from_nseconds(number), None);
    buffer
}
