//! ADD: the plugins of a network one after the other, for one pod.
//!
//! ```text
//! check the pod → choose the network → record → plugin 1 → … → plugin n → record the result
//! ```
//!
//! A plugin that fails ends it: DEL of every plugin follows, and the record goes when that worked.
//! What could not be undone stays recorded, for the next detach or sweep.

use crate::conf::NetworkList;
use crate::exec::{self, Environment, PluginError};
use crate::netns::Netns;
use crate::network::{Inner, blocking, recording};
use crate::plugins::{Builtin, Call, PluginFailure, loopback, portmap};
use crate::pod::{Attachment, PodNetwork};
use crate::record::Record;
use crate::result::CniResult;
use crate::{derived, netlink};
use serde_json::Value;
use std::sync::Arc;
use types::{Error, ErrorKind, Result};

/// The interface's name in a pod, as containerd and CRI-O have it.
pub(crate) const INTERFACE: &str = "eth0";

/// One plugin of a network, and who does its work.
#[derive(Debug)]
pub(crate) enum Step {
    Builtin(Builtin),
    Binary,
}

/// An attachment under way.
struct Run {
    list: Arc<NetworkList>,
    steps: Vec<Step>,
    netns: Netns,
    record: Record,
    next: usize,
    previous: Option<Value>,
    /// Whether `lo` still has to be set up.
    loopback: bool,
}

enum Prepared {
    Already(Attachment),
    Stale,
    Running(Box<Run>, Result<()>),
}

impl Inner {
    /// See [`crate::Network::attach`].
    pub(crate) async fn attach(self: &Arc<Self>, pod: PodNetwork) -> Result<Attachment> {
        let mut cleaned = false;
        let (mut run, mut outcome) = loop {
            let (inner, wanted) = (self.clone(), pod.clone());
            match blocking(move || inner.prepare(wanted)).await? {
                Prepared::Already(attachment) => return Ok(attachment),
                Prepared::Running(run, outcome) => break (run, outcome),
                Prepared::Stale if cleaned => {
                    return Err(Error::internal(format!(
                        "pod {}: what an earlier attachment left cannot be removed",
                        pod.display()
                    )));
                }
                Prepared::Stale => {
                    self.detach(pod.clone()).await?;
                    cleaned = true;
                }
            }
        };
        while outcome.is_ok() && run.next < run.steps.len() {
            if matches!(run.steps[run.next], Step::Binary) {
                outcome = self.run_binary(&mut run).await;
            } else {
                let inner = self.clone();
                (run, outcome) = blocking(move || {
                    let outcome = inner.run_builtin(&mut run);
                    Ok((run, outcome))
                })
                .await?;
            }
        }
        match outcome {
            Ok(()) => attachment(&run.record),
            Err(error) => {
                tracing::debug!(pod = %pod.display(), error = %error.chain(), "attaching failed; undoing");
                let Run { record, previous, netns, .. } = *run;
                drop(netns);
                let record = Record { result: previous, ..record };
                if let Err(undo) = self.undo(record).await {
                    tracing::warn!(pod = %pod.display(), error = %undo.chain(), "a failed attachment is not wholly undone; a later detach tries again");
                }
                Err(error)
            }
        }
    }

