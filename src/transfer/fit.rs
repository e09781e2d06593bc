//! Least-squares fit of the local affine maps that take a proxy's foreground to its harmonized colours.

use super::Transfer;
use crate::frame::Proxy;

/// `harmonized` is 3 x height x width like `proxy.rgb`. One map per proxy pixel neighbourhood, drawn towards the global map.
pub fn fit(_proxy: &Proxy, _harmonized: &[f32]) -> Transfer {
    todo!()
}
