//! CLIP's text encoder (Radford et al. 2021) as Stable Diffusion uses it: the last layer's states after the final norm.
//!
//! Harmonization has no prompt, so all that is ever asked for is the encoding of the empty one, a constant.

use super::config::shown;
use super::{Attention, ConfigReader, Init, LayerNorm, Linear, Param, Path};
use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

/// Marks a text's begin and end.
pub const BEGIN_TOKEN: i64 = 49406;
pub const END_TOKEN: i64 = 49407;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Activation {
    /// x sigmoid(1.702 x)
    QuickGelu,
    Gelu,
}

/// The hyper-parameters that are honoured.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipConfig {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    pub max_position_embeddings: i64,
    pub layer_norm_eps: f64,
    activation: Activation,
}

impl ClipConfig {
    /// From a `config.json`.
    pub fn parse(json: &str) -> Result<Self> {
        let mut c = ConfigReader::parse(json, "model_type", &["clip_text_model"])?;
        let activation = c.value("hidden_act").unwrap_or("quick_gelu".into());
        let activation = match activation.as_str() {
            Some("quick_gelu") => Activation::QuickGelu,
            Some("gelu") => Activation::Gelu,
            _ => {
                anyhow::bail!("hidden_act is {}, which is not supported: only quick_gelu and gelu", shown(&activation))
            }
        };
        let config = Self {
            vocab_size: c.count("vocab_size", 49408)?,
            hidden_size: c.count("hidden_size", 512)?,
            intermediate_size: c.count("intermediate_size", 2048)?,
            num_hidden_layers: c.layers("num_hidden_layers", 12)?,
            num_attention_heads: c.count("num_attention_heads", 8)?,
            max_position_embeddings: c.count("max_position_embeddings", 77)?,
            layer_norm_eps: c.number("layer_norm_eps", 1e-5)?,
            activation,
        };
        c.only("architectures", serde_json::json!(["CLIPTextModel"]))?;
        // For training, for other tasks, for the tokenizer, or of the file.
        c.without_effect(&[
            "attention_dropout",
            "dropout",
            "initializer_factor",
            "initializer_range",
            "projection_dim",
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "dtype",
            "torch_dtype",
            "transformers_version",
        ]);
        c.finish()?;
        Ok(config)
    }
}

#[derive(Debug)]
struct EncoderLayer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl EncoderLayer {
    fn new(p: &Path, config: &ClipConfig) -> Result<Self> {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let norm = |name: &str| LayerNorm::new(&p.sub(name), hidden, config.layer_norm_eps);
        let places = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|name| p.sub("self_attn").sub(name));
        Ok(Self {
            layer_norm1: norm("layer_norm1")?,
            self_attn: Attention::with_bias(places, hidden, config.num_attention_heads)?,
            layer_norm2: norm("layer_norm2")?,
            fc1: Linear::new(&p.sub("mlp.fc1"), [hidden, intermediate], Init::FanIn(1.0))?,
            fc2: Linear::new(&p.sub("mlp.fc2"), [intermediate, hidden], Init::FanIn(1.0))?,
            activation: config.activation,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.self_attn.forward_self(&self.layer_norm1.forward(x)?, true)?.f_add(x)?;
        let h = self.fc1.forward(&self.layer_norm2.forward(&x)?)?;
        let h = match self.activation {
            Activation::QuickGelu => h.f_mul_scalar(1.702)?.f_sigmoid()?.f_mul(&h)?,
            Activation::Gelu => h.f_gelu("none")?,
        };
        Ok(self.fc2.forward(&h)?.f_add(&x)?)
    }
}

#[derive(Debug)]
pub struct ClipTextModel {
    pub config: ClipConfig,
    token_embedding: Param,
    position_embedding: Param,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
}

impl ClipTextModel {
    pub fn new(p: &Path, config: ClipConfig) -> Result<Self> {
        let p = p.sub("text_model");
        let table = |name: &str, rows| {
            p.sub("embeddings").sub(name).get("weight", &[rows, config.hidden_size], Init::FanIn(1.0))
        };
        let layer = |i| EncoderLayer::new(&p.sub("encoder.layers").sub(i), &config);
        Ok(Self {
            token_embedding: table("token_embedding", config.vocab_size)?,
            position_embedding: table("position_embedding", config.max_position_embeddings)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::new(&p.sub("final_layer_norm"), config.hidden_size, config.layer_norm_eps)?,
            config,
        })
    }

    /// Up to max_position_embeddings token ids to 1 x tokens x hidden_size.
    pub fn forward(&self, tokens: &[i64]) -> Result<Tensor> {
        let (length, vocabulary) = (tokens.len() as i64, self.config.vocab_size);
        let longest = self.config.max_position_embeddings;
        ensure!((1..=longest).contains(&length), "a text has 1 to {longest} tokens, not {length}");
        ensure!(tokens.iter().all(|t| (0..vocabulary).contains(t)), "a token is not below vocab_size {vocabulary}");
        let ids = Tensor::f_from_slice(tokens)?.f_to_kind(Kind::Int64)?.f_to_device(self.token_embedding.device())?;
        let x = self.token_embedding.f_index_select(0, &ids)?;
        let mut x = x.f_add(&self.position_embedding.f_narrow(0, 0, length)?)?.f_unsqueeze(0)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        self.final_layer_norm.forward(&x)
    }

    /// The encoding of the empty prompt: its begin, its end, then `padding` (Stable Diffusion 1's tokenizer pads with the end
    /// token, Stable Diffusion 2's with 0).
    pub fn null_text(&self, padding: i64) -> Result<Tensor> {
        let mut tokens = vec![padding; self.config.max_position_embeddings as usize];
        for (slot, token) in tokens.iter_mut().zip([BEGIN_TOKEN, END_TOKEN]) {
            *slot = token;
        }
        self.forward(&tokens)
    }
}
