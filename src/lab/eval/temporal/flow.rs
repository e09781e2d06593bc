//! Optical flow as data, wherever it comes from: an estimator, or a synthetic motion that is known exactly.

use anyhow::{Result, ensure};

/// Where each pixel of one frame is found in another.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    width: usize,
    height: usize,
    vectors: Vec<[f32; 2]>,
}

/// A place between pixels: the four around it and their bilinear weights.
pub(super) struct Tap {
    at: [usize; 4],
    weights: [f32; 4],
}

impl Tap {
    /// What `value` of pixel indexes comes to at this place.
    pub fn of(&self, value: impl Fn(usize) -> f32) -> f32 {
        self.at.iter().zip(self.weights).map(|(&at, weight)| weight * value(at)).sum()
    }
}

impl Flow {
    /// `vectors` are [dx, dy] in pixels, row by row, all of them finite.
    pub fn new(width: usize, height: usize, vectors: Vec<[f32; 2]>) -> Result<Self> {
        ensure!(width > 0 && height > 0, "a flow without pixels");
        ensure!(vectors.len() == width * height, "a flow of {width}x{height} with {} vectors", vectors.len());
        ensure!(vectors.iter().flatten().all(|v| v.is_finite()), "a flow that is not finite everywhere");
        Ok(Self { width, height, vectors })
    }

    /// The same motion everywhere.
    pub fn uniform(width: usize, height: usize, vector: [f32; 2]) -> Result<Self> {
        Self::new(width, height, vec![vector; width * height])
    }

    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// Where the pixel of this index comes to lie, in pixels from the first pixel's centre.
    fn target(&self, index: usize) -> [f32; 2] {
        let [dx, dy] = self.vectors[index];
        [(index % self.width) as f32 + dx, (index / self.width) as f32 + dy]
    }

    fn is_inside(&self, [x, y]: [f32; 2]) -> bool {
        (0.0..=(self.width - 1) as f32).contains(&x) && (0.0..=(self.height - 1) as f32).contains(&y)
    }

    /// The target of the pixel of this index; one beyond the border is the border's nearest.
    pub(super) fn tap(&self, index: usize) -> Tap {
        let [x, y] = self.target(index);
        let split = |v: f32, size: usize| {
            let v = v.clamp(0.0, (size - 1) as f32);
            let low = v as usize;
            (low, (low + 1).min(size - 1), v - low as f32)
        };
        let ((left, right, fx), (top, bottom, fy)) = (split(x, self.width), split(y, self.height));
        let at = |x: usize, y: usize| y * self.width + x;
        Tap {
            at: [at(left, top), at(right, top), at(left, bottom), at(right, bottom)],
            weights: [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy],
        }
    }

    /// Squared differences to the right and lower neighbour, of both components.
    fn gradient(&self, index: usize) -> f32 {
        let (x, y) = (index % self.width, index / self.width);
        let here = self.vectors[index];
        let apart = |there: [f32; 2]| magnitude([there[0] - here[0], there[1] - here[1]]);
        let right = if x + 1 < self.width { apart(self.vectors[index + 1]) } else { 0.0 };
        let below = if y + 1 < self.height { apart(self.vectors[index + self.width]) } else { 0.0 };
        right + below
    }
}

/// Squared length, which is what the code of Lai et al. calls magnitude.
fn magnitude([dx, dy]: [f32; 2]) -> f32 {
    dx * dx + dy * dy
}

/// Which pixels of a frame can be compared with the next one, `forward` going there and `backward` back: as in the code of Lai
/// et al. 2018 (Ruder et al. 2016), not those where the two disagree by
/// |f + b|^2 > 0.01 (|f|^2 + |b|^2) + 0.5, b taken where f leads, nor those where motion breaks,
/// |grad f|^2 > 0.01 |f|^2 + 0.002; and, beyond that code, none that leave the frame.
pub fn visible(forward: &Flow, backward: &Flow) -> Result<Vec<bool>> {
    ensure!(forward.size() == backward.size(), "a flow forth and one back differ in size");
    let is_visible = |index: usize| {
        let there = forward.vectors[index];
        let tap = forward.tap(index);
        let back = [0, 1].map(|c| tap.of(|at| backward.vectors[at][c]));
        let apart = magnitude([there[0] + back[0], there[1] + back[1]]);
        forward.is_inside(forward.target(index))
            && apart <= 0.01 * (magnitude(there) + magnitude(back)) + 0.5
            && forward.gradient(index) <= 0.01 * magnitude(there) + 0.002
    };
    Ok((0..forward.vectors.len()).map(is_visible).collect())
}
