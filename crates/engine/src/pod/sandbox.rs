//! The parts of a pod sandbox: each has a function that makes it and one that takes it back. Both the steps of
//! RunPodSandbox and the end of a pod are made of these.

use super::Pod;
use crate::parts::{Shared, blocking};
use monitor::{Configure, Monitor};
use network::PodNetwork;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use std::path::Path;
use std::sync::Arc;
use sys::process::namespace;
use types::pod::NamespaceMode;
use types::{Error, ErrorKind, Result};

/// Bytes of a pod's `/dev/shm`, as Docker's and containerd's default.
const SHM_SIZE: &str = "67108864";

/// A pod in the making or at its end.
pub(crate) struct Sandbox {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    sysctls: Vec<(String, String)>,
}

/// 32 random bytes for an id.
pub(crate) fn random_id() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::with_source(ErrorKind::Internal, "the kernel gives no random numbers", e))?;
    }
    Ok(bytes)
}

impl Sandbox {
    pub fn new(shared: Arc<Shared>, pod: Arc<Pod>) -> Self {
        Self { shared, pod, sysctls: Vec::new() }
    }

    /// The intent, before anything is made. What would be refused later is refused now.
    pub async fn record(&mut self) -> Result<()> {
        self.sysctls = spec::sysctls(&self.pod.record().config)?;
        self.pod.update(|_| {})?;
        self.shared.registry.add_pod(self.pod.clone());
        Ok(())
    }

    pub async fn forget(&mut self) -> Result<()> {
        self.shared.registry.remove_pod(&self.pod);
        let path = self.pod.path.clone();
        blocking(move || match std::fs::remove_dir_all(&path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::with_source(
                ErrorKind::Internal,
                format!("cannot remove the state folder {}", path.display()),
                e,
            )),
        })
        .await
    }

    /// Starts the shim. It makes the pod's namespaces while the steps that follow go on.
    pub async fn start_monitor(&mut self) -> Result<()> {
        let spawned = monitor::spawn(&self.shared.parts.shim, &self.pod.path, self.pod.id.as_str()).await?;
        self.pod.set_monitor(Some(spawned.monitor.clone()));
        self.pod.update(|record| record.monitor_pid = spawned.pid)?;
        super::listen(&self.shared, &self.pod, &spawned.monitor);
        Ok(())
    }

    pub async fn stop_monitor(&mut self) -> Result<()> {
        let Some(monitor) = self.pod.monitor() else { return Ok(()) };
        let asked = monitor.shutdown().await;
        self.pod.set_monitor(None);
        match asked {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Unavailable => Ok(()),
            Err(error) => {
                kill_monitor(&self.pod);
                Err(error.context("the shim did not end by itself and was killed"))
            }
        }
    }

    pub async fn make_cgroup(&mut self) -> Result<()> {
        let (cgroup, own) = {
            let record = self.pod.record();
            (record.cgroup.clone(), record.own_cgroup)
        };
        if own {
            self.shared.parts.cgroups.create(&cgroup)?;
        }
        Ok(())
    }

    pub async fn remove_cgroup(&mut self) -> Result<()> {
        let (cgroup, own) = {
            let record = self.pod.record();
            (record.cgroup.clone(), record.own_cgroup)
        };
        if !own {
            return Ok(());
        }
        let shared = self.shared.clone();
        blocking(move || match shared.parts.cgroups.open(&cgroup)? {
            Some(group) => {
                group.kill()?;
                group.remove()
            }
            None => Ok(()),
        })
        .await
    }

    /// Shared memory, host name and name servers.
    pub async fn make_files(&mut self) -> Result<()> {
        let config = self.pod.record().config.clone();
        if config.security.namespaces.ipc != NamespaceMode::Node {
            make_shm(&self.pod.path.join("shm"))?;
        }
        let write = |name: &str, text: &str| write_file(&self.pod.path.join(name), text);
        write("hostname", &format!("{}\n", self.hostname()))?;
        match &config.dns {
            Some(dns) if !(dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty()) => {
                write("resolv.conf", &spec::resolv_conf(dns)?)
            }
            _ => copy_node_file(Path::new("/etc/resolv.conf"), &self.pod.path.join("resolv.conf")),
        }
    }

    pub async fn remove_files(&mut self) -> Result<()> {
        let shm = self.pod.path.join("shm");
        match unmount(&shm, UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => {
                Err(Error::with_source(ErrorKind::Internal, format!("cannot unmount {}", shm.display()), e))
            }
        }
    }

    /// Lets the shim make the pod's namespaces, and pins the network's, so that it can be given back whatever
    /// becomes of the shim.
    pub async fn make_namespaces(&mut self) -> Result<()> {
        let (wanted, own_network, pid) = {
            let record = self.pod.record();
            (self.configuration(&record.config), record.own_network, record.monitor_pid)
        };
        self.connected()?.configure(wanted).await?;
        if own_network {
            network::netns::pin(Path::new(&format!("/proc/{pid}/ns/net")), &self.pod.netns())?;
        }
        Ok(())
    }

    fn configuration(&self, config: &types::PodConfig) -> Configure {
        let ns = &config.security.namespaces;
        let mut namespaces = 0;
        if ns.network != NamespaceMode::Node {
            // A pod on the node's network keeps the node's host name, as containerd and CRI-O have it.
            namespaces |= namespace::NETWORK | namespace::UTS;
        }
        if ns.ipc != NamespaceMode::Node {
            namespaces |= namespace::IPC;
        }
        Configure {
            namespaces,
            hostname: if namespaces & namespace::UTS == 0 { String::new() } else { self.hostname() },
            sysctls: self.sysctls.clone(),
            share_pid: ns.pid == NamespaceMode::Pod,
        }
    }

    pub async fn unpin_namespaces(&mut self) -> Result<()> {
        network::netns::unpin(&self.pod.netns())
    }

    pub async fn attach_network(&mut self) -> Result<()> {
        if !self.pod.record().own_network {
            return Ok(());
        }
        let attachment = self.shared.parts.network.attach(&self.network()).await?;
        self.pod.update(|record| {
            record.ips = attachment.ips;
            record.network_result = Some(Arc::new(attachment.result));
        })
    }

    pub async fn detach_network(&mut self) -> Result<()> {
        if !self.pod.record().own_network {
            return Ok(());
        }
        self.shared.parts.network.detach(&self.network()).await
    }

    fn network(&self) -> PodNetwork {
        let record = self.pod.record();
        let config = &record.config;
        PodNetwork {
            id: record.id.to_string(),
            name: config.metadata.name.clone(),
            namespace: config.metadata.namespace.clone(),
            uid: config.metadata.uid.clone(),
            netns: self.pod.netns(),
            port_mappings: config.port_mappings.clone(),
            dns: config.dns.clone(),
            annotations: config.annotations.clone(),
            cgroup_parent: config.cgroup_parent.clone(),
            ..PodNetwork::default()
        }
    }

    /// `/etc/hosts`, once the addresses are known.
    pub async fn write_hosts(&mut self) -> Result<()> {
        let path = self.pod.path.join("hosts");
        let record = self.pod.record();
        if record.own_network {
            write_file(&path, &spec::hosts(&self.hostname(), &record.ips))
        } else {
            copy_node_file(Path::new("/etc/hosts"), &path)
        }
    }

    fn hostname(&self) -> String {
        hostname(&self.pod)
    }

    fn connected(&self) -> Result<Monitor> {
        self.pod.monitor().ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "the pod's shim ended at once; shim.log in its state folder may say why",
            )
        })
    }
}

