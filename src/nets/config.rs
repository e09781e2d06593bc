//! A network's `config.json`: every hyper-parameter is honoured, or refused by name. None is skipped unseen.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

/// Larger counts are mistakes: no network here has 10^5 channels, and products of what passes can't overflow.
const MAX_COUNT: i64 = 65536;
const MAX_BLOCKS: usize = 16;
/// Layers cost time and memory even where nobody has weights for them.
const MAX_LAYERS: i64 = 128;

/// The hyper-parameters nobody has asked for yet.
#[derive(Debug)]
pub struct ConfigReader {
    class: String,
    left: Map<String, Value>,
}

impl ConfigReader {
    /// `json` is of one of `classes`, by its `key`: `_class_name` for diffusers, `model_type` for transformers. Keys that
    /// begin with an underscore say where a file comes from and are no hyper-parameters.
    pub fn parse(json: &str, key: &str, classes: &[&str]) -> Result<Self> {
        let mut left: Map<String, Value> = serde_json::from_str(json).context("not a JSON object")?;
        let class = left.remove(key).and_then(|c| c.as_str().map(str::to_owned));
        let class = class.ok_or_else(|| anyhow!("{key} is missing: expected {}", classes.join(" or ")))?;
        ensure!(classes.contains(&class.as_str()), "{key} is {class:.80?}: expected {}", classes.join(" or "));
        left.retain(|key, _| !key.starts_with('_'));
        Ok(Self { class, left })
    }

    pub fn class(&self) -> &str {
        &self.class
    }

    /// Whether `key` is there, null or not.
    pub fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// The value of `key`; none where it is absent or null.
    pub fn value(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key).filter(|value| !value.is_null())
    }

    /// An integer from 1 to 65536.
    pub fn count(&mut self, key: &str, default: impl Into<Option<i64>>) -> Result<i64> {
        match self.value(key) {
            Some(value) => count(key, &value),
            None => default.into().ok_or_else(|| anyhow!("{key} is missing")),
        }
    }

    /// Layers in a row: an integer from 1 to 128.
    pub fn layers(&mut self, key: &str, default: i64) -> Result<i64> {
        let layers = self.count(key, default)?;
        ensure!(layers <= MAX_LAYERS, "{key} holds {layers}: expected an integer from 1 to {MAX_LAYERS}");
        Ok(layers)
    }

    pub fn counts(&mut self, key: &str) -> Result<Vec<i64>> {
        let value = self.value(key).ok_or_else(|| anyhow!("{key} is missing"))?;
        list(key, &value)?.iter().map(|value| count(key, value)).collect()
    }

    /// One integer for each of `blocks` blocks, or one for all of them; none where it is absent or null.
    pub fn count_per_block(&mut self, key: &str, blocks: usize) -> Result<Option<Vec<i64>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        if !value.is_array() {
            return Ok(Some(vec![count(key, &value)?; blocks]));
        }
        per_block(key, &value, blocks)?.iter().map(|value| count(key, value)).collect::<Result<_>>().map(Some)
    }

    pub fn number(&mut self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let number = value.as_f64().filter(|v| *v > 0.0 && v.is_finite());
        number.ok_or_else(|| anyhow!("{key} is {}: expected a positive number", shown(&value)))
    }

    pub fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.value(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| anyhow!("{key} is {}: expected true or false", shown(&value)))
    }

    /// For each of `blocks` blocks, which of `names` its entry in the list `key` is.
    pub fn choices(&mut self, key: &str, names: &[&str], blocks: usize) -> Result<Vec<usize>> {
        let value = self.value(key).ok_or_else(|| anyhow!("{key} is missing"))?;
        let choice = |value: &Value| {
            let index = names.iter().position(|name| Some(*name) == value.as_str());
            index.ok_or_else(|| {
                anyhow!("{key} holds {}, which is not supported: only {}", shown(value), names.join(" and "))
            })
        };
        per_block(key, &value, blocks)?.iter().map(choice).collect()
    }

    /// Refuses `key` unless it is absent or has the one value that is implemented.
    pub fn only(&mut self, key: &str, supported: impl Into<Value>) -> Result<()> {
        let supported = supported.into();
        let Some(value) = self.left.remove(key) else { return Ok(()) };
        let same = match (value.as_f64(), supported.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => value == supported,
        };
        ensure!(same, "{key} is {}, which is not supported: only {supported}", shown(&value));
        Ok(())
    }

    /// Refuses each of `keys` unless it is absent or null.
    pub fn only_null(&mut self, keys: &[&str]) -> Result<()> {
        keys.iter().try_for_each(|key| self.only(key, Value::Null))
    }

    /// Lets `keys` have any value: they change nothing in what the network computes.
    pub fn without_effect(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.remove(*key);
        }
    }

    /// An error names the keys that nobody asked for.
    pub fn finish(self) -> Result<()> {
        let keys: Vec<_> = self.left.keys().collect();
        ensure!(keys.is_empty(), "{} has no hyper-parameter {}", self.class, few(&keys));
        Ok(())
    }
}