    /// Everything before the first binary, in one go: nothing here waits for anybody but the kernel.
    fn prepare(self: Arc<Self>, pod: PodNetwork) -> Result<Prepared> {
        check(&pod)?;
        let netns = open_netns(&pod)?;
        let inode = rustix::fs::fstat(&netns)
            .map_err(|e| Error::with_source(ErrorKind::Internal, "cannot look at the pod's namespace", e))?
            .st_ino;
        match self.attachments.read(&pod.id) {
            Ok(Some(old)) if old.complete && old.netns == inode && old.pod.netns == pod.netns => {
                return attachment(&old).map(Prepared::Already);
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Ok(Prepared::Stale),
        }
        let (list, default) = self.network_in_use()?;
        let steps = self.steps(&list, &pod, default);
        let mut record = Record::new(pod, INTERFACE, &list.name, list.source.clone(), inode);
        record.default = default;
        record.table = self.table(&list.name);
        record.builtin = steps.iter().map(|step| matches!(step, Step::Builtin(_))).collect();
        for step in &steps {
            if let Step::Builtin(Builtin::Bridge(bridge)) = step {
                record.rules.masquerade.extend(bridge.masqueraded());
            }
        }
        {
            // While an empty network is being removed, nobody enters it.
            let _gate = self.gate.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.attachments.enter(&record);
        }
        if let Err(errno) = self.attachments.write(&record) {
            // Nothing was made yet.
            let _ = self.attachments.remove(&record.pod.id);
            return Err(recording(&record.pod)(errno));
        }
        let loopback = !matches!(steps.first(), Some(Step::Builtin(Builtin::Bridge(_) | Builtin::Loopback)));
        let mut run = Box::new(Run { list, steps, netns, record, next: 0, previous: None, loopback });
        let outcome = self.run_builtin(&mut run);
        Ok(Prepared::Running(run, outcome))
    }

    /// Who does which plugin's work.
    pub(crate) fn steps(&self, list: &NetworkList, pod: &PodNetwork, default: bool) -> Vec<Step> {
        list.plugins
            .iter()
            .map(|plugin| {
                if !self.config.builtin_plugins && !default {
                    return Step::Binary;
                }
                match Builtin::choose(list, plugin, pod) {
                    Ok(builtin) => Step::Builtin(builtin),
                    Err(reason) => {
                        tracing::debug!(network = %list.name, plugin = %plugin.kind, %reason, "the plugin's binary is executed");
                        Step::Binary
                    }
                }
            })
            .collect()
    }

    /// Runs built-in plugins until the next is a binary or there is none.
    fn run_builtin(&self, run: &mut Run) -> Result<()> {
        let failed =
            |run: &Run, error| plugin_failed("attach", &run.record, &run.list.plugins[run.next].kind, error);
        if std::mem::take(&mut run.loopback) {
            loopback::add(&run.netns).map_err(|e| plugin_failed("attach", &run.record, "loopback", e))?;
        }
        while let Some(Step::Builtin(builtin)) = run.steps.get(run.next) {
            let call = self.call(&run.record, run.list.version, true);
            match builtin {
                Builtin::Loopback => loopback::add(&run.netns).map_err(|e| failed(run, e))?,
                Builtin::Bridge(bridge) => {
                    let result = bridge.add(&call, &run.netns).map_err(|e| failed(run, e))?;
                    run.previous = Some(result);
                }
                Builtin::Portmap(false) => {}
                Builtin::Portmap(true) => {
                    if run.record.pod.port_mappings.iter().any(|m| m.host_port != 0) {
                        let previous = run.previous.as_ref().unwrap_or(&Value::Null);
                        let ports = portmap::plan(&call, previous).map_err(|e| failed(run, e))?;
                        self.attachments.claim(&run.record.pod.id, &ports.mappings).map_err(|(port, other)| {
                            Error::precondition(format!(
                                "cannot attach pod {}: port {port} of the node leads to pod {other} already",
                                run.record.pod.display()
                            ))
                        })?;
                        run.record.ports = ports;
                        run.record.result = run.previous.clone();
                        self.attachments.write(&run.record).map_err(recording(&run.record.pod))?;
                        let call = self.call(&run.record, run.list.version, true);
                        portmap::add(&call, &run.record.ports).map_err(|e| failed(run, e))?;
                    }
                }
            }
            run.next += 1;
        }
        if run.next == run.steps.len() { self.finish(run) } else { Ok(()) }
    }

    async fn run_binary(&self, run: &mut Run) -> Result<()> {
        let plugin = &run.list.plugins[run.next];
        let conf = derived::conf(&run.list, plugin, &run.record.pod, run.previous.as_ref());
        let netns = Some(run.record.pod.netns.clone());
        let answer = self.execute("ADD", &run.record, netns, &plugin.kind, &conf).await;
        let answer = answer.and_then(|answer| {
            let bad = |reason| PluginError::BadAnswer { plugin: plugin.kind.clone(), reason };
            let value = answer.ok_or_else(|| bad("it printed nothing".to_owned()))?;
            CniResult::parse(&value).map_err(|error| bad(error.to_string()))?;
            Ok(value)
        });
        run.previous = Some(answer.map_err(|e| binary_failed("attach", &run.record, e))?);
        run.next += 1;
        run.record.result = run.previous.clone();
        if run.next == run.steps.len() {
            self.finish(run)
        } else {
            self.attachments.write(&run.record).map_err(recording(&run.record.pod))
        }
    }

    fn finish(&self, run: &mut Run) -> Result<()> {
        run.record.result = Some(run.previous.clone().unwrap_or_else(|| serde_json::json!({})));
        run.record.complete = true;
        self.attachments.write(&run.record).map_err(recording(&run.record.pod))
    }

    /// Runs a plugin's binary.
    pub(crate) async fn execute(
        &self,
        command: &str,
        record: &Record,
        netns: Option<std::path::PathBuf>,
        kind: &str,
        conf: &Value,
    ) -> Result<Option<Value>, PluginError> {
        let binary = exec::find(kind, &self.config.bin_dirs)?;
        let environment = Environment {
            container: record.pod.id.clone(),
            netns,
            interface: record.interface.clone(),
            args: derived::args(&record.pod),
            path: self.config.bin_dirs.clone(),
        };
        let conf = conf.to_string();
        exec::run(kind, &binary, command, &environment, conf.as_bytes(), self.config.plugin_timeout).await
    }

    /// What a built-in plugin is told.
    pub(crate) fn call<'a>(
        &'a self,
        record: &'a Record,
        version: crate::conf::CniVersion,
        fresh: bool,
    ) -> Call<'a> {
        Call {
            pod: &record.pod,
            interface: &record.interface,
            version,
            table: &record.table,
            rules: record.rules.clone(),
            fresh,
            nat: &self.nat,
        }
    }
}

