//! What the black-box tests of an OCI runtime share: bundles, the runtime under test, and a look at what it
//! made of them.
//!
//! The runtime is the program that `OCI_RUNTIME` names (a path, or a name in `PATH`), else the built
//! `corten-oci`. Nothing here knows how any runtime works inside: a test uses its command line, the files of
//! the bundle, and what the kernel shows of the container. A fixture that cannot be made panics: it fails its
//! test with the reason. Whatever a test leaves behind is removed when its [`Case`] ends.
//!
//! ```no_run
//! let Some(case) = oci_suite::Case::new("hostname") else { return };
//! case.edit(|config| config["hostname"] = "box".into());
//! assert_eq!(case.shell("hostname").good().out, "box\n");
//! ```

pub mod attack;
pub mod bundle;
pub mod case;
pub mod console;
pub mod difference;
pub mod groups;
pub mod output;
pub mod probe;
pub mod process;
pub mod runtime;

pub use bundle::Bundle;
pub use case::Case;
pub use console::Console;
pub use difference::{differs, lacks, needs};
pub use groups::Groups;
pub use output::Output;
pub use probe::{Argument, Probe};
pub use process::Process;
pub use runtime::{Kind, Runtime};
