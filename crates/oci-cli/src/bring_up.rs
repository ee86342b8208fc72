//! `create`: everything up to the point where the container's program would run. Each effect is in the
//! record before it is made; a step that fails takes back the ones before it.

use crate::Context;
use crate::arguments::Create;
use crate::bundle::{Bundle, Wishes};
use crate::console::Console;
use crate::folder::Folder;
use crate::hooks::{self, Moment};
use crate::id::ContainerName;
use crate::identity::Identity;
use crate::listener::Agent;
use crate::record::{FORMAT, Record};
use crate::socket::Socket;
use crate::terminal::Terminal;
use crate::{group, intel_rdt, launch, net_devices, pid_file, teardown, warm};
use cgroups::Group;
use container::plan::Namespace;
use container::report::Receiver;
use container::spawn;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::BTreeMap;
use types::time::{now_nanos, rfc3339_nanos};
use types::{Error, ErrorKind, Result};

/// A container that waits to be started. Its folder is locked.
pub struct Ready {
    pub bundle: Bundle,
    pub folder: Folder,
    pub record: Record,
    /// The first process; it is our child.
    pub process: Identity,
    /// Where it reports what comes after the start.
    pub report: Receiver,
    /// Its terminal, where this program relays it.
    pub terminal: Option<Terminal>,
}

/// The verb.
pub fn create(context: &Context, asked: &Create) -> Result<()> {
    bring_up(context, asked, false).map(|_| ())
}

/// Makes a container up to its gate. `stays` says whether the caller waits for its end.
pub fn bring_up(context: &Context, asked: &Create, stays: bool) -> Result<Ready> {
    let id = ContainerName::parse(&asked.id)?;
    let wishes = Wishes { no_pivot: asked.no_pivot, no_new_keyring: asked.no_new_keyring };
    let bundle = Bundle::load(&asked.bundle, &id, wishes)?;
    for warning in &bundle.warnings {
        context.log.warn(warning);
    }
    if bundle.plan.namespaces.user == Namespace::Inherit && !rustix::process::geteuid().is_root() {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "an ordinary user's container needs a `user` namespace: add one to linux.namespaces, with linux.uidMappings and linux.gidMappings, or run this as root",
        ));
    }
    let ends = Ends::of(asked, &bundle, stays)?;
    let wanted = group::Wanted::of(context, &bundle, id.as_str())?;
    let folder = Folder::make(&context.root, &id)?;
    if let Err(error) = wanted.refuse_foreign() {
        // Not by `teardown`, which would end the foreign processes.
        folder.remove()?;
        return Err(error);
    }
    let mut record = new_record(&id, &bundle, &wanted);
    match effects(context, asked, &bundle, &folder, &mut record, &wanted, ends) {
        Ok((process, report, terminal)) => Ok(Ready { bundle, folder, record, process, report, terminal }),
        Err(error) => {
            for left in teardown::everything(&folder, &record, Some(&bundle.spec), &context.log) {
                context.log.warn(&left.chain());
            }
            Err(error)
        }
    }
}

/// Whoever gets a descriptor of the container. Connected before anything is made.
struct Ends {
    console: Console,
    pidfd: Option<Socket>,
    agent: Option<Agent>,
}

impl Ends {
    fn of(asked: &Create, bundle: &Bundle, stays: bool) -> Result<Self> {
        let process = &bundle.plan.process;
        let listens = process.seccomp.as_ref().is_some_and(|filter| filter.listener);
        Ok(Self {
            console: Console::of(process.terminal, asked.console_socket.as_deref(), stays)?,
            pidfd: asked.pidfd_socket.as_deref().map(|path| Socket::connect(path, "pidfd")).transpose()?,
            agent: Agent::of(&bundle.spec, listens)?,
        })
    }
}

fn new_record(id: &ContainerName, bundle: &Bundle, wanted: &group::Wanted) -> Record {
    let annotations: BTreeMap<String, String> =
        bundle.spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Record {
        format: FORMAT,
        oci_version: crate::SPECIFICATION.to_owned(),
        id: id.as_str().to_owned(),
        bundle: bundle.path.display().to_string(),
        rootfs: bundle.rootfs().to_owned(),
        created: rfc3339_nanos(now_nanos()),
        owner: owner(),
        annotations,
        cgroup: wanted.path.clone(),
        manager: wanted.manager.clone(),
        freezer: None,
        shares_pids: bundle.plan.namespaces.pid != Namespace::New,
        process: None,
        ready: false,
    }
}

/// The name of this user, or its number.
fn owner() -> String {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return "root".to_owned();
    }
    let uid = uid.as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(uid.as_str())).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}

fn effects(
    context: &Context,
    asked: &Create,
    bundle: &Bundle,
    folder: &Folder,
    record: &mut Record,
    wanted: &group::Wanted,
    ends: Ends,
) -> Result<(Identity, Receiver, Option<Terminal>)> {
    let log = &context.log;
    folder.write_config(&bundle.config)?;
    folder.write_record(record)?;
    let group = wanted.before(record, log)?;
    let gate = folder.make_gate()?;
    let warm = warm::own(&bundle.spec);
    let held = fork(bundle, group.as_ref(), gate, asked.preserve_fds)?;
    let process = Identity::of(held.child().pid)?;
    record.process = Some(process);
    folder.write_record(record)?;
    wanted.around(process.pid, record, log)?;
    log.debug(&format!("process {} is container {:?}", process.pid, record.id));
    launch::set_oom_score(bundle, process.pid, log);
    intel_rdt::apply(&bundle.spec, &record.id, process.pid)?;
    net_devices::hand_over(&bundle.spec, &bundle.plan.namespaces.network, process.pid)?;
    let launching = held.release().map_err(launch::error)?;
    if hooks::are_there(Moment::Created, &bundle.spec) {
        launch::until_mounted(&launching.report, log)?;
        hooks::run(Moment::Created, &bundle.spec, record)?;
        launching.go_on().map_err(launch::error)?;
    }
    let master = launch::until_ready(&launching.report, log)?;
    drop(warm);
    let terminal = ends.console.take(master)?;
    if let Some(agent) = &ends.agent {
        agent.serve(&launching.child, &launching.report, &record.for_hooks("creating"), log)?;
    }
    record.ready = true;
    folder.write_record(record)?;
    if let Some(socket) = &ends.pidfd {
        // The message is runc's (`libcontainer/init_linux.go`, `setupPidfd`).
        socket.send(launching.child.pidfd.as_fd(), b"standard")?;
    }
    pid_file::write(asked.pid_file.as_deref(), process.pid)?;
    Ok((process, launching.report, terminal))
}

fn fork(bundle: &Bundle, group: Option<&Group>, gate: OwnedFd, preserve_fds: u32) -> Result<spawn::Held> {
    let mut entry = match group {
        Some(group) => group.entry()?,
        None => cgroups::Entry { tasks: Vec::new(), directory: None },
    };
    let cgroup = entry.directory.take();
    let mut inherited = launch::inherited(entry, bundle.plan.process.terminal)?;
    inherited.sources = container::mounts::prepare(&bundle.plan).map_err(launch::error)?;
    let mut detached = launch::detached(Some(gate), preserve_fds)?;
    detached.pauses = hooks::are_there(Moment::Created, &bundle.spec);
    let plan = launch::plan_file(bundle.plan.encode())?;
    spawn::launch_detached(&plan, &bundle.plan.namespaces, cgroup, inherited, detached).map_err(launch::error)
}
