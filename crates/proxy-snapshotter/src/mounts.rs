//! What a snapshotter says about mounting, judged and turned into a root. Pure.

use crate::api::Mount;
use container::plan::{Filesystem, Layer, RootSource};
use types::reference::shorten;
use types::{Error, Result};

/// The most layers below each other (OVL_MAX_STACK in fs/overlayfs/params.h).
const LOWER_MAX: usize = 500;
/// The longest path, in bytes (PATH_MAX).
const PATH_MAX: usize = 4096;
/// The most options of one mount.
const OPTIONS_MAX: usize = 64;
/// File systems that a root may consist of, besides overlays and directories. Each is mounted for its container alone.
const KINDS: [&str; 6] = ["ext4", "xfs", "erofs", "squashfs", "btrfs", "zfs"];
/// Options of an overlay that change what it shows or how, and not what it is made of. `userxattr`, `index` and the
/// like come from stargz and containerd.
const OVERLAY_OPTIONS: [&str; 8] =
    ["index", "userxattr", "metacopy", "redirect_dir", "xino", "nfs_export", "uuid", "verity"];
/// Flags that say what is so anyway; every writable layer of ours is volatile.
const PLAIN: [&str; 6] = ["rw", "ro", "bind", "rbind", "defaults", "volatile"];

/// The root that the mounts of one snapshot make.
pub fn root(mounts: &[Mount]) -> Result<RootSource> {
    let [mount] = mounts else {
        return Err(refuse(&format!(
            "it says {} mounts for one snapshot; only one is understood",
            mounts.len()
        )));
    };
    if mount.options.len() > OPTIONS_MAX {
        return Err(refuse("a mount has too many options"));
    }
    if !mount.target.is_empty() {
        return Err(refuse("a mount is for a place below the root"));
    }
    match mount.r#type.as_str() {
        "overlay" => overlay(mount),
        "bind" | "" => match mount.options.iter().find(|option| !PLAIN.contains(&option.as_str())) {
            None => Ok(RootSource::Directory(path(&mount.source)?)),
            Some(other) => Err(refuse(&format!("a bind mount has the option {:?}", shorten(other)))),
        },
        kind if KINDS.contains(&kind) => filesystem(mount),
        other => Err(refuse(&format!(
            "a mount is of type {:?}; overlay, bind and {} are understood",
            shorten(other),
            KINDS.join(", ")
        ))),
    }
}

fn overlay(mount: &Mount) -> Result<RootSource> {
    let (mut lower, mut upper, mut work, mut options) =
        (Vec::new(), String::new(), String::new(), Vec::new());
    for option in &mount.options {
        let (name, value) = option.split_once('=').map_or((option.as_str(), None), |(n, v)| (n, Some(v)));
        match (name, value) {
            ("lowerdir", Some(list)) => {
                // A colon in a path would be escaped; who does that is not understood.
                if list.contains('\\') || list.contains("::") {
                    return Err(refuse("its lower directories are written in a form that is not understood"));
                }
                for one in list.split(':') {
                    lower.push(Layer::Directory(path(one)?));
                }
            }
            ("upperdir", Some(value)) => upper = path(value)?,
            ("workdir", Some(value)) => work = path(value)?,
            (flag, None) if PLAIN.contains(&flag) => {}
            (known, _) if OVERLAY_OPTIONS.contains(&known) && option.len() <= 64 => {
                options.push(option.clone())
            }
            (other, _) => return Err(refuse(&format!("an overlay has the option {:?}", shorten(other)))),
        }
    }
    if lower.is_empty() || lower.len() > LOWER_MAX {
        return Err(refuse(&format!("an overlay has {} lower directories", lower.len())));
    }
    if upper.is_empty() != work.is_empty() {
        return Err(refuse("an overlay has an upper directory and no work directory, or the reverse"));
    }
    if upper.is_empty() && lower.len() == 1 {
        let Some(Layer::Directory(only)) = lower.pop() else {
            return Err(Error::internal("a lower directory is not a directory"));
        };
        return Ok(RootSource::Directory(only));
    }
    Ok(RootSource::Overlay { lower, upper, work, disk: None, options })
}

