//! What people met in other tools, by report: each kind of fault with the input of the report and its siblings. Where the
//! right value is a matter of who is asked, the test says whose it is.

#[cfg(feature = "pull")]
mod credentials;
mod destinations;
mod framing;
#[cfg(feature = "pull")]
mod hosts;
mod names;
mod overlay_options;
#[cfg(feature = "pull")]
mod ranges;
mod selection;
#[cfg(feature = "pull")]
mod tls;
