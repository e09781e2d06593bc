//! Attention (Vaswani et al. 2017): over the positions of a feature map, and from them to a text.

use super::cpu::flash;
use super::{GroupNorm, Init, Linear, Norm, Param, Path};
use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

/// B x N x C to B x heads x N x C / heads.
fn split_heads(x: &Tensor, heads: i64) -> Result<Tensor> {
    let (b, n, c) = x.size3()?;
    Ok(x.f_view([b, n, heads, c / heads])?.f_permute([0, 2, 1, 3])?)
}

/// softmax(q k^T / sqrt(D)) v for B x heads x N x D, as B x N x C. `causal`: a position attends to none after it.
fn dot_product(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Result<Tensor> {
    if !causal && flash::suits(q, k) {
        return flash::attend(q, k, v);
    }
    merge_heads(&Tensor::f_scaled_dot_product_attention(q, k, v, None::<&Tensor>, 0.0, causal, None, false)?)
}

/// The inverse of `split_heads`.
fn merge_heads(x: &Tensor) -> Result<Tensor> {
    let (b, heads, n, d) = x.size4()?;
    Ok(x.f_permute([0, 2, 1, 3])?.f_reshape([b, n, heads * d])?)
}

/// B x C x h x w to B x hw x C.
pub fn tokens(x: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = x.size4()?;
    Ok(x.f_permute([0, 2, 3, 1])?.f_reshape([b, h * w, c])?)
}

/// B x hw x C to the B x C x h x w of `like`.
pub fn feature_map(tokens: &Tensor, like: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = like.size4()?;
    Ok(tokens.f_reshape([b, h, w, c])?.f_permute([0, 3, 1, 2])?)
}

#[derive(Debug)]
pub struct SelfAttention {
    norm: GroupNorm,
    qkv: Linear,
    out: Linear,
    heads: i64,
}

impl SelfAttention {
    pub fn new(p: &Path, channels: i64, heads: i64, groups: i64) -> Result<Self> {
        Ok(Self {
            norm: GroupNorm::new(&p.sub("norm"), groups, channels, 1e-5)?,
            qkv: Linear::new(&p.sub("qkv"), [channels, 3 * channels], Init::FanIn(1.0))?,
            out: Linear::new(&p.sub("out"), [channels; 2], Init::FanIn(0.2))?,
            heads,
        })
    }

    /// B x C x h x w in and out; the input is added to the result.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [q, k, v] = self.queries_keys_values(x)?;
        self.result(x, dot_product(&q, &k, &v, false)?)
    }

    /// The same with attention to where `shares` (B x 1 x h x w in 0..1) are: a position of share 0 gets a hundredth of what it
    /// would get with 1.
    pub fn forward_to(&self, x: &Tensor, shares: &Tensor) -> Result<Tensor> {
        let [q, k, v] = self.queries_keys_values(x)?;
        let bias = shares.f_clamp_min(0.01)?.f_log()?.f_flatten(2, 3)?.f_unsqueeze(1)?.f_to_kind(q.kind())?;
        let mixed = Tensor::f_scaled_dot_product_attention(&q, &k, &v, Some(&bias), 0.0, false, None, false)?;
        self.result(x, merge_heads(&mixed)?)
    }

    /// B x heads x hw x C / heads each.
    fn queries_keys_values(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let qkv = self.qkv.forward(&tokens(&self.norm.forward(x)?)?)?.f_chunk(3, -1)?;
        Ok([split_heads(&qkv[0], self.heads)?, split_heads(&qkv[1], self.heads)?, split_heads(&qkv[2], self.heads)?])
    }

    fn result(&self, x: &Tensor, mixed: Tensor) -> Result<Tensor> {
        Ok(feature_map(&self.out.forward(&mixed)?, x)?.f_add_(x)?)
    }
}

/// Keys and values of one context, B x heads x M x D.
#[derive(Debug)]
pub struct KeysValues {
    keys: Param,
    values: Param,
}

/// Multi-head attention with a projection each for queries, keys, values and result.
#[derive(Debug)]
pub struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: i64,
    /// Similarities in f32 whatever the kind of the input.
    upcast: bool,
}

