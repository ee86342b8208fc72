//! A pod for tests: a temporary state folder, a root made from Debian's busybox, and the real shim.

use container::plan::{
    ExecPlan, LaunchPlan, Mount, MountSource, Namespace, Namespaces, PLAN_VERSION, Process, Root, RootSource,
    User,
};
use monitor::{Configure, Exec, ExecStdio, Exit, Monitor, PidNamespace, ShimProgram, Start, Started};
use rustix::fd::AsFd;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

pub struct Pod {
    _temp: tempfile::TempDir,
    pub path: PathBuf,
    root: PathBuf,
    pub monitor: Monitor,
    pub shim: i32,
    /// What the engine says of containers with little memory.
    pub little_memory: bool,
}

impl Pod {
    pub async fn start(namespaces: u64) -> Option<Self> {
        Self::configured(Configure { namespaces, ..Configure::default() }).await
    }

    pub async fn start_sharing() -> Option<Self> {
        Self::configured(Configure { share_pid: true, ..Configure::default() }).await
    }

    async fn configured(configure: Configure) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: containers need root");
            return None;
        }
        let temp = tempfile::tempdir_in("/var/tmp").expect("temp");
        let path = temp.path().join("pod");
        std::fs::create_dir(&path).expect("mkdir");
        let root = temp.path().join("root");
        make_root(&root);
        let program =
            ShimProgram::load(&test_support::programs::shim().expect("the shim is built")).expect("load");
        let spawned = monitor::spawn(&program, &path, &"a".repeat(64)).await.expect("spawn");
        spawned.monitor.configure(configure).await.expect("configure");
        let (monitor, shim) = (spawned.monitor, spawned.pid);
        Some(Self { _temp: temp, path, root, monitor, shim, little_memory: false })
    }

    pub async fn reconnect(&mut self) {
        self.monitor = monitor::connect(&self.path).expect("connect");
    }

    pub fn plan(&self, args: &[&str]) -> LaunchPlan {
        LaunchPlan {
            version: PLAN_VERSION,
            prepare: false,
            id: "test".into(),
            namespaces: Namespaces {
                mount: Namespace::New,
                pid: Namespace::New,
                cgroup: Namespace::New,
                ..Namespaces::default()
            },
            hostname: None,
            domainname: None,
            root: Root {
                source: RootSource::Directory(self.root.to_string_lossy().into_owned()),
                ids: Default::default(),
                readonly: false,
                propagation: 0,
                no_pivot: false,
            },
            mounts: vec![
                filesystem("/proc", "proc", &[]),
                filesystem("/dev", "tmpfs", &["mode=755", "size=65536k"]),
                filesystem("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
                filesystem("/sys", "sysfs", &[]),
            ],
            devices: vec![container::plan::Device {
                path: "/dev/null".into(),
                kind: 'c',
                major: 1,
                minor: 3,
                mode: 0o666,
                uid: 0,
                gid: 0,
            }],
            dev_links: true,
            masked_paths: vec![],
            readonly_paths: vec![],
            sysctls: vec![],
            hooks: Default::default(),
            process: process(args),
        }
    }

    pub async fn run(&self, id: &str, plan: &LaunchPlan, pid: PidNamespace) -> types::Result<Started> {
        self.run_with(id, plan, pid, false).await
    }

    pub async fn run_with(
        &self,
        id: &str,
        plan: &LaunchPlan,
        pid: PidNamespace,
        terminal: bool,
    ) -> types::Result<Started> {
        let memory = memory(&plan.encode().expect("encode"));
        let start = Start {
            container: id.into(),
            namespaces: sys::process::namespace::MOUNT,
            pid,
            log_directory: self.path.to_string_lossy().into_owned(),
            log_path: format!("{id}.log"),
            terminal,
            stdin: false,
            has_oom_file: false,
            has_cgroup: false,
            tasks: 0,
            little_memory: self.little_memory,
        };
        self.monitor.start(start, &[memory.as_fd()]).await
    }

    pub async fn exec(
        &self,
        id: &str,
        plan: &LaunchPlan,
        number: u64,
        args: &[&str],
    ) -> types::Result<(i32, Vec<u8>)> {
        let exec = ExecPlan {
            version: PLAN_VERSION,
            id: id.into(),
            process: Process { args: words(args), ..plan.process.clone() },
        };
        let memory = memory(&exec.encode().expect("encode"));
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let stdio = ExecStdio { stdin: false, stdout: true, stderr: false };
        let request = Exec {
            container: id.into(),
            exec: number,
            stdio,
            has_cgroup: false,
            tasks: 0,
            little_memory: self.little_memory,
        };
        let (_, exit) = self.monitor.exec(request, &[memory.as_fd(), write.as_fd()]).await?;
        drop(write);
        let code = exit.await.expect("an exit code");
        let mut output = Vec::new();
        File::from(read).read_to_end(&mut output).expect("read");
        Ok((code, output))
    }

    pub async fn exit(&self, id: &str) -> Exit {
        for _ in 0..500 {
            let folder = File::open(&self.path).expect("folder");
            if let Some(exit) = monitor::exits::read(&folder, id).expect("read") {
                return exit;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "container {id} did not end; shim.log: {}",
            std::fs::read_to_string(self.path.join("shim.log")).unwrap_or_default()
        );
    }

    /// The shim's own children.
    pub fn children(&self) -> Vec<i32> {
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        // The name, in brackets, may have anything in it; the state and the parent are behind it (proc(5)).
        let parent = |pid: &i32| -> Option<i32> {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
        };
        numbers.filter(|pid| parent(pid) == Some(self.shim)).collect()
    }

    pub fn log(&self, id: &str) -> String {
        std::fs::read_to_string(self.path.join(format!("{id}.log"))).unwrap_or_default()
    }

    pub async fn end(self) {
        self.monitor.shutdown().await.expect("shutdown");
        let complaints = std::fs::read_to_string(self.path.join("shim.log")).unwrap_or_default();
        assert_eq!(complaints, "");
    }
}

pub fn mount(target: &str, source: MountSource) -> Mount {
    Mount {
        target: target.into(),
        source,
        set: 0,
        clear: 0,
        set_recursive: 0,
        clear_recursive: 0,
        propagation: Vec::new(),
        tmpcopyup: false,
        idmap: Default::default(),
        uid_mappings: vec![],
        gid_mappings: vec![],
    }
}

fn filesystem(target: &str, kind: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|o| (*o).into()).collect();
    mount(target, MountSource::Filesystem { kind: kind.into(), source: kind.into(), options })
}

