//! The proxy: the small picture that a harmonizer sees.

use super::{Mask, Picture};

/// Box-filtered composite and mask. `rgb` is 3 x height x width (planar), sRGB in 0..1; `mask` is height x width in 0..1.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<f32>,
    pub mask: Vec<f32>,
}

/// Averages `picture` and `mask` (of the same size) over the cells of a `width` x `height` grid.
pub fn proxy(_picture: &Picture, _mask: &Mask, _width: usize, _height: usize) -> Proxy {
    todo!()
}
