//! Keeping a store in order over the years.

#![forbid(unsafe_code)]

mod gc;

pub use gc::{GcOptions, GcReport};
