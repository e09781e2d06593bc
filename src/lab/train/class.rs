//! What can be trained: the registry's models that have a training.

use crate::harmonizers::{Form, MODELS, Model, ModelConfig, Training};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use once_cell::sync::Lazy;
use std::fmt;

/// One of them.
#[derive(Clone, Copy)]
pub struct Class {
    pub name: &'static str,
    pub training: &'static Training,
    new: fn() -> Box<dyn ModelConfig>,
}

impl Class {
    fn of(model: &'static Model) -> Option<Self> {
        match (&model.form, &model.training) {
            (Form::Network { new, .. }, Some(training)) => Some(Self { name: model.name, training, new: *new }),
            _ => None,
        }
    }

    /// What its network is made by.
    pub fn config(self) -> Box<dyn ModelConfig> {
        (self.new)()
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl ValueEnum for Class {
    fn value_variants<'a>() -> &'a [Self] {
        static CLASSES: Lazy<Vec<Class>> = Lazy::new(|| MODELS.iter().filter_map(Class::of).collect());
        &CLASSES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.training.about))
    }
}
