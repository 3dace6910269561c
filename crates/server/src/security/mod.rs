//! Who may call: the `Host` and `Origin` lists and API keys. Pure decisions; `guard` applies them to requests.

mod guard;
mod keys;
mod names;

pub use keys::{KeyConfig, Scope};

pub(crate) use guard::{Guard, LocalIp, Trusted, guard, require};
pub(crate) use keys::{KeyRing, check_keys};
pub(crate) use names::{Allowed, check_lists};
