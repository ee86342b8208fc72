//! One container's scope: its names, and what is done to it.

use crate::error::Error;
use crate::manager::Manager;
use crate::properties::Properties;
use crate::{Result, bus, name};
use std::time::Duration;

/// How long systemd may take over one call, unless the caller knows better; runc waits as long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Whose systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Bus {
    /// The machine's, for root.
    System,
    /// The user's own, for containers without root: `$DBUS_SESSION_BUS_ADDRESS`, else `$XDG_RUNTIME_DIR/bus`.
    User,
}

/// A transient unit that holds one container. Pure data; cheap to make again from the same three words.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Scope {
    bus: Bus,
    slice: String,
    unit: String,
}

impl Scope {
    /// The scope of a container, from `linux.cgroupsPath` in runc's form `slice:prefix:name`.
    ///
    /// An empty path is a scope `corten-ID.scope`; an empty slice is `system.slice`, or `user.slice` at a user's systemd. The unit is
    /// `prefix-name.scope`, or `name` itself when that ends in `.slice` (runc `getUnitName`). Pure.
    ///
    /// # Errors
    /// `InvalidArgument` for another form, and for names that systemd would not take.
    pub fn parse(cgroups_path: &str, id: &str, bus: Bus) -> Result<Scope> {
        let form = || Error::Form { path: cgroups_path.chars().take(200).collect() };
        let mut parts = cgroups_path.split(':');
        let (slice, prefix, last) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(""), None, None, None) => ("", "corten", id),
            (Some(slice), Some(prefix), Some(last), None) if !last.is_empty() => (slice, prefix, last),
            _ => return Err(form().into()),
        };
        let slice = match (slice, bus) {
            ("", Bus::System) => "system.slice",
            ("", Bus::User) => "user.slice",
            (slice, _) => slice,
        };
        let unit = if last.ends_with(".slice") { last.to_owned() } else { format!("{prefix}-{last}.scope") };
        name::slice_path(slice)?;
        match unit.ends_with(".slice") {
            true => drop(name::slice_path(&unit)?),
            false => name::check(&unit)?,
        }
        Ok(Scope { bus, slice: slice.to_owned(), unit })
    }

    /// The unit's name, `corten-web.scope` for example.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// The slice that it lies in.
    pub fn slice(&self) -> &str {
        &self.slice
    }

    /// Whose systemd runs it.
    pub fn bus(&self) -> Bus {
        self.bus
    }

    /// The group's path from the root of each hierarchy, as `/system.slice/corten-web.scope`; for
    /// `Cgroups::probe_from_root`.
    ///
    /// For the machine's systemd this is pure; a user's systemd is asked for the group that it has itself.
    ///
    /// # Errors
    /// As [`Scope::start`], when the user's systemd cannot be asked.
    pub fn cgroup(&self, patience: Duration) -> Result<String> {
        let above = match self.bus {
            Bus::System => String::new(),
            Bus::User => {
                let above =
                    bus::run(self.bus, patience, "tell the cgroup of", &self.unit, async |connection| {
                        Manager::new(connection).text_property("ControlGroup", &self.unit).await
                    })?;
                above.trim_matches('/').to_owned()
            }
        };
        Ok(self.below(&above)?)
    }

    fn below(&self, above: &str) -> std::result::Result<String, Error> {
        let mut path = String::new();
        let (slice, unit) = match self.is_slice() {
            true => (name::slice_path(&self.unit)?, String::new()),
            false => (name::slice_path(&self.slice)?, name::escaped(&self.unit)),
        };
        for part in [above, &slice, &unit] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        Ok(path)
    }

    fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }

    /// Starts the unit with the process in it, and returns when systemd has done so. Undone when it fails.
    ///
    /// The process is moved in every hierarchy that systemd manages (on v2 that is the one there is). A unit that ends in
    /// `.slice` is made without it, since slices hold no processes for systemd: `Group::add` does it then.
    ///
    /// # Errors
    /// `AlreadyExists` when a unit of this name runs, `FailedPrecondition` without a systemd or when it cannot do it,
    /// `PermissionDenied`, `InvalidArgument` for properties that it does not take, `DeadlineExceeded` after `patience`.
    pub fn start(&self, pid: i32, properties: &Properties, patience: Duration) -> Result<()> {
        bus::run(self.bus, patience, "start", &self.unit, async |connection| {
            let manager = Manager::new(connection);
            let mut all = Properties::of_unit(&self.unit, &self.slice, pid);
            all.extend(manager.known(properties, &self.unit).await?);
            manager.start(&self.unit, &all).await
        })
        .inspect_err(|error| {
            // One that exists is not ours; one that was not reached cannot be undone.
            if error.kind() == types::ErrorKind::DeadlineExceeded {
                let _ = self.stop(patience.min(Duration::from_secs(5)));
            }
        })
    }

    /// Sets properties of the running unit, for `update`, until it ends.
    ///
    /// # Errors
    /// `NotFound` when there is no such unit; else as [`Scope::start`].
    pub fn update(&self, properties: &Properties, patience: Duration) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        bus::run(self.bus, patience, "change", &self.unit, async |connection| {
            let manager = Manager::new(connection);
            let known = manager.known(properties, &self.unit).await?;
            manager.change(&self.unit, &known).await
        })
    }

    /// Moves one more process into the running unit, or into the group `below` it that is there already; for an exec.
    ///
    /// Only systemd may do this for a user whose own group lies outside of what was delegated to the user: as a login
    /// session's does, so that neither `CLONE_INTO_CGROUP` nor writing to `cgroup.procs` is allowed (cgroups(7), "Delegation").
    ///
    /// # Errors
    /// `NotFound` when there is no such unit, `FailedPrecondition` for a process that is gone or another's; else as
    /// [`Scope::start`].
    pub fn attach(&self, pid: i32, below: &str, patience: Duration) -> Result<()> {
        let below = below.trim_matches('/');
        let below = if below.is_empty() { String::new() } else { format!("/{below}") };
        bus::run(self.bus, patience, "move a process into", &self.unit, async |connection| {
            Manager::new(connection).attach(&self.unit, &below, pid).await
        })
    }

    /// Stops the unit and has systemd forget it; one that is gone is fine.
    ///
    /// Processes that are still in it get SIGTERM and systemd's own time to end, so kill the group first.
    ///
    /// # Errors
    /// As [`Scope::start`].
    pub fn stop(&self, patience: Duration) -> Result<()> {
        bus::run(self.bus, patience, "stop", &self.unit, async |connection| {
            Manager::new(connection).stop(&self.unit).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(path: &str) -> Scope {
        Scope::parse(path, "web", Bus::System).unwrap()
    }

    fn group(path: &str) -> String {
        of(path).cgroup(Duration::ZERO).unwrap()
    }

    #[test]
    fn the_three_parts_become_a_unit_in_a_slice() {
        assert_eq!(group("system.slice:docker:abc"), "/system.slice/docker-abc.scope");
        assert_eq!(
            group("kubepods-burstable-pod1.slice:cri-containerd:abc"),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope"
        );
        assert_eq!(group(""), "/system.slice/corten-web.scope");
        assert_eq!(group(":p:n"), "/system.slice/p-n.scope");
        assert_eq!(group("-.slice:p:n"), "/p-n.scope");
        assert_eq!(group("x.slice:ignored:a-b.slice"), "/a.slice/a-b.slice");
        assert_eq!(group("machine.slice::n"), "/machine.slice/-n.scope");
        assert_eq!(Scope::parse("", "w", Bus::User).unwrap().slice(), "user.slice");
    }

    #[test]
    fn a_path_of_another_form_is_refused_with_an_example() {
        for bad in ["/a/b", "a.slice", "a.slice:b", "a.slice:b:c:d", "a.slice:b:", "::"] {
            let error = Scope::parse(bad, "id", Bus::System).unwrap_err();
            assert_eq!(error.kind(), types::ErrorKind::InvalidArgument, "{bad}");
            assert!(error.message().contains("slice:prefix:name"), "{error}");
        }
        for bad in [
            "a:b:c",
            "a.slice:b:c/d",
            "a.slice:b/..:c",
            "a.slice:b:c\n",
            "a.slice:b c:d",
            "a.slice:b:x+y",
            "s.slice:p:-a.slice",
        ] {
            assert!(Scope::parse(bad, "id", Bus::System).is_err(), "{bad:?}");
        }
        assert!(Scope::parse("", &"x".repeat(300), Bus::System).is_err());
    }

    #[test]
    fn a_users_scope_lies_below_the_users_systemd() {
        let scope = Scope::parse("user.slice:libpod:abc", "abc", Bus::User).unwrap();
        assert_eq!(
            scope.below("user.slice/user-1000.slice/user@1000.service").unwrap(),
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-abc.scope"
        );
    }

    proptest! {
        #[test]
        fn what_is_taken_is_one_group_below_its_slice(path in "[a-z.:/\\-]{0,30}|([a-z\\-]{0,6}\\.slice)?:\\PC{0,6}:\\PC{0,12}", id in "\\PC{0,12}") {
            if let Ok(scope) = Scope::parse(&path, &id, Bus::System) {
                let group = scope.cgroup(Duration::ZERO).unwrap();
                prop_assert!(group.starts_with('/') && !group.contains("//"));
                prop_assert!(group.split('/').all(|part| part != ".." && part != "."));
                prop_assert!(group.len() < 3000);
            }
        }
    }
}
