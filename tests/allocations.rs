//! Proxy, fit and apply, with the memory that they keep: nothing is allocated for a frame once they have seen a few, on any thread.

use gstharmonize::frame::{
    Colorimetry, ComponentLayout, Format, Mask, MaskSettings, Matrix, PictureMut, PlaneMut, Proxy, Region, View,
};
use gstharmonize::transfer::{Fit, Plan, Transfer};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what all threads ask the system's allocator for.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SIZE: [usize; 2] = [642, 363];

/// A frame's memory.
struct Frame {
    format: Format,
    colour: Colorimetry,
    data: Vec<u8>,
}

impl Frame {
    fn new(format: Format, colour: Colorimetry) -> Self {
        let bytes = format.plane_sizes(SIZE[0], SIZE[1]).map(|(row, rows)| row * rows).iter().sum();
        Self { format, colour, data: (0..bytes).map(|i| (i * 37 % 199) as u8).collect() }
    }

    fn picture(&mut self) -> PictureMut<'_> {
        let Self { format, colour, data } = self;
        let mut rest = &mut data[..];
        let planes = format.plane_sizes(SIZE[0], SIZE[1]).map(|(stride, rows)| {
            let (data, below) = std::mem::take(&mut rest).split_at_mut(stride * rows);
            rest = below;
            PlaneMut { data, stride }
        });
        PictureMut { format: *format, colour: *colour, width: SIZE[0], height: SIZE[1], interlaced: false, planes }
    }
}

fn place(plane: u8, first: u8, step: u8) -> Option<ComponentLayout> {
    Some(ComponentLayout { plane, first, step })
}

/// An ellipse that moves with `t`, in a picture of the mask's own size.
fn draw(mask: &mut [u8], t: usize) {
    let (a, b) = (SIZE[0] as f64, SIZE[1] as f64);
    for (i, m) in mask.iter_mut().enumerate() {
        let (x, y) = ((i % SIZE[0]) as f64 / a - 0.4 - 0.005 * t as f64, (i / SIZE[0]) as f64 / b - 0.5);
        *m = ((0.2 - x.hypot(y)) * 2000.0).clamp(0.0, 255.0) as u8;
    }
}

/// One test alone: what others allocate at the same time would count.
#[test]
fn a_frame_allocates_nothing_after_the_tenth() {
    let p010 = Format {
        depth: 10,
        bytes: 2,
        shift: 6,
        places: [place(0, 0, 1), place(1, 0, 2), place(1, 1, 2), None],
        ..Format::I420
    };
    let packed = Format { sub: [1, 0], places: [place(0, 0, 2), place(0, 1, 4), place(0, 3, 4), None], ..Format::I420 };
    let mut sited = Colorimetry::new(Matrix::Bt709, false);
    sited.siting.across = true;
    for (format, colour, cell) in [
        (Format::I420, sited, 1),
        (p010, Colorimetry::new(Matrix::Bt2020, false), 4),
        (packed, sited, 1),
        (Format::RGBA, Colorimetry::new(Matrix::Bt709, true), 1),
        (Format { depth: 16, bytes: 2, big_endian: true, ..Format::RGBA }, Colorimetry::new(Matrix::Bt709, true), 2),
    ] {
        let mut frame = Frame::new(format, colour);
        let mut gray = Frame::new(Format::GRAY8, Colorimetry::new(Matrix::Bt709, true));
        let (mut mask, mut proxy, mut harmonized) = (Mask::default(), Proxy::default(), Vec::new());
        let (mut fit, mut transfer, mut plan) = (Fit::default(), Transfer::default(), Plan::default());
        let mut counts = Vec::with_capacity(40);
        for t in 0..40 {
            draw(&mut gray.data, t);
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            mask.read(&gray.picture().as_picture(), MaskSettings::default(), SIZE[0], SIZE[1]);
            // The whole frame and a crop by turns of some frames.
            let region = (t / 4 % 2 > 0).then_some(Region { x: 101, y: 51, width: 321, height: 180 });
            proxy.read(&frame.picture().as_picture(), &mask, View { region, cols: 64, rows: 36 });
            harmonized.clear();
            harmonized.extend(proxy.rgb.iter().map(|v| 0.1 + 0.8 * v));
            fit.fit(&proxy, &harmonized, cell, &mut transfer);
            plan.apply(&mut frame.picture(), &mask, &transfer, 0.9);
            counts.push(ALLOCATIONS.load(Ordering::SeqCst) - before);
        }
        assert!(counts[0] > 5, "{format}: the counter does not count: {counts:?}");
        // A thread that gets its first rows late has no memory before; those of a crop need less than those of the whole.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let late = counts[10..].iter().filter(|&&count| count > 0).count();
        assert!(late <= 2 * (threads.min(8) - 1), "{format}: {counts:?}");
    }
}
