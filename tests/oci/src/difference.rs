//! Where another runtime is not as we are: said with the specification's words, and proved each time.

use crate::{Kind, Runtime};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `promise`. With one of `peers` it must fail: a note that no longer holds fails the test. With every
/// other runtime it must hold. `words` say what the specification says, and where.
///
/// # Panics
/// When the promise does not hold, or holds for a peer of which the note says that it does not.
#[track_caller]
pub fn differs(peers: &[Kind], words: &str, promise: impl FnOnce()) {
    let runtime = Runtime::under_test();
    if !peers.contains(&runtime.kind) {
        return promise();
    }
    eprintln!("the next failure is expected of {}", runtime.version);
    let kept = catch_unwind(AssertUnwindSafe(promise)).is_ok();
    assert!(!kept, "{} does this now; drop it from the note: {words}", runtime.version);
    eprintln!("differs: {}: {words}", runtime.version);
}

/// Whether the runtime under test is one of those that do not know `what`; says so as a skipped test does.
///
/// Never true for ours, whatever the list says.
#[must_use]
pub fn lacks(peers: &[Kind], what: &str) -> bool {
    let runtime = Runtime::under_test();
    let lacking = runtime.kind != Kind::Corten && peers.contains(&runtime.kind);
    if lacking {
        eprintln!("skipped: {} does not know {what}", runtime.version.replace("version ", ""));
    }
    lacking
}

/// Whether the test cannot run because this machine has no `what`; says so as a skipped test does.
#[must_use]
pub fn needs(there: bool, what: &str) -> bool {
    if !there {
        eprintln!("skipped: this machine has no {what}");
    }
    !there
}
