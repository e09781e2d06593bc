//! The registry: every class of models, a row each. A new one is a module in this folder and a row below.

pub mod compact;
pub mod diffharmony;
pub mod gift;
pub mod lite0;
pub mod star;

#[cfg(feature = "train")]
use super::model::Training;
use super::model::{BuiltIn, Form, Model, ModelConfig};
#[cfg(feature = "train")]
use super::training::COMPOSITES;
use anyhow::{Result, bail};
use serde::de::DeserializeOwned;

/// The model of who asks for none.
pub const DEFAULT: &str = "compact";

macro_rules! built_in {
    ($name:literal) => {
        Some(BuiltIn {
            config: include_str!(concat!("../../../models/", $name, "/config.json")),
            weights: include_bytes!(concat!("../../../models/", $name, "/model.safetensors")),
        })
    };
}

/// A static, as the weights in a constant would be there once for each use.
pub static MODELS: [Model; 5] = [
    Model {
        name: "compact",
        built_in: built_in!("compact"),
        form: network::<compact::CompactConfig>(),
        #[cfg(feature = "train")]
        training: Some(Training {
            about: "The default model: a conditional diffusion U-Net",
            side_multiple: 32,
            stages: &[COMPOSITES],
            trainee: compact::trainee::new,
        }),
    },
    Model {
        name: "lite0",
        built_in: None,
        form: network::<lite0::Lite0Config>(),
        #[cfg(feature = "train")]
        training: Some(Training {
            about: "The same on an encoder pretrained on ImageNet, which `--from` brings",
            side_multiple: 32,
            stages: &[COMPOSITES],
            trainee: lite0::trainee::new,
        }),
    },
    Model {
        name: "gift",
        built_in: built_in!("gift"),
        form: network::<gift::GiftConfig>(),
        #[cfg(feature = "train")]
        training: Some(Training {
            about: "Globally guided feature transformation, its relations distilled from real pictures",
            side_multiple: 64,
            stages: &[COMPOSITES],
            trainee: gift::trainee::new,
        }),
    },
    Model {
        name: "star",
        built_in: built_in!("star"),
        form: network::<star::StarConfig>(),
        #[cfg(feature = "train")]
        training: Some(Training {
            about: "Student-teacher reconstruction of masked latent patches: an autoencoder first, then photographs, then \
                    composites",
            side_multiple: 32,
            stages: &star::trainee::STAGES,
            trainee: star::trainee::new,
        }),
    },
    Model {
        name: "diffharmony",
        built_in: None,
        form: Form::Layout(diffharmony::LAYOUT),
        #[cfg(feature = "train")]
        training: None,
    },
];

const fn network<C: ModelConfig + Default + DeserializeOwned + 'static>() -> Form {
    Form::Network { parse: |json| Ok(Box::new(serde_json::from_str::<C>(json)?)), new: || Box::new(C::default()) }
}

/// The models inside the plugin file, by name.
pub fn built_in() -> impl Iterator<Item = (&'static str, &'static BuiltIn)> {
    MODELS.iter().filter_map(|model| Some((model.name, model.built_in.as_ref()?)))
}

/// The one of this name.
pub fn find_built_in(name: &str) -> Option<&'static BuiltIn> {
    built_in().find(|(own, _)| *own == name).map(|(_, files)| files)
}

/// The class that a `config.json` names, and what it says.
pub fn parse(json: &str) -> Result<(&'static str, Box<dyn ModelConfig>)> {
    #[derive(serde::Deserialize)]
    struct Class {
        class: String,
    }
    let class = serde_json::from_str::<Class>(json)?.class;
    let mut known = Vec::new();
    for model in &MODELS {
        match &model.form {
            Form::Network { parse, .. } if model.name == class => return Ok((model.name, parse(json)?)),
            Form::Network { .. } => known.push(model.name.to_owned()),
            Form::Layout(layout) => known.push(format!("and {} by {}", model.name, layout.known_by)),
        }
    }
    bail!("it asks for class {class:?}: this plugin knows {}", known.join(", "))
}
