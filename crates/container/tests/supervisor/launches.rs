//! Whole launches whose supervisor has to prepare something, up to the container's output.

use crate::place::{Place, Watch, mounts_of};
use container::detached::Detached;
use container::init::Inherited;
use container::plan::{
    Hooks, IdMap, Idmap, LaunchPlan, Mount, MountSource, Namespace, Namespaces, PLAN_VERSION, Process, Root,
    RootIds, RootSource, Scheduling, User,
};
use container::report::Report;
use container::root::{Way, at_most};
use container::spawn::{self, ForkInto, Launching};
use container::stdio::Stdio;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io::{Read, Write};
use sys::mount::attr;

const WAYS: [Way; 3] = [Way::OneString, Way::OneByOne, Way::Descriptors];
const BUSYBOX: &str = "/bin/busybox";
/// What the container's root is on the node.
const FIRST: u32 = 100_000;

/// A place whose layers have a shell; none where there is no program to copy, which is said.
fn place() -> Option<Place> {
    let place = Place::new();
    std::fs::create_dir(place.path("low/bin")).expect("mkdir");
    if std::fs::copy(BUSYBOX, place.path("low/bin/busybox")).is_err() {
        println!("SKIPPED: there is no {BUSYBOX} here");
        return None;
    }
    Some(place)
}

