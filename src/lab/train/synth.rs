//! Training composites made on the fly: a region of a photograph recoloured, the photograph itself the answer.

use super::photos::{Data, Photo, Shape, Sources};
use super::recolour::{Colours, Recolour, Smooth};
use crate::frame::{Colorimetry, Format, Mask, Matrix, Picture, Plane, Proxy, View, proxy};
use crate::harmonizers::training::Random;

/// Shares of the picture that a foreground may cover.
const FOREGROUND: std::ops::Range<f64> = 0.012..0.7;

/// Mean squared errors, in 8-bit values, of recoloured foregrounds: less is hardly seen, more leaves nothing to tell the truth by.
const CHANGE: std::ops::Range<f64> = 30.0..15_000.0;
/// Share of the composites with a camera's noise.
const COARSE: f64 = 0.15;
/// Share of the masks that are a little off, or softer than what the foreground was cut with.
const WRONG: f64 = 0.25;
/// Recolourings tried for one foreground, of which the last stays: some foregrounds are hardly changed by any.
const TRIES: usize = 10;

/// Planar RGB in 0..1 at proxy size; `real` is what `composite` should look like.
pub struct TrainingSample {
    pub composite: Vec<f32>,
    pub real: Vec<f32>,
    pub mask: Vec<f32>,
}

/// Draws samples from some of the photographs.
pub struct Synthesis<'a> {
    data: &'a Data,
    photos: &'a Sources,
    unchanged: f64,
    graded: f64,
}

/// A window of a photograph.
struct Crop {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl<'a> Synthesis<'a> {
    /// Draws from `photos`, which are of `data`. A share of the composites is `unchanged`, and a share of the
    /// photographs `graded` as a whole before.
    pub fn new(data: &'a Data, photos: &'a Sources, unchanged: f64, graded: f64) -> Self {
        Self { data, photos, unchanged, graded }
    }

    /// A composite of `width` x `height`, decided by `random` alone.
    pub fn sample(&self, random: &mut Random, width: usize, height: usize) -> TrainingSample {
        let (photo, crop, mask) = self.foreground(random);
        let mut real = small(photo, &crop, &mask, width, height);
        if random.chance(0.5) {
            flip(&mut real);
        }
        if random.chance(self.graded) {
            let smooth = Smooth::wide(random, 0.5);
            recolour(&mut real.rgb, width, height, |c, u, v| smooth.apply(c, u, v));
        }
        let recoloured = self.recoloured(random, &real, [width, height]);
        let area = width * height;
        let blend = |(i, (&r, &f)): (usize, (&f32, &f32))| r + real.mask[i % area] * (f - r);
        let mut composite: Vec<f32> = real.rgb.iter().zip(&recoloured).enumerate().map(blend).collect();
        if random.chance(COARSE) {
            coarsen(random, &mut composite, &mut real.rgb);
        }
        if random.chance(WRONG) {
            real.mask = wrong(random, &real.mask, width, height);
        }
        TrainingSample { composite, real: real.rgb, mask: real.mask }
    }

    /// `real` in other colours, or as it is.
    fn recoloured(&self, random: &mut Random, real: &Proxy, [width, height]: [usize; 2]) -> Vec<f32> {
        let mut recoloured = real.rgb.clone();
        if random.chance(self.unchanged) {
            return recoloured;
        }
        let pixels = real.rgb.len() / 3;
        let colour = |i: usize| ([real.rgb[i], real.rgb[pixels + i], real.rgb[2 * pixels + i]], real.mask[i]);
        let own = Colours((0..pixels).map(colour).filter(|(_, weight)| *weight > 0.5).collect());
        for _ in 0..TRIES {
            let other = self.photos.draw(random, self.data);
            let change = Recolour::draw(random, self.data, &own, other);
            recoloured.copy_from_slice(&real.rgb);
            recolour(&mut recoloured, width, height, |c, u, v| change.apply(c, u, v));
            if CHANGE.contains(&fmse(real, &recoloured)) {
                break;
            }
        }
        recoloured
    }

