//! Compiled filters, kept by profile: a node has a handful of profiles and thousands of containers.

use crate::{Filter, compile};
use oci_spec::runtime::LinuxSeccomp;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use types::{Error, Result};

/// Filters kept. The default profile has one form for each set of capabilities that is in use.
const KEPT: usize = 32;

struct Kept {
    hash: u64,
    profile: LinuxSeccomp,
    filter: Arc<Filter>,
}

/// Last used last.
static CACHE: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// As [`compile`], once for each profile as long as it is among the last 32 used.
///
/// # Errors
/// Those of [`compile`]. Failures are not kept.
pub fn compile_cached(profile: &LinuxSeccomp) -> Result<Arc<Filter>> {
    let hash = hash(profile)?;
    {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        // The hash only finds; that the profile is the same one is compared, since profiles come from outside.
        if let Some(at) = cache.iter().position(|kept| kept.hash == hash && kept.profile == *profile) {
            let kept = cache.remove(at);
            let filter = kept.filter.clone();
            cache.push(kept);
            return Ok(filter);
        }
    }
    let filter = Arc::new(compile(profile)?);
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= KEPT {
        cache.remove(0);
    }
    cache.push(Kept { hash, profile: profile.clone(), filter: filter.clone() });
    Ok(filter)
}

fn hash(profile: &LinuxSeccomp) -> Result<u64> {
    struct Into(DefaultHasher);
    impl Write for Into {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut into = Into(DefaultHasher::new());
    serde_json::to_writer(&mut into, profile).map_err(|error| {
        Error::with_source(types::ErrorKind::Internal, "cannot write a seccomp profile as JSON", error)
    })?;
    Ok(into.0.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_profile_is_compiled_once_and_others_are_not_mixed_up() {
        let first = crate::runtime_default(&[]);
        let second = crate::runtime_default(&["CAP_SYS_ADMIN".to_owned()]);
        let (a, b, c) = (
            compile_cached(&first).unwrap(),
            compile_cached(&second).unwrap(),
            compile_cached(&first).unwrap(),
        );
        assert!(Arc::ptr_eq(&a, &c));
        assert_ne!(a, b);
        assert_eq!(*b, compile(&second).unwrap());
    }
}
