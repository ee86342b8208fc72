//! What a container with very little memory needs of programs, read by this process before ([`container::warm`]): its own,
//! and this one, which is the child until it executes that.

pub use container::warm::Held;

use container::warm::{self, Wanted};
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};

/// This program itself, for the child that it becomes a container's process in.
pub fn own(spec: &Spec) -> Held {
    if !has_little(spec) {
        return Held::new();
    }
    std::fs::File::open("/proc/self/exe").ok().as_ref().and_then(warm::hold).into_iter().collect()
}

/// For a process of the container of `pid`, which has its root: the program of `spec`, what executes that, and what executes
/// it. A volume of the container that does not answer makes this wait as it makes the process wait.
pub fn program(spec: &Spec, pid: i32) -> Held {
    let mut held = own(spec);
    if !has_little(spec) {
        return held;
    }
    let Some(process) = spec.process() else { return held };
    let Some(command) = process.args().as_ref().and_then(|args| args.first()) else { return held };
    let env: Vec<_> = process.env().iter().flatten().map(|entry| entry.as_bytes().to_vec()).collect();
    let root = rustix::fs::open(
        format!("/proc/{pid}/root"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    if let (Ok(root), Some(cwd)) = (root, process.cwd().to_str()) {
        held.extend(warm::program(&root, &Wanted::new(command.as_bytes(), &env, cwd)));
    }
    held
}

fn has_little(spec: &Spec) -> bool {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    memory.and_then(|memory| memory.limit()).is_some_and(warm::is_little)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_containers_with_little_memory_are_warmed() {
        let of = |memory: serde_json::Value| -> Spec {
            let json = serde_json::json!({
                "ociVersion": "1.0.2", "root": { "path": "r" }, "linux": { "resources": { "memory": memory } },
            });
            serde_json::from_value(json).expect("a specification")
        };
        assert!(has_little(&of(serde_json::json!({ "limit": 524_288 }))));
        assert_eq!(own(&of(serde_json::json!({ "limit": 524_288 }))).len(), 1);
        for much in [
            serde_json::json!({}),
            serde_json::json!({ "limit": -1 }),
            serde_json::json!({ "limit": 1 << 30 }),
        ] {
            assert!(!has_little(&of(much.clone())), "{much}");
        }
    }
}
