//! The last page of the story: what the kernel and the disk still hold.

use super::story::say;

/// Prints the proof, or fails with the list of what is left.
pub fn judge(left: &[String]) -> Result<(), String> {
    if left.is_empty() {
        for kind in [
            "no process, no mount, no cgroup",
            "no network namespace, no link, no address, no reservation of one",
            "no snapshot of a container, no volume, no log, no record of a pod",
        ] {
            say(kind);
        }
        return Ok(());
    }
    Err(format!("left behind:\n  {}", left.join("\n  ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_left_is_a_failure_that_names_it() {
        assert_eq!(judge(&[]), Ok(()));
        assert!(judge(&["mount overlay at /x".to_owned()]).is_err_and(|why| why.contains("/x")));
    }
}
