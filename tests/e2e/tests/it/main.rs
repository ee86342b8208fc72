//! The programs as a user has them, on the real kernel, with images from Debian's registry on loopback.

mod daemon;
mod images;
mod keep;
mod node;
mod propagation;
mod restart;
mod run;
mod verbs;
