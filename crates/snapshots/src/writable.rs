//! The writable layer of a container on an overlay: two directories beside each other, bounded in size where that was
//! asked for. It mounts nothing.

use crate::layout::{Layout, failed, make_dir};
use crate::quota::{self, Quota};
use crate::usage::Usage;
use crate::{Writable, text, view};
use container::plan::{Filesystem, Layer, RootSource};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use types::Result;

/// Makes writable layers below one layout.
pub struct Writables {
    layout: Arc<Layout>,
    /// How sizes are bounded here; found out when it is first asked for.
    quota: OnceLock<Quota>,
}

impl Writables {
    pub fn new(layout: Arc<Layout>) -> Self {
        Self { layout, quota: OnceLock::new() }
    }

    /// Makes the layer of `id`, or takes the one that is there, and puts it on top of `lower`.
    pub fn root(&self, id: &str, lower: Vec<Layer>, writable: &Writable) -> Result<RootSource> {
        if self.layout.has_container(id)? {
            self.allow_again(id);
        } else {
            self.make(id, writable)?;
        }
        let image = self.layout.container_path(id, quota::IMAGE);
        if image.exists() {
            let disk = Filesystem {
                kind: "ext4".into(),
                source: text(&image)?,
                // What is deleted gives its space back to the node.
                options: vec!["discard".into()],
                by_loop: true,
                directory: String::new(),
                place: text(&self.layout.container_path(id, "fs"))?,
            };
            // An overlay needs a lower directory.
            let lower = if lower.is_empty() { vec![view::nothing(&self.layout)?] } else { lower };
            return Ok(RootSource::Overlay {
                lower,
                upper: quota::UPPER.into(),
                work: quota::WORK.into(),
                disk: Some(disk),
                options: Vec::new(),
            });
        }
        let upper = text(&self.layout.container_path(id, "fs"))?;
        if lower.is_empty() {
            return Ok(RootSource::Directory(upper));
        }
        let work = text(&self.layout.container_path(id, "work"))?;
        Ok(RootSource::Overlay { lower, upper, work, disk: None, options: Vec::new() })
    }

    /// A volatile overlay leaves a mark that keeps it from being mounted again, for after a power cut it may have holes
    /// (overlayfs documentation, "Volatile mount"). Nobody takes up a container's layer after a power cut.
    fn allow_again(&self, id: &str) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let work = rustix::fs::open(self.layout.container_path(id, "work/work"), flags, Mode::empty());
        if let Ok(work) = work {
            // What is left of it shows when it is mounted.
            let _ = layers::tree::remove(work.as_fd(), std::ffi::OsStr::new("incompat"));
        }
    }

    fn make(&self, id: &str, writable: &Writable) -> Result<()> {
        let draft = self.layout.draft(id)?;
        let top = self.layout.draft_top(&draft)?;
        let path = draft.home.path();
        let work =
            make_dir(&top, "work", 0o700).map_err(|e| failed("make the directory", path.join("work"), e))?;
        if let Some((uid, gid)) = writable.owner {
            rustix::fs::fchown(&draft.dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|e| failed("give away", path.join("fs"), e))?;
        }
        // Whoever owns a file may take it out of its project, unless a user namespace keeps them from it
        // (ioctl_setflags_prepare and its like in fs/file_attr.c look at the initial one).
        let inside = writable.owner.is_some_and(|(uid, _)| uid != 0);
        if let Some(bytes) = writable.bytes {
            let quota = match self.quota.get() {
                _ if !inside => &quota::Quota::Image,
                Some(quota) => quota,
                None => {
                    let found = quota::find(&self.layout)?;
                    self.quota.get_or_init(|| found)
                }
            };
            quota.bound(&path, &[&top, &draft.dir, &work], bytes, writable.owner)?;
        }
        self.layout.place_container(draft, id)?;
        Ok(())
    }

    /// Removes the writable layer and its bound.
    pub fn remove(&self, id: &str) -> Result<()> {
        if self.layout.has_container(id)? {
            // Not of `fs`, which is the container's own.
            quota::release(&self.layout.container_path(id, ""));
        }
        self.layout.remove_container(id)
    }

    /// Space that the writable layer takes now.
    pub fn usage(&self, id: &str) -> Result<Usage> {
        let mut usage = self.layout.container_usage(id)?;
        let image = self.layout.container_path(id, quota::IMAGE);
        match rustix::fs::statat(rustix::fs::CWD, &image, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => usage.bytes += stat.st_blocks as u64 * 512,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("look at", image, error)),
        }
        Ok(usage)
    }
}
