//! Counter-based noise: every value is a function of its key and its place, so any frame can be drawn on its own,
//! on any worker, and all devices see the same bits.

use anyhow::{Result, bail};
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

/// White, unit-variance noise over a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    philox: Philox,
}

impl Noise {
    /// The same noise for every frame (`fixed`: time key and scene key are 0).
    pub fn fixed(seed: u64) -> Self {
        Self { philox: Philox::new(seed) }
    }

    /// Independent noise for draw `index` of one sampling; the first is this noise itself. Its key is a word of this one's
    /// under a scene that no frame has.
    pub fn draw(&self, index: u32) -> Self {
        if index == 0 {
            return *self;
        }
        let [low, high, ..] = self.philox.words([index, 0, 0, u32::MAX]);
        Self { philox: Philox { key: [low, high] } }
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

    /// `channels` x `height` x `width` values, planar; a value depends on its place alone, not on the field's size.
    pub fn field(&self, channels: usize, height: usize, width: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(channels * height * width);
        for c in 0..channels as u32 {
            for y in 0..height as u32 {
                values.extend((0..width as u32).map(|x| self.philox.normal([x, y, c, 0]) as f32));
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_known_answers() {
        // The Random123 distribution's test vectors.
        assert_eq!(Philox::new(0).words([0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(Philox::new(u64::MAX).words([u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = Philox::new(0x299f_31d0_a409_3822);
        assert_eq!(
            pi.words([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn field_is_standard_normal_and_white() {
        let (h, w) = (256, 256);
        let field = Noise::fixed(7).field(1, h, w);
        let n = field.len() as f64;
        let mean = field.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = field.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        let lag = |d: usize| field.iter().zip(&field[d..]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / n;
        // Four standard errors of 65,536 independent values: a chance of 6e-5 each under the hypothesis.
        assert!(mean.abs() < 4.0 / n.sqrt(), "mean {mean}");
        assert!((var - 1.0).abs() < 4.0 * (2.0 / n).sqrt(), "variance {var}");
        assert!(lag(1).abs() < 4.0 / n.sqrt(), "horizontal correlation {}", lag(1));
        assert!(lag(w).abs() < 4.0 / n.sqrt(), "vertical correlation {}", lag(w));
    }

    #[test]
    fn value_depends_on_its_place_and_seed_alone() {
        let small = Noise::fixed(3).field(2, 8, 8);
        let large = Noise::fixed(3).field(2, 16, 32);
        assert_eq!(small[0], large[0]);
        assert_eq!(small[8 * 8 + 8 * 5 + 7], large[16 * 32 + 32 * 5 + 7]);
        assert_ne!(small, Noise::fixed(4).field(2, 8, 8));
    }
}
