//! Values on their way from a file to a parameter: widened to f32, which is exact, checked, laid out and rounded to the kind
//! that is wanted, a block at a time while it is in the cache.

use super::header::Dtype;
use anyhow::{Result, ensure};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use tch::Kind;

/// A kind that parameters are kept in.
pub trait Value: Copy {
    const KIND: Kind;

    /// From finite values; false if one of them is beyond the kind's largest.
    fn round(values: &[f32], to: &mut [Self]) -> bool;
}

impl Value for f32 {
    const KIND: Kind = Kind::Float;

    fn round(values: &[f32], to: &mut [Self]) -> bool {
        to.copy_from_slice(values);
        true
    }
}

impl Value for f16 {
    const KIND: Kind = Kind::Half;

    fn round(values: &[f32], to: &mut [Self]) -> bool {
        to.convert_from_f32_slice(values);
        to.iter().fold(true, |all, v| all & v.is_finite())
    }
}

impl Value for bf16 {
    const KIND: Kind = Kind::BFloat16;

    /// To nearest, ties to even; half's own loop has a branch for each value that isn't a number.
    fn round(values: &[f32], to: &mut [Self]) -> bool {
        let mut finite = true;
        for (value, to) in values.iter().zip(to) {
            let bits = value.to_bits();
            *to = bf16::from_bits((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16);
            finite &= to.is_finite();
        }
        finite
    }
}

/// How a tensor's values lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    AsStored,
    /// Each C x taps matrix of a convolution's weight as taps x C: channels innermost.
    ChannelsLast {
        channels: usize,
        taps: usize,
    },
}

/// Copies blocks of one tensor.
pub struct Copier {
    layout: Layout,
    dtype: Dtype,
    values: Vec<f32>,
    turned: Vec<f32>,
}

impl Copier {
    /// For a tensor of `numel` values that the file has as `dtype`.
    pub fn new(dtype: Dtype, layout: Layout, numel: usize) -> Self {
        const BLOCK: usize = 1 << 14;
        let block = match layout {
            Layout::AsStored => numel.min(BLOCK),
            Layout::ChannelsLast { channels, taps } => channels * taps,
        };
        let turned = if layout == Layout::AsStored { 0 } else { block };
        Self { layout, dtype, values: vec![0.0; block], turned: vec![0.0; turned] }
    }

    /// Values in what is copied at once.
    pub fn block(&self) -> usize {
        self.values.len()
    }

    /// `to` has as many values as `bytes` hold, a whole number of blocks but at a tensor's end.
    pub fn copy<T: Value>(&mut self, bytes: &[u8], to: &mut [T]) -> Result<()> {
        let (block, size) = (self.block(), self.dtype.size());
        for (bytes, to) in bytes.chunks(block * size).zip(to.chunks_mut(block)) {
            let values = &mut self.values[..to.len()];
            widen(self.dtype, bytes, values);
            ensure!(values.iter().fold(true, |all, v| all & v.is_finite()), "holds values that are not finite");
            let values = match self.layout {
                Layout::AsStored => values,
                Layout::ChannelsLast { channels, taps } => {
                    turn(values, &mut self.turned, channels, taps);
                    &mut self.turned
                }
            };
            ensure!(
                T::round(values, to),
                "holds values beyond the largest that {:?} has: load it in another precision",
                T::KIND
            );
        }
        Ok(())
    }
}

/// Little-endian `bytes`, which need not be aligned.
fn widen(dtype: Dtype, bytes: &[u8], values: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            let (bytes, _) = bytes.as_chunks();
            values.iter_mut().zip(bytes).for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
        }
        Dtype::Bf16 => {
            let (bytes, _) = bytes.as_chunks();
            let widened = |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16);
            values.iter_mut().zip(bytes).for_each(|(value, bytes)| *value = widened(*bytes));
        }
        Dtype::F16 => {
            let mut halves = [f16::ZERO; 256];
            let (bytes, _) = bytes.as_chunks();
            for (values, bytes) in values.chunks_mut(halves.len()).zip(bytes.chunks(halves.len())) {
                let halves = &mut halves[..bytes.len()];
                halves.iter_mut().zip(bytes).for_each(|(half, bytes)| *half = f16::from_le_bytes(*bytes));
                halves.convert_to_f32_slice(values);
            }
        }
    }
}

