//! Changes of colour that make a foreground look as if it came from elsewhere.

use super::photos::{Data, Look, Polynomial};
use super::random::Random;

/// A change of colour, sRGB in 0..1 to sRGB in 0..1; `u`, `v` are the place in the picture in 0..1.
pub enum Recolour<'a> {
    /// From one measured illuminant to standard light and from there to another, as ccHarmony builds its composites.
    Illuminant(&'a Polynomial, &'a Polynomial),
    /// A look as HYouTube applies them, at part of its strength.
    Look(&'a Look, f32),
    Smooth(Smooth),
}

/// Exposure and white balance in linear light, then gamma, contrast and saturation; light falling off across the picture.
pub struct Smooth {
    gain: [f32; 3],
    gamma: [f32; 3],
    contrast: f32,
    saturation: f32,
    light: [f32; 2],
}

impl<'a> Recolour<'a> {
    /// Draws from the families that `data` has material for.
    pub fn draw(random: &mut Random, data: &'a Data) -> Self {
        let choice = random.uniform(0.0, 1.0);
        if choice < 0.42 && !data.to_standard.is_empty() {
            let from = &data.to_standard[random.index(data.to_standard.len())];
            Self::Illuminant(from, &data.from_standard[random.index(data.from_standard.len())])
        } else if choice < 0.82 && !data.looks.is_empty() {
            let strength = if random.chance(0.7) { 1.0 } else { random.uniform(0.4, 1.0) };
            Self::Look(&data.looks[random.index(data.looks.len())], strength as f32)
        } else {
            Self::Smooth(Smooth::draw(random, 1.0))
        }
    }

    pub fn apply(&self, c: [f32; 3], u: f32, v: f32) -> [f32; 3] {
        match self {
            Self::Illuminant(to_standard, from_standard) => {
                let standard = polynomial(to_standard, c.map(|x| x * 255.0));
                polynomial(from_standard, standard).map(|x| x / 255.0)
            }
            Self::Look(look, strength) => {
                let graded = look.at(c);
                std::array::from_fn(|i| c[i] + strength * (graded[i] - c[i]))
            }
            Self::Smooth(smooth) => smooth.apply(c, u, v),
        }
    }
}

fn polynomial(p: &Polynomial, [r, g, b]: [f32; 3]) -> [f32; 3] {
    let terms = [r, g, b, r * g, r * b, g * b, r * r, g * g, b * b, r * g * b, 1.0];
    std::array::from_fn(|c| p[c].iter().zip(terms).map(|(w, x)| w * x).sum::<f32>().clamp(0.0, 255.0))
}

impl Look {
    /// Trilinear interpolation.
    fn at(&self, c: [f32; 3]) -> [f32; 3] {
        let last = (self.size - 1) as f32;
        let place = c.map(|x| x.clamp(0.0, 1.0) * last);
        let cell = place.map(|x| (x as usize).min(self.size - 2));
        let part: [f32; 3] = std::array::from_fn(|i| place[i] - cell[i] as f32);
        let mut sum = [0.0; 3];
        for corner in 0..8usize {
            let bit = |i: usize| (corner >> i) & 1;
            let weight: f32 = (0..3).map(|i| if bit(i) == 1 { part[i] } else { 1.0 - part[i] }).product();
            let [r, g, b] = std::array::from_fn(|i| cell[i] + bit(i));
            let value = self.values[(b * self.size + g) * self.size + r];
            (0..3).for_each(|i| sum[i] += weight * value[i]);
        }
        sum
    }
}

impl Smooth {
    /// `amount` 1 is a foreground from elsewhere, less a variation of a whole photograph.
    pub fn draw(random: &mut Random, amount: f64) -> Self {
        let exposure = random.uniform(-1.3, 1.3) * amount;
        let (warmth, tint) = (random.uniform(-0.6, 0.6) * amount, random.uniform(-0.25, 0.25) * amount);
        let gain = [exposure + warmth, exposure + tint, exposure - warmth].map(|stops: f64| stops.exp2() as f32);
        let gamma = random.uniform(-0.4, 0.4) * amount;
        let gamma = std::array::from_fn(|_| (gamma + random.uniform(-0.1, 0.1) * amount).exp() as f32);
        let light = if random.chance(0.3) { 0.6 * amount } else { 0.0 };
        Self {
            gain,
            gamma,
            contrast: (random.uniform(-0.35, 0.35) * amount).exp() as f32,
            saturation: (1.0 + random.uniform(-0.6, 0.5) * amount) as f32,
            light: std::array::from_fn(|_| random.uniform(-light, light) as f32),
        }
    }

    pub fn apply(&self, c: [f32; 3], u: f32, v: f32) -> [f32; 3] {
        let light = (self.light[0] * (u - 0.5) + self.light[1] * (v - 0.5)).exp2();
        let lit: [f32; 3] =
            std::array::from_fn(|i| to_srgb(to_linear(c[i]) * self.gain[i] * light).powf(self.gamma[i]));
        let luma = 0.299 * lit[0] + 0.587 * lit[1] + 0.114 * lit[2];
        let toned = 0.5 + (luma - 0.5) * self.contrast;
        lit.map(|x| (toned + (x - luma) * self.saturation * self.contrast).clamp(0.0, 1.0))
    }
}

/// IEC 61966-2-1.
fn to_linear(x: f32) -> f32 {
    if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
}

fn to_srgb(x: f32) -> f32 {
    let x = x.clamp(0.0, 1.0);
    if x <= 0.003_130_8 { 12.92 * x } else { 1.055 * x.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neutral_changes_change_nothing() {
        let size = 17;
        let grid = |i: usize| i as f32 / 16.0;
        let values = (0..size * size * size).map(|i| [grid(i % 17), grid(i / 17 % 17), grid(i / 289)]).collect();
        let look = Look { size, values };
        let c = [0.21, 0.55, 0.93];
        let near = |a: [f32; 3]| a.iter().zip(c).all(|(x, y)| (x - y).abs() < 1e-5);
        assert!(near(Recolour::Look(&look, 1.0).apply(c, 0.5, 0.5)));
        let identity: Polynomial = std::array::from_fn(|i| std::array::from_fn(|k| f32::from(i == k)));
        assert!(near(Recolour::Illuminant(&identity, &identity).apply(c, 0.5, 0.5)));
        let smooth = Smooth { gain: [1.0; 3], gamma: [1.0; 3], contrast: 1.0, saturation: 1.0, light: [0.0; 2] };
        assert!(near(smooth.apply(c, 0.1, 0.9)));
    }

    #[test]
    fn exposure_doubles_linear_light() {
        let smooth = Smooth { gain: [2.0; 3], gamma: [1.0; 3], contrast: 1.0, saturation: 1.0, light: [0.0; 2] };
        let lit = smooth.apply([0.2, 0.4, 0.6], 0.5, 0.5);
        for (x, y) in lit.into_iter().zip([0.2f32, 0.4, 0.6]) {
            assert!((to_linear(x) / to_linear(y) - 2.0).abs() < 1e-4);
        }
    }
}
