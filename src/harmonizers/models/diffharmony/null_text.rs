//! The encoding of the empty prompt: a constant, computed once by the text encoder and kept beside it.

use crate::harmonizers::files;
use crate::nets::clip::{ClipConfig, ClipTextModel, END_TOKEN};
use crate::nets::{Init, Weights};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Lies in the folder that holds the `unet`.
pub const FILE: &str = "null_text.safetensors";
pub const KEY: &str = "null_text";
pub const TEXT_ENCODER: &str = "text_encoder";
pub const WEIGHTS: [&str; 2] = ["model.safetensors", "model.fp16.safetensors"];
/// The length that Stable Diffusion's tokenizers pad every prompt to.
pub const TOKENS: i64 = 77;
/// Stable Diffusion 2's tokenizer pads with "!", its token 0.
const EXCLAMATION_MARK: i64 = 0;

/// The encoding of the folder `base`, 1 x 77 x `channels` in f32 on the CPU: as it was stored, else as the text encoder has it.
pub fn read_or_compute(base: &Path, channels: i64) -> Result<Tensor> {
    let file = base.join(FILE);
    let (text, from) = match file.exists() {
        true => (read(&file)?, FILE),
        false => (compute(base)?, TEXT_ENCODER),
    };
    let found = text.size();
    let expected = [1, TOKENS, channels];
    ensure!(
        found == expected,
        "{from} gives the null text shape {found:?}, the unet's configuration asks for {expected:?}"
    );
    Ok(text)
}

fn read(file: &Path) -> Result<Tensor> {
    let read = || {
        let weights = Weights::open(file, Device::Cpu, Kind::Float)?;
        let shape = weights.root().shape(KEY).with_context(|| format!("tensor {KEY} is missing"))?;
        let text = weights.root().get(KEY, &shape, Init::Const(0.0))?.shallow_clone();
        weights.finish()?;
        Ok::<_, anyhow::Error>(text)
    };
    read().with_context(|| file.display().to_string())
}

/// Runs the text encoder in `base/text_encoder`.
pub fn compute(base: &Path) -> Result<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let folder = base.join(TEXT_ENCODER);
    let compute = || {
        let config = ClipConfig::parse(&files::read_text(&folder.join(files::CONFIG))?).context(files::CONFIG)?;
        let weights = Weights::open(&files::weights(&folder, &WEIGHTS)?, Device::Cpu, Kind::Float)?;
        let clip = ClipTextModel::new(&weights.root(), config)?;
        weights.finish()?;
        clip.null_text(padding(base)?)
    };
    compute().with_context(|| folder.display().to_string())
}

/// Stores `text` in `base`, whole or not at all.
pub fn write(base: &Path, text: &Tensor) -> Result<PathBuf> {
    let file = base.join(FILE);
    files::write_whole(&file, |part| Ok(Tensor::write_safetensors(&[(KEY, text)], part)?))?;
    Ok(file)
}

/// The token that the tokenizer in `base/tokenizer` pads with; Stable Diffusion 1's where there is none.
fn padding(base: &Path) -> Result<i64> {
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let file = base.join("tokenizer").join(name);
        if !file.exists() {
            continue;
        }
        let json: Value =
            serde_json::from_str(&files::read_text(&file)?).with_context(|| file.display().to_string())?;
        // Plain text, or an object with the text as its content.
        let token = match &json["pad_token"] {
            Value::Object(token) => token.get("content").cloned().unwrap_or_default(),
            token => token.clone(),
        };
        return match token.as_str() {
            Some("<|endoftext|>") => Ok(END_TOKEN),
            Some("!") => Ok(EXCLAMATION_MARK),
            None if token.is_null() => continue,
            _ => anyhow::bail!(
                "{}: pad_token is {token}: Stable Diffusion pads with \"<|endoftext|>\" or \"!\"",
                file.display()
            ),
        };
    }
    Ok(END_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn padding_is_the_tokenizer_s() {
        let base = tempfile::tempdir().unwrap();
        assert_eq!(padding(base.path()).unwrap(), END_TOKEN);
        let tokenizer = base.path().join("tokenizer");
        fs::create_dir(&tokenizer).unwrap();
        let write = |name: &str, json: &str| fs::write(tokenizer.join(name), json).unwrap();
        write("tokenizer_config.json", r#"{"pad_token": "!"}"#);
        assert_eq!(padding(base.path()).unwrap(), 0);
        write("special_tokens_map.json", r#"{"bos_token": "<|startoftext|>"}"#);
        assert_eq!(padding(base.path()).unwrap(), 0);
        write("special_tokens_map.json", r#"{"pad_token": {"content": "<|endoftext|>", "lstrip": false}}"#);
        assert_eq!(padding(base.path()).unwrap(), END_TOKEN);
        write("special_tokens_map.json", r#"{"pad_token": "<pad>"}"#);
        let error = format!("{:#}", padding(base.path()).unwrap_err());
        assert!(error.contains("special_tokens_map.json: pad_token is \"<pad>\""), "{error}");
    }

    #[test]
    fn what_was_stored_is_what_is_read_and_is_checked() {
        let base = tempfile::tempdir().unwrap();
        let text = Tensor::randn([1, TOKENS, 32], (Kind::Float, Device::Cpu));
        write(base.path(), &text).unwrap();
        assert_eq!(read_or_compute(base.path(), 32).unwrap(), text);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
        let error = |channels| format!("{:#}", read_or_compute(base.path(), channels).unwrap_err());
        assert!(
            error(768).contains("shape [1, 77, 32], the unet's configuration asks for [1, 77, 768]"),
            "{}",
            error(768)
        );
        write(base.path(), &(text * f64::NAN)).unwrap();
        assert!(error(32).contains("not finite"), "{}", error(32));
    }
}
