//! What a network was trained under, and how its file says so: diffusers' `scheduler_config.json`.
//!
//! Every field of that file is taken up or refused by its name; none is passed over that would change the result.

use super::{Prediction, Schedule};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

/// How the steps spread over the training timesteps (Lin et al. 2023, Table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Multiples of a whole stride from `steps_offset` on: never reaches the noisiest timestep.
    Leading,
    /// Both ends and evenly between.
    Linspace,
    /// Back from the noisiest timestep: never reaches timestep 0.
    Trailing,
}

/// The noise schedule and what samplers need to know of it. None: the sampler's own default, as in diffusers.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub schedule: Schedule,
    pub train_timesteps: usize,
    pub prediction: Prediction,
    pub spacing: Option<Spacing>,
    /// Of leading timesteps.
    pub steps_offset: usize,
    /// Whether DDIM's last step lands on x0 itself or, as Stable Diffusion's, on timestep 0.
    pub set_alpha_to_one: Option<bool>,
    /// Whether DDIM and LCM hold x0 to `clip_sample_range` either side of 0.
    pub clip_sample: Option<bool>,
    pub clip_sample_range: f64,
    /// Steps that a network for LCM was distilled on.
    pub original_inference_steps: usize,
    /// Sharpness of LCM's boundary condition.
    pub timestep_scaling: f64,
}

/// The fields that are taken up. Betas have no default: those of diffusers differ by class.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "_class_name")]
    class: Option<String>,
    num_train_timesteps: usize,
    beta_start: f64,
    beta_end: f64,
    beta_schedule: String,
    prediction_type: Option<Prediction>,
    timestep_spacing: Option<Spacing>,
    steps_offset: Option<usize>,
    set_alpha_to_one: Option<bool>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f64>,
    original_inference_steps: Option<usize>,
    timestep_scaling: Option<f64>,
}

const CLASSES: [&str; 5] =
    ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler"];

/// Fields taken at this one value, in JSON.
const ONLY: [(&str, &str); 11] = [
    ("trained_betas", "null"),
    ("thresholding", "false"),
    ("rescale_betas_zero_snr", "false"),
    ("interpolation_type", "\"linear\""),
    ("use_karras_sigmas", "false"),
    ("use_exponential_sigmas", "false"),
    ("use_beta_sigmas", "false"),
    ("sigma_min", "null"),
    ("sigma_max", "null"),
    ("timestep_type", "\"discrete\""),
    ("final_sigmas_type", "\"zero\""),
];

/// Fields that change nothing while thresholding is off and the sampler isn't PNDM.
const WITHOUT_EFFECT: [&str; 4] =
    ["_diffusers_version", "dynamic_thresholding_ratio", "sample_max_value", "skip_prk_steps"];

impl Config {
    /// A network that predicts noise, everything else at diffusers' defaults.
    pub fn new(schedule: Schedule, train_timesteps: usize) -> Self {
        Self {
            schedule,
            train_timesteps,
            prediction: Prediction::Epsilon,
            spacing: None,
            steps_offset: 0,
            set_alpha_to_one: None,
            clip_sample: None,
            clip_sample_range: 1.0,
            original_inference_steps: 50,
            timestep_scaling: 10.0,
        }
    }

