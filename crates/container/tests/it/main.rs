//! The library on this machine's kernel, in mount namespaces of the tests' own.
//!
//! Needs root; without it each test says that it skipped.

mod mounts;
mod targets;

extern crate corten_container as container;

use container::mounts::Sources;
use container::plan::{
    Hooks, Idmap, LaunchPlan, Mount, MountSource, Namespaces, PLAN_VERSION, Process, Root, RootIds,
    RootSource, Scheduling, User,
};
use rustix::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A directory that is a container's root, mounted in this thread's own mount namespace.
struct Place {
    dir: tempfile::TempDir,
    root: OwnedFd,
    plan: LaunchPlan,
}

impl Place {
    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("root").join(below)
    }

    /// A file or directory of the node.
    fn node(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Makes these mounts.
    fn make(&mut self, list: Vec<Mount>) -> Result<(), container::Failure> {
        self.plan.mounts = list;
        let mut sources = Sources::default();
        sources.open_early(&self.plan)?;
        container::mounts::make(self.root.as_fd(), &self.plan, sources)?.finish()
    }

    /// The mount at a path of the root, as mountinfo has it: its options, its optional fields, what comes after.
    fn mounted(&self, below: &str) -> Option<(String, String, String)> {
        let place = self.path(below);
        let place = place.to_str().unwrap().trim_end_matches('/');
        let text = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let line = text.lines().rfind(|line| line.split(' ').nth(4) == Some(place))?;
        let (mount, system) = line.split_once(" - ").unwrap();
        let mut fields = mount.split(' ').skip(5);
        let options = fields.next().unwrap().to_owned();
        Some((options, fields.collect::<Vec<_>>().join(" "), system.to_owned()))
    }
}

/// Runs `test` in a thread that has a mount namespace of its own, with a tmpfs for root and sources.
fn with_place(name: &str, test: impl FnOnce(&mut Place) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {name}: mounts need root");
        return;
    }
    let thread = std::thread::spawn(move || {
        sys::process::unshare(sys::process::namespace::MOUNT).unwrap();
        container::root::detach_from_node().unwrap();
        let dir = tempfile::tempdir().unwrap();
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        let source = RootSource::Directory(dir.path().join("root").to_str().unwrap().to_owned());
        let plan = plan(source);
        let root = container::root::mount(&plan.root, &mut Sources::default()).unwrap();
        test(&mut Place { dir, root, plan });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn plan(source: RootSource) -> LaunchPlan {
    LaunchPlan {
        version: PLAN_VERSION,
        prepare: false,
        id: "test".into(),
        namespaces: Namespaces::default(),
        hostname: None,
        domainname: None,
        root: Root { source, ids: RootIds::default(), readonly: false, propagation: 0, no_pivot: false },
        mounts: Vec::new(),
        devices: Vec::new(),
        dev_links: false,
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        sysctls: Vec::new(),
        hooks: Hooks::default(),
        process: Process {
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".into(),
            create_cwd: false,
            user: User::Ids { uid: 0, gid: 0, groups: Vec::new() },
            set_home: false,
            rlimits: Vec::new(),
            capabilities: None,
            no_new_privileges: false,
            oom_score_adj: None,
            umask: None,
            terminal: false,
            console_size: None,
            apparmor: None,
            selinux: None,
            seccomp: None,
            scheduling: Scheduling::default(),
            keyring: None,
            personality: None,
            memory_policy: None,
        },
    }
}

fn mount(target: &str, source: MountSource) -> Mount {
    Mount {
        target: target.into(),
        source,
        set: 0,
        clear: 0,
        set_recursive: 0,
        clear_recursive: 0,
        propagation: Vec::new(),
        tmpcopyup: false,
        idmap: Idmap::Off,
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    }
}

fn bind(target: &str, path: &Path, recursive: bool) -> Mount {
    mount(target, MountSource::Bind { path: path.to_str().unwrap().into(), recursive })
}

fn filesystem(target: &str, kind: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|o| (*o).to_owned()).collect();
    mount(target, MountSource::Filesystem { kind: kind.into(), source: kind.into(), options })
}
