//! Whether a store still has what was put there.

#![forbid(unsafe_code)]

mod pace;
mod verify;

pub use verify::{CheckOptions, CheckReport, Finding, Problem};