    /// Reads `scheduler_config.json`; an error names the field that is missing, unknown or not supported.
    pub fn from_json(text: &str) -> Result<Self> {
        let mut fields: Map<String, Value> = serde_json::from_str(text).context("not a scheduler configuration")?;
        for (name, only) in ONLY {
            if let Some(value) = fields.remove(name) {
                ensure!(
                    value.to_string() == only,
                    "{name} is {value} in the scheduler configuration: only {only} is supported"
                );
            }
        }
        fields.retain(|name, _| !WITHOUT_EFFECT.contains(&name.as_str()));
        let file: File = serde_json::from_value(Value::Object(fields)).context("scheduler configuration")?;
        if let Some(class) = file.class.as_deref() {
            ensure!(
                CLASSES.contains(&class),
                "scheduler class {class} is not supported: take one of {}",
                CLASSES.join(", ")
            );
        }
        let (beta_start, beta_end) = (file.beta_start, file.beta_end);
        let schedule = match file.beta_schedule.as_str() {
            "linear" => Schedule::Linear { beta_start, beta_end },
            "scaled_linear" => Schedule::ScaledLinear { beta_start, beta_end },
            "squaredcos_cap_v2" => Schedule::Cosine,
            other => bail!("beta_schedule {other} is not supported: take linear, scaled_linear or squaredcos_cap_v2"),
        };
        let defaults = Self::new(schedule, file.num_train_timesteps);
        let config = Self {
            prediction: file.prediction_type.unwrap_or(defaults.prediction),
            spacing: file.timestep_spacing,
            steps_offset: file.steps_offset.unwrap_or(defaults.steps_offset),
            set_alpha_to_one: file.set_alpha_to_one,
            clip_sample: file.clip_sample,
            clip_sample_range: file.clip_sample_range.unwrap_or(defaults.clip_sample_range),
            original_inference_steps: file.original_inference_steps.unwrap_or(defaults.original_inference_steps),
            timestep_scaling: file.timestep_scaling.unwrap_or(defaults.timestep_scaling),
            ..defaults
        };
        for (name, value) in
            [("clip_sample_range", config.clip_sample_range), ("timestep_scaling", config.timestep_scaling)]
        {
            ensure!(value > 0.0, "{name} is {value} in the scheduler configuration: it must be more than 0");
        }
        config.alphas_cumprod()?;
        Ok(config)
    }

    pub(super) fn alphas_cumprod(&self) -> Result<Vec<f64>> {
        self.schedule.alphas_cumprod(self.train_timesteps)
    }

    /// How far x0 may lie from 0, where it is held.
    pub(super) fn clip(&self, default: bool) -> Option<f64> {
        self.clip_sample.unwrap_or(default).then_some(self.clip_sample_range)
    }

