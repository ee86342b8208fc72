//! What of the capabilities that a specification asks for can be granted. The rest is told and left out: "Runtimes
//! SHOULD NOT fail if the container configuration requests capabilities that cannot be granted" (OCI config.md,
//! "Linux Process"). Grants nothing itself.

use container::plan::Capabilities;
use rustix::thread::capabilities;
use types::{Error, ErrorKind, Result};

/// Takes out what cannot be granted. In a user namespace of the container's own all are there that the kernel knows.
/// Answers what is to be told.
pub fn settle(wanted: &mut Capabilities, user_namespace: bool) -> Result<Vec<String>> {
    let available = if user_namespace { known() } else { held()? };
    Ok(restrict(wanted, available))
}

fn restrict(wanted: &mut Capabilities, available: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    let all = wanted.bounding | wanted.effective | wanted.inheritable | wanted.permitted | wanted.ambient;
    if all & !available != 0 {
        warnings.push(format!(
            "capabilities that this program has not itself are left out: {}",
            names(all & !available)
        ));
    }
    for set in [
        &mut wanted.bounding,
        &mut wanted.effective,
        &mut wanted.inheritable,
        &mut wanted.permitted,
        &mut wanted.ambient,
    ] {
        *set &= available;
    }
    // capset(2) refuses the whole for one that is not permitted.
    let idle = wanted.effective & !wanted.permitted;
    if idle != 0 {
        warnings.push(format!("effective capabilities that are not permitted are left out: {}", names(idle)));
        wanted.effective &= wanted.permitted;
    }
    // A new inheritable capability has to be in the bounding set (capset(2)), which is shrunk before.
    let beyond = wanted.inheritable & !wanted.bounding;
    if beyond != 0 {
        warnings.push(format!(
            "inheritable capabilities that are not in the bounding set are left out: {}",
            names(beyond)
        ));
        wanted.inheritable &= wanted.bounding;
    }
    // "The capability must already be present in both the permitted and the inheritable sets" (prctl(2)).
    let loose = wanted.ambient & !(wanted.permitted & wanted.inheritable);
    if loose != 0 {
        warnings.push(format!(
            "ambient capabilities that are not both permitted and inheritable are left out: {}",
            names(loose)
        ));
        wanted.ambient &= wanted.permitted & wanted.inheritable;
    }
    warnings
}

/// What root was left with: after the exec of this program its permitted set is its bounding set (capabilities(7)).
fn held() -> Result<u64> {
    capabilities(None).map(|sets| sets.permitted.bits()).map_err(|errno| {
        Error::with_source(
            ErrorKind::Internal,
            "cannot read this program's own capabilities",
            std::io::Error::from(errno),
        )
    })
}

fn known() -> u64 {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    // CAP_CHECKPOINT_RESTORE is the last since Linux 5.9.
    let last: u32 = last.and_then(|text| text.trim().parse().ok()).unwrap_or(40);
    u64::MAX >> (63 - last.min(63))
}

fn names(mask: u64) -> String {
    spec::capability_names(mask).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_granted_is_named_and_left_out() {
        let mut wanted = Capabilities {
            bounding: 0b111,
            effective: 0b011,
            inheritable: 0,
            permitted: 0b001,
            ambient: 0b001,
        };
        let warnings = restrict(&mut wanted, 0b011);
        assert_eq!(
            wanted,
            Capabilities { bounding: 0b011, effective: 0b001, inheritable: 0, permitted: 0b001, ambient: 0 }
        );
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("CAP_DAC_READ_SEARCH"), "{warnings:?}");
        assert!(warnings[1].contains("CAP_DAC_OVERRIDE"), "{warnings:?}");
        assert!(warnings[2].contains("CAP_CHOWN"), "{warnings:?}");
    }

    #[test]
    fn what_can_be_granted_is_not_talked_about() {
        let sets = Capabilities { bounding: 7, effective: 3, inheritable: 1, permitted: 3, ambient: 1 };
        let mut wanted = sets;
        assert_eq!(restrict(&mut wanted, known()), Vec::<String>::new());
        assert_eq!(wanted, sets);
    }
}
