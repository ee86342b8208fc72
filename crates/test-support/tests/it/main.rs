//! The registries against each other: what is pushed is what is served.

mod registry;
