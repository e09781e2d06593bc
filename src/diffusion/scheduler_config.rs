//! diffusers' `scheduler_config.json`, those of DDIM, PNDM, both Eulers and LCM.
//!
//! Every field is taken up or refused by its name; none is passed over that would change the result.

use super::{Prediction, Schedule, SchedulerConfig, TimestepSpacing};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

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
    timestep_spacing: Option<TimestepSpacing>,
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

impl SchedulerConfig {
    /// Reads `scheduler_config.json`; an error names the field that is missing, unknown or not supported.
    pub fn from_json(text: &str) -> Result<Self> {
        let mut fields: Map<String, Value> = serde_json::from_str(text).context("not a scheduler configuration")?;
        for (name, only) in ONLY {
            if let Some(value) = fields.remove(name) {
                let found = value.to_string();
                ensure!(found == only, "{name} is {found} in the scheduler configuration: only {only} is supported");
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

    pub fn sd() -> SchedulerConfig {
        SchedulerConfig::from_json(&file().to_string()).unwrap()
    }

    fn with(name: &str, value: Value) -> Result<SchedulerConfig> {
        let mut file = file();
        file[name] = value;
        SchedulerConfig::from_json(&file.to_string())
    }

    #[test]
    fn stable_diffusion_s_file_is_read() {
        let schedule = Schedule::ScaledLinear { beta_start: 0.00085, beta_end: 0.012 };
        let expected = SchedulerConfig {
            steps_offset: 1,
            set_alpha_to_one: Some(false),
            clip_sample: Some(false),
            ..SchedulerConfig::new(schedule, 1000)
        };
        assert_eq!(sd(), expected);
    }

    #[test]
    fn every_field_is_taken_up() {
        let sd = sd();
        let expected = [
            (
                "prediction_type",
                json!("v_prediction"),
                SchedulerConfig { prediction: Prediction::Velocity, ..sd.clone() },
            ),
            ("prediction_type", json!("sample"), SchedulerConfig { prediction: Prediction::Sample, ..sd.clone() }),
            (
                "timestep_spacing",
                json!("trailing"),
                SchedulerConfig { spacing: Some(TimestepSpacing::Trailing), ..sd.clone() },
            ),
            ("num_train_timesteps", json!(500), SchedulerConfig { train_timesteps: 500, ..sd.clone() }),
            ("beta_schedule", json!("squaredcos_cap_v2"), SchedulerConfig { schedule: Schedule::Cosine, ..sd.clone() }),
            ("clip_sample_range", json!(2.5), SchedulerConfig { clip_sample_range: 2.5, ..sd.clone() }),
            ("original_inference_steps", json!(25), SchedulerConfig { original_inference_steps: 25, ..sd.clone() }),
            ("timestep_scaling", json!(5.0), SchedulerConfig { timestep_scaling: 5.0, ..sd.clone() }),
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
        assert!(format!("{:#}", SchedulerConfig::from_json(&missing.to_string()).unwrap_err()).contains("beta_end"));
    }
}
