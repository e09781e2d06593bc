//! The ways of harmonizing that a film is measured with, each giving one picture for each frame.

use super::frames::Frames;
use crate::options::{ModelArgs, TemporalArgs};
use anyhow::{Context, Result};
use gstharmonize::engine::Engine;
use gstharmonize::eval::baselines::Reinhard;
use gstharmonize::eval::film::Film;
use gstharmonize::eval::still;
use gstharmonize::eval::temporal::{Frame, Made};
use gstharmonize::transfer::Transfer;
use image::{GrayImage, RgbImage};
use std::path::Path;
use std::sync::Arc;

pub enum Way<'a> {
    /// The composite, untouched.
    Composite,
    /// The truth itself.
    Real,
    /// With the mapping of the frame before.
    Reinhard(Option<Reinhard>),
    /// The model on each frame by itself.
    Alone(Alone<'a>),
    /// As the element has it.
    Harmonize(Box<Steady<'a>>),
}

impl<'a> Way<'a> {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Composite => "composite",
            Self::Real => "real",
            Self::Reinhard(_) => "Reinhard per frame",
            Self::Alone(Alone { new_noise: true, .. }) => "noise per frame",
            Self::Alone(_) => "frame by frame",
            Self::Harmonize(_) => "harmonize",
        }
    }

    /// What it makes of frame `index`; frames come in order.
    pub fn make(&mut self, index: usize, frame: &Frame) -> Result<Made> {
        let Frame { composite, mask, real } = frame;
        match self {
            Self::Composite => Ok(Made { picture: composite.clone(), again: Some(composite.clone()) }),
            Self::Real => Ok(real.clone().context("there is no real picture")?.into()),
            Self::Reinhard(before) => {
                let mapping = Reinhard::of(composite, mask);
                let by = |mapping: Option<Reinhard>| mapping.map(|mapping| mapping.apply(composite, mask));
                let again = by(std::mem::replace(before, mapping));
                Ok(Made { picture: by(mapping).unwrap_or_else(|| composite.clone()), again })
            }
            Self::Alone(alone) => alone.make(index, frame),
            Self::Harmonize(steady) => steady.make(frame),
        }
    }
}

pub struct Alone<'a> {
    engine: &'a Engine,
    settings: still::Settings,
    /// Whether each frame has noise of its own.
    new_noise: bool,
    before: Option<Arc<Transfer>>,
}

impl<'a> Alone<'a> {
    pub fn new(engine: &'a Engine, model: &ModelArgs, new_noise: bool) -> Self {
        Self { engine, settings: model.settings(), new_noise, before: None }
    }

    fn make(&mut self, index: usize, Frame { composite, mask, .. }: &Frame) -> Result<Made> {
        let mut settings = self.settings;
        if self.new_noise {
            settings.request.seed = settings.request.seed.wrapping_add(index as u64);
        }
        let harmonized = still::harmonize(self.engine, composite, mask, settings)?;
        let transfer = harmonized.inferred.map(|(_, transfer)| transfer);
        let again = again(&mut self.before, transfer, composite, mask, settings.strength);
        Ok(Made { picture: harmonized.picture, again })
    }
}

/// The frame by the transfer of the one before, whose place this one's takes.
fn again(
    before: &mut Option<Arc<Transfer>>,
    transfer: Option<Arc<Transfer>>,
    composite: &RgbImage,
    mask: &GrayImage,
    strength: f32,
) -> Option<RgbImage> {
    let before = std::mem::replace(before, transfer);
    before.map(|transfer| still::changed(composite, mask, &transfer, strength))
}

/// Reads ahead as far as a frame needs.
pub struct Steady<'a> {
    film: Film<'a>,
    composites: Frames<RgbImage>,
    masks: Frames<GrayImage>,
    is_over: bool,
    strength: f32,
    before: Option<Arc<Transfer>>,
}

impl<'a> Steady<'a> {
    pub fn open(
        composite: &Path,
        mask: &Path,
        engine: &'a Engine,
        model: &ModelArgs,
        temporal: &'a TemporalArgs,
    ) -> Result<Self> {
        let settings = model.settings();
        Ok(Self {
            film: Film::new(engine, settings, temporal.temporal(), |time| temporal.noise(time)),
            composites: Frames::open(composite)?,
            masks: Frames::open(mask)?,
            is_over: false,
            strength: settings.strength,
            before: None,
        })
    }

    fn make(&mut self, Frame { composite, mask, .. }: &Frame) -> Result<Made> {
        loop {
            if let Some((picture, transfer)) = self.film.next(self.is_over)? {
                let again = again(&mut self.before, transfer, composite, mask, self.strength);
                return Ok(Made { picture, again });
            }
            anyhow::ensure!(!self.is_over, "the film ended before its frames did");
            match (self.composites.next()?, self.masks.next()?) {
                (Some(composite), Some(mask)) => {
                    self.film.push(composite.picture, &mask.picture, composite.time.nseconds() as i64);
                }
                _ => self.is_over = true,
            }
        }
    }
}
