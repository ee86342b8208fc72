//! DEL: the plugins of a network in reverse order, with the configuration that ADD used. Every
//! plugin has its turn even when one fails; the record stays until all of them succeeded. What is
//! gone already (the namespace, the interface, the record itself) is fine.
//!
//! The pod is cut off and its address is free when this returns. Deleting the veth pair, for which
//! the kernel waits about 10 ms, and an empty network happen right after, in the background:
//! [`crate::Network::settled`] waits for it, and [`crate::Network::sweep`] does what a crash prevented.

use crate::attach::{Step, binary_failed, check_id, plugin_failed};
use crate::conf::{CniVersion, NetworkList};
use crate::derived;
use crate::netns::Netns;
use crate::network::{Inner, blocking, recording};
use crate::plugins::{Builtin, bridge, portmap};
use crate::pod::PodNetwork;
use crate::record::Record;
use crate::result::CniResult;
use rustix::io::Errno;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use types::{Error, Result};

impl Inner {
    /// See [`crate::Network::detach`].
    pub(crate) async fn detach(self: &Arc<Self>, pod: PodNetwork) -> Result<()> {
        check_id(&pod.id)?;
        let inner = self.clone();
        let record = blocking(move || match inner.attachments.read(&pod.id) {
            Ok(record) => Ok(record),
            Err(Errno::BADMSG | Errno::FBIG | Errno::INVAL) => {
                // Its record is damaged: the network in use now is the best guess that there is.
                let (list, default) = inner.network_in_use()?;
                let mut record =
                    Record::new(pod, crate::attach::INTERFACE, &list.name, list.source.clone(), 0);
                record.default = default;
                record.table = inner.table(&list.name);
                let steps = inner.steps(&list, &record.pod, default);
                record.builtin = steps.iter().map(|step| matches!(step, Step::Builtin(_))).collect();
                Ok(Some(record))
            }
            Err(errno) => Err(recording(&pod)(errno)),
        })
        .await?;
        match record {
            Some(record) => self.undo(record).await,
            None => Ok(()), // nothing was ever made, or all of it is gone
        }
    }

    /// DEL of every plugin of a record, then the record itself.
    pub(crate) async fn undo(self: &Arc<Self>, record: Record) -> Result<()> {
        let Value::Object(source) = record.list.clone() else {
            return Err(Error::internal(format!(
                "the network record of pod {} has no network",
                record.pod.display()
            )));
        };
        let list = NetworkList::from_list(source).map_err(|error| {
            Error::internal(format!(
                "the network record of pod {} cannot be used: {error}",
                record.pod.display()
            ))
        })?;
        let (record, list) = (Arc::new(record), Arc::new(list));
        let mut first: Option<Error> = None;
        let mut index = list.plugins.len();
        while index > 0 {
            let built_in = |at: usize| record.builtin.get(at).copied().unwrap_or(false);
            let outcome = if built_in(index - 1) {
                let from = (0..index).rev().take_while(|at| built_in(*at)).last().unwrap_or(index - 1);
                let (inner, record, list) = (self.clone(), record.clone(), list.clone());
                let range = from..index;
                index = from;
                blocking(move || inner.delete_builtin(&record, &list, range)).await
            } else {
                index -= 1;
                self.delete_binary(&record, &list, index).await
            };
            if let Err(error) = outcome {
                match &first {
                    None => first = Some(error),
                    Some(_) => {
                        tracing::warn!(pod = %record.pod.display(), error = %error.chain(), "detaching failed further")
                    }
                }
            }
        }
        if let Some(error) = first {
            return Err(error);
        }
        let (inner, gone) = (self.clone(), record.clone());
        blocking(move || inner.attachments.remove(&gone.pod.id).map_err(recording(&gone.pod))).await?;
        self.finish_later(record, list);
        Ok(())
    }

    fn delete_builtin(
        &self,
        record: &Record,
        list: &NetworkList,
        range: std::ops::Range<usize>,
    ) -> Result<()> {
        let mut first = None;
        let call = self.call(record, list.version, false);
        for plugin in list.plugins[range].iter().rev() {
            let failed = |error| plugin_failed("detach", record, &plugin.kind, error);
            let outcome = match Builtin::choose(list, plugin, &record.pod) {
                Ok(Builtin::Loopback) => Ok(()),
                Ok(Builtin::Portmap(_)) => portmap::delete(&call, &record.ports).map_err(failed),
                Ok(Builtin::Bridge(bridge)) => bridge.delete(&call, &known_addresses(record)).map_err(failed),
                Err(reason) => Err(Error::internal(format!(
                    "cannot detach pod {}: plugin {:?} ran in-process, and now {reason}",
                    record.pod.display(),
                    plugin.kind
                ))),
            };
            if let Err(error) = outcome {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    async fn delete_binary(&self, record: &Record, list: &NetworkList, index: usize) -> Result<()> {
        let plugin = &list.plugins[index];
        // DEL knows of a result since 0.4.0.
        let result = record.result.as_ref().filter(|_| list.version >= CniVersion::V0_4_0);
        let conf = derived::conf(list, plugin, &record.pod, result);
        // A namespace that is gone is said by leaving CNI_NETNS empty (specification, "DEL").
        let netns = Netns::open(&record.pod.netns)?.map(|_| record.pod.netns.clone());
        let answer = self.execute("DEL", record, netns, &plugin.kind, &conf).await;
        answer.map(|_| ()).map_err(|error| binary_failed("detach", record, error))
    }

    /// What nobody has to wait for: the veth pair, and the network if that was its last pod.
    fn finish_later(self: &Arc<Self>, record: Arc<Record>, list: Arc<NetworkList>) {
        let inner = self.clone();
        self.background.start(async move {
            let turn = inner.turn(&record.pod.id).await;
            let work = inner.clone();
            let outcome = blocking(move || {
                let _turn = turn;
                let veth = list
                    .plugins
                    .iter()
                    .zip(&record.builtin)
                    .any(|(p, built_in)| *built_in && p.kind == "bridge");
                // A pod that was attached again in between has a new pair of the same name.
                if veth && !work.attachments.contains(&record.pod.id) {
                    bridge::delete_veth(&record.pod.id, &record.interface)
                        .map_err(|error| plugin_failed("detach", &record, "bridge", error))?;
                }
                work.remove_if_empty(&record.network, &record.table, record.default)
            })
            .await;
            if let Err(error) = outcome {
                tracing::warn!(error = %error.chain(), "something of a detached pod's network stays behind");
            }
        });
    }

    /// Removes a network's table, and of our own network the bridge, if no pod is attached to it.
    /// The kernel parameters that were set (forwarding) stay: others may rely on them by now.
    pub(crate) fn remove_if_empty(&self, network: &str, table: &str, default: bool) -> Result<()> {
        let _gate = self.gate.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.attachments.any_in(network) {
            return Ok(());
        }
        let failed = |error: crate::plugins::PluginFailure| {
            Error::with_source(error.kind(), format!("cannot remove the empty network {network:?}"), error)
        };
        self.nat.remove_table(table).map_err(failed)?;
        if default {
            self.nat.remove_bridge(&self.bridge).map_err(failed)?;
        }
        Ok(())
    }
}

/// The addresses of a complete attachment; none where only the files of the address management know.
fn known_addresses(record: &Record) -> Vec<IpAddr> {
    match (&record.result, record.complete) {
        (Some(result), true) => CniResult::parse(result).map_or_else(
            |_| Vec::new(),
            |result| result.pod_addresses(&record.interface).iter().map(|a| a.address.address).collect(),
        ),
        _ => Vec::new(),
    }
}
