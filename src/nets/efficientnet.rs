//! EfficientNet-Lite0 (Tan & Le 2019; the Lite variants are TensorFlow's) without its classifier: features of a picture and of
//! where its foreground is. Batch normalizations are folded into the convolutions; padding is TensorFlow's SAME, so that a cell i
//! of a level of scale s begins at pixel i s, and of odd sizes the last cell is cut off by the edge.

use super::{Init, Param, Path};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Channels of the features at 1/4, 1/8, 1/16 and 1/32.
pub const CHANNELS: [i64; 4] = [24, 40, 112, 320];
/// How often each level has halved the picture.
pub const HALVINGS: [u32; 4] = [2, 3, 4, 5];

const STEM: i64 = 32;

/// Kernel, stride, expansion, output channels and blocks of each stage.
const STAGES: [(i64, i64, i64, i64, usize); 7] = [
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
];
/// Stages after which a level of features is taken.
const LEVELS: [usize; 4] = [1, 2, 4, 6];

#[derive(Debug)]
pub struct EfficientNetLite0 {
    stem: Conv,
    /// What the mask adds before the stem's activation: nothing in a network that has only seen pictures.
    mask: Conv,
    stages: Vec<Vec<MbConv>>,
}

impl EfficientNetLite0 {
    pub fn new(p: &Path) -> Result<Self> {
        let mut stages = Vec::new();
        let (mut channels, mut number) = (STEM, 0);
        for (kernel, stride, expansion, out, blocks) in STAGES {
            let mut stage = Vec::new();
            for i in 0..blocks {
                let stride = if i == 0 { stride } else { 1 };
                let p = p.sub(format!("blocks.{number}"));
                stage.push(MbConv::new(&p, [channels, out], expansion, kernel, stride)?);
                (channels, number) = (out, number + 1);
            }
            stages.push(stage);
        }
        let mask = p.sub("mask").get("weight", &[STEM, 1, 3, 3], Init::Const(0.0))?;
        let stem = Conv::new(&p.sub("stem"), [3, STEM], 3, 2, 1)?;
        Ok(Self { stem, mask: Conv { weight: mask, bias: None, kernel: 3, stride: 2, groups: 1 }, stages })
    }

    /// `picture` is B x 3 x h x w, sRGB in 0..1, `mask` B x 1 x h x w in 0..1, of one kind. Features at the four levels, B x `CHANNELS`
    /// x h / scale x w / scale, rounded up.
    pub fn forward(&self, picture: &Tensor, mask: &Tensor) -> Result<[Tensor; 4]> {
        // 127 and 128 are how the network was trained.
        let input = picture.f_mul_scalar(255.0 / 128.0)?.f_sub_scalar(127.0 / 128.0)?;
        let mut x = relu6(self.stem.forward(&input)?.f_add(&self.mask.forward(mask)?)?)?;
        let mut levels = Vec::with_capacity(LEVELS.len());
        for (i, stage) in self.stages.iter().enumerate() {
            for block in stage {
                x = block.forward(&x)?;
            }
            if LEVELS.contains(&i) {
                levels.push(x.shallow_clone());
            }
        }
        let [a, b, c, d] = levels.try_into().map_err(|_| anyhow::anyhow!("a level of features is missing"))?;
        Ok([a, b, c, d])
    }
}

/// Inverted residual block (Sandler et al. 2018): expansion, depthwise convolution, projection.
#[derive(Debug)]
struct MbConv {
    expand: Option<Conv>,
    depthwise: Conv,
    project: Conv,
    is_residual: bool,
}

