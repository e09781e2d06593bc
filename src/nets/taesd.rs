//! `AutoencoderTiny` (TAESD, Bohan 2023): a small distilled autoencoder for Stable Diffusion's latents, a fast decoder.
//!
//! It takes and gives latents as the sampler has them: no scaling factor.

use super::weights::channels_last;
use super::{ConfigReader, Conv2d, Init, Path};
use anyhow::{Result, ensure};
use tch::Tensor;

/// The hyper-parameters that are honoured.
#[derive(Clone, Debug, PartialEq)]
pub struct TaesdConfig {
    pub in_channels: i64,
    pub out_channels: i64,
    pub latent_channels: i64,
    /// Of every layer of encoder and decoder.
    pub encoder_channels: i64,
    pub decoder_channels: i64,
    /// Residual blocks at each size.
    pub num_encoder_blocks: Vec<i64>,
    pub num_decoder_blocks: Vec<i64>,
}

impl TaesdConfig {
    /// From a `config.json`.
    pub fn parse(json: &str) -> Result<Self> {
        let mut c = ConfigReader::parse(json, "_class_name", &["AutoencoderTiny"])?;
        let mut side = |channels: &str, blocks: &str| -> Result<(i64, Vec<i64>)> {
            let (widths, counts) = (c.counts(channels)?, c.counts(blocks)?);
            ensure!(widths.len() == counts.len(), "{channels} and {blocks} differ in length");
            ensure!(widths.iter().all(|w| *w == widths[0]), "{channels} differ, which is not supported");
            Ok((widths[0], counts))
        };
        let (encoder_channels, num_encoder_blocks) = side("encoder_block_out_channels", "num_encoder_blocks")?;
        let (decoder_channels, num_decoder_blocks) = side("decoder_block_out_channels", "num_decoder_blocks")?;
        let config = Self {
            in_channels: c.count("in_channels", 3)?,
            out_channels: c.count("out_channels", 3)?,
            latent_channels: c.count("latent_channels", 4)?,
            encoder_channels,
            decoder_channels,
            num_encoder_blocks,
            num_decoder_blocks,
        };
        c.only("act_fn", "relu")?;
        c.only("upsample_fn", "nearest")?;
        c.only("upsampling_scaling_factor", 2)?;
        c.only("latent_magnitude", 3)?;
        c.only("latent_shift", 0.5)?;
        c.only("scaling_factor", 1.0)?;
        c.only("shift_factor", 0.0)?;
        // A copy of the decoder's, and advice on f16.
        c.without_effect(&["block_out_channels", "force_upcast"]);
        c.finish()?;
        Ok(config)
    }
}

#[derive(Debug)]
enum Layer {
    Conv(Conv2d),
    Relu,
    Double,
    /// Three convolutions with ReLU between, plus the input, ReLU.
    Block([Conv2d; 3]),
}

impl Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Layer::Conv(conv) => conv.forward(x),
            Layer::Relu => Ok(x.f_relu()?),
            Layer::Double => {
                let (_, _, h, w) = x.size4()?;
                Ok(x.f_upsample_nearest2d([2 * h, 2 * w], None, None)?)
            }
            Layer::Block([a, b, c]) => {
                let h = b.forward(&a.forward(x)?.f_relu()?)?.f_relu()?;
                Ok(c.forward(&h)?.f_add(x)?.f_relu()?)
            }
        }
    }
}

/// Layers in the order of their numbers in the file.
#[derive(Debug)]
struct Layers<'a> {
    place: Path<'a>,
    layers: Vec<Layer>,
}

impl Layers<'_> {
    fn next(&self) -> Path<'_> {
        self.place.sub(self.layers.len())
    }

    fn conv(&mut self, channels: [i64; 2]) -> Result<()> {
        self.layers.push(Layer::Conv(Conv2d::new(&self.next(), channels, 3, 1, Init::FanIn(1.7))?));
        Ok(())
    }

    fn conv_without_bias(&mut self, channels: i64, stride: i64) -> Result<()> {
        let conv = Conv2d::without_bias(&self.next(), [channels; 2], 3, stride, Init::FanIn(1.7))?;
        self.layers.push(Layer::Conv(conv));
        Ok(())
    }

    fn blocks(&mut self, channels: i64, count: i64) -> Result<()> {
        for _ in 0..count {
            let conv = |i: i64| Conv2d::new(&self.next().sub("conv").sub(i), [channels; 2], 3, 1, Init::FanIn(1.7));
            self.layers.push(Layer::Block([conv(0)?, conv(2)?, conv(4)?]));
        }
        Ok(())
    }
}

fn forward(layers: &[Layer], x: Tensor) -> Result<Tensor> {
    layers.iter().try_fold(x, |x, layer| layer.forward(&x))
}

#[derive(Debug)]
pub struct Taesd {
    pub config: TaesdConfig,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
}

impl Taesd {
    pub fn new(p: &Path, config: TaesdConfig) -> Result<Self> {
        Ok(Self { encoder: encoder(p, &config)?, decoder: decoder(p, &config)?, config })
    }

    /// B x in_channels x H x W in -1..1 to latents.
    pub fn encode(&self, x: &Tensor) -> Result<Tensor> {
        forward(&self.encoder, channels_last(&x.f_add_scalar(1.0)?.f_div_scalar(2.0)?)?)
    }

    /// Latents to B x out_channels x H x W in about -1..1.
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        let z = z.f_div_scalar(3.0)?.f_tanh()?.f_mul_scalar(3.0)?;
        let x = forward(&self.decoder, channels_last(&z)?)?;
        Ok(x.f_mul_scalar(2.0)?.f_add_scalar(-1.0)?)
    }
}

fn encoder(p: &Path, config: &TaesdConfig) -> Result<Vec<Layer>> {
    let channels = config.encoder_channels;
    let mut layers = Layers { place: p.sub("encoder.layers"), layers: Vec::new() };
    for (i, &blocks) in config.num_encoder_blocks.iter().enumerate() {
        match i {
            0 => layers.conv([config.in_channels, channels])?,
            _ => layers.conv_without_bias(channels, 2)?,
        }
        layers.blocks(channels, blocks)?;
    }
    layers.conv([channels, config.latent_channels])?;
    Ok(layers.layers)
}

fn decoder(p: &Path, config: &TaesdConfig) -> Result<Vec<Layer>> {
    let channels = config.decoder_channels;
    let mut layers = Layers { place: p.sub("decoder.layers"), layers: Vec::new() };
    layers.conv([config.latent_channels, channels])?;
    layers.layers.push(Layer::Relu);
    let last = config.num_decoder_blocks.len() - 1;
    for (i, &blocks) in config.num_decoder_blocks.iter().enumerate() {
        layers.blocks(channels, blocks)?;
        if i < last {
            layers.layers.push(Layer::Double);
            layers.conv_without_bias(channels, 1)?;
        }
    }
    layers.conv([channels, config.out_channels])?;
    Ok(layers.layers)
}
