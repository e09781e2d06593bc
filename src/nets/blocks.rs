//! The blocks U-Nets and autoencoders are stacked from: down, middle, up, named as diffusers names them.

use super::config::{ConfigReader, shown};
use super::transformer::{Transformer2D, TransformerConfig};
use super::{AttentionBlock, Conv2d, Init, KeysValues, Norm, Param, Path, ResnetBlock};
use anyhow::{Result, bail};
use std::slice;
use tch::Tensor;

/// What a network's blocks share.
#[derive(Clone, Copy, Debug)]
pub struct BlockConfig {
    /// Residual blocks in a down block; an up block has one more.
    pub layers: i64,
    /// Channels of the time embedding, if the network has one.
    pub emb_channels: Option<i64>,
    pub norm: Norm,
}

/// What a U-Net's blocks see besides features.
#[derive(Debug, Default)]
pub struct Conditioning<'a> {
    /// What the time embedding adds in each residual block to come; nothing in a network without one.
    pub shifts: slice::Iter<'a, Param>,
    /// The text's keys and values for the transformers to come.
    pub text: slice::Iter<'a, KeysValues>,
}

impl Conditioning<'_> {
    fn shift(&mut self) -> Option<&Tensor> {
        self.shifts.next().map(|shift| &**shift)
    }
}

/// Appends what `emb` adds in each of `resnets`, in the order `forward` takes it.
fn push_shifts(resnets: &[ResnetBlock], emb: &Tensor, all: &mut Vec<Param>) -> Result<()> {
    for resnet in resnets {
        all.extend(resnet.shift(emb)?.map(Param::new));
    }
    Ok(())
}

/// Halves both sides.
#[derive(Debug)]
struct Downsample {
    conv: Conv2d,
    /// Zeros to the right and below only.
    asymmetric: bool,
}

impl Downsample {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.asymmetric {
            true => self.conv.forward(&x.f_constant_pad_nd([0, 1, 0, 1])?),
            false => self.conv.forward(x),
        }
    }
}

#[derive(Debug)]
pub struct DownBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Transformer2D>,
    downsample: Option<Downsample>,
}

/// How a down block ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// At the size it began with.
    Same,
    /// Halved, with zeros all around.
    Halved,
    /// Halved, with zeros to the right and below.
    HalvedAsymmetric,
}

impl Ending {
    /// How a network's `downsample_padding` has its down blocks end: 1 pads all around, 0 to the right and below.
    pub fn parse(c: &mut ConfigReader) -> Result<Self> {
        let Some(value) = c.value("downsample_padding") else { return Ok(Self::Halved) };
        match value.as_i64() {
            Some(1) => Ok(Self::Halved),
            Some(0) => Ok(Self::HalvedAsymmetric),
            _ => bail!("downsample_padding is {}, which is not supported: only 0 and 1", shown(&value)),
        }
    }
}

impl DownBlock {
    pub fn new(
        p: &Path,
        [input, output]: [i64; 2],
        config: &BlockConfig,
        attention: Option<&TransformerConfig>,
        ending: Ending,
    ) -> Result<Self> {
        let resnet = |i| {
            let channels = [if i == 0 { input } else { output }, output];
            ResnetBlock::resizing(&p.sub("resnets").sub(i), channels, config.emb_channels, config.norm)
        };
        let downsample = || -> Result<Downsample> {
            let conv = Conv2d::new(&p.sub("downsamplers.0.conv"), [output; 2], 3, 2, Init::FanIn(1.0))?;
            Ok(match ending == Ending::HalvedAsymmetric {
                true => Downsample { conv: conv.unpadded(), asymmetric: true },
                false => Downsample { conv, asymmetric: false },
            })
        };
        Ok(Self {
            resnets: (0..config.layers).map(resnet).collect::<Result<_>>()?,
            attentions: transformers(p, output, config.layers, attention)?,
            downsample: (ending != Ending::Same).then(downsample).transpose()?,
        })
    }

    pub fn shifts(&self, emb: &Tensor, all: &mut Vec<Param>) -> Result<()> {
        push_shifts(&self.resnets, emb, all)
    }

    pub fn keys_values(&self, text: &Tensor, all: &mut Vec<KeysValues>) -> Result<()> {
        self.attentions.iter().try_for_each(|attention| attention.keys_values(text, all))
    }

    /// Appends to `taps`, if given, the features after each layer and after the halving.
    pub fn forward(&self, x: Tensor, c: &mut Conditioning, mut taps: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        let mut tap = |x: &Tensor| {
            if let Some(taps) = &mut taps {
                taps.push(x.shallow_clone());
            }
        };
        let mut x = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward_shifted(&x, c.shift())?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, &mut c.text)?;
            }
            tap(&x);
        }
        if let Some(downsample) = &self.downsample {
            x = downsample.forward(&x)?;
            tap(&x);
        }
        Ok(x)
    }
}

/// What the middle block attends with.
#[derive(Clone, Copy, Debug)]
pub enum MidConfig<'a> {
    None,
    /// To the feature map itself, with so many heads.
    Spatial(i64),
    /// To the feature map and to the text.
    Text(&'a TransformerConfig),
}

