//! The transfer: how the foreground's colours are to change, as a grid of affine colour maps over the frame or a region
//! of it; how it is fitted, and applied to a picture in place. A sample whose mask is zero is never changed.

pub mod apply;
pub mod fit;
pub mod look;
mod map;
mod maps;
pub mod smooth;
#[cfg(test)]
mod tests;

use crate::frame::Region;
pub use apply::{Plan, apply};
pub use fit::{Fit, NormalEquations, fit};
pub use look::Look;
pub use map::ColourMap;

/// `maps[row * cols + col]` is valid at the centre of its cell; between centres maps are interpolated bilinearly, beyond the
/// outer centres they are held.
#[derive(Debug, PartialEq)]
pub struct Transfer {
    pub cols: usize,
    pub rows: usize,
    /// What the grid lies over, in pixels of the frame; `None` is the whole frame, of any size.
    pub region: Option<Region>,
    pub maps: Vec<ColourMap>,
    /// What the maps were fitted to, for fits over several frames; may be empty.
    pub equations: NormalEquations,
}

impl Clone for Transfer {
    fn clone(&self) -> Self {
        let mut clone = Self::identity();
        clone.clone_from(self);
        clone
    }

    /// In the memory of the maps that it has.
    fn clone_from(&mut self, other: &Self) {
        let Self { cols, rows, region, maps, equations } = self;
        (*cols, *rows, *region) = (other.cols, other.rows, other.region);
        maps.clone_from(&other.maps);
        equations.clone_from(&other.equations);
    }
}

impl Default for Transfer {
    fn default() -> Self {
        Self::identity()
    }
}

impl Transfer {
    pub fn identity() -> Self {
        let mut identity =
            Self { cols: 1, rows: 1, region: None, maps: Vec::new(), equations: NormalEquations::default() };
        identity.clear();
        identity
    }

    /// Makes it the identity.
    pub fn clear(&mut self) {
        (self.cols, self.rows, self.region) = (1, 1, None);
        self.equations.clear();
        self.maps.clear();
        self.maps.push(ColourMap::IDENTITY);
    }

    /// The map at a place of what the grid lies over, (0, 0) its upper left corner and (1, 1) its lower right.
    pub fn at(&self, u: f64, v: f64) -> ColourMap {
        let between = |place: f64, cells: usize| {
            let place = (place * cells as f64 - 0.5).clamp(0.0, (cells - 1) as f64);
            (place as usize, (place as usize + 1).min(cells - 1), place.fract() as f32)
        };
        let ((left, right, x), (above, below, y)) = (between(u, self.cols), between(v, self.rows));
        let [above, below] = [above, below].map(|row| {
            let maps = &self.maps[row * self.cols..][..self.cols];
            maps[left].mix(&maps[right], x)
        });
        above.mix(&below, y)
    }

    /// Whether there is a map for each cell.
    pub(crate) fn is_complete(&self) -> bool {
        self.region.is_none_or(|region| region.width > 0 && region.height > 0)
            && self.cols > 0
            && self.rows > 0
            && self.cols.checked_mul(self.rows) == Some(self.maps.len())
    }
}
