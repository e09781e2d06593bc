//! Which part of a frame a harmonizer sees: all of it, or a crop around a small foreground.
//!
//! The choice is a function of this frame's mask alone, so a frame has the same one after a seek or in another shard.

use super::Mask;
use std::fmt::{self, Display};

/// A rectangle of whole pixels of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// Crops are the frame's size over 2 to the power of 1, 2 or 3.
const MIN_SIDE: u32 = 3;
/// Places for a crop, in each of its lengths.
const PLACES: usize = 8;

impl Region {
    /// All of a `width` x `height` frame.
    pub fn whole(width: usize, height: usize) -> Self {
        Self { x: 0, y: 0, width, height }
    }

    /// The crop for the foreground of `mask`, all its parts together; `None` where it takes the whole frame. It has the
    /// frame's shape and 1/2, 1/4 or 1/8 of its sides: the smallest whose sides the foreground's bounds fill by half at
    /// most, and whose long side has at least `least` pixels. Its place is the one nearest to the bounds' centre on a
    /// lattice of 1/8 of its sides, or the frame's edge. So at least an eighth of its side lies between the foreground
    /// and a border that isn't the frame's.
    ///
    /// Bounds that stay within a step of the lattice keep their crop. Where they cross from one to the next it jumps by
    /// a step, and where they outgrow half of it, by a factor of 2: a foreground that dwells on such a limit can go back
    /// and forth between two crops, which nothing but a memory of earlier frames could prevent. The transfer is in
    /// place under either.
    pub fn around(mask: &Mask, least: usize) -> Option<Self> {
        let bounds = mask.bounds()?;
        (1..=MIN_SIDE).rev().find_map(|power| {
            let (width, height) = (mask.width.div_ceil(1 << power), mask.height.div_ceil(1 << power));
            let roomy = 2 * bounds.width <= width && 2 * bounds.height <= height;
            (roomy && width.max(height) >= least).then(|| Self {
                x: place(bounds.x, bounds.width, width, mask.width),
                y: place(bounds.y, bounds.height, height, mask.height),
                width,
                height,
            })
        })
    }

    pub(crate) fn is_within(&self, width: usize, height: usize) -> bool {
        let fits = |from: usize, length, all| length > 0 && from.checked_add(length).is_some_and(|end| end <= all);
        fits(self.x, self.width, width) && fits(self.y, self.height, height)
    }
}

/// Where a crop of `side` pixels begins, along an axis of `all`, for a foreground of `length` from `first` on. Even but
/// at the frame's far edge, so that 4:2:0 chroma is seldom cut.
fn place(first: usize, length: usize, side: usize, all: usize) -> usize {
    let step = (side / PLACES).next_multiple_of(2).max(2);
    let centred = (2 * first + length).saturating_sub(side);
    ((centred + step) / (2 * step) * step).min(all - side)
}

impl Display for Region {
    /// As X11 writes it: 960x540+480+270.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}+{}+{}", self.width, self.height, self.x, self.y)
    }
}

/// What a proxy is to show, and in how many pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// `None` is the whole frame, whatever its size.
    pub region: Option<Region>,
    pub cols: usize,
    pub rows: usize,
}

impl View {
    pub fn whole(cols: usize, rows: usize) -> Self {
        Self { region: None, cols, rows }
    }
}

impl Display for View {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.region {
            Some(region) => write!(f, "region {region} ")?,
            None => f.write_str("the whole frame ")?,
        }
        write!(f, "in a proxy of {}x{}", self.cols, self.rows)
    }
}
