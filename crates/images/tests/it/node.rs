//! A node for a test: metadata, snapshotter and images in a temporary folder on a local disk.

use corten_images::{Images, ImagesConfig, Pinned, Timeouts};
use snapshots::Snapshotter;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;
use store::meta::Meta;

pub struct Node {
    pub images: Images,
    pub snapshotter: Arc<dyn Snapshotter>,
    pub root: PathBuf,
    /// For a look; it is the images' own.
    pub meta: Weak<Meta>,
    settings: Settings,
    // Last, so that everything in it is closed before it goes.
    _dir: Option<tempfile::TempDir>,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub snapshotter: &'static str,
    pub discard: bool,
    /// `hosts.toml` by host.
    pub hosts: Vec<(String, String)>,
    /// See [`ImagesConfig::collect_after`].
    pub collect_after: Duration,
    pub pinned: &'static [&'static str],
    pub min_free: u64,
    /// See [`Timeouts::idle`].
    pub idle: Duration,
    /// See [`ImagesConfig::policy`].
    pub policy: Option<PathBuf>,
    /// See [`ImagesConfig::decryption_keys`].
    pub decryption_keys: Option<PathBuf>,
    /// The text of a `registries.conf`.
    pub registries_conf: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            snapshotter: "overlayfs",
            discard: false,
            hosts: Vec::new(),
            collect_after: Duration::from_secs(45),
            pinned: &[],
            min_free: 0,
            idle: Duration::from_millis(700),
            policy: None,
            decryption_keys: None,
            registries_conf: None,
        }
    }
}

/// Opens the metadata. A node that was dropped has it open until its background work has seen that.
pub fn metadata(root: &std::path::Path) -> Meta {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        match Meta::open(&root.join("meta.redb")) {
            Err(error) if error.message().contains("in use") && std::time::Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other.expect("meta"),
        }
    }
}

impl Node {
    pub fn new() -> Node {
        Node::with(Settings::default())
    }

    pub fn with_hosts(hosts: &[(&str, &str)]) -> Node {
        let hosts = hosts.iter().map(|(h, t)| ((*h).to_owned(), (*t).to_owned())).collect();
        Node::with(Settings { hosts, ..Settings::default() })
    }

    pub fn with(settings: Settings) -> Node {
        // On /var/tmp, for an overlay cannot lie on every file system that /tmp may be.
        let dir = tempfile::Builder::new().prefix("images-test-").tempdir_in("/var/tmp").expect("temp dir");
        let root = dir.path().to_owned();
        Node::open(root, settings, Some(dir))
    }

    pub fn open(root: PathBuf, settings: Settings, dir: Option<tempfile::TempDir>) -> Node {
        Node::open_in(root, settings, dir, None)
    }

    fn open_in(
        root: PathBuf,
        settings: Settings,
        dir: Option<tempfile::TempDir>,
        boot: Option<&str>,
    ) -> Node {
        std::fs::create_dir_all(&root).expect("root");
        for (host, text) in &settings.hosts {
            let folder = root.join("certs.d").join(host);
            std::fs::create_dir_all(&folder).expect("folder");
            std::fs::write(folder.join("hosts.toml"), text).expect("hosts.toml");
        }
        if let Some(text) = &settings.registries_conf {
            std::fs::write(root.join("registries.conf"), text).expect("registries.conf");
        }
        let meta = Arc::new(metadata(&root));
        let look = Arc::downgrade(&meta);
        let snapshotter =
            snapshots::open(settings.snapshotter, &root.join("snapshots")).expect("snapshotter");
        let config = ImagesConfig {
            registry_config_path: Some(root.join("certs.d")),
            registries_conf: settings.registries_conf.as_ref().map(|_| root.join("registries.conf")),
            discard_unpacked_layers: settings.discard,
            collect_after: settings.collect_after,
            pinned: Pinned::parse(settings.pinned).expect("patterns"),
            min_free: settings.min_free,
            policy: settings.policy.clone(),
            decryption_keys: settings.decryption_keys.clone(),
            timeouts: Timeouts {
                connect: Duration::from_secs(2),
                headers: Duration::from_secs(3),
                idle: settings.idle,
            },
            ..ImagesConfig::new(&root)
        };
        let images = match boot {
            None => Images::open(config, meta, snapshotter.clone()),
            Some(boot) => Images::open_with_boot(config, meta, snapshotter.clone(), boot),
        };
        let images = images.expect("images");
        Node { images, snapshotter, root, meta: look, settings, _dir: dir }
    }

    /// The node of a disk whose machine was started again.
    pub fn open_after_reboot(root: PathBuf, settings: Settings) -> Node {
        Node::open_in(root, settings, None, Some("another boot"))
    }

    /// The same node after its daemon was started again.
    pub fn restarted(self) -> Node {
        self.restarted_after(|_| ())
    }

    /// The same node after its configuration was changed between two runs of its daemon.
    pub fn restarted_with(self, change: impl FnOnce(&mut Settings)) -> Node {
        let Node { images, snapshotter, root, mut settings, _dir, .. } = self;
        drop((images, snapshotter));
        change(&mut settings);
        Node::open(root, settings, _dir)
    }

    /// The same node after its metadata was changed between two runs of its daemon.
    pub fn restarted_after(self, change: impl FnOnce(&Meta)) -> Node {
        let Node { images, snapshotter, root, settings, _dir, .. } = self;
        drop((images, snapshotter));
        change(&metadata(&root));
        Node::open(root, settings, _dir)
    }

    /// The files of a folder of the content store.
    pub fn content(&self, folder: &str) -> Vec<String> {
        let path = self.root.join("content").join(folder);
        let entries = std::fs::read_dir(path).expect("list");
        entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// What a file of an image holds, looked up from the topmost layer down.
    pub fn file(&self, image: &corten_images::ImageRecord, path: &str) -> Option<String> {
        let layers = self.images.layers(image);
        let source = self.snapshotter.prepare("reader", &layers).expect("prepare");
        let found = match &source {
            container::plan::RootSource::Overlay { lower, .. } => {
                lower.iter().find_map(|layer| match layer {
                    container::plan::Layer::Directory(l) => {
                        std::fs::read_to_string(format!("{l}/{path}")).ok()
                    }
                    container::plan::Layer::Erofs(_) => None,
                })
            }
            container::plan::RootSource::Filesystem(_) => None,
            container::plan::RootSource::Directory(dir) => {
                std::fs::read_to_string(format!("{dir}/{path}")).ok()
            }
        };
        self.snapshotter.remove("reader").expect("remove");
        found
    }
}
