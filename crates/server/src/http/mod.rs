//! The HTTP server itself: the listener, and connections with the limits that a server on a desk needs.

mod listen;
mod serve;
mod stall;

pub use listen::PortHolder;

pub(crate) use listen::{addresses, bind};
pub(crate) use serve::{Signals, serve};
