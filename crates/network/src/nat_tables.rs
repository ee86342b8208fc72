//! Which nf_tables tables and bridges this daemon made, and what the tables say. The names are
//! written to `made` in the network's folder before the things are made, so that a later process finds and removes
//! them when they are empty. Nothing that is not written there is ever deleted.

use crate::files;
use crate::netlink::{NetlinkError, Socket, link};
use crate::nftables::conntrack;
use crate::nftables::nat::{self, Mapping, Rules};
use crate::plugins::PluginFailure;
use crate::sysctl;
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub struct NatTables {
    made: OwnedFd,
    tables: Mutex<HashMap<String, State>>,
}

#[derive(Debug, Default)]
struct State {
    rules: Rules,
    /// This process made the table, and made it say `rules`.
    known: bool,
}

impl NatTables {
    /// Opens `made` in the network's folder.
    pub fn open(state: &Path) -> Result<Self, Errno> {
        Ok(Self { made: files::directory(&state.join("made"), 0o700)?, tables: Mutex::default() })
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<String, State>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rules that pods of an earlier process need: they are said again when the table is next made.
    pub fn remember(&self, table: &str, rules: &Rules) {
        let mut tables = self.tables();
        let state = tables.entry(table.to_owned()).or_default();
        state.known &= !state.rules.join(rules);
    }

    /// Records that a bridge is about to be made.
    pub fn made(&self, bridge: &str) -> Result<(), PluginFailure> {
        self.record(&format!("bridge-{bridge}"))
    }

    fn record(&self, name: &str) -> Result<(), PluginFailure> {
        match files::create(&self.made, name, b"", 0o600) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(PluginFailure::Record(errno)),
        }
    }

    /// Makes sure that the table is there and says all of `rules`, and all that was said before.
    pub fn ensure(&self, table: &str, rules: &Rules) -> Result<(), PluginFailure> {
        let mut socket = Socket::netfilter()?;
        let known = {
            let mut tables = self.tables();
            let state = tables.entry(table.to_owned()).or_default();
            state.known &= !state.rules.join(rules);
            state.known
        };
        // Looked up outside the lock, so that pods do not wait for each other.
        if known && nat::complete(&mut socket, table, rules)? {
            return Ok(());
        }
        let mut tables = self.tables();
        let state = tables.entry(table.to_owned()).or_default();
        self.record(&format!("table-{table}"))?;
        nat::build(&mut socket, table, &state.rules)?;
        state.known = true;
        Ok(())
    }

    /// Opens ports. An element that leads elsewhere is what a pod of the past left behind: no living
    /// pod claims the port, or the caller had refused it.
    pub fn map(&self, table: &str, mappings: &[Mapping]) -> Result<(), NetlinkError> {
        let mut socket = Socket::netfilter()?;
        match nat::map(&mut socket, table, mappings) {
            Err(error) if matches!(error.errno(), Some(Errno::BUSY | Errno::EXIST)) => {
                nat::unmap(&mut socket, table, mappings)?;
                nat::map(&mut socket, table, mappings)?;
            }
            other => other?,
        }
        Self::forget(&mut socket, mappings);
        Ok(())
    }

    /// Closes ports.
    pub fn unmap(&self, table: &str, mappings: &[Mapping]) -> Result<(), NetlinkError> {
        let mut socket = Socket::netfilter()?;
        nat::unmap(&mut socket, table, mappings)?;
        Self::forget(&mut socket, mappings);
        Ok(())
    }

    fn forget(socket: &mut Socket, mappings: &[Mapping]) {
        // New flows go the right way without it.
        if let Err(error) = conntrack::forget(socket, mappings) {
            tracing::warn!(error = %types::error::chain(&error), "cannot forget UDP flows of changed ports");
        }
    }

    /// Lets 127.0.0.1 send to pods behind an interface (`route_localnet`; without it the kernel drops
    /// such packets as martian). Recorded if that is a change, for it has to end with the table,
    /// whose guard keeps the way back shut.
    pub fn open_loopback(&self, table: &str, interface: &str) -> Result<(), PluginFailure> {
        let name = format!("ipv4/conf/{interface}/route_localnet");
        let failed = |source| PluginFailure::Sysctl { name: name.clone(), value: "1", source };
        if sysctl::is(&name, "1").map_err(failed)? == Some(false) {
            let record = format!("loopback-{interface}");
            files::replace(&self.made, &record, table.as_bytes(), 0o600).map_err(PluginFailure::Record)?;
            sysctl::set(&name, "1").map_err(failed)?;
        }
        Ok(())
    }

    /// Takes back what [`NatTables::open_loopback`] did for a table.
    fn close_loopback(&self, table: &str) -> Result<(), PluginFailure> {
        for record in files::names(&self.made).map_err(PluginFailure::Record)? {
            let Some(interface) = record.strip_prefix("loopback-") else { continue };
            let of = files::read(&self.made, &record, 512).map_err(PluginFailure::Record)?;
            if of.is_some_and(|of| of == table.as_bytes()) {
                let name = format!("ipv4/conf/{interface}/route_localnet");
                sysctl::set(&name, "0").map_err(|source| PluginFailure::Sysctl {
                    name,
                    value: "0",
                    source,
                })?;
                files::remove(&self.made, &record).map_err(PluginFailure::Record)?;
            }
        }
        Ok(())
    }

    /// Removes a network's table, if it is one of ours.
    pub fn remove_table(&self, table: &str) -> Result<(), PluginFailure> {
        let mut tables = self.tables();
        if !self.is_made(&format!("table-{table}"))? {
            return Ok(());
        }
        self.close_loopback(table)?;
        nat::remove(&mut Socket::netfilter()?, table)?;
        tables.remove(table);
        files::remove(&self.made, &format!("table-{table}")).map_err(PluginFailure::Record)
    }

    /// Removes a bridge, if it is one of ours and has no ports.
    pub fn remove_bridge(&self, bridge: &str) -> Result<(), PluginFailure> {
        let name = format!("bridge-{bridge}");
        if !self.is_made(&name)? {
            return Ok(());
        }
        let mut socket = Socket::route()?;
        if let Some(found) = socket.link(bridge)?
            && found.kind == "bridge"
        {
            if socket.links()?.iter().any(|l| l.master == found.index) {
                tracing::debug!(bridge, "not removed: it still has ports");
                return Ok(());
            }
            socket.apply(vec![link::delete(bridge)])?;
        }
        files::remove(&self.made, &name).map_err(PluginFailure::Record)
    }

    fn is_made(&self, name: &str) -> Result<bool, PluginFailure> {
        Ok(files::read(&self.made, name, 16).map_err(PluginFailure::Record)?.is_some())
    }

    /// The tables that are recorded as made here.
    pub fn made_tables(&self) -> Vec<String> {
        let names = files::names(&self.made).unwrap_or_default();
        names.iter().filter_map(|name| name.strip_prefix("table-").map(str::to_owned)).collect()
    }
}