impl MbConv {
    fn new(p: &Path, [input, out]: [i64; 2], expansion: i64, kernel: i64, stride: i64) -> Result<Self> {
        let wide = input * expansion;
        let expand = || Conv::new(&p.sub("expand"), [input, wide], 1, 1, 1);
        Ok(Self {
            expand: (expansion != 1).then(expand).transpose()?,
            depthwise: Conv::new(&p.sub("depthwise"), [wide, wide], kernel, stride, wide)?,
            project: Conv::new(&p.sub("project"), [wide, out], 1, 1, 1)?,
            is_residual: stride == 1 && input == out,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let wide = match &self.expand {
            Some(expand) => relu6(expand.forward(x)?)?,
            None => x.shallow_clone(),
        };
        let y = self.project.forward(&relu6(self.depthwise.forward(&wide)?)?)?;
        Ok(if self.is_residual { y.f_add(x)? } else { y })
    }
}

/// Convolution with SAME padding, in the kind of its input.
#[derive(Debug)]
struct Conv {
    weight: Param,
    bias: Option<Param>,
    kernel: i64,
    stride: i64,
    groups: i64,
}

impl Conv {
    fn new(p: &Path, [input, out]: [i64; 2], kernel: i64, stride: i64, groups: i64) -> Result<Self> {
        // He et al.'s, for a network that is trained from nothing.
        let weight = p.get("weight", &[out, input / groups, kernel, kernel], Init::FanIn(6f64.sqrt()))?;
        Ok(Self { weight, bias: Some(p.get("bias", &[out], Init::Const(0.0))?), kernel, stride, groups })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // On a CPU the gradients of depthwise convolutions take four times as long in bf16 as in f32.
        let kind = x.kind();
        if self.groups > 1 && kind != Kind::Float && x.device() == Device::Cpu {
            return Ok(self.convolve(&x.f_to_kind(Kind::Float)?)?.f_to_kind(kind)?);
        }
        self.convolve(x)
    }

    fn convolve(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = x.size4()?;
        let [top, bottom] = self.padding(h);
        let [left, right] = self.padding(w);
        let weight = self.weight.f_to_kind(x.kind())?;
        let bias = self.bias.as_deref().map(|bias| bias.f_to_kind(x.kind())).transpose()?;
        let (stride, groups) = ([self.stride; 2], self.groups);
        if top == bottom && left == right {
            return Ok(x.f_conv2d(&weight, bias.as_ref(), stride, [top, left], [1; 2], groups)?);
        }
        let x = x.f_constant_pad_nd([left, right, top, bottom])?;
        Ok(x.f_conv2d(&weight, bias.as_ref(), stride, [0; 2], [1; 2], groups)?)
    }

    /// Zeros before and after `length` pixels: one more after them where their number is odd.
    fn padding(&self, length: i64) -> [i64; 2] {
        let steps = (length + self.stride - 1) / self.stride;
        let zeros = ((steps - 1) * self.stride + self.kernel - length).max(0);
        [zeros / 2, zeros - zeros / 2]
    }
}

/// In the memory of x, a convolution's or a sum's, which nobody needs again.
fn relu6(mut x: Tensor) -> Result<Tensor> {
    Ok(x.f_relu6_()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::Weights;
    use tch::{Device, Kind};

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// TensorFlow's definition of SAME: as many steps as fit when rounded up, the odd zero after the picture.
    #[test]
    fn padding_is_tensorflow_s_same() {
        for (length, kernel, stride, expected) in [
            (224, 3, 2, [0, 1]),
            (112, 5, 2, [1, 2]),
            (9, 3, 2, [1, 1]),
            (9, 5, 2, [2, 2]),
            (7, 5, 1, [2, 2]),
            (1, 3, 2, [1, 1]),
        ] {
            let weights = Weights::new(Device::Cpu);
            let conv = Conv::new(&weights.root(), [2, 3], kernel, stride, 1).unwrap();
            assert_eq!(conv.padding(length), expected, "{kernel} of {length} by {stride}");
            let x = Tensor::randn([1, 2, length, 4], CPU);
            let wide = x.constant_pad_nd([kernel, kernel, expected[0], expected[1]]);
            let [before, _] = conv.padding(4);
            let steps = (4 + stride - 1) / stride;
            let exact = wide.narrow(3, kernel - before, (steps - 1) * stride + kernel).conv2d(
                &conv.weight,
                conv.bias.as_deref(),
                [stride],
                [0],
                [1],
                1,
            );
            let found = conv.forward(&x).unwrap();
            assert_eq!(found.size(), exact.size());
            assert!((found - exact).abs().max().double_value(&[]) < 1e-5);
        }
    }

    #[test]
    fn features_have_their_sizes_and_see_the_mask_once_it_counts() {
        let weights = Weights::new(Device::Cpu);
        let net = EfficientNetLite0::new(&weights.root()).unwrap();
        let params = weights.finish().unwrap();
        let _guard = tch::no_grad_guard();
        let picture = Tensor::rand([1, 3, 72, 128], CPU);
        let [none, all] = [Tensor::zeros([1, 1, 72, 128], CPU), Tensor::ones([1, 1, 72, 128], CPU)];
        let features = net.forward(&picture, &none).unwrap();
        for (i, size) in [[18, 32], [9, 16], [5, 8], [3, 4]].into_iter().enumerate() {
            assert_eq!(features[i].size(), [1, CHANNELS[i], size[0], size[1]]);
        }
        let last = |mask: &Tensor| net.forward(&picture, mask).unwrap()[3].shallow_clone();
        assert_eq!(last(&all), features[3]);
        let _ = params["mask.weight"].shallow_clone().fill_(1.0);
        assert_ne!(last(&all), features[3]);
    }
}