impl Attention {
    /// Diffusers' naming: `to_q`, `to_k`, `to_v` without bias, `to_out.0`. Keys and values of a context of `context` channels.
    pub fn new(p: &Path, channels: i64, context: i64, heads: i64, upcast: bool) -> Result<Self> {
        ensure!(channels % heads == 0, "{channels} channels don't divide into {heads} heads");
        let project = |name: &str, input| Linear::without_bias(&p.sub(name), [input, channels], Init::FanIn(1.0));
        let (q, k, v) = (project("to_q", channels)?, project("to_k", context)?, project("to_v", context)?);
        let out = Linear::new(&p.sub("to_out.0"), [channels; 2], Init::FanIn(1.0))?;
        Ok(Self { q, k, v, out, heads, upcast })
    }

    /// With bias, from the places of queries, keys, values and result; each stored as a linear layer or a 1x1 convolution.
    pub fn with_bias(places: [Path; 4], channels: i64, heads: i64) -> Result<Self> {
        ensure!(channels % heads == 0, "{channels} channels don't divide into {heads} heads");
        let project = |p: &Path| match p.shape("weight") {
            Some(shape) if shape.len() == 4 => Linear::from_conv(p, [channels; 2], Init::FanIn(1.0)),
            _ => Linear::new(p, [channels; 2], Init::FanIn(1.0)),
        };
        let [q, k, v, out] = [project(&places[0])?, project(&places[1])?, project(&places[2])?, project(&places[3])?];
        Ok(Self { q, k, v, out, heads, upcast: false })
    }

    pub fn keys_values(&self, context: &Tensor) -> Result<KeysValues> {
        let split = |x: Tensor| split_heads(&x, self.heads).map(Param::new);
        Ok(KeysValues { keys: split(self.k.forward(context)?)?, values: split(self.v.forward(context)?)? })
    }

    /// B x N x C in and out. One context serves every member of the batch, or each has its own.
    pub fn forward(&self, x: &Tensor, context: &KeysValues, causal: bool) -> Result<Tensor> {
        let q = split_heads(&self.q.forward(x)?, self.heads)?;
        let kind = if self.upcast { Kind::Float } else { x.kind() };
        let like_queries = |x: &Tensor| -> Result<Tensor> {
            let mut shape = x.size();
            shape[0] = q.size()[0];
            Ok(x.f_expand(&shape, false)?.f_to_kind(kind)?)
        };
        let (keys, values) = (like_queries(&context.keys)?, like_queries(&context.values)?);
        let mixed = dot_product(&q.f_to_kind(kind)?, &keys, &values, causal)?;
        self.out.forward(&mixed.f_to_kind(x.kind())?)
    }

    pub fn forward_self(&self, x: &Tensor, causal: bool) -> Result<Tensor> {
        self.forward(x, &self.keys_values(x)?, causal)
    }
}

/// Self-attention over a feature map, as Stable Diffusion's autoencoder has in the middle.
#[derive(Debug)]
pub struct AttentionBlock {
    norm: GroupNorm,
    attention: Attention,
}

impl AttentionBlock {
    /// Takes the names of diffusers before and since 0.18 and of the original latent-diffusion files.
    pub fn new(p: &Path, channels: i64, heads: i64, norm: Norm) -> Result<Self> {
        let names: [&[&str]; 4] = [
            &["to_q", "query", "q"],
            &["to_k", "key", "k"],
            &["to_v", "value", "v"],
            &["to_out.0", "proj_attn", "proj_out"],
        ];
        Ok(Self {
            norm: GroupNorm::new(&p.one_of(&["group_norm", "norm"]), norm.groups, channels, norm.eps)?,
            attention: Attention::with_bias(names.map(|names| p.one_of(names)), channels, heads)?,
        })
    }

    /// B x C x h x w in and out; the input is added to the result.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mixed = self.attention.forward_self(&tokens(&self.norm.forward(x)?)?, false)?;
        Ok(feature_map(&mixed, x)?.f_add_(x)?)
    }
}
