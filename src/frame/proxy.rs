//! The proxy: the small picture that a harmonizer sees.

use super::cells::{Axis, Scratch};
use super::colour::Affine;
use super::samples::Channel;
use super::{Colorimetry, Format, Mask, Picture, Plane, Region, View};
use crate::bands;
use std::cell::RefCell;

/// Box-filtered composite and mask of the whole frame, or of a region of it. `rgb` is 3 x height x width (planar), sRGB in
/// 0..1; `mask` is height x width in 0..1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxy {
    pub width: usize,
    pub height: usize,
    /// What it shows, in pixels of the frame; `None` is the whole frame.
    pub region: Option<Region>,
    pub rgb: Vec<f32>,
    pub mask: Vec<f32>,
}

/// `Proxy::read` into a new one.
pub fn proxy(picture: &Picture, mask: &Mask, view: View) -> Proxy {
    let mut proxy = Proxy::default();
    proxy.read(picture, mask, view);
    proxy
}

thread_local! {
    /// Across the frame, at luma's and at chroma's rate.
    static AXES: RefCell<[Axis; 2]> = Default::default();
    /// Of a thread that works on some of the rows.
    static SCRATCH: RefCell<Scratch> = Default::default();
}

impl Proxy {
    /// Averages what `view` shows of `picture` and `mask` (of the same size) over the cells of its grid, in this proxy's own
    /// memory. Borders of cells cut through samples, so the grid may have any size, also a larger one than the picture, and its
    /// region begin at any pixel. Y'CbCr is averaged first, each component at its own rate, and then turned into RGB. A region
    /// that reaches beyond the picture gives a proxy without a foreground.
    pub fn read(&mut self, picture: &Picture, mask: &Mask, view: View) {
        let View { region, cols, rows } = view;
        (self.width, self.height, self.region) = (cols, rows, region);
        for (values, channels) in [(&mut self.rgb, 3), (&mut self.mask, 1)] {
            values.clear();
            values.resize(channels * cols * rows, 0.0);
        }
        let region = region.unwrap_or(Region::whole(picture.width, picture.height));
        let usable = picture.check().is_ok() && mask.covers(picture.width, picture.height);
        if cols * rows == 0 || !usable || !region.is_within(picture.width, picture.height) {
            return;
        }
        AXES.with_borrow_mut(|axes| {
            for (axis, rate) in axes.iter_mut().zip([0, picture.format.sub[0]]) {
                axis.set(region.x, region.width, cols, rate);
            }
            let reader = Reader::new(picture, mask, region, rows, axes);
            // Of a small part of a picture no more bands than of a small picture.
            let lines = bands::height(region.width, region.height, 1) * rows / region.height;
            let lines = lines.max(rows.div_ceil(bands::MAX_BANDS));
            let (red, rest) = self.rgb.split_at_mut(cols * rows);
            let (green, blue) = rest.split_at_mut(cols * rows);
            let [red, green, blue, masks] = [red, green, blue, &mut self.mask].map(|v| v.chunks_mut(lines * cols));
            bands::each(red.zip(green).zip(blue).zip(masks).enumerate(), |(band, (((red, green), blue), mask))| {
                let lines = (band * lines..).zip(red.chunks_exact_mut(cols).zip(green.chunks_exact_mut(cols)));
                let others = blue.chunks_exact_mut(cols).zip(mask.chunks_exact_mut(cols));
                SCRATCH.with_borrow_mut(|scratch| {
                    for ((line, (red, green)), (blue, mask)) in lines.zip(others) {
                        reader.line(line, [red, green, blue], mask, scratch);
                    }
                });
            });
        });
    }
}

/// What the lines of a proxy are read from.
struct Reader<'a> {
    planes: [Plane<'a>; 4],
    channels: [Option<Channel>; 3],
    mask: Plane<'a>,
    mask_channel: Option<Channel>,
    format: Format,
    rgb_of: Affine,
    region: Region,
    rows: usize,
    axes: &'a [Axis; 2],
}

impl<'a> Reader<'a> {
    fn new(picture: &Picture<'a>, mask: &'a Mask, region: Region, rows: usize, axes: &'a [Axis; 2]) -> Self {
        let Picture { format, planes, .. } = *picture;
        Self {
            planes,
            channels: [0, 1, 2].map(|c| format.places[c].map(|place| Channel::new(&format, place))),
            mask: Plane { data: &mask.data, stride: mask.width },
            mask_channel: Format::GRAY8.places[0].map(|place| Channel::new(&Format::GRAY8, place)),
            format,
            rgb_of: picture.colour.rgb_of(format),
            region,
            rows,
            axes,
        }
    }

    /// Line `y` of the proxy.
    fn line(&self, y: usize, mut rgb: [&mut [f32]; 3], mask: &mut [f32], scratch: &mut Scratch) {
        let Self { region, rows, axes, .. } = self;
        let (top, height) = (region.y, region.height);
        for plane in 0..self.planes.len() {
            let mut of_plane = self.channels.iter().enumerate().filter_map(|(c, channel)| {
                channel.filter(|channel| channel.plane == plane).map(|channel| (c, channel))
            });
            let Some((first, channel)) = of_plane.next() else { continue };
            let axis = |c: usize| &axes[usize::from(c > 0)];
            // Components of one plane cover the same pixels, each in its own steps.
            let words = |c: usize, channel: &Channel| channel.words(&axis(c).samples());
            let mut span = words(first, &channel);
            for (c, channel) in of_plane.clone() {
                let more = words(c, &channel);
                span = span.start.min(more.start)..span.end.max(more.end);
            }
            let rate = self.format.rate(first)[1];
            scratch.sum(&self.planes[plane], &channel, span.clone(), (top, height, *rows, rate), y);
            for (c, channel) in std::iter::once((first, channel)).chain(of_plane) {
                scratch.average(&channel, span.start, axis(c), rgb[c]);
            }
        }
        if self.format.is_gray() {
            let neutral = Colorimetry::neutral(self.format);
            rgb[1..].iter_mut().for_each(|chroma| chroma.fill(neutral));
        }
        convert(&self.rgb_of, &mut rgb);
        if let Some(channel) = &self.mask_channel {
            let span = channel.words(&axes[0].samples());
            scratch.sum(&self.mask, channel, span.clone(), (top, height, *rows, 0), y);
            scratch.average(channel, span.start, &axes[0], mask);
            mask.iter_mut().for_each(|m| *m = (*m / 255.0).min(1.0));
        }
    }
}

/// Averaged code values to RGB in 0..1, in place.
fn convert(a: &Affine, [red, green, blue]: &mut [&mut [f32]; 3]) {
    let a = a.map(|row| row.map(|x| x as f32));
    for ((red, green), blue) in red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut()) {
        let c = [*red, *green, *blue];
        let [r, g, b] = a.map(|[x, y, z, one]| (x * c[0] + y * c[1] + z * c[2] + one).clamp(0.0, 1.0));
        (*red, *green, *blue) = (r, g, b);
    }
}