fn plan(source: RootSource, script: &str) -> LaunchPlan {
    LaunchPlan {
        version: PLAN_VERSION,
        prepare: true,
        id: "test".into(),
        namespaces: Namespaces { mount: Namespace::New, pid: Namespace::New, ..Namespaces::default() },
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
            args: [BUSYBOX, "sh", "-c", script].map(|word| word.as_bytes().to_vec()).to_vec(),
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

fn file(plan: &LaunchPlan) -> OwnedFd {
    let file = rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let mut file = std::fs::File::from(file);
    file.write_all(&plan.encode().expect("a plan")).expect("write");
    file.into()
}

/// What a container has for its output, and the other end.
fn output() -> (Stdio, std::fs::File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let errors = rustix::io::fcntl_dupfd_cloexec(&write, 3).expect("dup");
    (Stdio { stdin: None, stdout: Some(write), stderr: Some(errors) }, read.into())
}

/// Waits until the program runs, and for its end; what it wrote.
fn outcome(launching: &Launching, mut output: std::fs::File) -> String {
    while let Some((report, _)) = launching.report.receive().expect("a report") {
        if let Report::Failed(failure) = report {
            panic!("{failure}");
        }
    }
    let mut text = String::new();
    output.read_to_string(&mut text).expect("output");
    waitid(WaitId::PidFd(launching.child.pidfd.as_fd()), WaitIdOptions::EXITED).expect("reaped");
    text
}

fn image(target: &str, source: RootSource, folder: &str) -> Mount {
    Mount {
        target: target.into(),
        source: MountSource::Image { source, folder: folder.into(), image: "v".into() },
        set: attr::RDONLY | attr::NODEV,
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

pub fn in_a_user_namespace() {
    let Some(place) = place() else { return };
    let map = || vec![IdMap { inside: 0, outside: FIRST, length: 65_536 }];
    let script = "b=/bin/busybox; $b cat /name /both /vol/name /deep/deep; echo; echo new > /new && $b cat /new; \
                  { echo no > /vol/new; } 2>&- || echo refused; $b id -u; $b stat -c %u /name";
    for way in WAYS {
        at_most(way);
        for mapped in [false, true] {
            let source = place.overlay();
            let RootSource::Overlay { upper, .. } = &source else { panic!("{source:?}") };
            let upper = upper.clone();
            std::os::unix::fs::chown(&upper, Some(FIRST), Some(FIRST)).expect("chown");
            let mut plan = plan(source, script);
            plan.namespaces.user = Namespace::New;
            (plan.namespaces.uid_mappings, plan.namespaces.gid_mappings) = (map(), map());
            if mapped {
                plan.root.ids = RootIds { uids: map(), gids: map() };
            }
            plan.mounts = vec![image("/vol", place.view(), ""), image("/deep", place.view(), "d")];
            let watch = Watch::new();
            let sources = container::mounts::prepare(&plan)
                .unwrap_or_else(|failure| panic!("{way:?}, mapped {mapped}: {failure}"));
            assert!(!watch.changed(), "{way:?}, mapped {mapped}: the supervisor's mount table changed");
            let (stdio, read) = output();
            let inherited = Inherited { stdio, sources, ..Inherited::default() };
            let (file, namespaces) = (file(&plan), &plan.namespaces);
            let held = spawn::launch_detached(&file, namespaces, None, inherited, Detached::default());
            let launching = held.and_then(spawn::Held::release).expect("a container");
            let said = outcome(&launching, read);
            let owner = if mapped { "0" } else { "65534" };
            assert_eq!(
                said,
                format!("lowhighlowdeep\nnew\nrefused\n0\n{owner}\n"),
                "{way:?}, mapped {mapped}"
            );
            assert!(!watch.changed(), "{way:?}, mapped {mapped}: the container's mounts were seen");
            let made = std::fs::metadata(format!("{upper}/new")).expect("the container's file");
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), FIRST);
        }
    }
    assert_eq!(mounts_of(&place.path("")), [""; 0]);
}

pub fn on_a_disk() {
    let Some(place) = place() else { return };
    let script =
        "b=/bin/busybox; $b cat /name /both; echo; echo new > /new && $b cat /new; $b stat -f -c '%b %S' /";
    for way in WAYS {
        at_most(way);
        let Some(source) = place.root("disk") else { return };
        let plan = plan(source, script);
        let watch = Watch::new();
        let (stdio, read) = output();
        let inherited = Inherited { stdio, ..Inherited::default() };
        let into = ForkInto { new: spawn::new_namespaces(&plan.namespaces), ..ForkInto::default() };
        let launching = spawn::launch(&file(&plan), &into, inherited).expect("a container");
        let said = outcome(&launching, read);
        assert!(said.starts_with("lowhigh\nnew\n"), "{way:?}: {said}");
        // It sees a disk of its own.
        let blocks: Vec<u64> = said.split_whitespace().skip(2).filter_map(|word| word.parse().ok()).collect();
        let size: u64 = blocks.iter().product();
        assert!(blocks.len() == 2 && (8 << 20..=16 << 20).contains(&size), "{way:?}: {said}");
        assert!(!watch.changed(), "{way:?}: the container's mounts were seen");
    }
    assert_eq!(mounts_of(&place.path("")), [""; 0]);
}

pub fn on_a_mapped_directory() {
    let Some(place) = place() else { return };
    let map = vec![IdMap { inside: 0, outside: FIRST, length: 65_536 }];
    let source = RootSource::Directory(place.text("low"));
    let mut plan = plan(source, "/bin/busybox touch /tmp/new && /bin/busybox ls /tmp");
    plan.root.ids = RootIds { uids: map.clone(), gids: map };
    let kind = MountSource::Filesystem { kind: "tmpfs".into(), source: "tmpfs".into(), options: Vec::new() };
    std::fs::create_dir(place.path("low/tmp")).expect("mkdir");
    plan.mounts =
        vec![Mount { source: kind, set: 0, ..image("/tmp", RootSource::Directory(String::new()), "") }];
    let watch = Watch::new();
    let (stdio, read) = output();
    let inherited = Inherited { stdio, ..Inherited::default() };
    let into = ForkInto { new: spawn::new_namespaces(&plan.namespaces), ..ForkInto::default() };
    let launching = spawn::launch(&file(&plan), &into, inherited).expect("a container");
    assert_eq!(outcome(&launching, read), "new\n");
    assert!(!watch.changed(), "the container's mounts were seen");
}
