//! Training composites made on the fly: a region of a photograph recoloured, the photograph itself the answer.

use super::photos::{Data, Photo, Shape};
use super::random::Random;
use super::recolour::{Recolour, Smooth};
use crate::frame::{Colour, Format, Mask, Matrix, Picture, Plane, Proxy, View, proxy};

/// Shares of the picture that a foreground may cover.
const FOREGROUND: std::ops::Range<f64> = 0.012..0.7;

/// Planar RGB in 0..1 at proxy size; `real` is what `composite` should look like.
pub struct Sample {
    pub composite: Vec<f32>,
    pub real: Vec<f32>,
    pub mask: Vec<f32>,
}

/// Draws samples from some of the photographs.
pub struct Synthesis<'a> {
    data: &'a Data,
    photos: &'a [usize],
    unchanged: f64,
}

/// A window of a photograph.
struct Crop {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl<'a> Synthesis<'a> {
    /// Draws from `photos`, numbers of photographs in `data`, each as likely; a share of the composites is `unchanged`.
    pub fn new(data: &'a Data, photos: &'a [usize], unchanged: f64) -> Self {
        Self { data, photos, unchanged }
    }

    /// A composite of `width` x `height`, decided by `random` alone.
    pub fn sample(&self, random: &mut Random, width: usize, height: usize) -> Sample {
        let (photo, crop, mask) = self.foreground(random);
        let mut real = small(photo, &crop, &mask, width, height);
        if random.chance(0.5) {
            flip(&mut real);
        }
        if random.chance(0.4) {
            let smooth = Smooth::draw(random, 0.5);
            recolour(&mut real.rgb, width, height, |c, u, v| smooth.apply(c, u, v));
        }
        let change = Recolour::draw(random, self.data, self.unchanged);
        let mut recoloured = real.rgb.clone();
        recolour(&mut recoloured, width, height, |c, u, v| change.apply(c, u, v));
        let area = width * height;
        let blend = |(i, (&r, &f)): (usize, (&f32, &f32))| r + real.mask[i % area] * (f - r);
        let composite = real.rgb.iter().zip(&recoloured).enumerate().map(blend).collect();
        Sample { composite, real: real.rgb, mask: real.mask }
    }

    /// A photograph, a window of it and a foreground in that window.
    fn foreground(&self, random: &mut Random) -> (&'a Photo, Crop, Mask) {
        loop {
            let photo = &self.data.photos[self.photos[random.index(self.photos.len())]];
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
        colour: Colour::new(Matrix::Bt709, true),
        width: crop.width,
        height: crop.height,
        interlaced: false,
        planes: [plane, Plane::default(), Plane::default(), Plane::default()],
    };
    proxy(&picture, mask, View::whole(width, height))
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
