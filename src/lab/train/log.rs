//! What is noted of a training at each of its pauses, in log.json.

/// One pause.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct LogRow {
    pub step: u64,
    #[serde(default)]
    pub stage: usize,
    /// Mean loss since the row before.
    pub loss: f64,
    /// Foreground error on photographs kept out of training, as a share of the composites' own.
    pub validation: f64,
}
