//! A picture made tile by tile, so that only one tile's features are in memory: overlapping tiles, each faded linearly into the
//! next, so that every pixel's weights sum to 1.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Sides of a tile and of what two neighbours share, in latents; no side of a tile is longer.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    pub tile: i64,
    pub overlap: i64,
}

/// Where a tile lies along one side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub start: i64,
    pub len: i64,
}

impl Tiling {
    /// As few spans as cover `n`, of one length, evenly spread, no three of them over one place.
    fn spans(self, n: i64) -> Vec<Span> {
        if n <= self.tile {
            return vec![Span { start: 0, len: n }];
        }
        let count = (n - self.overlap + self.tile - self.overlap - 1) / (self.tile - self.overlap);
        let len = (n + (count - 1) * self.overlap + count - 1) / count;
        (0..count).map(|i| Span { start: i * (n - len) / (count - 1), len }).collect()
    }

    /// The picture of h x w latents, `scale` times as large, where `tile` makes the picture of the latents in [rows, columns].
    pub fn paint(self, [h, w]: [i64; 2], scale: i64, tile: impl Fn([Span; 2]) -> Result<Tensor>) -> Result<Tensor> {
        let (rows, columns) = (self.spans(h), self.spans(w));
        let mut picture: Option<Tensor> = None;
        for (i, row) in rows.iter().enumerate() {
            for (j, column) in columns.iter().enumerate() {
                let mut part = tile([*row, *column])?;
                let (b, c, _, _) = part.size4()?;
                let options = (part.kind(), part.device());
                let vertical = fade(&rows, i, scale, options)?.f_view([-1, 1])?;
                part = part.f_mul_(&vertical)?.f_mul_(&fade(&columns, j, scale, options)?)?;
                let picture = match &picture {
                    Some(picture) => picture,
                    None => picture.insert(Tensor::f_zeros([b, c, scale * h, scale * w], options)?),
                };
                let place = picture.f_narrow(2, scale * row.start, scale * row.len)?;
                let mut place = place.f_narrow(3, scale * column.start, scale * column.len)?;
                let _sum = place.f_add_(&part)?;
            }
        }
        picture.ok_or_else(|| anyhow::anyhow!("{h} x {w} latents have no tile"))
    }
}

/// The weight of every pixel along span `i`: rising through what it shares with the span before, falling through what it shares
/// with the span after.
fn fade(spans: &[Span], i: usize, scale: i64, options: (Kind, Device)) -> Result<Tensor> {
    let len = spans[i].len;
    let shared = |before: Span, after: Span| (before.start + before.len - after.start) * scale;
    let before = if i > 0 { shared(spans[i - 1], spans[i]) } else { 0 };
    let after = spans.get(i + 1).map_or(0, |next| shared(spans[i], *next));
    let rise =
        |position: i64, shared: i64| if position < shared { (position as f64 + 0.5) / shared as f64 } else { 1.0 };
    let weights: Vec<_> =
        (0..len * scale).map(|p| rise(p, before).min(rise(len * scale - 1 - p, after)) as f32).collect();
    Ok(Tensor::f_from_slice(&weights)?.f_to_kind(options.0)?.f_to_device(options.1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_one_picture_make_that_picture() {
        let tiling = Tiling { tile: 20, overlap: 6 };
        for size in [[20, 20], [21, 64], [50, 35], [128, 19]] {
            let latents = Tensor::randn([2, 3, size[0], size[1]], (Kind::Double, Device::Cpu));
            let grown = |x: &Tensor| x.upsample_nearest2d([4 * x.size()[2], 4 * x.size()[3]], None, None);
            let tile = |[rows, columns]: [Span; 2]| {
                assert!(rows.len <= 20 && columns.len <= 20, "{rows:?} {columns:?}");
                Ok(grown(&latents.narrow(2, rows.start, rows.len).narrow(3, columns.start, columns.len)))
            };
            let error = (tiling.paint(size, 4, tile).unwrap() - grown(&latents)).abs().max().double_value(&[]);
            assert!(error < 1e-6, "{size:?}: {error}");
        }
    }

    #[test]
    fn neighbours_fade_without_a_step() {
        let spans = Tiling { tile: 20, overlap: 6 }.spans(50);
        for i in 0..spans.len() {
            let weights: Vec<f64> = fade(&spans, i, 8, (Kind::Double, Device::Cpu)).unwrap().try_into().unwrap();
            let step = weights.windows(2).map(|pair| (pair[0] - pair[1]).abs()).fold(0.0, f64::max);
            assert!(step <= 1.0 / (6.0 * 8.0) + 1e-6, "{step} in tile {i}");
        }
    }
}
