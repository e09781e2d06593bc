//! Films measured frame by frame, whatever their length: only the frame before is kept.

use super::correction::{self, Corrected};
use super::cut::{self, Recovery};
use super::flow::{self, Flow};
use super::warp;
use crate::lab::eval::scale::{square, square_mask};
use crate::lab::eval::{lab, metrics};
use anyhow::{Result, ensure};
use image::{GrayImage, RgbImage};
use serde::Serialize;

/// What is given of one frame, all of one size.
#[derive(Clone, Debug)]
pub struct Frame {
    pub composite: RgbImage,
    /// 0 background to 255 foreground.
    pub mask: GrayImage,
    /// What the composite should look like, where that is known.
    pub real: Option<RgbImage>,
}

/// What a way of harmonizing made of a frame.
#[derive(Clone, Debug)]
pub struct Made {
    pub picture: RgbImage,
    /// What it would have made of this frame by the colour mapping that it had for the one before; none where it can't tell.
    pub again: Option<RgbImage>,
}

impl From<RgbImage> for Made {
    fn from(picture: RgbImage) -> Self {
        Self { picture, again: None }
    }
}

/// What moved between the frame before and this one. Forward and backward are of the composites, as Lai et al. take the flow of
/// what goes in: all ways are measured along the same motion.
#[derive(Clone, Debug)]
pub struct Motion {
    pub forward: Flow,
    pub backward: Flow,
    /// From this frame back to the one before, of the real pictures scaled to 256 x 256: for TL.
    pub square_back: Option<Flow>,
}

/// The figures of one way to harmonize, in order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VideoMetrics {
    /// For each frame: squared error of the foreground, and PSNR of the whole frame. None without a real picture; fMSE also
    /// without a foreground, which is where the mask has 128 and more.
    pub fmse: Vec<Option<f64>>,
    pub psnr: Vec<Option<f64>>,
    /// For each frame: mean L*, a*, b* of the foreground; none without one.
    pub colour: Vec<Option<[f64; 3]>>,
    /// For each frame: mean of R, G, B out - in over the foreground.
    pub correction: Vec<Option<[f64; 3]>>,
    /// For each frame but the first, with the one before: [`correction::change`] and [`correction::remapping`].
    pub change: Vec<Option<f64>>,
    pub mapping: Vec<Option<f64>>,
    /// [`warp::error`] over visible pixels, and over the visible foreground, where a pixel weighs as much as the smaller of its
    /// mask values before and after.
    pub e_warp: Vec<Option<f64>>,
    pub e_warp_foreground: Vec<Option<f64>>,
    /// [`warp::tl`].
    pub tl: Vec<Option<f64>>,
}

impl VideoMetrics {
    /// [`correction::flicker`] of the foreground's colour.
    pub fn flicker(&self) -> Option<f64> {
        correction::flicker(&self.colour)
    }

    /// [`cut::recoveries`].
    pub fn recoveries(&self, cuts: &[usize]) -> Vec<Recovery> {
        cut::recoveries(&self.correction, cuts)
    }
}

/// Mean of the figures that are there.
pub fn mean(figures: &[Option<f64>]) -> Option<f64> {
    let sum: f64 = figures.iter().flatten().sum();
    let count = figures.iter().flatten().count();
    (count > 0).then(|| sum / count as f64)
}

/// Measures several ways to harmonize one film side by side.
#[derive(Debug)]
pub struct Measuring {
    courses: Vec<VideoMetrics>,
    before: Option<Seen>,
}

/// A frame and what each way made of it.
#[derive(Debug)]
struct Seen {
    frame: Frame,
    pictures: Vec<RgbImage>,
    /// Scaled for TL: real, mask, and the pictures.
    square: Option<Square>,
}

#[derive(Debug)]
struct Square {
    real: RgbImage,
    mask: GrayImage,
    pictures: Vec<RgbImage>,
}

impl Measuring {
    /// Of `ways` ways to harmonize.
    pub fn new(ways: usize) -> Self {
        Self { courses: vec![VideoMetrics::default(); ways], before: None }
    }