/// The transpose of channels x taps.
fn turn(values: &[f32], turned: &mut [f32], channels: usize, taps: usize) {
    for (channel, values) in values.chunks_exact(taps).enumerate() {
        for (tap, value) in values.iter().enumerate() {
            turned[tap * channels + channel] = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
        let bytes = |&v: &f32| match dtype {
            Dtype::F32 => v.to_le_bytes().to_vec(),
            Dtype::F16 => f16::from_f32(v).to_le_bytes().to_vec(),
            Dtype::Bf16 => bf16::from_f32(v).to_le_bytes().to_vec(),
        };
        values.iter().flat_map(bytes).collect()
    }

    fn copied<T: Value + Default>(values: &[f32], dtype: Dtype, layout: Layout) -> Result<Vec<T>> {
        let mut to = vec![T::default(); values.len()];
        // One byte further than aligned.
        let mut shifted = vec![0; 1];
        shifted.extend(bytes(values, dtype));
        Copier::new(dtype, layout, values.len()).copy(&shifted[1..], &mut to)?;
        Ok(to)
    }

    #[test]
    fn every_kind_becomes_every_other() {
        // Exact in all three kinds; several blocks and a rest.
        let values: Vec<f32> = (0..40_000).map(|i| (i % 256) as f32 / 8.0 - 16.0).collect();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            assert_eq!(copied::<f32>(&values, dtype, Layout::AsStored).unwrap(), values);
            let halves: Vec<f16> = copied(&values, dtype, Layout::AsStored).unwrap();
            assert!(halves.iter().zip(&values).all(|(a, b)| a.to_f32() == *b));
            let brains: Vec<bf16> = copied(&values, dtype, Layout::AsStored).unwrap();
            assert!(brains.iter().zip(&values).all(|(a, b)| a.to_f32() == *b));
        }
    }

    #[test]
    fn rounds_to_nearest_and_ties_to_even() {
        let mut values: Vec<f32> =
            (0..1 << 16).map(|i: u32| f32::from_bits(i.wrapping_mul(0x9e37_79b9))).filter(|v| v.is_finite()).collect();
        values.extend([1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 1e-45, -0.0].map(|v: f32| v));
        values.retain(|&v| bf16::from_f32(v).is_finite());
        let found: Vec<bf16> = copied(&values, Dtype::F32, Layout::AsStored).unwrap();
        assert!(found.iter().zip(&values).all(|(a, b)| a.to_bits() == bf16::from_f32(*b).to_bits()));
    }

    #[test]
    fn values_that_are_no_numbers_are_refused_wherever_they_stand() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (dtype, at) in [(Dtype::F32, 0), (Dtype::F16, 19_999), (Dtype::Bf16, 16_384)] {
                let mut values = vec![1.0; 20_000];
                values[at] = bad;
                let error = copied::<f32>(&values, dtype, Layout::AsStored).unwrap_err().to_string();
                assert_eq!(error, "holds values that are not finite");
            }
        }
    }

    #[test]
    fn values_beyond_the_kind_are_refused() {
        let found = |value| copied::<f16>(&[value], Dtype::F32, Layout::AsStored);
        assert_eq!(found(-65504.0).unwrap()[0].to_f32(), -65504.0);
        assert!(found(65520.0).unwrap_err().to_string().contains("beyond the largest that Half has"));
        assert!(copied::<bf16>(&[f32::MAX], Dtype::F32, Layout::AsStored).is_err());
        assert_eq!(copied::<f32>(&[f32::MAX], Dtype::F32, Layout::AsStored).unwrap(), [f32::MAX]);
    }

    #[test]
    fn channels_come_innermost() {
        let values: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let layout = Layout::ChannelsLast { channels: 3, taps: 4 };
        let found: Vec<f32> = copied(&values, Dtype::F32, layout).unwrap();
        assert_eq!(found[..12], [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]);
        assert_eq!(found[12..15], [12.0, 16.0, 20.0]);
    }
}
