//! How soon the correction is the new scene's after a cut.
//!
//! The foreground's mean correction k is steady at S' in the twelve frames before a cut, and at S in the twelve after the first
//! frame of the new scene: the mean over so short a time, because a scene that goes on is lit and seen otherwise by and by. On
//! that first frame:
//! - recovery = k.S / |S|^2: 1 is all of the new correction, 0 none of it;
//! - the old scene's part = k.o / |o|^2 with o = S' - (S'.S / |S|^2) S, what of the old correction the new one has nothing of:
//!   0 is none of it, 1 all of it is still there. A blend (1 - a) S + a S' has the part a.

use serde::Serialize;

const STEADY: usize = 12;

/// A correction shorter than half a code of 255 has no direction to speak of.
const SHORT: f64 = 0.5;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Recovery {
    /// First frame of the new scene.
    pub frame: usize,
    /// `None` where the new scene's steady correction is shorter than half a code, or a frame needed has no foreground.
    pub recovery: Option<f64>,
    /// `None` also where what the old scene has of its own is shorter than half a code.
    pub old_part: Option<f64>,
}

/// Of each of `cuts`, frame numbers in rising order within 1..corrections.len(); others are left out.
pub fn recoveries(corrections: &[Option<[f64; 3]>], cuts: &[usize]) -> Vec<Recovery> {
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().skip(1).copied().chain([corrections.len()]);
    starts
        .zip(cuts)
        .zip(ends)
        .filter_map(|((start, &cut), end)| {
            let (old, new) = (corrections.get(start..cut)?, corrections.get(cut..end)?);
            let (first, after) = new.split_first()?;
            let old = &old[old.len().saturating_sub(STEADY)..];
            Some(recovery(cut, *first, mean(old), mean(&after[..after.len().min(STEADY)])))
        })
        .collect()
}

fn recovery(frame: usize, first: Option<[f64; 3]>, old: Option<[f64; 3]>, new: Option<[f64; 3]>) -> Recovery {
    let none = Recovery { frame, recovery: None, old_part: None };
    let (Some(first), Some(new)) = (first, new.filter(|new| is_long(*new))) else { return none };
    let own = old.map(|old| {
        let shared = dot(old, new) / dot(new, new);
        [0, 1, 2].map(|c| old[c] - shared * new[c])
    });
    Recovery {
        recovery: Some(dot(first, new) / dot(new, new)),
        old_part: own.filter(|own| is_long(*own)).map(|own| dot(first, own) / dot(own, own)),
        ..none
    }
}

/// Mean of what has a foreground.
fn mean(corrections: &[Option<[f64; 3]>]) -> Option<[f64; 3]> {
    let there: Vec<[f64; 3]> = corrections.iter().flatten().copied().collect();
    let mean = |c: usize| there.iter().map(|k| k[c]).sum::<f64>() / there.len() as f64;
    (!there.is_empty()).then(|| [0, 1, 2].map(mean))
}

fn is_long(v: [f64; 3]) -> bool {
    dot(v, v) >= SHORT * SHORT
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
