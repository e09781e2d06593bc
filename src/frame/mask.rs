//! The mask at the composite's size: one byte a pixel, 0 background, 255 foreground.

use super::Picture;

/// Which samples of the mask stream hold the mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskChannel {
    /// Alpha where the format has one, else luma.
    #[default]
    Auto,
    Luma,
    Alpha,
    Red,
    Green,
    Blue,
}

/// Which code values mean background and foreground.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskRange {
    /// Decided by what the masks hold.
    #[default]
    Auto,
    Full,
    Limited,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskSettings {
    pub channel: MaskChannel,
    pub range: MaskRange,
    pub invert: bool,
}

/// Soft mask, `width * height` bytes without padding, 0 background to 255 foreground.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

impl Mask {
    /// Reads the mask out of `picture` and scales it to `width` x `height`.
    pub fn from_picture(_picture: &Picture, _settings: MaskSettings, _width: usize, _height: usize) -> Self {
        todo!()
    }

    /// Whether no sample belongs to the foreground.
    pub fn is_empty(&self) -> bool {
        self.data.iter().all(|&m| m == 0)
    }
}
