//! The elements `harmonize`, `alphamask` and `alphamerge`, mostly with an engine that has no model: what comes out, when, and what
//! of it goes wrong in which words. `harmonizebin` has tests of its own, and so has `harmonize` in `formats` and in `chaos`.

#[path = "../support/common/mod.rs"]
mod common;
#[path = "../support/models.rs"]
mod models;
#[path = "../support/shared.rs"]
mod shared;

mod alphamask;
mod alphamerge;
mod bytes;
mod diffharmony;
mod end;
mod faults;
mod flow;
mod latency;
mod live;
mod look;
mod model;
mod policies;
mod seeks;
mod steady;
mod timing;
