//! A test that is alone with its mounts: what it mounts is nobody else's, and goes with it even where it is killed.

use std::process::{Command, Stdio};

/// Set in the process that is apart.
const INSIDE: &str = "CORTEN_E2E_APART";

/// Runs the calling test once more, in a process with a mount namespace of its own. All mounts are shared in it,
/// as systemd makes them: what were attached anywhere, were seen everywhere.
pub fn apart(test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        leave_what_others_mounted();
        return test();
    }
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: pods need root");
    }
    let thread = std::thread::current();
    let name = thread.name().expect("the thread of a test has its name");
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            "mount --make-rshared / && exec \"$@\"",
            "sh",
        ])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // libtest has the first line behind the test's name.
    let lines = out.lines().map(|line| line.split_once(" ... ").map_or(line, |(_, rest)| rest));
    lines.filter(|line| line.to_ascii_lowercase().starts_with("skipped")).for_each(|line| println!("{line}"));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
}

/// Copies of what other tests mounted go when these remove the places, at any time; better at once.
fn leave_what_others_mounted() {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let others =
        points.filter(|point| ["/var/tmp/", "/tmp/", "/run/netns/"].iter().any(|top| point.starts_with(top)));
    for point in others.collect::<Vec<_>>().into_iter().rev() {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
}