fn process(args: &[&str]) -> Process {
    Process {
        args: words(args),
        env: vec![b"PATH=/bin".to_vec()],
        cwd: "/".into(),
        create_cwd: false,
        user: User::Ids { uid: 0, gid: 0, groups: vec![] },
        set_home: false,
        rlimits: vec![],
        capabilities: None,
        no_new_privileges: false,
        oom_score_adj: None,
        umask: None,
        terminal: false,
        console_size: None,
        apparmor: None,
        selinux: None,
        seccomp: None,
        scheduling: Default::default(),
        keyring: None,
        personality: None,
        memory_policy: None,
    }
}

fn words(args: &[&str]) -> Vec<Vec<u8>> {
    args.iter().map(|a| a.as_bytes().to_vec()).collect()
}

fn memory(bytes: &[u8]) -> OwnedFd {
    let mut file = File::from(memfd_create("plan", MemfdFlags::CLOEXEC).expect("memfd"));
    file.write_all(bytes).expect("write");
    file.into()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z "))
}

fn make_root(root: &std::path::Path) {
    for dir in ["bin", "etc", "proc", "dev", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(dir)).expect("mkdir");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    for applet in [
        "sh", "cat", "ls", "wc", "sleep", "echo", "true", "test", "readlink", "grep", "pwd", "id", "tty",
        "stty", "ps",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("link");
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\n")
        .expect("write");
    std::fs::write(root.join("etc/group"), "root:x:0:\n").expect("write");
}