#[derive(Debug)]
enum MidAttention {
    None,
    Spatial(AttentionBlock),
    Text(Transformer2D),
}

/// Residual block, attention, residual block.
#[derive(Debug)]
pub struct MidBlock {
    resnets: [ResnetBlock; 2],
    attention: MidAttention,
}

impl MidBlock {
    pub fn new(p: &Path, channels: i64, config: &BlockConfig, attention: MidConfig) -> Result<Self> {
        let resnet =
            |i| ResnetBlock::resizing(&p.sub("resnets").sub(i), [channels; 2], config.emb_channels, config.norm);
        let place = p.sub("attentions.0");
        let attention = match attention {
            MidConfig::None => MidAttention::None,
            MidConfig::Spatial(heads) => {
                MidAttention::Spatial(AttentionBlock::new(&place, channels, heads, config.norm)?)
            }
            MidConfig::Text(transformer) => MidAttention::Text(Transformer2D::new(&place, channels, transformer)?),
        };
        Ok(Self { resnets: [resnet(0)?, resnet(1)?], attention })
    }

    pub fn shifts(&self, emb: &Tensor, all: &mut Vec<Param>) -> Result<()> {
        push_shifts(&self.resnets, emb, all)
    }

    pub fn keys_values(&self, text: &Tensor, all: &mut Vec<KeysValues>) -> Result<()> {
        match &self.attention {
            MidAttention::Text(attention) => attention.keys_values(text, all),
            _ => Ok(()),
        }
    }

    pub fn forward(&self, x: &Tensor, c: &mut Conditioning) -> Result<Tensor> {
        let x = self.resnets[0].forward_shifted(x, c.shift())?;
        let x = match &self.attention {
            MidAttention::None => x,
            MidAttention::Spatial(attention) => attention.forward(&x)?,
            MidAttention::Text(attention) => attention.forward(&x, &mut c.text)?,
        };
        self.resnets[1].forward_shifted(&x, c.shift())
    }
}

#[derive(Debug)]
pub struct UpBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Transformer2D>,
    upsample: Option<Conv2d>,
}

impl UpBlock {
    /// `inputs` are the channels that enter each residual block, skips included.
    pub fn new(
        p: &Path,
        inputs: &[i64],
        output: i64,
        config: &BlockConfig,
        attention: Option<&TransformerConfig>,
        upsample: bool,
    ) -> Result<Self> {
        let resnet = |(i, &input): (usize, &i64)| {
            ResnetBlock::resizing(&p.sub("resnets").sub(i), [input, output], config.emb_channels, config.norm)
        };
        let conv = || Conv2d::new(&p.sub("upsamplers.0.conv"), [output; 2], 3, 1, Init::FanIn(1.0));
        Ok(Self {
            resnets: inputs.iter().enumerate().map(resnet).collect::<Result<_>>()?,
            attentions: transformers(p, output, inputs.len() as i64, attention)?,
            upsample: upsample.then(conv).transpose()?,
        })
    }

    pub fn shifts(&self, emb: &Tensor, all: &mut Vec<Param>) -> Result<()> {
        push_shifts(&self.resnets, emb, all)
    }

    pub fn keys_values(&self, text: &Tensor, all: &mut Vec<KeysValues>) -> Result<()> {
        self.attentions.iter().try_for_each(|attention| attention.keys_values(text, all))
    }

    /// A U-Net's: takes a skip off the end of `skips` into each layer. Grows to the size of the next skip.
    pub fn forward_concat(&self, x: Tensor, c: &mut Conditioning, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        let mut x = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            if let Some(skip) = skips.pop() {
                x = Tensor::f_cat(&[x, skip], 1)?;
            }
            x = resnet.forward_shifted(&x, c.shift())?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, &mut c.text)?;
            }
        }
        let next = skips.last().map(|skip| skip.size4()).transpose()?;
        self.grow(x, next.map(|(_, _, h, w)| [h, w]))
    }

    /// An autoencoder's: adds what it takes off the end of `skips`, if anything is left there, after each layer.
    pub fn forward_add(&self, x: Tensor, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        let mut x = x;
        for resnet in &self.resnets {
            x = resnet.forward_shifted(&x, None)?;
            if let Some(skip) = skips.pop() {
                x = x.f_add_(&skip)?;
            }
        }
        self.grow(x, None)
    }

    /// To `size`, or to twice the size.
    fn grow(&self, x: Tensor, size: Option<[i64; 2]>) -> Result<Tensor> {
        let Some(conv) = &self.upsample else { return Ok(x) };
        let (_, _, h, w) = x.size4()?;
        conv.forward_resized(&x, size.unwrap_or([2 * h, 2 * w]))
    }
}

fn transformers(
    p: &Path,
    channels: i64,
    layers: i64,
    attention: Option<&TransformerConfig>,
) -> Result<Vec<Transformer2D>> {
    let Some(config) = attention else { return Ok(Vec::new()) };
    (0..layers).map(|i| Transformer2D::new(&p.sub("attentions").sub(i), channels, config)).collect()
}
