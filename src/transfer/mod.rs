//! The transfer: how the foreground's colours are to change, as a grid of affine colour maps over the frame or a region
//! of it.

pub mod fit;
#[cfg(test)]
mod tests;

use crate::frame::Region;
pub use fit::{Fit, fit};

/// `maps[row * cols + col]` is a row-major 3x4 matrix acting on (r, g, b, 1), sRGB in 0..1, valid at the centre of its
/// cell; between centres maps are interpolated bilinearly, beyond the outer centres they are held.
#[derive(Debug, PartialEq)]
pub struct Transfer {
    pub cols: usize,
    pub rows: usize,
    /// What the grid lies over, in pixels of the frame; `None` is the whole frame, of any size.
    pub region: Option<Region>,
    pub maps: Vec<[f32; 12]>,
}

impl Clone for Transfer {
    fn clone(&self) -> Self {
        Self { maps: self.maps.clone(), ..*self }
    }

    /// In the memory of the maps that it has.
    fn clone_from(&mut self, other: &Self) {
        let Self { cols, rows, region, maps } = self;
        (*cols, *rows, *region) = (other.cols, other.rows, other.region);
        maps.clone_from(&other.maps);
    }
}

impl Default for Transfer {
    fn default() -> Self {
        Self::identity()
    }
}

impl Transfer {
    pub fn identity() -> Self {
        let mut identity = Self { cols: 1, rows: 1, region: None, maps: Vec::new() };
        identity.clear();
        identity
    }

    /// Makes it the identity.
    pub fn clear(&mut self) {
        (self.cols, self.rows, self.region) = (1, 1, None);
        self.maps.clear();
        self.maps.push([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    /// Whether there is a map for each cell.
    pub(crate) fn is_complete(&self) -> bool {
        self.region.is_none_or(|region| region.width > 0 && region.height > 0)
            && self.cols > 0
            && self.rows > 0
            && self.cols.checked_mul(self.rows) == Some(self.maps.len())
    }
}
