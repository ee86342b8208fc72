//! The contract of [`snapshots::Snapshotter`], kept by another process.
//!
//! Names there, each below a prefix that is this daemon's: `layer/<chain id>` is committed; `draft/…`,
//! `container/<id>` are writable; `view/<chain id>` is read-only and goes before its layer.

use crate::api::{self, Kind};
use crate::client::{Client, request};
use crate::{layers_of, mounts, order};
use container::plan::{RootIds, RootSource};
use container::root::{Attach, detached};
use snapshots::{ChainId, Drafts, LayerDraft, RemoteLayer, Snapshotter, Usage, Writable};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use types::{Error, ErrorKind, Result};

/// The most snapshots that a list may have.
const LIST_MAX: usize = 200_000;

/// Which snapshotter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The Unix socket of its gRPC server.
    pub address: PathBuf,
    /// Its name, for a server that has several; most ignore it.
    pub snapshotter: String,
}

/// See [`snapshots::Snapshotter`].
pub struct Proxy {
    client: Client,
    config: ProxyConfig,
    drafts: Drafts,
    /// With a slash at its end.
    prefix: String,
}

impl Proxy {
    /// Asks the other process for what it has, and removes what an earlier process of ours left half done there.
    /// `root` is a folder of ours, which also tells this daemon's snapshots from another's.
    pub fn open(root: &Path, config: ProxyConfig) -> Result<Proxy> {
        let drafts = Drafts::open(root, "proxy")?;
        let prefix = format!("corten-{:016x}/", hash(drafts.path()));
        let proxy = Proxy { client: Client::new(&config.address)?, config, drafts, prefix };
        proxy.sweep().map_err(|error| {
            let address = proxy.config.address.display();
            error.context(format!("the proxied snapshotter at {address} cannot be used; is it running?"))
        })?;
        Ok(proxy)
    }

    fn layer(&self, chain: &ChainId) -> String {
        format!("{}layer/{chain}", self.prefix)
    }

