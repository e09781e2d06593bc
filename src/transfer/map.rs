//! One affine map of colours, in the shapes that it is stored, computed and composed in.

use crate::frame::colour::Affine;
use std::ops::{Deref, DerefMut};

/// A row-major 3x4 matrix acting on (r, g, b, 1), sRGB in 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColourMap(pub [f32; 12]);

impl ColourMap {
    pub const IDENTITY: Self = Self([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);

    /// What it makes of a colour, which may lie beyond 0..1.
    pub fn of(&self, [r, g, b]: [f32; 3]) -> [f32; 3] {
        [0, 4, 8].map(|i| self[i] * r + self[i + 1] * g + self[i + 2] * b + self[i + 3])
    }

    /// As far from it to `other` as `part` says.
    pub fn mix(&self, other: &Self, part: f32) -> Self {
        Self(std::array::from_fn(|i| self[i] + part * (other[i] - self[i])))
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.iter().all(|a| a.is_finite())
    }

    pub(crate) fn rows(&self) -> Affine {
        [0, 4, 8].map(|i| [0, 1, 2, 3].map(|j| f64::from(self[i + j])))
    }

    pub(crate) fn of_rows(rows: &Affine) -> Self {
        Self(std::array::from_fn(|i| rows[i / 4][i % 4] as f32))
    }
}

impl Default for ColourMap {
    fn default() -> Self {
        Self::IDENTITY
    }
}

impl Deref for ColourMap {
    type Target = [f32; 12];

    fn deref(&self) -> &[f32; 12] {
        &self.0
    }
}

impl DerefMut for ColourMap {
    fn deref_mut(&mut self) -> &mut [f32; 12] {
        &mut self.0
    }
}
