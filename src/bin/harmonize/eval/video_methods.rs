//! The methods of harmonizing that a film is measured with, each giving one picture for each frame.

use super::frames::Frames;
use crate::options::{ModelArgs, TemporalArgs};
use anyhow::{Context, Result, bail, ensure};
use gstharmonize::engine::still::Still;
use gstharmonize::engine::{Engine, Entry, Outcome, Parameters, Policy, Request, Stream};
use gstharmonize::lab::eval::baselines::Reinhard;
use gstharmonize::lab::eval::temporal::{Frame, Made};
use gstharmonize::pictures;
use gstharmonize::transfer::Transfer;
use image::{GrayImage, RgbImage};
use std::path::Path;
use std::sync::Arc;

pub enum VideoMethod<'a> {
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

impl<'a> VideoMethod<'a> {
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
    parameters: Parameters,
    /// Whether each frame has noise of its own.
    new_noise: bool,
    before: Option<Arc<Transfer>>,
}

impl<'a> Alone<'a> {
    pub fn new(engine: &'a Engine, model: &ModelArgs, new_noise: bool) -> Self {
        Self { engine, parameters: model.parameters(), new_noise, before: None }
    }

    fn make(&mut self, index: usize, Frame { composite, mask, .. }: &Frame) -> Result<Made> {
        let mut parameters = self.parameters;
        if self.new_noise {
            parameters.request.seed = parameters.request.seed.wrapping_add(index as u64);
        }
        let harmonized = pictures::harmonize(self.engine, composite, mask, parameters)?;
        let transfer = harmonized.applied.map(|applied| applied.transfer);
        let again = again(&mut self.before, transfer, composite, mask, parameters.strength)?;
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
) -> Result<Option<RgbImage>> {
    let before = std::mem::replace(before, transfer);
    before.map(|transfer| pictures::changed(composite, mask, &transfer, strength)).transpose()
}

/// Reads ahead as far as a frame needs.
pub struct Steady<'a> {
    engine: &'a Engine,
    stream: Stream<Still>,
    parameters: Parameters,
    temporal: &'a TemporalArgs,
    composites: Frames<RgbImage>,
    masks: Frames<GrayImage>,
    is_over: bool,
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
        Ok(Self {
            engine,
            stream: Stream::default(),
            parameters: Parameters { temporal: temporal.temporal(), ..model.parameters() },
            temporal,
            composites: Frames::open(composite)?,
            masks: Frames::open(mask)?,
            is_over: false,
            before: None,
        })
    }

    fn make(&mut self, Frame { composite, mask, .. }: &Frame) -> Result<Made> {
        loop {
            if let Some(ready) = self.stream.next(self.is_over, 0, &mut |ended| ended.map(drop)) {
                let transfer = match ready.outcome? {
                    Outcome::Harmonized(applied) => Some(applied.transfer),
                    Outcome::Passed => None,
                    _ => bail!("a frame without a transfer"),
                };
                let again = again(&mut self.before, transfer, composite, mask, self.parameters.strength)?;
                return Ok(Made { picture: pictures::picture(ready.frame)?, again });
            }
            ensure!(!self.is_over, "the film ended before its frames did");
            match (self.composites.next()?, self.masks.next()?) {
                (Some(composite), Some(mask)) => {
                    self.push(composite.picture, &mask.picture, composite.time.nseconds() as i64)?;
                }
                _ => self.is_over = true,
            }
        }
    }

    fn push(&self, composite: RgbImage, mask: &GrayImage, time: i64) -> Result<()> {
        let frame = pictures::still(composite)?;
        let mask = Arc::new(pictures::foreground(&frame, mask));
        if mask.is_empty() {
            self.stream.pass(frame, time);
            return Ok(());
        }
        let request = Request { noise: self.temporal.noise(time), ..self.parameters.request };
        let parameters = Parameters { request, ..self.parameters };
        let entry = Entry { frame, mask, time, running_time: time, begins: false, is_margin: false, parameters };
        let policy = Policy::Exact { shows_first: false };
        Ok(self.stream.push(self.engine, entry, policy, &mut |ended| ended.map(drop))?)
    }
}