    fn container(&self, id: &str) -> Result<String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.bytes().all(plain) {
            return Err(Error::invalid(format!("{:?} is not a container id", types::reference::shorten(id))));
        }
        Ok(format!("{}container/{id}", self.prefix))
    }

    /// A writable snapshot; one that is there already is taken as it is.
    fn make(&self, key: String, parent: String) -> Result<RootSource> {
        let snapshotter = self.config.snapshotter.clone();
        let message =
            api::PrepareSnapshotRequest { snapshotter, key: key.clone(), parent, labels: layers_of::own() };
        let made = self.client.call("prepare a snapshot", |mut client| async move {
            client.prepare(request(message)).await.map(|answer| answer.into_inner().mounts)
        });
        match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.mounts(key),
            other => mounts::root(&other?),
        }
    }

    fn mounts(&self, key: String) -> Result<RootSource> {
        let message = api::MountsRequest { snapshotter: self.config.snapshotter.clone(), key };
        let found = self.client.call("say how a snapshot is mounted", |mut client| async move {
            client.mounts(request(message)).await.map(|answer| answer.into_inner().mounts)
        })?;
        mounts::root(&found)
    }

    fn stat(&self, key: String) -> Result<Option<Kind>> {
        let message = api::StatSnapshotRequest { snapshotter: self.config.snapshotter.clone(), key };
        let found = self.client.call("look at a snapshot", |mut client| async move {
            client.stat(request(message)).await.map(|answer| answer.into_inner().info)
        });
        match found {
            Ok(info) => Ok(Some(info.map_or(Kind::Unknown, |info| info.kind()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn commit(&self, name: String, key: String) -> Result<()> {
        let snapshotter = self.config.snapshotter.clone();
        let message = api::CommitSnapshotRequest { snapshotter, name, key, labels: layers_of::own() };
        self.client.call("commit a snapshot", |mut client| async move {
            client.commit(request(message)).await.map(drop)
        })
    }

    /// Removes a snapshot; one that is gone is fine.
    fn drop_snapshot(&self, key: String) -> Result<()> {
        let message = api::RemoveSnapshotRequest { snapshotter: self.config.snapshotter.clone(), key };
        let removed = self.client.call("remove a snapshot", |mut client| async move {
            client.remove(request(message)).await.map(drop)
        });
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The names of ours that begin with `what`, without prefix and `what`.
    fn list(&self, what: &str, kinds: &'static [Kind]) -> Result<Vec<String>> {
        Ok(self.list_with_parents(what, kinds)?.into_iter().map(|(name, _)| name).collect())
    }

    /// As [`Proxy::list`], each with the name of its parent, which is empty where that is none of the same.
    fn list_with_parents(&self, what: &str, kinds: &'static [Kind]) -> Result<Vec<(String, String)>> {
        let start = format!("{}{what}/", self.prefix);
        let message =
            api::ListSnapshotsRequest { snapshotter: self.config.snapshotter.clone(), filters: Vec::new() };
        let listed = self.client.call("list its snapshots", |mut client| async move {
            let mut answers = client.list(request(message)).await?.into_inner();
            let (mut found, mut met) = (Vec::new(), 0);
            while let Some(answer) = answers.message().await? {
                met += answer.info.len();
                if met > LIST_MAX {
                    return Err(tonic::Status::resource_exhausted("it lists more than 200,000 snapshots"));
                }
                let ours = answer.info.iter().filter(|info| kinds.contains(&info.kind()));
                let own = |name: &str| name.strip_prefix(&start).map(str::to_owned);
                found.extend(
                    ours.filter_map(|info| Some((own(&info.name)?, own(&info.parent).unwrap_or_default()))),
                );
            }
            Ok(found)
        });
        match listed {
            // What stargz says while it has none; its status says nothing.
            Err(error) if error.message().ends_with("bucket does not exist: not found") => Ok(Vec::new()),
            other => other,
        }
    }

    fn used(&self, key: String) -> Result<Usage> {
        let message = api::UsageRequest { snapshotter: self.config.snapshotter.clone(), key };
        let usage = self.client.call("measure a snapshot", |mut client| async move {
            client.usage(request(message)).await.map(tonic::Response::into_inner)
        })?;
        let positive = |value: i64| u64::try_from(value).unwrap_or_default();
        Ok(Usage { bytes: positive(usage.size), inodes: positive(usage.inodes) })
    }
}

/// FNV-1a, 64 bits: the same after a restart.
fn hash(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Mounts a root where nobody sees it. This is the node's mount namespace, and a process of many threads.
fn open(source: &RootSource) -> Result<OwnedFd> {
    detached(source, &RootIds::default(), Attach::Elsewhere).map_err(|failure| {
        Error::internal(format!("cannot mount what the proxied snapshotter prepared: {failure}"))
    })
}

/// What was written must be on the disk before it has its name. The overlay itself may be one that does not sync.
fn sync(source: &RootSource, mounted: &OwnedFd) -> Result<()> {
    let failed = |error| Drafts::failed("sync a layer", error);
    let place = match source {
        RootSource::Overlay { upper, .. } => upper,
        RootSource::Directory(path) => path,
        RootSource::Filesystem(_) => return rustix::fs::syncfs(mounted).map_err(failed),
    };
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let folder = rustix::fs::open(place.as_str(), flags, rustix::fs::Mode::empty()).map_err(failed)?;
    rustix::fs::syncfs(folder).map_err(failed)
}

impl Snapshotter for Proxy {
    fn name(&self) -> &'static str {
        "proxy"
    }

    fn whiteouts(&self) -> layers::WhiteoutMode {
        layers::WhiteoutMode::Apply
    }

    fn parallel(&self) -> bool {
        false
    }

    fn has_layer(&self, chain: &ChainId) -> bool {
        match self.stat(self.layer(chain)) {
            Ok(kind) => kind == Some(Kind::Committed),
            Err(error) => {
                tracing::warn!(%chain, error = %error.chain(), "it is not known whether this layer is there");
                false
            }
        }
    }

    fn begin_layer(&self, chain: &ChainId, parent: Option<&ChainId>) -> Result<LayerDraft> {
        let parent = parent.map(|parent| self.layer(parent)).unwrap_or_default();
        self.drafts
            .begin(chain.hex(), |name| open(&self.make(format!("{}draft/{name}", self.prefix), parent)?))
    }

    fn commit_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        _parents: &[ChainId],
        _unpacked: &layers::Unpacked,
    ) -> Result<()> {
        let key = format!("{}draft/{}", self.prefix, Drafts::name(&draft));
        sync(&self.mounts(key.clone())?, &draft.dir)?;
        match self.commit(self.layer(chain), key.clone()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.drop_snapshot(key),
            other => other,
        }
    }

    fn remove_layer(&self, chain: &ChainId) -> Result<()> {
        self.drop_snapshot(format!("{}view/{chain}", self.prefix))?;
        self.drop_snapshot(self.layer(chain))
    }

    fn layers(&self) -> Result<Vec<ChainId>> {
        // A collection takes them as they come, and one that others stand on cannot be removed.
        let listed = self.list_with_parents("layer", &[Kind::Committed])?;
        Ok(order::tops_first(&listed).into_iter().filter_map(|name| ChainId::parse(name).ok()).collect())
    }

    fn prepare_with(&self, id: &str, layers: &[ChainId], writable: &Writable) -> Result<RootSource> {
        if writable.bytes.is_some() {
            return Err(Error::new(
                ErrorKind::Unimplemented,
                "a proxied snapshotter cannot bound a writable layer; take another, or no writable_quota",
            ));
        }
        let parent = layers.first().map(|chain| self.layer(chain)).unwrap_or_default();
        let root = self.make(self.container(id)?, parent)?;
        if let (Some((uid, gid)), RootSource::Overlay { upper, .. }) = (writable.owner, &root) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::chown(upper.as_str(), Some(uid), Some(gid))
                .map_err(|error| Drafts::failed("give a writable layer to its user namespace", error))?;
        }
        Ok(root)
    }

    fn view(&self, layers: &[ChainId]) -> Result<RootSource> {
        let chain = layers.first().ok_or_else(|| Error::invalid("a view needs a layer"))?;
        let (key, parent) = (format!("{}view/{chain}", self.prefix), self.layer(chain));
        let snapshotter = self.config.snapshotter.clone();
        let message =
            api::ViewSnapshotRequest { snapshotter, key: key.clone(), parent, labels: layers_of::own() };
        let made = self.client.call("make a view", |mut client| async move {
            client.view(request(message)).await.map(|answer| answer.into_inner().mounts)
        });
        let made = match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.mounts(key),
            other => mounts::root(&other?),
        };
        self.drafts.unwritable(made?)
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.drop_snapshot(self.container(id)?)
    }

    fn containers(&self) -> Result<Vec<String>> {
        self.list("container", &[Kind::Active])
    }

    fn usage(&self, id: &str) -> Result<Usage> {
        self.used(self.container(id)?)
    }

    fn layer_usage(&self, chain: &ChainId) -> Result<Usage> {
        self.used(self.layer(chain))
    }

    fn fetches_layers(&self) -> bool {
        true
    }

    fn remote_layer(&self, layer: &RemoteLayer<'_>) -> Result<bool> {
        let target = self.layer(layer.chain);
        let parent = layer.parent.map(|parent| self.layer(parent)).unwrap_or_default();
        let labels = layers_of::of(layer, target.clone());
        // The entry goes with the draft at the end of this; what then is left there is swept.
        let draft = self.drafts.begin(layer.chain.hex(), |_| {
            rustix::fs::open(self.drafts.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
                .map_err(|error| Drafts::failed("open a folder of ours", error))
        })?;
        let key = format!("{}draft/{}", self.prefix, Drafts::name(&draft));
        let snapshotter = self.config.snapshotter.clone();
        let message = api::PrepareSnapshotRequest { snapshotter, key: key.clone(), parent, labels };
        let made = self.client.call("prepare a layer", |mut client| async move {
            client.prepare(request(message)).await.map(drop)
        });
        match made {
            // That is how it says yes.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(self.stat(target)? == Some(Kind::Committed))
            }
            Err(error) => Err(error),
            Ok(()) => self.drop_snapshot(key).map(|()| false),
        }
    }

    fn sweep(&self) -> Result<()> {
        // In this order: a draft has its name with us before it has one there.
        let listed = self.list("draft", &[Kind::Active])?;
        let running = self.drafts.names()?;
        for name in listed {
            if !running.contains(&name) {
                self.drop_snapshot(format!("{}draft/{name}", self.prefix))?;
            }
        }
        Ok(())
    }
}