    /// A photograph, a window of it and a foreground in that window.
    fn foreground(&self, random: &mut Random) -> (&'a Photo, Crop, Mask) {
        loop {
            let photo = self.photos.draw(random, self.data);
            let crop = Crop::draw(random, photo);
            let mask = self.mask(random, photo, &crop);
            let share = mask.data.iter().filter(|&&m| m != 0).count() as f64 / mask.data.len() as f64;
            if FOREGROUND.contains(&share) {
                return (photo, crop, mask);
            }
        }
    }

    fn mask(&self, random: &mut Random, photo: &Photo, crop: &Crop) -> Mask {
        let (width, height) = (crop.width, crop.height);
        let shapes = if photo.regions.is_empty() { 1.0 } else { 0.1 };
        let data = if random.chance(shapes) {
            if self.data.shapes.is_empty() || random.chance(0.2) {
                ellipse(random, width, height)
            } else {
                let shape = &self.data.shapes[random.index(self.data.shapes.len())];
                placed(random, shape, width, height)
            }
        } else {
            let mut wanted = [false; 256];
            for _ in 0..if random.chance(0.15) { 2 } else { 1 } {
                wanted[usize::from(photo.regions[random.index(photo.regions.len())])] = true;
            }
            let row = |y: usize| &photo.labels[(crop.y + y) * photo.width + crop.x..][..width];
            (0..height).flat_map(|y| row(y).iter().map(|&l| if wanted[usize::from(l)] { 255 } else { 0 })).collect()
        };
        Mask { width, height, data }
    }
}

impl Crop {
    fn draw(random: &mut Random, photo: &Photo) -> Self {
        let least = if random.chance(0.3) { 1.0 } else { 0.55 };
        let mut side = |length: usize| ((length as f64 * random.uniform(least, 1.0)) as usize).max(1);
        let (width, height) = (side(photo.width), side(photo.height));
        let (x, y) = (random.index(photo.width - width + 1), random.index(photo.height - height + 1));
        Self { x, y, width, height }
    }
}

fn ellipse(random: &mut Random, width: usize, height: usize) -> Vec<u8> {
    let (cx, cy) = (random.uniform(0.1, 0.9), random.uniform(0.1, 0.9));
    let (rx, ry) = (random.uniform(0.08, 0.4), random.uniform(0.08, 0.4));
    let inside = |x: usize, y: usize| {
        let (u, v) = ((x as f64 + 0.5) / width as f64 - cx, (y as f64 + 0.5) / height as f64 - cy);
        (u / rx).powi(2) + (v / ry).powi(2) < 1.0
    };
    (0..width * height).map(|i| if inside(i % width, i / width) { 255 } else { 0 }).collect()
}

/// A shape scaled and put somewhere, partly outside perhaps.
fn placed(random: &mut Random, shape: &Shape, width: usize, height: usize) -> Vec<u8> {
    let scale = random.uniform(0.4, 1.4);
    let (dx, dy) = (random.uniform(-0.4, 0.4), random.uniform(-0.4, 0.4));
    let at = |x: usize, y: usize| {
        let place = |i: usize, n: usize, d: f64, size: usize| {
            let p = (((i as f64 + 0.5) / n as f64 - 0.5 - d) / scale + 0.5) * size as f64;
            (p >= 0.0 && p < size as f64).then_some(p as usize)
        };
        match (place(x, width, dx, shape.width), place(y, height, dy, shape.height)) {
            (Some(x), Some(y)) => shape.data[y * shape.width + x],
            _ => 0,
        }
    };
    (0..width * height).map(|i| at(i % width, i / width)).collect()
}

/// The window and its mask at the network's size.
fn small(photo: &Photo, crop: &Crop, mask: &Mask, width: usize, height: usize) -> Proxy {
    let stride = 3 * photo.width;
    let plane = Plane { data: &photo.rgb[crop.y * stride + 3 * crop.x..], stride };
    let picture = Picture {
        format: Format::RGB,
        colour: Colorimetry::new(Matrix::Bt709, true),
        width: crop.width,
        height: crop.height,
        interlaced: false,
        planes: [plane, Plane::default(), Plane::default(), Plane::default()],
    };
    proxy(&picture, mask, View::whole(width, height))
}

/// Of `picture` against `real`, weighted by the mask, in 8-bit values.
fn fmse(real: &Proxy, picture: &[f32]) -> f64 {
    let total: f64 = real.mask.iter().map(|&m| f64::from(m)).sum();
    let weights = real.mask.iter().cycle();
    let squares =
        real.rgb.iter().zip(picture).zip(weights).map(|((&a, &b), &m)| f64::from(m) * f64::from(a - b).powi(2));
    255.0 * 255.0 * squares.sum::<f64>() / (3.0 * total)
}

/// The same noise in both.
fn coarsen(random: &mut Random, composite: &mut [f32], real: &mut [f32]) {
    let sigma = random.uniform(0.0, 0.03);
    for (a, b) in composite.iter_mut().zip(real) {
        let noise = (sigma * random.normal()) as f32;
        *a = (*a + noise).clamp(0.0, 1.0);
        *b = (*b + noise).clamp(0.0, 1.0);
    }
}

/// A mask grown, shrunk or blurred by a pixel or two, but not to nothing.
fn wrong(random: &mut Random, mask: &[f32], width: usize, height: usize) -> Vec<f32> {
    let pick: fn(f32, f32) -> f32 = match random.index(3) {
        0 => f32::max,
        1 => f32::min,
        _ => |a, b| a + b,
    };
    let (right, mut mask) = (mask, mask.to_vec());
    let is_sum = pick(1.0, 1.0) > 1.0;
    for _ in 0..1 + random.index(2) {
        for (step, length) in [(1, width), (width, height)] {
            let at = |i: usize, by: isize| {
                let place = (i / step % length) as isize + by;
                if (0..length as isize).contains(&place) { (i as isize + by * step as isize) as usize } else { i }
            };
            let three = |i: usize| pick(pick(mask[i], mask[at(i, -1)]), mask[at(i, 1)]);
            mask = (0..mask.len()).map(|i| if is_sum { three(i) / 3.0 } else { three(i) }).collect();
        }
    }
    let sum = |mask: &[f32]| mask.iter().sum::<f32>();
    if sum(&mask) < 0.5 * sum(right) { right.to_vec() } else { mask }
}

fn flip(proxy: &mut Proxy) {
    for row in proxy.rgb.chunks_exact_mut(proxy.width).chain(proxy.mask.chunks_exact_mut(proxy.width)) {
        row.reverse();
    }
}

fn recolour(rgb: &mut [f32], width: usize, height: usize, change: impl Fn([f32; 3], f32, f32) -> [f32; 3]) {
    let area = width * height;
    for i in 0..area {
        let (u, v) = ((i % width) as f32 / width as f32, (i / width) as f32 / height as f32);
        let c = change([rgb[i], rgb[area + i], rgb[2 * area + i]], u, v);
        (0..3).for_each(|k| rgb[k * area + i] = c[k]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One photograph, its left half a region.
    fn data() -> Data {
        let (width, height) = (96, 64);
        let colour = |i: usize| [i % width * 2, i / width * 3, 60 + i % 96].map(|v| v as u8);
        let labels = (0..width * height).map(|i| u8::from(i % width < width / 2)).collect();
        let rgb = (0..width * height).flat_map(colour).collect();
        let photo = Photo { width, height, rgb, labels, regions: vec![1], source: "a".into() };
        Data { photos: vec![photo], ..Default::default() }
    }

    #[test]
    fn composites_fit_or_differ_as_much_as_somebody_might_let_them() {
        let data = data();
        let differ = |unchanged: f64| {
            let photos = Sources::new(&data, &[0]);
            let synthesis = Synthesis::new(&data, &photos, unchanged, 0.5);
            let samples = (0..300).map(|number| synthesis.sample(&mut Random::new(1, number), 32, 32));
            let differs = |TrainingSample { composite, real, mask }: TrainingSample| {
                assert!(mask.iter().sum::<f32>() > 0.0, "no foreground is left");
                let real = Proxy { width: 32, height: 32, region: None, rgb: real, mask };
                fmse(&real, &composite)
            };
            samples.map(differs).collect::<Vec<f64>>()
        };
        assert!(differ(1.0).iter().all(|&fmse| fmse == 0.0));
        let all = differ(0.0);
        // The mask's soft edge makes a composite's error less than that of its colours.
        let within = all.iter().filter(|&&fmse| (0.8 * CHANGE.start..CHANGE.end).contains(&fmse)).count();
        assert!(within > 285, "{within} of {}", all.len());
    }
}
