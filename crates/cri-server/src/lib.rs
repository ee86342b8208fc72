//! CRI v1 served over [`engine::Engine`]: one file per RPC, each of which decodes, validates, calls the engine or
//! the images, and encodes. Wire types never leave this crate inwards, and no state is kept here.

mod call;
mod check;
mod chunks;
mod convert;
mod image;
mod runtime;
mod server;
pub mod status;

pub use call::MESSAGE_MAX;
pub use image::Image;
pub use runtime::Runtime;
pub use server::{DRAIN, router, serve, serve_connection, services};
