//! What a transfer makes of a picture's samples, by plain f64 arithmetic.

use crate::picture::Frame;
use gst_video::VideoInfo;
use gstharmonize::transfer::Transfer;

/// What the caps that a picture was made of say of its colour.
#[derive(Clone, Copy, Debug)]
pub struct Colorimetry {
    /// What red and blue weigh in luma.
    pub kr: f64,
    pub kb: f64,
    pub full: bool,
    /// Whether chroma lies on the first of its pixels, across and down.
    pub sited: [bool; 2],
}

pub struct Reference<'a> {
    pub frame: &'a Frame,
    pub codes: &'a [[u32; 4]],
    pub colour: Colorimetry,
    pub mask: &'a [u8],
    pub transfer: &'a Transfer,
}

fn depth(info: &VideoInfo, k: usize) -> f64 {
    f64::from(*info.format_info().depth().get(k).unwrap_or(&info.format_info().depth()[0]))
}

impl Reference<'_> {
    fn is_rgb(&self) -> bool {
        self.frame.info.is_rgb()
    }

    /// Black, white less black, chroma from -1/2 to 1/2 and no chroma, of component `k`.
    fn levels(&self, k: usize) -> [f64; 4] {
        let bits = depth(&self.frame.info, k);
        let (highest, scale) = (bits.exp2() - 1.0, (bits - 8.0).exp2());
        if self.colour.full {
            [0.0, highest, highest, 128.0 * scale]
        } else {
            [16.0, 219.0, 224.0, 128.0].map(|v| v * scale)
        }
    }

    fn rgb(&self, c: [f64; 3]) -> [f64; 3] {
        let level = |k: usize| {
            let [black, white, chroma, none] = self.levels(k);
            if self.is_rgb() || k == 0 { (c[k] - black) / white } else { (c[k] - none) / chroma }
        };
        let [y, u, v] = [0, 1, 2].map(level);
        if self.is_rgb() {
            return [y, u, v];
        }
        let Colorimetry { kr, kb, .. } = self.colour;
        let (r, b) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
        [r, (y - kr * r - kb * b) / (1.0 - kr - kb), b]
    }

    fn code(&self, rgb: [f64; 3], k: usize) -> f64 {
        let [black, white, chroma, none] = self.levels(k);
        if self.is_rgb() {
            return black + white * rgb[k];
        }
        let (Colorimetry { kr, kb, .. }, [r, g, b]) = (self.colour, rgb);
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        match k {
            0 => black + white * y,
            1 => none + chroma * (b - y) / (2.0 * (1.0 - kb)),
            _ => none + chroma * (r - y) / (2.0 * (1.0 - kr)),
        }
    }

    /// The map at (x, y) in pixels.
    fn map(&self, x: f64, y: f64) -> [f64; 12] {
        let (t, (width, height)) = (self.transfer, self.frame.size());
        let axis = |at: f64, n: usize| {
            let at = (at * n as f64 - 0.5).clamp(0.0, n as f64 - 1.0);
            (at as usize, (at as usize + 1).min(n - 1), at.fract())
        };
        let ((x0, x1, u), (y0, y1, v)) = (axis(x / width as f64, t.cols), axis(y / height as f64, t.rows));
        std::array::from_fn(|i| {
            let m = |x: usize, y: usize| f64::from(t.maps[y * t.cols + x][i]);
            (m(x0, y0) * (1.0 - u) + m(x1, y0) * u) * (1.0 - v) + (m(x0, y1) * (1.0 - u) + m(x1, y1) * u) * v
        })
    }

    fn harmonize(&self, c: [f64; 3], map: [f64; 12], k: usize, amount: f64) -> f64 {
        let x = self.rgb(c);
        let y = [0, 4, 8].map(|i| map[i] * x[0] + map[i + 1] * x[1] + map[i + 2] * x[2] + map[i + 3]);
        let [black, white, chroma, none] = self.levels(k);
        let highest = depth(&self.frame.info, k).exp2() - 1.0;
        let (low, high) = match self.is_rgb() || k == 0 {
            true => (black, black + white),
            false if self.colour.full => (0.0, highest),
            false => (none - chroma / 2.0, none + chroma / 2.0),
        };
        (c[k] + amount * (self.code(y, k) - c[k])).clamp(low.min(c[k]), high.max(c[k]))
    }

    fn colours(&self, x: usize, y: usize) -> [f64; 3] {
        let codes = self.codes[y * self.frame.size().0 + x];
        let is_gray = self.frame.info.is_gray();
        [0, 1, 2].map(|k| if is_gray && k > 0 { self.levels(k)[3] } else { f64::from(codes[k]) })
    }

    /// Component `k` at pixel (x, y); `None` where no pixel of its sample has a mask.
    pub fn expected(&self, x: usize, y: usize, k: usize) -> Option<f64> {
        let (width, height) = self.frame.size();
        let format = self.frame.info.format_info();
        let amount = |x: usize, y: usize| f64::from(self.mask[y * width + x]) / 255.0;
        let sub = |of: &[u32]| if k == 0 { 1 } else { 1usize << of[k] };
        let [across, down] = [sub(format.w_sub()), sub(format.h_sub())];
        if (across, down) == (1, 1) {
            let map = self.map(x as f64 + 0.5, y as f64 + 0.5);
            return (amount(x, y) > 0.0).then(|| self.harmonize(self.colours(x, y), map, k, amount(x, y)));
        }
        let pitch = if self.frame.interlaced && down > 1 { 2 } else { 1 };
        let first = y / (down * pitch) * down * pitch + y % pitch;
        let rows: Vec<_> = (0..down).map(|i| first + i * pitch).filter(|&y| y < height).collect();
        let columns: Vec<_> = (x / across * across..width).take(across).collect();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let total = mean(rows.iter().flat_map(|&y| columns.iter().map(move |&x| amount(x, y))).collect());
        if total == 0.0 {
            return None;
        }
        let [sited_across, sited_down] = self.colour.sited;
        let luma = |y: usize| match sited_across && across == 2 {
            true => {
                let at = |x: usize| self.colours(x, y)[0];
                0.25 * at(columns[0].saturating_sub(1)) + 0.5 * at(columns[0]) + 0.25 * at(*columns.last().unwrap())
            }
            false => mean(columns.iter().map(|&x| self.colours(x, y)[0]).collect()),
        };
        let lit = if sited_down { &rows[..1] } else { &rows[..] };
        let [_, u, v] = self.colours(columns[0], rows[0]);
        let c = [mean(lit.iter().map(|&y| luma(y)).collect()), u, v];
        let middle = |sited: bool, pixels: usize, pitch: usize| {
            if sited { 0.5 } else { 0.5 + (pixels - 1) as f64 * pitch as f64 / 2.0 }
        };
        let at =
            (columns[0] as f64 + middle(sited_across, across, 1), rows[0] as f64 + middle(sited_down, down, pitch));
        Some(self.harmonize(c, self.map(at.0, at.1), k, total))
    }
}
