//! CRI v1 served over [`engine::Engine`]: one file per RPC, each of which decodes, validates, calls the engine or
//! the images, and encodes. Beside the CRI it serves our own `corten.v1` in the same way. Wire types never leave this crate inwards, and no state is kept here.

mod call;
mod check;
mod chunks;
mod convert;
mod corten;
mod image;
mod runtime;
mod server;
pub mod status;

pub use call::MESSAGE_MAX;
pub use corten::Images;
pub use image::Image;
pub use runtime::Runtime;
pub use server::{DRAIN, router, serve, serve_connection, services};
