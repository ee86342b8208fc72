//! Systemd's transient scopes over D-Bus, for the systemd cgroup driver: start, properties, stop.
//!
//! Synchronous outside, one thread inside: a caller that forks must stay single-threaded, so each call makes
//! its own connection on a runtime of the calling thread, and both end before the call returns.
//! Never used on a machine whose cgroups systemd does not manage; never writes to cgroup files (that is `cgroups`).
//!
//! How a runtime uses it, with the container's first process forked and held before its program:
//!
//! 1. `Scope::parse(cgroups_path, id, bus)` and [`Scope::cgroup`]: where the group will be. To be recorded.
//! 2. [`Scope::start`] with the process and [`Properties::of_limits`]: systemd makes the group and moves it in.
//! 3. `Cgroups::probe_from_root`, `create(path)`, `Group::add(pid)` and `Group::limit`: the hierarchies and the limits that
//!    systemd does not know; what it made is taken as it is.
//! 4. In the end `Group::kill`, [`Scope::stop`], `Group::remove`, in this order: all three are fine with what is gone.

mod address;
mod annotation;
mod bus;
mod devices;
mod error;
mod manager;
mod name;
mod properties;
mod scope;

pub use error::Error;
pub use properties::Properties;
pub use scope::{Bus, PATIENCE, Scope};

use types::Result;
