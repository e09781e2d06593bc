//! Where a raw format keeps its alpha, and rows of it in 8 or 16 bits.
//!
//! Values are full range in all formats. Between depths they are scaled so that 0 stays 0 and the highest becomes the
//! highest, rounded to the nearest.

use anyhow::{Context, Result, ensure};
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFormatInfo, VideoFrameRef};
use once_cell::sync::Lazy;

/// A mapped frame that is read from.
pub type Frame<'a> = VideoFrameRef<&'a gst::BufferRef>;

/// The byte of a palette's entry that holds its alpha.
const ALPHA_OF_ENTRY: usize = if cfg!(target_endian = "little") { 3 } else { 0 };

/// Every raw format with alpha.
pub static FORMATS: Lazy<Vec<VideoFormat>> =
    Lazy::new(|| VideoFormat::iter_raw().filter(|&format| Alpha::of(format).is_some()).collect());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AlphaLayout {
    /// A byte.
    Byte,
    /// A word whose bits from `shift` on hold the value.
    Word { big_endian: bool, shift: u32 },
    /// The top two bits of a little-endian word of 32.
    TopBits,
    /// Alpha of the entry that a byte points at in the palette of plane 1, words of ARGB as the machine has them.
    Palette,
}

/// The alpha samples of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alpha {
    pub plane: u32,
    /// Bits of a sample.
    pub depth: u32,
    /// Bytes from the start of a row to its first sample, and from each sample to the next.
    offset: usize,
    step: usize,
    sample: AlphaLayout,
}

impl Alpha {
    /// `None` for a format without alpha.
    pub fn of(format: VideoFormat) -> Option<Self> {
        let info = VideoFormatInfo::from_format(format);
        if info.has_palette() {
            return info.has_alpha().then_some(Self {
                plane: 0,
                depth: 8,
                offset: 0,
                step: 1,
                sample: AlphaLayout::Palette,
            });
        }
        // GStreamer doesn't flag all formats that have a fourth component.
        let (&depth, &plane) = (info.depth().get(3)?, info.plane().get(3)?);
        let (mut offset, step) = (info.poffset()[3] as usize, info.pixel_stride()[3] as usize);
        let sample = match depth {
            2 if step == 4 => AlphaLayout::TopBits,
            8 => AlphaLayout::Byte,
            9..=16 => {
                // Y412, and Y416 of GStreamer 1.24: their infos tell no offsets, the samples are U, Y, V and A.
                if info.n_planes() == 1 && step == 8 && info.poffset().iter().all(|&offset| offset == 0) {
                    offset = 6;
                }
                AlphaLayout::Word { big_endian: !info.is_le(), shift: info.shift()[3] }
            }
            _ => return None,
        };
        Some(Self { plane, depth, offset, step, sample })
    }

    /// Whether the alpha plane is a picture of `gray` as it lies in memory.
    pub fn is_plane_of(&self, gray: VideoFormat) -> bool {
        match self.sample {
            AlphaLayout::Byte => self.step == 1 && gray == VideoFormat::Gray8,
            AlphaLayout::Word { big_endian, .. } => {
                self.depth == 16 && self.step == 2 && !big_endian && gray == VideoFormat::Gray16Le
            }
            AlphaLayout::TopBits | AlphaLayout::Palette => false,
        }
    }

    /// The alpha of row `y` of `frame` in 8 bits.
    pub fn read_8(&self, frame: &Frame, y: usize, line: &mut [u8]) -> Result<()> {
        self.read(frame, y, line, |bits| match bits {
            8 => |v| v as u8,
            10 => |v| scale::<1023, 255>(v) as u8,
            12 => |v| scale::<4095, 255>(v) as u8,
            16 => |v| scale::<65535, 255>(v) as u8,
            _ => |v| scale::<3, 255>(v) as u8,
        })
    }

