//! `harmonizebin`: composite and mask hold the same foreground frame at the same place, and all else is the background's.

#[allow(dead_code, reason = "the element isn't alone here")]
#[path = "../support/common/mod.rs"]
mod common;
#[path = "../support/shared.rs"]
mod shared;

mod background;
mod by_hand;
mod children;
mod places;
mod playing;
mod rates;
mod run;