    /// From noise to signal; whole numbers but for linspace.
    pub(super) fn timesteps(&self, spacing: Spacing, steps: usize) -> Result<Vec<f64>> {
        let (train, offset) = (self.train_timesteps, self.steps_offset);
        ensure!(
            (1..=train).contains(&steps),
            "{steps} sampler steps don't fit a schedule of {train} timesteps: take 1 to {train}"
        );
        match spacing {
            Spacing::Leading => {
                let stride = train / steps;
                ensure!(
                    ((steps - 1) * stride).saturating_add(offset) < train,
                    "{steps} leading sampler steps with steps_offset {offset} go beyond {train} timesteps: take fewer"
                );
                Ok((0..steps).rev().map(|i| (i * stride + offset) as f64).collect())
            }
            Spacing::Linspace => {
                ensure!(steps > 1, "one linspace sampler step would see no noise at all: take 2 or trailing spacing");
                let stride = (train - 1) as f64 / (steps - 1) as f64;
                Ok((0..steps).rev().map(|i| i as f64 * stride).collect())
            }
            Spacing::Trailing => {
                let stride = train as f64 / steps as f64;
                Ok((0..steps).map(|i| (train as f64 - i as f64 * stride).round_ties_even() - 1.0).collect())
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// The scheduler of Stable Diffusion 1.5 for inpainting, which DiffHarmony was trained under.
    fn file() -> Value {
        json!({
            "_class_name": "DDIMScheduler", "_diffusers_version": "0.6.0.dev0", "num_train_timesteps": 1000,
            "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "trained_betas": null,
            "clip_sample": false, "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1
        })
    }

    pub fn sd() -> Config {
        Config::from_json(&file().to_string()).unwrap()
    }

    fn with(name: &str, value: Value) -> Result<Config> {
        let mut file = file();
        file[name] = value;
        Config::from_json(&file.to_string())
    }

    #[test]
    fn stable_diffusion_s_file_is_read() {
        let schedule = Schedule::ScaledLinear { beta_start: 0.00085, beta_end: 0.012 };
        let expected = Config {
            steps_offset: 1,
            set_alpha_to_one: Some(false),
            clip_sample: Some(false),
            ..Config::new(schedule, 1000)
        };
        assert_eq!(sd(), expected);
    }

    #[test]
    fn every_field_is_taken_up() {
        let sd = sd();
        let expected = [
            ("prediction_type", json!("v_prediction"), Config { prediction: Prediction::Velocity, ..sd.clone() }),
            ("prediction_type", json!("sample"), Config { prediction: Prediction::Sample, ..sd.clone() }),
            ("timestep_spacing", json!("trailing"), Config { spacing: Some(Spacing::Trailing), ..sd.clone() }),
            ("num_train_timesteps", json!(500), Config { train_timesteps: 500, ..sd.clone() }),
            ("beta_schedule", json!("squaredcos_cap_v2"), Config { schedule: Schedule::Cosine, ..sd.clone() }),
            ("clip_sample_range", json!(2.5), Config { clip_sample_range: 2.5, ..sd.clone() }),
            ("original_inference_steps", json!(25), Config { original_inference_steps: 25, ..sd.clone() }),
            ("timestep_scaling", json!(5.0), Config { timestep_scaling: 5.0, ..sd.clone() }),
        ];
        for (name, value, expected) in expected {
            assert_eq!(with(name, value).unwrap(), expected, "{name}");
        }
        let linear = Schedule::Linear { beta_start: 0.00085, beta_end: 0.012 };
        assert_eq!(with("beta_schedule", json!("linear")).unwrap().schedule, linear);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (name, value) in [
            ("trained_betas", json!([0.1, 0.2])),
            ("thresholding", json!(true)),
            ("rescale_betas_zero_snr", json!(true)),
            ("interpolation_type", json!("log_linear")),
            ("use_karras_sigmas", json!(true)),
            ("sigma_max", json!(80.0)),
            ("timestep_type", json!("continuous")),
            ("final_sigmas_type", json!("sigma_min")),
            ("algorithm_type", json!("dpmsolver++")),
            ("beta_schedule", json!("sigmoid")),
            ("clip_sample_range", json!(0.0)),
        ] {
            let error = format!("{:#}", with(name, value).unwrap_err());
            assert!(error.contains(name), "{name}: {error}");
        }
        let error = format!("{:#}", with("_class_name", json!("FlowMatchEulerDiscreteScheduler")).unwrap_err());
        assert!(error.contains("FlowMatchEulerDiscreteScheduler") && error.contains("DDIMScheduler"), "{error}");
        for (name, value) in
            [("beta_end", json!(1.5)), ("beta_start", json!(0.0)), ("num_train_timesteps", json!(1u64 << 60))]
        {
            assert!(with(name, value).is_err(), "{name}");
        }
        let mut missing = file();
        missing.as_object_mut().unwrap().remove("beta_end");
        assert!(format!("{:#}", Config::from_json(&missing.to_string()).unwrap_err()).contains("beta_end"));
    }

    #[test]
    fn step_counts_that_the_schedule_has_no_room_for_are_errors() {
        let sd = sd();
        for (spacing, steps) in [
            (Spacing::Trailing, 0),
            (Spacing::Trailing, 1001),
            (Spacing::Linspace, 1),
            // Timestep 1000 would be asked for.
            (Spacing::Leading, 1000),
        ] {
            assert!(sd.timesteps(spacing, steps).is_err(), "{spacing:?} {steps}");
        }
        assert!(Config { steps_offset: usize::MAX, ..sd.clone() }.timesteps(Spacing::Leading, 5).is_err());
        assert_eq!(sd.timesteps(Spacing::Trailing, 1000).unwrap()[999], 0.0);
    }
}
