//! Where the foreground lies in the composite: what `compositor` makes of its pad's properties, worked out again so that the
//! mask goes to the same pixels.

use gst_video::VideoInfo;

/// The foreground's place, as a user sets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    pub xpos: i32,
    pub ypos: i32,
    /// 0: as the other side and the foreground's shape have it.
    pub width: i32,
    pub height: i32,
    pub alpha: f64,
    pub zorder: u32,
}

impl Default for Placement {
    fn default() -> Self {
        Self { xpos: 0, ypos: 0, width: 0, height: 0, alpha: 1.0, zorder: 1 }
    }
}

/// Pixels of the composite; they may lie outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    pub x: i32,
    pub y: i32,
    pub width: u32,
    pub height: u32,
}

impl Placement {
    /// The `width` and `height` for `compositor`'s pad.
    pub fn size(&self, foreground: &VideoInfo) -> (i32, i32) {
        let (w, h) = (i64::from(foreground.width()), i64::from(foreground.height()));
        let scaled = |side: i32, other: i64, of: i64| ((i64::from(side) * other + of / 2) / of.max(1)).max(1);
        let clamped = |side: i64| side.min(i64::from(i32::MAX)) as i32;
        match (self.width, self.height) {
            (0, 0) => (w as i32, h as i32),
            (0, height) => (clamped(scaled(height, w, h)), height),
            (width, 0) => (width, clamped(scaled(width, h, w))),
            given => given,
        }
    }

    /// Where `compositor` draws a `foreground` into a composite of `out`; `None` where it draws nothing.
    pub fn rectangle(&self, foreground: &VideoInfo, out: &VideoInfo) -> Option<Rectangle> {
        let (width, height) = self.size(foreground);
        let (mut width, mut height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        let ratio = gst_video::calculate_display_ratio(width, height, foreground.par(), out.par())?;
        let (n, d) = (u32::try_from(ratio.numer()).ok()?, u32::try_from(ratio.denom()).ok()?);
        let scaled = |side: u32, n: u32, d: u32| u32::try_from(u64::from(side) * u64::from(n) / u64::from(d)).ok();
        // One side of the display ratio stays, the height if it can.
        if height % n != 0 && width % d == 0 {
            height = scaled(width, d, n)?;
        } else {
            width = scaled(height, n, d)?;
        }
        (width > 0 && height > 0).then_some(Rectangle { x: self.xpos, y: self.ypos, width, height })
    }
}

impl Rectangle {
    /// The columns and rows of the rectangle that lie in a picture of `width` x `height`; `None` without any.
    pub fn visible(&self, width: u32, height: u32) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
        let cut = |start: i32, side: u32, limit: u32| {
            let (start, side, limit) = (i64::from(start), i64::from(side), i64::from(limit));
            let range = (-start).clamp(0, side)..(limit - start).clamp(0, side);
            (!range.is_empty()).then_some(range.start as usize..range.end as usize)
        };
        Some((cut(self.x, self.width, width)?, cut(self.y, self.height, height)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst_video::VideoFormat;

    fn info(format: VideoFormat, width: u32, height: u32, par: (i32, i32)) -> VideoInfo {
        gst::init().unwrap();
        VideoInfo::builder(format, width, height).par(gst::Fraction::new(par.0, par.1)).build().unwrap()
    }

    fn rgba(width: u32, height: u32) -> VideoInfo {
        info(VideoFormat::Rgba, width, height, (1, 1))
    }

    #[test]
    fn one_side_alone_keeps_the_shape() {
        let size = |width, height| Placement { width, height, ..Placement::default() }.size(&rgba(640, 360));
        assert_eq!(size(0, 0), (640, 360));
        assert_eq!(size(320, 0), (320, 180));
        assert_eq!(size(0, 90), (160, 90));
        assert_eq!(size(100, 100), (100, 100));
        assert_eq!(size(1, 0), (1, 1));
    }

    #[test]
    fn pixels_of_another_shape_are_stretched() {
        let placement = Placement::default();
        let wide = info(VideoFormat::Rgba, 720, 576, (64, 45));
        let rectangle = placement.rectangle(&wide, &rgba(1920, 1080)).unwrap();
        assert_eq!((rectangle.width, rectangle.height), (1024, 576));
    }

    #[test]
    fn only_what_lies_inside_is_visible() {
        let at = |x, y| Rectangle { x, y, width: 10, height: 6 };
        assert_eq!(at(0, 0).visible(64, 48), Some((0..10, 0..6)));
        assert_eq!(at(-4, 45).visible(64, 48), Some((4..10, 0..3)));
        assert_eq!(at(60, -2).visible(64, 48), Some((0..4, 2..6)));
        for (x, y) in [(-10, 0), (64, 0), (0, -6), (0, 48), (i32::MIN, 0), (i32::MAX, 0)] {
            assert_eq!(at(x, y).visible(64, 48), None, "{x} {y}");
        }
    }
}
