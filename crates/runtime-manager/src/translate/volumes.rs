//! The host side of a pod's volumes: makes emptyDir folders under the pod's work folder, and checks what a
//! hostPath names. It mounts nothing and deletes nothing.

use crate::{Error, Result};
use k8s_openapi::api::core::v1::{HostPathVolumeSource, PodSpec};
use rustix::fs::{FileType, Gid, Mode};
use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Volume name to what it is.
pub type Volumes = BTreeMap<String, Source>;

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path of this machine.
    Host(PathBuf),
    /// The name of an image, which the runtime mounts.
    Image(String),
}

/// Makes or checks every volume of the pod. `dir` is the pod's own and exists.
pub fn prepare(spec: &PodSpec, dir: &Path) -> Result<Volumes> {
    let group = spec.security_context.as_ref().and_then(|security| security.fs_group);
    let mut volumes = Volumes::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("spec.volumes[{index}]");
        let image = volume.image.as_ref().and_then(|image| image.reference.clone());
        let source = match (&volume.empty_dir, &volume.host_path, image) {
            (Some(_), ..) => Source::Host(empty_dir(&dir.join(&volume.name), group)?),
            (None, Some(host), _) => Source::Host(host_path(host, &format!("{path}.hostPath"))?),
            (None, None, Some(image)) => Source::Image(image),
            (None, None, None) => return Err(Error::refused(path, "has no source")),
        };
        volumes.insert(volume.name.clone(), source);
    }
    Ok(volumes)
}

/// A new folder that every user may write to; with an fsGroup it belongs to that group, and what is made in
/// it does too (kubelet `SetVolumeOwnership`).
fn empty_dir(path: &Path, group: Option<i64>) -> Result<PathBuf> {
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(|e| Error::file("create", path, e))?;
    let mut mode = Mode::from_raw_mode(0o777);
    if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
        let owner = Some(Gid::from_raw(group));
        rustix::fs::chown(path, None, owner).map_err(|e| Error::file("change the group of", path, e))?;
        mode |= Mode::SGID;
    }
    // After mkdir, because the umask takes bits away there.
    rustix::fs::chmod(path, mode).map_err(|e| Error::file("change the mode of", path, e))?;
    Ok(path.to_owned())
}

fn host_path(source: &HostPathVolumeSource, field: &str) -> Result<PathBuf> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" => std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)
            .map_err(|e| Error::file("create", &path, e))?,
        "FileOrCreate" => drop(
            std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(&path)
                .map_err(|e| Error::file("create", &path, e))?,
        ),
        _ => {}
    }
    let wanted = match kind {
        "Directory" | "DirectoryOrCreate" => Some((FileType::Directory, "a directory")),
        "File" | "FileOrCreate" => Some((FileType::RegularFile, "a file")),
        "Socket" => Some((FileType::Socket, "a socket")),
        "CharDevice" => Some((FileType::CharacterDevice, "a character device")),
        "BlockDevice" => Some((FileType::BlockDevice, "a block device")),
        _ => None,
    };
    if let Some((wanted, words)) = wanted {
        let found = rustix::fs::stat(&path).map_err(|e| Error::file("find", &path, e))?;
        if FileType::from_raw_mode(found.st_mode) != wanted {
            return Err(Error::refused(field, format!("{} is not {words}", path.display())));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::fixtures::pod;
    use std::os::unix::fs::MetadataExt;

    fn spec(volumes: &str) -> PodSpec {
        pod(&format!("  securityContext: {{fsGroup: 4321}}\n  containers: [{{name: c, image: x}}]\n  volumes: {volumes}\n"))
            .spec
            .unwrap()
    }

    #[test]
    fn an_empty_dir_is_open_to_all_and_belongs_to_the_fs_group() {
        let dir = tempfile::tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root may give a folder to a group it is not in");
            return;
        }
        let volumes = prepare(&spec("[{name: v, emptyDir: {}}]"), dir.path()).unwrap();
        let Source::Host(path) = &volumes["v"] else { panic!("a folder") };
        let found = std::fs::metadata(path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o2777, 4321));
    }

    #[test]
    fn a_host_path_of_the_wrong_kind_is_refused_by_field() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let text =
            |kind: &str| format!("[{{name: v, hostPath: {{path: {}, type: {kind}}}}}]", file.display());
        assert!(prepare(&spec(&text("File")), dir.path()).unwrap_err().to_string().contains("cannot find"));
        prepare(&spec(&text("FileOrCreate")), dir.path()).unwrap();
        prepare(&spec(&text("File")), dir.path()).unwrap();
        let error = prepare(&spec(&text("Directory")), dir.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("spec.volumes[0].hostPath:") && error.ends_with("is not a directory"),
            "{error}"
        );
    }

    #[test]
    fn directory_or_create_makes_the_parents_too() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[{{name: v, hostPath: {{path: {}/a/b, type: DirectoryOrCreate}}}}]",
            dir.path().display()
        );
        prepare(&spec(&text), dir.path()).unwrap();
        assert!(dir.path().join("a/b").is_dir());
    }
}
