//! Loops compiled for every level of SIMD and chosen when they run.
//!
//! A multiplication and an addition are one rounding only where the code says so, by `fused`, and then at every level but the portable
//! one of x86, which has no instruction for it. So all machines of the last ten years give the same bits, and older ones
//! the same but for the last place. On ARM the portable version is NEON, which every 64-bit ARM processor has.

use once_cell::sync::Lazy;
use std::fmt::{self, Display};

/// What loops are compiled for, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the build assumes of every processor: SSE2 on x86-64, NEON on ARM.
    Portable,
    /// With FMA, which all processors have that have AVX2.
    Avx2,
    /// F, BW, DQ and VL.
    Avx512,
}

impl Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
        })
    }
}

static LEVEL: Lazy<Level> = Lazy::new(best);

/// The highest level that this machine has.
fn best() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("fma") {
            return Level::Avx512;
        }
        if has!("avx2") && has!("fma") {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// The level in use, the highest that the machine has.
#[inline]
pub fn level() -> Level {
    #[cfg(test)]
    if let Some(level) = tests::LEVEL.get() {
        return level;
    }
    *LEVEL
}

/// Whether `Level::Portable` has an instruction that multiplies and adds.
pub(crate) const PORTABLE_FUSES: bool = cfg!(target_arch = "aarch64");

/// a * b + c, in one rounding where `FUSED`.
#[inline(always)]
pub(crate) fn fused<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Defines a function whose body, with everything `#[inline(always)]` it calls, is compiled for each level. `FUSED` tells the body
/// whether that level multiplies and adds at once.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$(const $constant:ident: $kind:ty),+>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$(const $constant: $kind),+>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<const FUSED: bool $(, $(const $constant: $kind),+)?>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$(const $constant: $kind),+>)? ($($arg: $ty),*) $(-> $ret)? {
                    body::<true $(, $($constant),+)?>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn avx512 $(<$(const $constant: $kind),+>)? ($($arg: $ty),*) $(-> $ret)? {
                    body::<true $(, $($constant),+)?>($($arg),*)
                }
                match $crate::simd::level() {
                    // SAFETY: a level is in use where the CPU has it.
                    $crate::simd::Level::Avx512 => return unsafe { avx512 $(::<$($constant),+>)? ($($arg),*) },
                    // SAFETY: likewise.
                    $crate::simd::Level::Avx2 => return unsafe { avx2 $(::<$($constant),+>)? ($($arg),*) },
                    $crate::simd::Level::Portable => (),
                }
            }
            body::<{ $crate::simd::PORTABLE_FUSES } $(, $($constant),+)?>($($arg),*)
        }
    };
}

pub(crate) use vectorized;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// A test's own level, which no other test sees.
        pub static LEVEL: Cell<Option<Level>> = const { Cell::new(None) };
    }

    /// Runs `test` at each level that the machine has, in this thread.
    pub fn at_every_level(test: impl Fn(Level)) {
        for level in [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|&level| level <= best()) {
            LEVEL.set(Some(level));
            test(level);
        }
        LEVEL.set(None);
    }
}