fn filesystem(mount: &Mount) -> Result<RootSource> {
    let source = match mount.r#type.as_str() {
        // A data set's name, not a path.
        "zfs" if plain_name(&mount.source) => mount.source.clone(),
        "zfs" => return Err(refuse("a data set has a name that is not understood")),
        _ => path(&mount.source)?,
    };
    let mut options = Vec::new();
    for option in mount.options.iter().filter(|option| !matches!(option.as_str(), "rw" | "defaults")) {
        let plain = option.bytes().all(|b| b.is_ascii_alphanumeric() || b"=_-/.@,".contains(&b));
        if option.len() > 255 || !plain {
            return Err(refuse(&format!("a mount has the option {:?}", shorten(option))));
        }
        options.push(option.clone());
    }
    let kind = mount.r#type.clone();
    Ok(RootSource::Filesystem(Filesystem { kind, source, options, ..Filesystem::default() }))
}

/// An absolute path without `..`.
fn path(text: &str) -> Result<String> {
    let plain = text.starts_with('/')
        && text.len() < PATH_MAX
        && text.bytes().all(|b| b >= b' ' && b != 0x7f)
        && text.split('/').all(|part| part != "..");
    if plain {
        Ok(text.to_owned())
    } else {
        Err(refuse(&format!("the path {:?} is not understood", shorten(text))))
    }
}

fn plain_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.:@".contains(&b);
    !text.is_empty() && text.len() < 256 && !text.starts_with('-') && text.bytes().all(plain)
}

fn refuse(why: &str) -> Error {
    Error::precondition(format!("the proxied snapshotter's answer cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            r#type: kind.into(),
            source: source.into(),
            target: String::new(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        }
    }

    #[test]
    fn overlays_directories_and_disks_become_roots() {
        let overlay = root(&[mount(
            "overlay",
            "overlay",
            &["index=off", "workdir=/s/1/work", "upperdir=/s/1/fs", "lowerdir=/s/3/fs:/s/2/fs"],
        )])
        .expect("overlay");
        let RootSource::Overlay { lower, upper, work, disk: None, options } = overlay else {
            panic!("{overlay:?}")
        };
        assert_eq!(lower, [Layer::Directory("/s/3/fs".into()), Layer::Directory("/s/2/fs".into())]);
        assert_eq!(
            (upper.as_str(), work.as_str(), options),
            ("/s/1/fs", "/s/1/work", vec!["index=off".to_owned()])
        );
        let bind = root(&[mount("bind", "/s/1/fs", &["rw", "rbind"])]).expect("bind");
        assert_eq!(bind, RootSource::Directory("/s/1/fs".into()));
        assert_eq!(
            root(&[mount("overlay", "", &["lowerdir=/s/1"])]).expect("one"),
            RootSource::Directory("/s/1".into())
        );
        assert!(matches!(
            root(&[mount("ext4", "/dev/mapper/x", &["discard"])]),
            Ok(RootSource::Filesystem(_))
        ));
        assert!(matches!(root(&[mount("zfs", "pool/a@b", &[])]), Ok(RootSource::Filesystem(_))));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let many = format!("lowerdir={}", vec!["/a"; LOWER_MAX + 1].join(":"));
        for bad in [
            vec![],
            vec![mount("bind", "/a", &[]), mount("bind", "/b", &[])],
            vec![mount("fuse3.fuse-overlayfs", "/a", &[])],
            vec![mount("bind", "a", &[])],
            vec![mount("bind", "/a/../etc", &[])],
            vec![mount("bind", "/a\n/b", &[])],
            vec![mount("bind", "/a", &["suid"])],
            vec![mount("overlay", "", &[])],
            vec![mount("overlay", "", &["lowerdir=/a:b"])],
            vec![mount("overlay", "", &["lowerdir=/a::/b"])],
            vec![mount("overlay", "", &["lowerdir=/a\\:b"])],
            vec![mount("overlay", "", &["lowerdir=/a", "upperdir=/u"])],
            vec![mount("overlay", "", &["lowerdir=/a", "datadir=/b"])],
            vec![mount("overlay", "", &[&many])],
            vec![mount("zfs", "-o exec", &[])],
            vec![mount("ext4", "/dev/x", &["a\0b"])],
            vec![Mount { target: "etc".into(), ..mount("bind", "/a", &[]) }],
            vec![mount("bind", "/a", &vec!["ro"; OPTIONS_MAX + 1])],
        ] {
            assert!(root(&bad).is_err(), "{bad:?}");
        }
    }
}
