//! Debian's containerd with runc, in a root of its own.

use super::{Daemon, said, wait_for};
use std::path::Path;
use test_support::{Supervised, TempRoot};

/// Starts it and waits until it serves. Images are kept in `data`.
pub fn start(root: &TempRoot, data: &Path, conf_dir: &Path, pause: &str) -> Result<Daemon, String> {
    let program = Path::new("/usr/bin/containerd");
    if !program.is_file() {
        return Err("containerd is not installed: apt-get install containerd runc".to_owned());
    }
    let dir = root.path().join("containerd");
    let socket = dir.join("s");
    let config = dir.join("config.toml");
    let text = config_file(&dir, data, &socket, conf_dir, pause);
    std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(&config, text))
        .map_err(|why| format!("cannot write {}: {why}", config.display()))?;
    let log = dir.join("log");
    let arguments = ["--config".as_ref(), config.as_os_str()];
    let process = Supervised::start(program, &arguments, &log).map_err(said)?;
    wait_for(&socket, &log)?;
    Ok(Daemon { socket, log, _process: process })
}

/// Its defaults, but for the paths. `restrict_oom_score_adj` is for machines without CAP_SYS_RESOURCE.
fn config_file(dir: &Path, data: &Path, socket: &Path, conf_dir: &Path, pause: &str) -> String {
    let (dir, data) = (dir.display(), data.display());
    let (socket, conf_dir) = (socket.display(), conf_dir.display());
    format!(
        r#"version = 2
root = "{data}"
state = "{dir}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing"]

[grpc]
  address = "{socket}"

[ttrpc]
  address = "{socket}.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{conf_dir}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"#
    )
}