/// The host name that programs in the pod see.
pub(crate) fn hostname(pod: &Pod) -> String {
    let record = pod.record();
    if !record.config.hostname.is_empty() && record.own_network {
        return record.config.hostname.clone();
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether the shim that the record names is there.
pub(crate) fn monitor_alive(pod: &Pod) -> bool {
    monitor_process(pod).is_some()
}

/// Kills the shim that the record names.
pub(crate) fn kill_monitor(pod: &Pod) {
    if let Some(process) = monitor_process(pod) {
        let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
    }
}

/// The process that the record names, where it is still this pod's shim: its name and pod are checked behind the
/// descriptor, so that a number that was given away again is not mistaken for it.
fn monitor_process(pod: &Pod) -> Option<rustix::fd::OwnedFd> {
    let pid = pod.record().monitor_pid;
    let process = rustix::process::Pid::from_raw(pid)?;
    let pidfd = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = command.split(|b| *b == 0);
    (words.next() == Some(b"corten-shim") && words.next() == Some(pod.id.as_str().as_bytes()))
        .then_some(pidfd)
}

fn make_shm(path: &Path) -> Result<()> {
    let make = || -> std::io::Result<()> {
        std::fs::create_dir(path)?;
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", "shm")?;
        fsconfig_set_string(&fs, "size", SHM_SIZE)?;
        fsconfig_set_string(&fs, "mode", "1777")?;
        fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        let point =
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        move_mount(
            &mount,
            "",
            &point,
            "",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
        )?;
        Ok(())
    };
    make().map_err(|e| {
        Error::with_source(ErrorKind::Internal, format!("cannot make shared memory at {}", path.display()), e)
    })
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Programs in the pod read it, whoever they are.
    let write = || -> std::io::Result<()> {
        let file = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o644))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        std::fs::File::from(file).write_all(text.as_bytes())
    };
    write()
        .map_err(|e| Error::with_source(ErrorKind::Internal, format!("cannot write {}", path.display()), e))
}

/// A file of the node's own `/etc`; one that is missing is empty. At most 1 MiB.
fn copy_node_file(from: &Path, to: &Path) -> Result<()> {
    use std::io::Read;
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(from) {
        file.take(1 << 20).read_to_string(&mut text).map_err(|e| {
            Error::with_source(ErrorKind::Internal, format!("cannot read {}", from.display()), e)
        })?;
    }
    write_file(to, &text)
}
