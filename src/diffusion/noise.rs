//! Counter-based noise, seeded in time: every value is a function of its key, its place, and of the frame's stream time or its
//! own mask where the mode says so. So any frame can be drawn on its own, on any worker, and all devices see the same bits. In
//! every mode the values of a frame are standard normal and independent of each other.

use anyhow::{Result, bail};
use std::f64::consts::FRAC_PI_2;
use tch::{Device, Tensor};

/// Philox4x32-10 (Salmon et al., SC'11, "Parallel random numbers: as easy as 1, 2, 3").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

    pub fn new(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// Four uniform 32-bit words for one counter.
    pub fn words(&self, counter: [u32; 4]) -> [u32; 4] {
        let [mut c0, mut c1, mut c2, mut c3] = counter;
        let [mut k0, mut k1] = self.key;
        for _ in 0..10 {
            let p0 = u64::from(Self::MULTIPLIERS[0]) * u64::from(c0);
            let p1 = u64::from(Self::MULTIPLIERS[1]) * u64::from(c2);
            (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
            k0 = k0.wrapping_add(Self::WEYL[0]);
            k1 = k1.wrapping_add(Self::WEYL[1]);
        }
        [c0, c1, c2, c3]
    }

    /// One standard normal value (Box-Muller in f64).
    pub fn normal(&self, counter: [u32; 4]) -> f64 {
        const TWO_POW_32: f64 = 4_294_967_296.0;
        let [r0, r1, ..] = self.words(counter);
        let radius = (-2.0 * ((f64::from(r0) + 1.0) / TWO_POW_32).ln()).sqrt();
        radius * (std::f64::consts::TAU * f64::from(r1) / TWO_POW_32).cos()
    }
}

/// How the noise of a stream goes on from frame to frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoiseMode {
    /// The same for every frame.
    #[default]
    Fixed,
    /// Turns slowly into other noise: at stream time `time`, k = floor(time / period) and a = (pi / 2) (time / period - k), it
    /// is cos(a) N(k) + sin(a) N(k + 1). Both in nanoseconds; a `period` of 0 counts as 1.
    Drift { time: i64, period: u64 },
    /// Goes along with the foreground: glued to the centroid of the frame's own mask.
    Object,
}

/// Values of `Object` are sums over this many sub-cells along each axis, the steps in which the noise moves.
const SUB_CELLS: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Motion {
    Fixed,
    Drift { key: u32, angle: f64 },
    Object { centroid: [f64; 2] },
}

/// White, unit-variance noise over a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    philox: Philox,
    motion: Motion,
}

impl Noise {
    /// The same noise for every frame (`fixed`: time key and scene key are 0).
    pub fn fixed(seed: u64) -> Self {
        Self { philox: Philox::new(seed), motion: Motion::Fixed }
    }

    /// The noise of a frame whose `mask` (values 0..1, rows of `width`) is what the model is to see.
    pub fn new(seed: u64, mode: NoiseMode, mask: &[f32], width: usize) -> Self {
        let motion = match mode {
            NoiseMode::Fixed => Motion::Fixed,
            NoiseMode::Drift { time, period } => {
                let period = i64::try_from(period).unwrap_or(i64::MAX).max(1);
                let angle = FRAC_PI_2 * (time.rem_euclid(period) as f64 / period as f64);
                Motion::Drift { key: time.div_euclid(period) as u32, angle }
            }
            NoiseMode::Object => Motion::Object { centroid: centroid(mask, width) },
        };
        Self { philox: Philox::new(seed), motion }
    }

    /// Independent noise for draw `index` of one sampling; the first is this noise itself. Its key is a word of this one's
    /// under a scene that no frame has.
    pub fn draw(&self, index: u32) -> Self {
        if index == 0 {
            return *self;
        }
        let [low, high, ..] = self.philox.words([index, 0, 0, u32::MAX]);
        Self { philox: Philox { key: [low, high] }, ..*self }
    }

    /// Draw after draw, from the first: f32 normals on `device` of the B x C x h x w that is asked for, the same for each member
    /// of the batch.
    pub fn draws(self, device: Device) -> impl FnMut(&[i64]) -> Result<Tensor> {
        let mut next = 0;
        move |shape| {
            let [b, c, h, w] = *shape else { bail!("a draw of noise has four sides, not {shape:?}") };
            let field = self.draw(next).field(c as usize, h as usize, w as usize);
            next += 1;
            let field = Tensor::f_from_slice(&field)?.f_view([1, c, h, w])?;
            Ok(field.f_to_device(device)?.f_expand([b, c, h, w], false)?)
        }
    }

    /// `channels` x `height` x `width` values, planar. But for `object`, whose centroid is a share of the sides, a value depends
    /// on its place alone, not on the field's size.
    pub fn field(&self, channels: usize, height: usize, width: usize) -> Vec<f32> {
        let (philox, rows, cols) = (&self.philox, height as u32, width as u32);
        let mut values = Vec::with_capacity(channels * height * width);
        let mut fill = |value: &dyn Fn(u32, u32, u32) -> f64| {
            for c in 0..channels as u32 {
                for y in 0..rows {
                    values.extend((0..cols).map(|x| value(x, y, c) as f32));
                }
            }
        };
        match self.motion {
            Motion::Fixed => fill(&|x, y, c| philox.normal([x, y, c, 0])),
            Motion::Drift { key, angle } => {
                let (sin, cos) = angle.sin_cos();
                // The time key has the 24 bits beside the channel: it comes round after 16 million periods.
                let at = |x, y, c, j: u32| philox.normal([x, y, c | j << 8, 0]);
                fill(&|x, y, c| cos * at(x, y, c, key) + sin * at(x, y, c, key.wrapping_add(1)));
            }
            Motion::Object { centroid: [u, v] } => {
                let steps =
                    |share: f64, side: usize| (share * side as f64 * f64::from(SUB_CELLS)).round() as i64 as u32;
                let (left, above) = (steps(u, width), steps(v, height));
                let at = |place: u32, step: u32, origin: u32| (SUB_CELLS * place + step).wrapping_sub(origin);
                fill(&|x, y, c| {
                    let cells = (0..SUB_CELLS).flat_map(|b| (0..SUB_CELLS).map(move |a| (a, b)));
                    let sum: f64 = cells.map(|(a, b)| philox.normal([at(x, a, left), at(y, b, above), c, 0])).sum();
                    sum / f64::from(SUB_CELLS)
                });
            }
        }
        values
    }
}

/// The mean place of the mask, as shares of its sides; the centre where it is empty.
fn centroid(mask: &[f32], width: usize) -> [f64; 2] {
    let height = mask.len().checked_div(width).unwrap_or(0).max(1);
    let mut sums = [0.0; 3];
    for (row, line) in mask.chunks(width.max(1)).enumerate() {
        for (col, &m) in line.iter().enumerate() {
            let m = f64::from(m);
            let shares = [1.0, (col as f64 + 0.5) / width as f64, (row as f64 + 0.5) / height as f64];
            sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += m * share);
        }
    }
    let [weight, x, y] = sums;
    if weight > 0.0 { [x / weight, y / weight] } else { [0.5; 2] }
}

#[cfg(test)]
mod tests;
