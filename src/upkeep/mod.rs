//! Keeping a store in order over the years.

#![forbid(unsafe_code)]

mod check;
mod gc;
mod usage;

pub use check::{CheckOptions, CheckReport, Finding, Problem};
pub use gc::{GcOptions, GcReport};
pub use usage::{DiskUsage, Usage};
