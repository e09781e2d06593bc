//! A transfer applied to a picture in place, in its own format.

use super::{Mask, PictureMut};
use crate::transfer::Transfer;

/// O = C + strength * M * (T(C) - C) on the samples whose mask is not zero; no other byte is written.
pub fn apply(_picture: &mut PictureMut, _mask: &Mask, _transfer: &Transfer, _strength: f32) {
    todo!()
}
