//! The U-Net (Ronneberger et al. 2015) that the conditional and the plain one share: down, middle, up, with every layer's
//! features kept as skips.

use super::blocks::{BlockConfig, Conditioning, DownBlock, Ending, MidBlock, MidConfig, UpBlock};
use super::layers::Extras;
use super::transformer::TransformerConfig;
use super::weights::channels_last;
use super::{Conv2d, GroupNorm, Init, KeysValues, Param, Path};
use anyhow::{Result, ensure};
use tch::Tensor;

#[derive(Debug)]
pub struct UNetConfig<'a> {
    pub in_channels: i64,
    pub out_channels: i64,
    /// Channels of each down block; the up blocks have them in reverse.
    pub channels: &'a [i64],
    pub blocks: BlockConfig,
    /// The transformer in each down block, if it has one.
    pub down: Vec<Option<TransformerConfig>>,
    pub mid: MidConfig<'a>,
    /// The transformer in each up block, from the smallest feature map, if it has one.
    pub up: Vec<Option<TransformerConfig>>,
    /// How all down blocks but the last end.
    pub ending: Ending,
    /// Sides of the first and of the last convolution's kernel.
    pub kernels: [i64; 2],
}

#[derive(Debug)]
pub struct UNet {
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: MidBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UNet {
    pub fn new(p: &Path, config: &UNetConfig) -> Result<Self> {
        let UNetConfig { channels, blocks, kernels, .. } = config;
        let last = channels.len() - 1;
        let down = |i: usize| {
            let ending = if i == last { Ending::Same } else { config.ending };
            let channels = [channels[i.saturating_sub(1)], channels[i]];
            DownBlock::new(&p.sub("down_blocks").sub(i), channels, blocks, config.down[i].as_ref(), ending)
        };
        let up = |i: usize| {
            let output = channels[last - i];
            let before = channels[(last + 1 - i).min(last)];
            let skip = channels[(last - i).saturating_sub(1)];
            let mut inputs = vec![2 * output; blocks.layers as usize + 1];
            inputs[0] = before + output;
            inputs[blocks.layers as usize] = output + skip;
            UpBlock::new(&p.sub("up_blocks").sub(i), &inputs, output, blocks, config.up[i].as_ref(), i != last)
        };
        ensure!(
            config.down.len() == last + 1 && config.up.len() == last + 1,
            "{} blocks for each way expected",
            last + 1
        );
        ensure!(kernels.iter().all(|k| k % 2 == 1), "convolutions of side {kernels:?} don't keep the size");
        let conv = |name: &str, channels, k| Conv2d::new(&p.sub(name), channels, k, 1, Init::FanIn(1.0));
        Ok(Self {
            conv_in: conv("conv_in", [config.in_channels, channels[0]], kernels[0])?,
            down: (0..=last).map(down).collect::<Result<_>>()?,
            mid: MidBlock::new(&p.sub("mid_block"), channels[last], blocks, config.mid)?,
            up: (0..=last).map(up).collect::<Result<_>>()?,
            norm_out: GroupNorm::new(&p.sub("conv_norm_out"), blocks.norm.groups, channels[0], blocks.norm.eps)?,
            conv_out: conv("conv_out", [channels[0], config.out_channels], kernels[1])?,
        })
    }

    /// Keys and values of `text` for every transformer, in the order of `forward`.
    pub fn keys_values(&self, text: &Tensor) -> Result<Vec<KeysValues>> {
        let mut all = Vec::new();
        self.down.iter().try_for_each(|block| block.keys_values(text, &mut all))?;
        self.mid.keys_values(text, &mut all)?;
        self.up.iter().try_for_each(|block| block.keys_values(text, &mut all))?;
        Ok(all)
    }

    /// What the time embedding `emb` (B x E, after its activation) adds in every residual block, in the order of `forward`.
    pub fn shifts(&self, emb: &Tensor) -> Result<Vec<Param>> {
        let mut all = Vec::new();
        self.down.iter().try_for_each(|block| block.shifts(emb, &mut all))?;
        self.mid.shifts(emb, &mut all)?;
        self.up.iter().try_for_each(|block| block.shifts(emb, &mut all))?;
        Ok(all)
    }

    /// B x in_channels x h x w to B x out_channels x h x w.
    pub fn forward(&self, x: &Tensor, mut c: Conditioning) -> Result<Tensor> {
        let mut x = self.conv_in.forward(&channels_last(x)?)?;
        let mut skips = vec![x.shallow_clone()];
        for block in &self.down {
            x = block.forward(x, &mut c, Some(&mut skips))?;
        }
        x = self.mid.forward(&x, &mut c)?;
        for block in &self.up {
            x = block.forward_concat(x, &mut c, &mut skips)?;
        }
        self.conv_out.forward_activated(&self.norm_out, &x, Extras::default())
    }
}
