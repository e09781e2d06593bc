//! Where the planes of a picture lie in a buffer's memory.

use crate::frame::PlaneMut;
use anyhow::{Result, anyhow, bail, ensure};

/// Where a plane lies in its buffer, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub offset: usize,
    /// As GStreamer has it: in tiles for formats of tiles.
    pub stride: usize,
    pub len: usize,
}

pub type Extents = [Extent; 4];

/// Where planes of such sizes, bytes of a row and rows, lie.
pub fn lay_out(offsets: &[usize], strides: &[i32], sizes: [(usize, usize); 4]) -> Result<Extents> {
    let mut extents = Extents::default();
    for (plane, (row, rows)) in sizes.into_iter().enumerate() {
        if rows == 0 {
            continue;
        }
        let stride = strides.get(plane).and_then(|&s| usize::try_from(s).ok()).filter(|&s| s >= row);
        let (Some(stride), Some(&offset)) = (stride, offsets.get(plane)) else {
            bail!("plane {plane} has strides that can't hold rows of {row} bytes");
        };
        extents[plane] = Extent { offset, stride, len: (rows - 1) * stride + row };
    }
    Ok(extents)
}

/// The planes at `extents` of a buffer's memory.
pub fn planes<'a>(memory: &'a mut [u8], extents: &Extents) -> Result<[PlaneMut<'a>; 4]> {
    let size = memory.len();
    let mut order = [0, 1, 2, 3];
    order.sort_by_key(|&plane| extents[plane].offset);
    let mut planes: [PlaneMut; 4] = Default::default();
    let (mut rest, mut start) = (memory, 0);
    for plane in order {
        let Extent { offset, stride, len } = extents[plane];
        if len == 0 {
            continue;
        }
        ensure!(offset >= start, "its planes overlap");
        let (_, tail) = rest.split_at_mut_checked(offset - start).ok_or_else(|| short(size))?;
        let (data, tail) = tail.split_at_mut_checked(len).ok_or_else(|| short(size))?;
        planes[plane] = PlaneMut { data, stride };
        (rest, start) = (tail, offset + len);
    }
    Ok(planes)
}

/// Why memory of `size` bytes is refused.
pub fn short(size: usize) -> anyhow::Error {
    anyhow!("its {size} bytes can't hold the picture that its caps announce")
}