    /// Takes the next frame, with a picture of each way and, from the second frame on, what moved since the one before; without
    /// `motion` E_warp and TL are none.
    pub fn push(&mut self, frame: Frame, made: Vec<Made>, motion: Option<&Motion>) -> Result<()> {
        let (pictures, again): (Vec<_>, Vec<_>) = made.into_iter().map(|made| (made.picture, made.again)).unzip();
        ensure!(pictures.len() == self.courses.len(), "{} pictures of {} ways", pictures.len(), self.courses.len());
        let size = frame.composite.dimensions();
        let real = frame.real.iter();
        let sizes = pictures
            .iter()
            .chain(again.iter().flatten())
            .chain(real)
            .map(RgbImage::dimensions)
            .chain([frame.mask.dimensions()]);
        for other in sizes.chain(self.before.iter().map(|before| before.frame.composite.dimensions())) {
            ensure!(other == size, "a picture of {other:?} in a film of {size:?}");
        }
        let flow = motion.map(|motion| motion.forward.size());
        ensure!(
            flow.is_none_or(|flow| flow == [size.0, size.1].map(|v| v as usize)),
            "a flow of another size: {flow:?}"
        );

        let seen = Seen::new(frame, pictures);
        for (course, picture) in self.courses.iter_mut().zip(&seen.pictures) {
            course.push(&seen.frame, picture);
        }
        if let Some(before) = &self.before {
            Step::new(before, &seen, motion)?.measure(&mut self.courses);
            for ((course, picture), again) in self.courses.iter_mut().zip(&seen.pictures).zip(&again) {
                let remapping = |again| correction::remapping(picture, again, &seen.frame.mask);
                course.mapping.push(again.as_ref().and_then(remapping));
            }
        }
        self.before = Some(seen);
        Ok(())
    }

    pub fn finish(self) -> Vec<VideoMetrics> {
        self.courses
    }
}

impl VideoMetrics {
    fn push(&mut self, frame: &Frame, picture: &RgbImage) {
        let foreground: Vec<bool> = frame.mask.iter().map(|&m| m >= 128).collect();
        let errors = frame.real.as_ref().map(|real| metrics::errors(picture, real, &foreground));
        self.fmse.push(errors.and_then(|[_, fmse]| fmse.is_finite().then_some(fmse)));
        self.psnr.push(errors.map(|[mse, _]| metrics::psnr(mse)));
        self.colour.push(lab::mean(picture, &frame.mask));
        self.correction.push(correction::mean(corrected(frame, picture)));
    }
}

fn corrected<'a>(frame: &'a Frame, picture: &'a RgbImage) -> Corrected<'a> {
    Corrected { picture, composite: &frame.composite, mask: &frame.mask }
}

impl Seen {
    fn new(frame: Frame, pictures: Vec<RgbImage>) -> Self {
        let small = |picture: &RgbImage| square(picture, warp::TL_SIDE);
        let square = frame.real.as_ref().map(|real| Square {
            real: small(real),
            mask: square_mask(&frame.mask, warp::TL_SIDE),
            pictures: pictures.iter().map(small).collect(),
        });
        Self { frame, pictures, square }
    }
}

/// Two frames in a row and what is common to all ways of harmonizing them.
struct Step<'a> {
    before: &'a Seen,
    after: &'a Seen,
    motion: Option<&'a Motion>,
    /// Weights of the frame before: visible, and visible foreground.
    visible: Vec<f32>,
    foreground: Vec<f32>,
    tl: Option<(&'a Flow, &'a Square, &'a Square, Vec<f32>)>,
}

impl<'a> Step<'a> {
    fn new(before: &'a Seen, after: &'a Seen, motion: Option<&'a Motion>) -> Result<Self> {
        let back = motion.and_then(|motion| motion.square_back.as_ref());
        let tl = match (back, &before.square, &after.square) {
            (Some(back), Some(this), Some(next)) => {
                ensure!(back.size() == [warp::TL_SIDE as usize; 2], "a flow of {:?} for TL", back.size());
                Some((back, this, next, warp::tl_weights(&this.real, &next.real, &this.mask, back)))
            }
            _ => None,
        };
        let mut step = Self { before, after, motion, visible: Vec::new(), foreground: Vec::new(), tl };
        if let Some(Motion { forward, backward, .. }) = motion {
            let visible = flow::visible(forward, backward)?;
            let mask = |index: usize| {
                let there = forward.tap(index).of(|at| f32::from(after.frame.mask.as_raw()[at]));
                f32::from(before.frame.mask.as_raw()[index]).min(there) / 255.0
            };
            step.visible = visible.iter().map(|&visible| f32::from(u8::from(visible))).collect();
            step.foreground = step.visible.iter().enumerate().map(|(index, v)| v * mask(index)).collect();
        }
        Ok(step)
    }

    fn measure(&self, courses: &mut [VideoMetrics]) {
        for (way, course) in courses.iter_mut().enumerate() {
            let [picture, next] = [self.before, self.after].map(|seen| &seen.pictures[way]);
            course
                .change
                .push(correction::change(corrected(&self.before.frame, picture), corrected(&self.after.frame, next)));
            let warped = |weights: &[f32]| warp::error(picture, next, &self.motion?.forward, weights);
            course.e_warp.push(warped(&self.visible));
            course.e_warp_foreground.push(warped(&self.foreground));
            course.tl.push(self.tl.as_ref().and_then(|(back, this, next, weights)| {
                warp::tl(&this.pictures[way], &next.pictures[way], back, weights)
            }));
        }
    }
}