    /// The alpha of row `y` of `frame` in 16 bits, `line` being a row of GRAY16_LE.
    pub fn read_16_le(&self, frame: &Frame, y: usize, line: &mut [u8]) -> Result<()> {
        self.read(frame, y, line.as_chunks_mut::<2>().0, |bits| match bits {
            8 => |v| scale::<255, 65535>(v).to_le_bytes(),
            10 => |v| scale::<1023, 65535>(v).to_le_bytes(),
            12 => |v| scale::<4095, 65535>(v).to_le_bytes(),
            16 => |v| (v as u16).to_le_bytes(),
            _ => |v| scale::<3, 65535>(v).to_le_bytes(),
        })
    }

    fn read<T>(&self, frame: &Frame, y: usize, line: &mut [T], scaled: impl Fn(u32) -> fn(u32) -> T) -> Result<()> {
        let stride = usize::try_from(frame.plane_stride()[self.plane as usize]).context("its rows run backwards")?;
        let data = frame.plane_data(self.plane).context("its alpha plane can't be read")?;
        let start = y * stride + self.offset;
        let row = data.get(start..).unwrap_or_default();
        let bytes = match self.sample {
            AlphaLayout::Byte | AlphaLayout::Palette => 1,
            AlphaLayout::Word { .. } => 2,
            AlphaLayout::TopBits => 4,
        };
        let needed = line.len().saturating_sub(1) * self.step + bytes;
        ensure!(row.len() >= needed, "its memory is shorter than its caps announce");
        let scaled = scaled(self.depth);
        match self.sample {
            AlphaLayout::Byte if self.step == 1 => fill(line, row.as_chunks::<1>().0, |[v]| scaled(u32::from(*v))),
            AlphaLayout::Byte => fill(line, row.chunks(self.step), |pixel| scaled(u32::from(pixel[0]))),
            AlphaLayout::Word { big_endian, shift } => {
                let max = (1 << self.depth) - 1;
                fill(line, row.chunks(self.step), |pixel| {
                    let word = [pixel[0], pixel.get(1).copied().unwrap_or_default()];
                    let word = if big_endian { u16::from_be_bytes(word) } else { u16::from_le_bytes(word) };
                    scaled((u32::from(word) >> shift) & max)
                });
            }
            AlphaLayout::TopBits => fill(line, row.as_chunks::<4>().0, |pixel| scaled(u32::from(pixel[3] >> 6))),
            AlphaLayout::Palette => {
                let palette = frame.plane_data(1).context("it has no palette")?;
                fill(line, row, |&entry| {
                    scaled(u32::from(palette.get(4 * usize::from(entry) + ALPHA_OF_ENTRY).copied().unwrap_or(u8::MAX)))
                });
            }
        }
        Ok(())
    }
}

fn fill<T, P>(line: &mut [T], pixels: impl IntoIterator<Item = P>, value: impl Fn(P) -> T) {
    for (v, pixel) in line.iter_mut().zip(pixels) {
        *v = value(pixel);
    }
}

fn scale<const FROM: u32, const TO: u32>(value: u32) -> u16 {
    ((value * TO + FROM / 2) / FROM) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_keeps_the_ends_and_rounds_to_the_nearest() {
        assert_eq!([0, 1, 511, 512, 1023].map(scale::<1023, 65535>), [0, 64, 32735, 32800, 65535]);
        assert_eq!([0, 1, 512, 1022, 1023].map(scale::<1023, 255>), [0, 0, 128, 255, 255]);
        assert_eq!([0, 1, 2, 3].map(scale::<3, 255>), [0, 85, 170, 255]);
        assert_eq!([0, 128, 129, 65535].map(scale::<65535, 255>), [0, 0, 1, 255]);
        assert_eq!([0, 1, 255].map(scale::<255, 65535>), [0, 257, 65535]);
        for v in 0..=1023u32 {
            let exact = f64::from(v) * 65535.0 / 1023.0;
            assert_eq!(f64::from(scale::<1023, 65535>(v)), exact.round(), "{v}");
        }
    }

    #[test]
    fn every_format_that_gstreamer_says_has_alpha_is_known() {
        gst::init().unwrap();
        let flagged: Vec<_> =
            VideoFormat::iter_raw().filter(|&f| VideoFormatInfo::from_format(f).has_alpha()).collect();
        assert!(flagged.len() >= 31, "{}", flagged.len());
        for format in flagged {
            assert!(FORMATS.contains(&format), "{format}");
        }
    }
}
