//! How a raw picture's samples lie in memory, described rather than named, so that one set of loops works in all of them.
//!
//! Every sample has a word of its own: one byte, or two in either order.

use std::fmt::{self, Display};

/// What the first three components are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Components {
    /// R', G', B'.
    Rgb,
    /// Y', Cb, Cr.
    Yuv,
    /// Y' alone.
    Gray,
}

/// Where a component's samples lie in the rows of a plane, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ComponentLayout {
    pub plane: u8,
    /// The first one's.
    pub first: u8,
    /// From one to the next: 1 to 4.
    pub step: u8,
}

/// A memory layout. Components are R, G, B or Y, Cb, Cr, then alpha; those that it lacks have no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    pub components: Components,
    /// Bits of a sample, 8 to 16.
    pub depth: u8,
    /// Bytes of a word, 1 or 2.
    pub bytes: u8,
    pub big_endian: bool,
    /// Bits of a word below its sample.
    pub shift: u8,
    /// Pixels of the frame that share a chroma sample, as powers of two, across and down: 0 to 2.
    pub sub: [u8; 2],
    pub places: [Option<ComponentLayout>; 4],
}

/// Places in one plane of `step` words a pixel.
const fn packed(step: u8, [a, b, c]: [u8; 3], alpha: Option<u8>) -> [Option<ComponentLayout>; 4] {
    const fn place(step: u8, first: u8) -> Option<ComponentLayout> {
        Some(ComponentLayout { plane: 0, first, step })
    }
    let alpha = match alpha {
        Some(alpha) => place(step, alpha),
        None => None,
    };
    [place(step, a), place(step, b), place(step, c), alpha]
}

const fn plane(plane: u8) -> Option<ComponentLayout> {
    Some(ComponentLayout { plane, first: 0, step: 1 })
}

impl Format {
    pub const RGB: Self = Self::eight(Components::Rgb, [0, 0], packed(3, [0, 1, 2], None));
    pub const RGBA: Self = Self::eight(Components::Rgb, [0, 0], packed(4, [0, 1, 2], Some(3)));
    pub const I420: Self = Self::eight(Components::Yuv, [1, 1], [plane(0), plane(1), plane(2), None]);
    pub const GRAY8: Self = Self::eight(Components::Gray, [0, 0], [plane(0), None, None, None]);

    const fn eight(components: Components, sub: [u8; 2], places: [Option<ComponentLayout>; 4]) -> Self {
        Self { components, depth: 8, bytes: 1, big_endian: false, shift: 0, sub, places }
    }

    /// Whether the colour samples are Y'CbCr, or luma alone.
    pub fn is_yuv(&self) -> bool {
        self.components != Components::Rgb
    }

    pub fn is_gray(&self) -> bool {
        self.components == Components::Gray
    }

    pub fn has_alpha(&self) -> bool {
        self.places[3].is_some()
    }

    /// Whether chroma has fewer samples than luma.
    pub(crate) fn is_subsampled(&self) -> bool {
        self.sub != [0, 0]
    }

    /// Pixels of the frame to a sample of component `c`, as powers of two, across and down.
    pub(crate) fn rate(&self, c: usize) -> [u8; 2] {
        if c == 1 || c == 2 { self.sub } else { [0, 0] }
    }

    /// Samples of component `c` of a `width` x `height` picture, across and down. Those at an odd edge count: chroma of
    /// 4:2:0 has ceil(width / 2) x ceil(height / 2).
    pub fn size(&self, c: usize, width: usize, height: usize) -> [usize; 2] {
        let [across, down] = self.rate(c);
        [width.div_ceil(1 << across), height.div_ceil(1 << down)]
    }

    /// Bytes of a row without padding, and rows, of each plane of a `width` x `height` picture; 0 x 0 where it has none.
    pub fn plane_sizes(&self, width: usize, height: usize) -> [(usize, usize); 4] {
        let mut sizes = [(0, 0); 4];
        for (c, place) in self.places.iter().enumerate() {
            let Some(ComponentLayout { plane, step, .. }) = *place else { continue };
            let [across, down] = self.size(c, width, height);
            let row = across.saturating_mul(usize::from(step) * usize::from(self.bytes));
            let size = &mut sizes[usize::from(plane & 3)];
            *size = (size.0.max(row), size.1.max(down));
        }
        sizes
    }

    /// Highest code of a sample.
    pub(crate) fn highest(&self) -> u32 {
        (1 << self.depth) - 1
    }
}

impl Display for Format {
    /// Such as: 10-bit Y'CbCr 4:2:0 with alpha.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}-bit ", self.depth)?;
        f.write_str(match (self.components, self.sub) {
            (Components::Rgb, _) => "RGB",
            (Components::Gray, _) => "grey",
            (Components::Yuv, [0, _]) => "Y'CbCr 4:4:4",
            (Components::Yuv, [1, 0]) => "Y'CbCr 4:2:2",
            (Components::Yuv, [1, _]) => "Y'CbCr 4:2:0",
            (Components::Yuv, [_, 0]) => "Y'CbCr 4:1:1",
            (Components::Yuv, _) => "Y'CbCr 4:1:0",
        })?;
        if self.has_alpha() { f.write_str(" with alpha") } else { Ok(()) }
    }
}