/// Ids become file names and, with names, parts of `CNI_ARGS`.
fn check(pod: &PodNetwork) -> Result<()> {
    check_id(&pod.id)?;
    for (what, text) in [("name", &pod.name), ("namespace", &pod.namespace), ("uid", &pod.uid)] {
        if text.len() > 253 || text.bytes().any(|b| matches!(b, b';' | b'=' | b'/') || b.is_ascii_control()) {
            return Err(Error::invalid(format!(
                "the pod's {what} {:?} cannot be handed to network plugins",
                types::reference::shorten(text)
            )));
        }
    }
    Ok(())
}

/// `CNI_CONTAINERID`: a letter or digit, then letters, digits, `_`, `.` and `-`.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let first = id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first
        && id.len() <= 128
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    {
        Ok(())
    } else {
        Err(Error::invalid(format!("{:?} is not a pod id", types::reference::shorten(id))))
    }
}

fn open_netns(pod: &PodNetwork) -> Result<Netns> {
    let Some(netns) = Netns::open(&pod.netns)? else {
        return Err(Error::not_found(format!(
            "pod {} has no network namespace at {}",
            pod.display(),
            pod.netns.display()
        )));
    };
    if netns.same(&Netns::own()?) {
        return Err(Error::invalid(format!(
            "pod {} is on the node's own network ({}); it must not be attached to another",
            pod.display(),
            pod.netns.display()
        )));
    }
    Ok(netns)
}

fn attachment(record: &Record) -> Result<Attachment> {
    let value = record.result.clone().unwrap_or_else(|| serde_json::json!({}));
    let result = CniResult::parse(&value).map_err(|error| {
        Error::with_source(
            ErrorKind::Internal,
            format!("the network result of pod {} cannot be used", record.pod.display()),
            error,
        )
    })?;
    let ips = result.pod_addresses(&record.interface).iter().map(|a| a.address.address).collect();
    Ok(Attachment { ips, result: value, network: record.network.clone() })
}

/// A built-in plugin's failure, with plugin, network and pod.
pub(crate) fn plugin_failed(verb: &str, record: &Record, kind: &str, error: PluginFailure) -> Error {
    let mut message = format!(
        "cannot {verb} pod {}: the built-in plugin {kind:?} of network {:?} failed",
        record.pod.display(),
        record.network
    );
    if let PluginFailure::Netlink(netlink::NetlinkError::Refused {
        source: rustix::io::Errno::PERM, ..
    }) = &error
    {
        message.push_str(" (it needs the capability CAP_NET_ADMIN)");
    }
    Error::with_source(error.kind(), message, error)
}

/// A binary's failure, with network and pod; the plugin is in the error itself.
pub(crate) fn binary_failed(verb: &str, record: &Record, error: PluginError) -> Error {
    let message = format!("cannot {verb} pod {} (network {:?})", record.pod.display(), record.network);
    Error::with_source(error.kind(), message, error)
}
