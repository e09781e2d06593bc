//! Changes of colour that make a foreground look as if it came from elsewhere.

use super::photos::{Data, Look, Photo, Polynomial, Quadratic};
use crate::harmonizers::training::Random;

/// A change of colour, sRGB in 0..1 to sRGB in 0..1; `u`, `v` are the place in the picture in 0..1.
pub enum Recolour<'a> {
    /// From one measured illuminant to standard light and from there to another, as ccHarmony builds its composites.
    Illuminant(&'a Polynomial, &'a Polynomial),
    /// A look as HYouTube applies them, at part of its strength.
    Look(&'a Look, f32),
    /// A camera's setting, as the WB color augmenter applies them.
    WhiteBalance(&'a Quadratic),
    Statistics(Statistics),
    Smooth(Smooth),
    Both(Box<[Self; 2]>),
}

/// Shares of the families among the recolourings; what is left are smooth ones.
const STATISTICS: f64 = 0.20;
const WIDE: f64 = 0.22;
const WHITE_BALANCE: f64 = 0.05;
const RETOUCH: f64 = 0.11;
const ILLUMINANT: f64 = 0.22;
const LOOK: f64 = 0.18;

impl<'a> Recolour<'a> {
    /// Draws from the families that `data` has material for. `own` are the colours to change, `other` a photograph to take colours
    /// from.
    pub fn draw(random: &mut Random, data: &'a Data, own: &Colours, other: &Photo) -> Self {
        let mut choice = random.uniform(0.0, 1.0);
        let mut is = |share: f64, has_material: bool| {
            choice -= share;
            choice < 0.0 && choice >= -share && has_material
        };
        if is(STATISTICS, true) {
            Self::Statistics(Statistics::draw(random, own, other))
        } else if is(WIDE, true) {
            Self::Smooth(Smooth::wide(random, 1.0))
        } else if is(WHITE_BALANCE, !data.white_balance.is_empty()) {
            Self::WhiteBalance(&data.white_balance[random.index(data.white_balance.len())])
        } else if is(RETOUCH, !data.retouch.is_empty()) {
            let retouch = Self::look(random, &data.retouch);
            match random.uniform(0.0, 1.0) {
                x if x < 0.3 => Self::Both(Box::new([retouch, Self::look(random, &data.retouch)])),
                x if x < 0.6 => Self::Both(Box::new([retouch, Self::Smooth(Smooth::wide(random, 0.6))])),
                _ => retouch,
            }
        } else if is(ILLUMINANT, !data.to_standard.is_empty()) {
            let from = &data.to_standard[random.index(data.to_standard.len())];
            Self::Illuminant(from, &data.from_standard[random.index(data.from_standard.len())])
        } else if is(LOOK, !data.looks.is_empty()) {
            Self::look(random, &data.looks)
        } else {
            Self::Smooth(Smooth::draw(random, 1.0))
        }
    }

    fn look(random: &mut Random, looks: &'a [Look]) -> Self {
        let strength = if random.chance(0.7) { 1.0 } else { random.uniform(0.4, 1.0) };
        Self::Look(&looks[random.index(looks.len())], strength as f32)
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
            Self::WhiteBalance(p) => {
                let [r, g, b] = c;
                let terms = [r, g, b, r * g, r * b, g * b, r * r, g * g, b * b];
                p.map(|p| p.iter().zip(terms).map(|(w, x)| w * x).sum::<f32>().clamp(0.0, 1.0))
            }
            Self::Statistics(statistics) => statistics.apply(c),
            Self::Smooth(smooth) => smooth.apply(c, u, v),
            Self::Both(both) => both.iter().fold(c, |c, change| change.apply(c, u, v)),
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

/// Where colours have a mean and a deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    /// ITU-R BT.601's, of sRGB.
    Ycbcr,
    /// Logarithms of linear light.
    Log,
}

impl Space {
    /// Keeps the logarithm of black in bounds.
    const DARK: f32 = 0.003;

    fn of(self, c: [f32; 3]) -> [f32; 3] {
        match self {
            Self::Ycbcr => {
                let y = 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2];
                [y, (c[2] - y) / 1.772, (c[0] - y) / 1.402]
            }
            Self::Log => c.map(|x| (to_linear(x) + Self::DARK).ln()),
        }
    }

    fn back(self, [a, b, c]: [f32; 3]) -> [f32; 3] {
        match self {
            Self::Ycbcr => [a + 1.402 * c, a - 0.344_136 * b - 0.714_136 * c, a + 1.772 * b].map(|x| x.clamp(0.0, 1.0)),
            Self::Log => [a, b, c].map(|x| to_srgb(x.exp() - Self::DARK)),
        }
    }
}

/// Colours with weights.
#[derive(Default)]
pub struct Colours(pub Vec<([f32; 3], f32)>);

impl Colours {
    /// Some of a photograph's: of one of its regions, or of all of it where it has none.
    pub fn of_region(random: &mut Random, photo: &Photo) -> Self {
        const STRIDE: usize = 5;
        let region = (!photo.regions.is_empty()).then(|| photo.regions[random.index(photo.regions.len())]);
        let pixels = photo.rgb.chunks_exact(3).zip(&photo.labels).step_by(STRIDE);
        let wanted = pixels.filter(|(_, label)| region.is_none_or(|region| **label == region));
        Self(wanted.map(|(c, _)| ([c[0], c[1], c[2]].map(|x| f32::from(x) / 255.0), 1.0)).collect())
    }

    fn moments(&self, space: Space) -> [[f32; 3]; 2] {
        let (mut total, mut sums, mut squares) = (1e-6, [0.0; 3], [0.0; 3]);
        for &(c, weight) in self.0.iter().filter(|(_, weight)| *weight > 0.0) {
            total += weight;
            for (i, x) in space.of(c).into_iter().enumerate() {
                sums[i] += weight * x;
                squares[i] += weight * x * x;
            }
        }
        let mean = sums.map(|x| x / total);
        [mean, std::array::from_fn(|i| (squares[i] / total - mean[i] * mean[i]).max(0.0).sqrt())]
    }
}

/// Mean and deviation of another photograph's colours (Reinhard et al. 2001), at part of their strength.
pub struct Statistics {
    space: Space,
    mean: [f32; 3],
    ratio: [f32; 3],
    aim: [f32; 3],
    strength: f32,
}

impl Statistics {
    fn draw(random: &mut Random, own: &Colours, other: &Photo) -> Self {
        let space = if random.chance(0.5) { Space::Ycbcr } else { Space::Log };
        let [mean, deviation] = own.moments(space);
        let [aim, its_deviation] = Colours::of_region(random, other).moments(space);
        let ratio = std::array::from_fn(|i| (its_deviation[i] / deviation[i].max(1e-3)).clamp(0.4, 2.5));
        Self { space, mean, ratio, aim, strength: random.uniform(0.3, 1.0) as f32 }
    }

    fn apply(&self, c: [f32; 3]) -> [f32; 3] {
        let x = self.space.of(c);
        let moved = self.space.back(std::array::from_fn(|i| (x[i] - self.mean[i]) * self.ratio[i] + self.aim[i]));
        std::array::from_fn(|i| c[i] + self.strength * (moved[i] - c[i]))
    }
}

/// Exposure and white balance in linear light, a shoulder for what gets too bright, then gamma, contrast and saturation; light falling
/// off across the picture.
pub struct Smooth {
    gain: [f32; 3],
    /// Linear light above this is pressed into what is left up to 1.
    shoulder: f32,
    gamma: [f32; 3],
    contrast: f32,
    saturation: f32,
    light: [f32; 2],
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
            shoulder: 1.0,
            gamma,
            contrast: (random.uniform(-0.35, 0.35) * amount).exp() as f32,
            saturation: (1.0 + random.uniform(-0.6, 0.5) * amount) as f32,
            light: std::array::from_fn(|_| random.uniform(-light, light) as f32),
        }
    }

    /// As wide as what is filmed and put into another scene: normally distributed, exposure of up to three stops.
    pub fn wide(random: &mut Random, amount: f64) -> Self {
        let exposure = (random.normal() * 1.1 * amount).clamp(-3.0, 3.0);
        let (warmth, tint) = (random.normal() * 0.4 * amount, random.normal() * 0.15 * amount);
        let gain = [exposure + warmth, exposure + tint, exposure - warmth].map(|stops: f64| stops.exp2() as f32);
        let light = if random.chance(0.3) { 0.8 * amount } else { 0.0 };
        Self {
            gain,
            shoulder: if random.chance(0.4) { random.uniform(0.4, 0.9) as f32 } else { 1.0 },
            gamma: [(random.normal() * 0.3 * amount).clamp(-0.8, 0.8).exp() as f32; 3],
            contrast: (random.normal() * 0.3 * amount).clamp(-0.8, 0.8).exp() as f32,
            saturation: (random.normal() * 0.35 * amount).clamp(-1.2, 0.8).exp() as f32,
            light: std::array::from_fn(|_| random.uniform(-light, light) as f32),
        }
    }

    pub fn apply(&self, c: [f32; 3], u: f32, v: f32) -> [f32; 3] {
        let light = (self.light[0] * (u - 0.5) + self.light[1] * (v - 0.5)).exp2();
        let lit: [f32; 3] = std::array::from_fn(|i| {
            let bright = to_linear(c[i]) * self.gain[i] * light;
            to_srgb(self.pressed(bright)).powf(self.gamma[i])
        });
        let luma = 0.299 * lit[0] + 0.587 * lit[1] + 0.114 * lit[2];
        let toned = 0.5 + (luma - 0.5) * self.contrast;
        lit.map(|x| (toned + (x - luma) * self.saturation * self.contrast).clamp(0.0, 1.0))
    }

    fn pressed(&self, bright: f32) -> f32 {
        let room = 1.0 - self.shoulder;
        if room <= 0.0 || bright <= self.shoulder {
            return bright;
        }
        self.shoulder + room * (1.0 - (-(bright - self.shoulder) / room).exp())
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

    const NEUTRAL: Smooth =
        Smooth { gain: [1.0; 3], shoulder: 1.0, gamma: [1.0; 3], contrast: 1.0, saturation: 1.0, light: [0.0; 2] };

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
        let identity: Quadratic = std::array::from_fn(|i| std::array::from_fn(|k| f32::from(i == k)));
        assert!(near(Recolour::WhiteBalance(&identity).apply(c, 0.5, 0.5)));
        assert!(near(NEUTRAL.apply(c, 0.1, 0.9)));
        for space in [Space::Ycbcr, Space::Log] {
            let same = Statistics { space, mean: [0.3; 3], ratio: [1.0; 3], aim: [0.3; 3], strength: 1.0 };
            assert!(near(same.apply(c)), "{space:?}");
        }
    }

    #[test]
    fn exposure_doubles_linear_light() {
        let smooth = Smooth { gain: [2.0; 3], ..NEUTRAL };
        let lit = smooth.apply([0.2, 0.4, 0.6], 0.5, 0.5);
        for (x, y) in lit.into_iter().zip([0.2f32, 0.4, 0.6]) {
            assert!((to_linear(x) / to_linear(y) - 2.0).abs() < 1e-4);
        }
    }

    #[test]
    fn a_shoulder_keeps_bright_colours_apart() {
        let bright = |shoulder: f32| {
            let smooth = Smooth { gain: [4.0; 3], shoulder, ..NEUTRAL };
            [0.6, 0.8, 1.0].map(|x| smooth.apply([x; 3], 0.5, 0.5)[0])
        };
        assert!(bright(1.0)[1..].iter().all(|x| (x - 1.0).abs() < 1e-6));
        let [a, b, c] = bright(0.5);
        assert!(a < b && b < c && c < 1.0, "{a} {b} {c}");
    }

    #[test]
    fn statistics_take_on_the_other_photograph_s() {
        let mut random = Random::new(3, 5);
        let colour = |i: usize| std::array::from_fn(|k| 0.3 + 0.2 * ((i * (k + 3) % 17) as f32 / 16.0));
        let own = Colours((0..200).map(|i| (colour(i), 1.0)).collect());
        let rgb: Vec<u8> =
            (0..2000).flat_map(|i| [90 + (i % 31) as u8, 110 + (i % 23) as u8, 140 + (i % 29) as u8]).collect();
        let labels = vec![0; 2000];
        let other = Photo { width: 50, height: 40, rgb, labels, regions: Vec::new(), source: "a".into() };
        let full = Statistics { strength: 1.0, ..Statistics::draw(&mut random, &own, &other) };
        let moved = Colours(own.0.iter().map(|&(c, weight)| (full.apply(c), weight)).collect());
        let [found, _] = moved.moments(full.space);
        let [wanted, _] = Colours::of_region(&mut random, &other).moments(full.space);
        assert!(found.iter().zip(wanted).all(|(x, y)| (x - y).abs() < 0.01), "{found:?} {wanted:?}");
    }
}