fn count(key: &str, value: &Value) -> Result<i64> {
    let count = value.as_i64().filter(|v| (1..=MAX_COUNT).contains(v));
    count.ok_or_else(|| anyhow!("{key} holds {}: expected an integer from 1 to {MAX_COUNT}", shown(value)))
}

/// The list `value`, which has an entry for each of `blocks` blocks.
fn per_block<'a>(key: &str, value: &'a Value, blocks: usize) -> Result<&'a [Value]> {
    let values = list(key, value)?;
    ensure!(values.len() == blocks, "{key} has {} entries for {blocks} blocks", values.len());
    Ok(values)
}

fn list<'a>(key: &str, value: &'a Value) -> Result<&'a [Value]> {
    match value.as_array() {
        Some(values) if (1..=MAX_BLOCKS).contains(&values.len()) => Ok(values),
        _ => bail!("{key} is not a list of 1 to {MAX_BLOCKS} entries"),
    }
}

/// The value in an error: as much of it as somebody reads.
pub fn shown(value: &Value) -> String {
    format!("{:.80}", value.to_string())
}

/// Names in an error: of very many a few, and how many more.
pub fn few<S: AsRef<str>>(names: &[S]) -> String {
    const NAMED: usize = 16;
    let named: Vec<_> = names.iter().take(NAMED).map(|name| format!("{:.256}", name.as_ref())).collect();
    let more = names.len() - named.len();
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str, read: impl Fn(&mut ConfigReader) -> Result<()>) -> String {
        let attempt = || {
            let mut config = ConfigReader::parse(json, "_class_name", &["Net"])?;
            read(&mut config)?;
            config.finish()
        };
        format!("{:#}", attempt().unwrap_err())
    }

    #[test]
    fn what_is_not_honoured_is_named() {
        assert_eq!(error(r#"{"_class_name": "Other"}"#, |_| Ok(())), r#"_class_name is "Other": expected Net"#);
        let net = |rest: &str| format!(r#"{{"_class_name": "Net", "_diffusers_version": "0", {rest}}}"#);
        assert_eq!(error(&net(r#""a": 1, "b": 2"#), |c| c.count("a", 1).map(drop)), "Net has no hyper-parameter b");
        let large = error(&net(r#""a": 1152921504606846976"#), |c| c.count("a", 1).map(drop));
        assert!(large.starts_with("a holds 1152921504606846976"), "{large}");
        let activation = error(&net(r#""act_fn": "mish""#), |c| c.only("act_fn", "silu"));
        assert_eq!(activation, r#"act_fn is "mish", which is not supported: only "silu""#);
        assert!(error(&net(r#""eps": 0"#), |c| c.number("eps", 1e-5).map(drop)).starts_with("eps is 0"));
        assert!(error(&net(r#""types": ["X"]"#), |c| c.choices("types", &["A"], 1).map(drop)).contains("holds \"X\""));
    }
}
