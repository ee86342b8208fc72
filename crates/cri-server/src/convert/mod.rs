//! Wire messages to the engine's words and back. What comes in is checked here, value by value, so that
//! what leaves this folder inwards is sound in itself; whether it is possible is for the engine to say.

pub mod container;
pub mod container_status;
pub mod filter;
pub mod image;
pub mod mount;
pub mod node;
pub mod pod;
pub mod pod_status;
pub mod resources;
pub mod security;
pub mod signal;
pub mod sysctl;

use std::collections::{BTreeMap, HashMap};

/// Labels or annotations as the wire has them.
pub fn map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
pub mod testing {
    //! What the tests of this folder share: the shape of a refusal.

    use types::{ErrorKind, Result};

    /// The conversion was refused, about `field`, with a sentence that has `part`.
    #[track_caller]
    pub fn refused<T: std::fmt::Debug>(result: Result<T>, field: &str, part: &str) {
        let error = result.expect_err("it was accepted");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let message = error.message();
        assert!(message.starts_with(&format!("{field}: ")) && message.contains(part), "{message}");
    }
}
