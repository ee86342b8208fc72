//! A child group for the processes of one exec, so that they can be ended without the container's.
//!
//! It is made in one hierarchy only, with one mkdir(2), and has no limits of its own: the container's group above it
//! counts and limits its processes. Where there is a unified hierarchy it is there, since `CLONE_INTO_CGROUP` and
//! `cgroup.kill` are; on v2 a container that hands controllers down takes processes in groups below only,
//! so this is the right place then too. Never kills when it is removed.

use crate::entry::open_entry;
use crate::layout::{Hierarchy, Layout};
use crate::remove::{remove_tree, rmdir};
use crate::{Entry, Group, Result, create, path};
use std::time::{Duration, Instant};

/// How long a process that is just ending may keep the scope, before it is left to the container's removal.
const PATIENCE: Duration = Duration::from_millis(200);

/// A child group of one container's group.
#[derive(Debug, Clone)]
pub struct Scope {
    above: Group,
    /// The same path as the child's; it is there in one hierarchy only.
    group: Group,
    /// Which hierarchy of the layout.
    hierarchy: usize,
}

impl Group {
    /// Makes a child group for one exec.
    ///
    /// [`Group::kill`], [`Group::processes`] and [`Group::remove`] of this group include it.
    ///
    /// # Errors
    /// `InvalidArgument` when `name` is not one plain name, `AlreadyExists` when there is such a child,
    /// `NotFound` when this group is gone.
    pub fn scope(&self, name: &str) -> Result<Scope> {
        path::component(name)?;
        let relative = path::relative(&format!("{}/{name}", self.path()))?;
        let index = place(&self.layout);
        let hierarchy = &self.layout.hierarchies[index];
        create::make_one(hierarchy, &relative)?;
        let group = Group { layout: self.layout.clone(), path: format!("/{relative}") };
        Ok(Scope { above: self.clone(), group, hierarchy: index })
    }
}

/// The unified hierarchy; on pure v1 the one that ends processes best, of those that [`Group::processes`] reads.
fn place(layout: &Layout) -> usize {
    let with = |name: &str| {
        layout.hierarchies.iter().position(|h| h.controllers.iter().any(|controller| controller == name))
    };
    let unified = layout
        .unified()
        .and_then(|unified| layout.hierarchies.iter().position(|hierarchy| std::ptr::eq(hierarchy, unified)));
    // A layout has at least one hierarchy (`Error::NoHierarchy`).
    unified.or_else(|| with("freezer")).or_else(|| with("pids")).or_else(|| with("memory")).unwrap_or(0)
}

impl Scope {
    /// The path of the child group.
    pub fn path(&self) -> &str {
        self.group.path()
    }

    /// Opens what a child process needs to enter the scope: the container's group in every other hierarchy, and the
    /// scope in its own.
    ///
    /// # Errors
    /// `NotFound` when the scope, or the group above in one of the hierarchies, is gone.
    pub fn entry(&self) -> Result<Entry> {
        let own = self.hierarchy();
        Ok(open_entry(&self.group.layout, |hierarchy| match std::ptr::eq(hierarchy, own) {
            true => self.group.relative(),
            false => self.above.relative(),
        })?)
    }

    /// Kills every process in the scope and below it, and returns when none is left; of one that is gone: at once.
    /// The processes of the group above live on.
    ///
    /// # Errors
    /// As [`Group::kill`]. Processes that v1's freezer holds, with the container, die only when it is thawed.
    pub fn kill(&self) -> Result<()> {
        self.group.kill()
    }

    /// Removes the scope, unless processes are still in it: then it stays for [`Group::remove`] of the group above.
    pub fn remove(&self) -> Result<()> {
        let hierarchy = self.hierarchy();
        let start = Instant::now();
        let mut pause = Duration::from_micros(100);
        while !rmdir(hierarchy, self.group.relative())? {
            // Groups below that are empty are someone's who lives, as long as anyone does.
            if !self.group.members()?.is_empty() {
                return Ok(());
            }
            if remove_tree(hierarchy, self.group.relative())? || start.elapsed() > PATIENCE {
                return Ok(());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }

    fn hierarchy(&self) -> &Hierarchy {
        &self.group.layout.hierarchies[self.hierarchy]
    }
}
