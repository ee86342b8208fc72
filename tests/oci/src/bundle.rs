//! A bundle: a folder with a busybox root and a `config.json` to be changed.
//!
//! Every bundle has its own copy of busybox, because some tests try to write to it.

use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where Debian's busybox-static puts it.
pub const BUSYBOX: &str = "/usr/bin/busybox";

/// The applets that are linked in `/bin` of the root.
const APPLETS: &str = "sh ash sleep echo cat true false id ls hostname ps mount umount kill env pwd grep tty stat \
    readlink touch mkdir mknod rm rmdir ln chmod chown cp mv dd df head tail tr sed awk cut wc sort find printf \
    test [ stty ip ping nc date uptime dmesg sysctl setsid nice renice taskset chrt ionice uname dnsdomainname \
    sync usleep seq od hexdump xargs yes basename dirname mktemp mkfifo md5sum truncate which whoami";

/// Removed with all that is in it.
#[derive(Debug)]
pub struct Bundle {
    dir: tempfile::TempDir,
}

impl Bundle {
    /// A bundle whose container runs `true` in new pid, network, ipc, uts and mount namespaces, without
    /// privileges, in the cgroup `/NAME`.
    ///
    /// # Panics
    /// When the folder cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        // A mapped user must be able to come as far as the root.
        let dir = tempfile::Builder::new()
            .prefix("corten-suite-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in("/var/tmp")
            .expect("a temporary folder in /var/tmp");
        let made = Self { dir };
        let root = made.root();
        for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "mnt", "root"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder of the root");
        }
        std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))
            .expect("mode 1777");
        std::fs::copy(BUSYBOX, root.join("bin/busybox")).expect("a copy of busybox");
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", root.join("bin").join(applet)).expect("a link to busybox");
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n",
        )
        .expect("etc/passwd");
        std::fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("etc/group");
        made.write(&base(name));
        made
    }

    /// The bundle's folder.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The container's root on the host.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// A folder for what the test itself needs, outside the container's root.
    #[must_use]
    pub fn aside(&self) -> PathBuf {
        let path = self.dir.path().join("aside");
        std::fs::create_dir_all(&path).expect("a folder beside the root");
        path
    }

    /// `config.json` as it is now.
    #[must_use]
    pub fn config(&self) -> Value {
        let text = std::fs::read(self.path().join("config.json")).expect("config.json is readable");
        serde_json::from_slice(&text).expect("config.json is JSON")
    }

    /// Changes `config.json`.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.config();
        change(&mut config);
        self.write(&config);
    }

    fn write(&self, config: &Value) {
        std::fs::write(self.path().join("config.json"), config.to_string()).expect("config.json is writable");
    }

    /// Puts a program into `/bin` of the root.
    pub fn program(&self, name: &str, bytes: &[u8]) {
        let path = self.root().join("bin").join(name);
        std::fs::write(&path, bytes).expect("a program in the root");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode 755");
    }
}

/// What containers get where a test says nothing else. The capabilities are those of `runc spec`.
fn base(name: &str) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/bin:/usr/bin"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "corten-test",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "cgroupsPath": format!("/{name}"),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// Whether this machine can run the tests at all.
pub(crate) fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("containers need root");
    }
    (!Path::new(BUSYBOX).exists()).then_some("/usr/bin/busybox is not installed (Debian: busybox-static)")
}
