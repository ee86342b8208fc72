//! Layers that the snapshotter gets by itself: from one that keeps its word, and from some that do not.

use crate::image::{Image, OCI_MANIFEST, digest, layer};
use crate::server::{Reply, Server, Shelf};
use bytes::Bytes;
use corten_images::{ImageRecord, Images, ImagesConfig, LayerState, Progress};
use snapshots::{ChainId, LayerDraft, RemoteLayer, Snapshotter, Usage, Writable};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use types::{Error, ErrorKind, Result};

/// What a snapshotter was asked for.
#[derive(Debug, Clone)]
struct Asked {
    reference: String,
    digest: String,
    manifest: String,
    parent: Option<ChainId>,
    above: Vec<String>,
    annotations: Vec<(String, String)>,
}

type Answer = dyn Fn(&Lazy, &RemoteLayer<'_>) -> Result<bool> + Send + Sync;

/// Overlayfs, with an answer of the test's to every question for a layer.
struct Lazy {
    inner: Arc<dyn Snapshotter>,
    answer: Box<Answer>,
    /// Layers by the digests of their blobs, where [`Lazy::get`] takes them from.
    blobs: HashMap<String, Bytes>,
    asked: Mutex<Vec<Asked>>,
    below: Mutex<HashMap<ChainId, Vec<ChainId>>>,
    /// It answers nothing any more.
    gone: AtomicBool,
}

impl Lazy {
    /// Gets a layer as one that keeps its word.
    fn get(&self, layer: &RemoteLayer<'_>) -> Result<bool> {
        let mut known = self.below.lock().expect("below");
        let mut below: Vec<ChainId> = layer.parent.into_iter().cloned().collect();
        below.extend(layer.parent.and_then(|parent| known.get(parent)).into_iter().flatten().cloned());
        let draft = self.inner.begin_layer(layer.chain, layer.parent)?;
        let blob = &self.blobs[layer.digest.as_str()];
        let (mode, limits) = (self.inner.whiteouts(), layers::UnpackLimits::default());
        let gzip = layers::Compression::Gzip;
        let unpacked = layers::unpack(&blob[..], gzip, draft.dir.as_fd(), mode, &limits)?;
        self.inner.commit_layer(draft, layer.chain, &below, &unpacked)?;
        known.insert(layer.chain.clone(), below);
        Ok(true)
    }

    fn alive(&self) -> Result<()> {
        match self.gone.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Unavailable, "the other process is gone")),
            false => Ok(()),
        }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("asked").clone()
    }
}

impl Snapshotter for Lazy {
    fn name(&self) -> &'static str {
        "lazy"
    }
    fn whiteouts(&self) -> layers::WhiteoutMode {
        self.inner.whiteouts()
    }
    fn parallel(&self) -> bool {
        self.inner.parallel()
    }
    fn has_layer(&self, chain: &ChainId) -> bool {
        self.alive().is_ok() && self.inner.has_layer(chain)
    }
    fn begin_layer(&self, chain: &ChainId, parent: Option<&ChainId>) -> Result<LayerDraft> {
        self.alive()?;
        self.inner.begin_layer(chain, parent)
    }
    fn commit_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        self.alive()?;
        self.below.lock().expect("below").insert(chain.clone(), parents.to_vec());
        self.inner.commit_layer(draft, chain, parents, unpacked)
    }
    fn remove_layer(&self, chain: &ChainId) -> Result<()> {
        self.alive()?;
        self.inner.remove_layer(chain)
    }
    fn layers(&self) -> Result<Vec<ChainId>> {
        self.alive()?;
        self.inner.layers()
    }
    fn prepare_with(
        &self,
        id: &str,
        layers: &[ChainId],
        writable: &Writable,
    ) -> Result<container::plan::RootSource> {
        self.alive()?;
        self.inner.prepare_with(id, layers, writable)
    }
    fn view(&self, layers: &[ChainId]) -> Result<container::plan::RootSource> {
        self.alive()?;
        self.inner.view(layers)
    }
    fn remove(&self, id: &str) -> Result<()> {
        self.alive()?;
        self.inner.remove(id)
    }
    fn containers(&self) -> Result<Vec<String>> {
        self.alive()?;
        self.inner.containers()
    }
    fn usage(&self, id: &str) -> Result<Usage> {
        self.alive()?;
        self.inner.usage(id)
    }
    fn layer_usage(&self, chain: &ChainId) -> Result<Usage> {
        self.alive()?;
        self.inner.layer_usage(chain)
    }
    fn fetches_layers(&self) -> bool {
        true
    }
    fn remote_layer(&self, layer: &RemoteLayer<'_>) -> Result<bool> {
        self.asked.lock().expect("asked").push(Asked {
            reference: layer.reference.to_owned(),
            digest: layer.digest.to_string(),
            manifest: layer.manifest.to_string(),
            parent: layer.parent.cloned(),
            above: layer.above.iter().map(ToString::to_string).collect(),
            annotations: layer.annotations.clone().into_iter().collect(),
        });
        self.alive()?;
        (self.answer)(self, layer)
    }
}

/// A node whose snapshotter gives this answer.
struct Place {
    images: Images,
    lazy: Arc<Lazy>,
    root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Place {
    fn new(
        image: &Image,
        answer: impl Fn(&Lazy, &RemoteLayer<'_>) -> Result<bool> + Send + Sync + 'static,
    ) -> Place {
        Place::with(image, answer, |_| ())
    }

    fn with(
        image: &Image,
        answer: impl Fn(&Lazy, &RemoteLayer<'_>) -> Result<bool> + Send + Sync + 'static,
        change: impl FnOnce(&mut ImagesConfig),
    ) -> Place {
        let dir = tempfile::Builder::new().prefix("images-lazy-").tempdir_in("/var/tmp").expect("a folder");
        let root = dir.path().to_owned();
        let lazy = Arc::new(Lazy {
            inner: snapshots::open("overlayfs", &root.join("snapshots")).expect("snapshotter"),
            answer: Box::new(answer),
            blobs: image.blobs.iter().cloned().collect(),
            asked: Mutex::default(),
            below: Mutex::default(),
            gone: AtomicBool::new(false),
        });
        let mut config = ImagesConfig::new(&root);
        change(&mut config);
        let images = open(config, &lazy);
        Place { images, lazy, root, _dir: dir }
    }

    /// As after a restart of the daemon.
    fn reopened(self) -> Place {
        let Place { images, lazy, root, _dir } = self;
        drop(images);
        let images = open(ImagesConfig::new(&root), &lazy);
        Place { images, lazy, root, _dir }
    }

    /// What the topmost layer that has a file has in it.
    fn file(&self, image: &ImageRecord, path: &str) -> Option<String> {
        let source = self.lazy.inner.view(&self.images.layers(image)).expect("view");
        let container::plan::RootSource::Overlay { lower, .. } = source else { panic!("{source:?}") };
        lower.iter().find_map(|layer| match layer {
            container::plan::Layer::Directory(dir) => std::fs::read_to_string(format!("{dir}/{path}")).ok(),
            container::plan::Layer::Erofs(_) => None,
        })
    }

    /// Blobs that are kept.
    fn blobs(&self) -> usize {
        std::fs::read_dir(self.root.join("content/blobs/sha256")).expect("blobs").count()
    }

    async fn until_no_layer_is_left(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.lazy.layers().expect("layers").is_empty() {
            assert!(Instant::now() < end, "layers that nobody needs are kept");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn open(config: ImagesConfig, lazy: &Arc<Lazy>) -> Images {
    let meta = Arc::new(crate::node::metadata(&config.root));
    Images::open(config, meta, lazy.clone()).expect("images")
}

/// Three layers, of which the bottom one has annotations.
fn image() -> Image {
    let layers =
        [layer(&[("low", b"1"), ("both", b"low")]), layer(&[("both", b"middle")]), layer(&[("high", b"3")])];
    let mut image = Image::new("lazy", &layers);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).expect("JSON");
    manifest["layers"][0]["annotations"] = serde_json::json!({ "containerd.io/snapshot/x": "y" });
    image.manifest = manifest.to_string().into();
    assert_eq!(image.manifest_type, OCI_MANIFEST);
    image
}

/// The digests of the layers' blobs, the bottom one first.
fn layers_of(image: &Image) -> Vec<String> {
    image.blobs[1..].iter().map(|(digest, _)| digest.clone()).collect()
}

/// How often each layer was downloaded.
fn downloads(server: &Server, image: &Image) -> Vec<usize> {
    layers_of(image).iter().map(|digest| server.count("GET", digest)).collect()
}

fn assert_right(place: &Place, record: &ImageRecord) {
    for (file, content) in [("low", "1"), ("both", "middle"), ("high", "3")] {
        assert_eq!(place.file(record, file).as_deref(), Some(content), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_the_snapshotter_gets_are_asked_for_bottom_up_and_never_downloaded() {
    let image = image();
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let place = Place::new(&image, |lazy, layer| lazy.get(layer));
    let (send, mut events) = tokio::sync::mpsc::unbounded_channel();
    let name = server.name("team/lazy:v1");
    let record = place.images.pull(&name, None, Some(send)).await.expect("pull");
    assert_eq!(downloads(&server, &image), [0, 0, 0]);
    let (asked, blobs) = (place.lazy.asked(), layers_of(&image));
    assert_eq!(asked.len(), 3);
    for (at, one) in asked.iter().enumerate() {
        assert_eq!(
            (&one.reference, &one.digest, &one.manifest, &one.above[..]),
            (&name.to_string(), &blobs[at], &digest(&image.manifest), &blobs[at..])
        );
        assert_eq!(one.parent, at.checked_sub(1).map(|below| record.chain[below].clone()));
    }
    assert_eq!(asked[0].annotations, [("containerd.io/snapshot/x".to_owned(), "y".to_owned())]);
    assert_right(&place, &record);
    // The manifest and the configuration.
    assert_eq!((record.blobs.len(), place.blobs()), (2, 2));
    let mut states = HashMap::new();
    while let Ok(event) = events.try_recv() {
        if let Progress::Layer { digest, done, total, state } = event {
            assert!(matches!(state, LayerState::Waiting | LayerState::Present), "{state:?}");
            states.insert(digest.to_string(), (state, done == total));
        }
    }
    assert!(blobs.iter().all(|blob| states[blob] == (LayerState::Present, true)), "{states:?}");
    // What is there is not asked for again, by this process or the next.
    place.images.pull(&name, None, None).await.expect("again");
    let place = place.reopened();
    assert_eq!(place.images.find(&name.to_string()).expect("it is still listed").id, record.id);
    place.images.pull(&name, None, None).await.expect("once more");
    assert_eq!((place.lazy.asked().len(), downloads(&server, &image)), (3, vec![0, 0, 0]));
    place.images.remove(&name.to_string()).await.expect("remove");
    place.until_no_layer_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_layer_on_that_it_leaves_to_us_layers_are_downloaded() {
    let image = image();
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let place =
        Place::new(&image, |lazy, layer| if layer.parent.is_none() { lazy.get(layer) } else { Ok(false) });
    let record = place.images.pull(&server.name("lazy:v1"), None, None).await.expect("pull");
    assert_eq!((place.lazy.asked().len(), downloads(&server, &image)), (2, vec![0, 1, 1]));
    assert_right(&place, &record);
    assert_eq!((record.blobs.len(), place.blobs()), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshotter_that_fails_or_lies_is_passed_over_and_every_layer_is_downloaded() {
    let answers: [fn() -> Result<bool>; 2] =
        [|| Err(Error::new(ErrorKind::Internal, "its registry does not answer")), || Ok(true)];
    for answer in answers {
        let image = image();
        let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
        let place = Place::new(&image, move |_, _| answer());
        let record = place.images.pull(&server.name("lazy:v1"), None, None).await.expect("pull");
        // On top of a layer that is not there it is asked for none.
        assert_eq!((place.lazy.asked().len(), downloads(&server, &image)), (1, vec![1, 1, 1]));
        assert_right(&place, &record);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshotter_that_vanishes_in_the_middle_fails_the_pull_and_the_next_goes_on_from_there() {
    let image = image();
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let vanished = AtomicBool::new(false);
    let place = Place::new(&image, move |lazy, layer| {
        if layer.parent.is_some() && !vanished.swap(true, Ordering::Relaxed) {
            lazy.gone.store(true, Ordering::Relaxed);
        }
        lazy.alive()?;
        lazy.get(layer)
    });
    let name = server.name("lazy:v1");
    let error = place.images.pull(&name, None, None).await.expect_err("it is gone");
    assert!(error.chain().contains("the other process is gone"), "{}", error.chain());
    assert!(place.images.list().is_empty());
    place.lazy.gone.store(false, Ordering::Relaxed);
    let record = place.images.pull(&name, None, None).await.expect("it is back");
    assert_eq!(record.blobs.len(), 2, "no layer was downloaded");
    let asked: Vec<_> = place.lazy.asked().into_iter().map(|one| one.digest).collect();
    let blobs = layers_of(&image);
    assert_eq!(asked, [&blobs[0], &blobs[1], &blobs[1], &blobs[2]].map(Clone::clone));
    assert_right(&place, &record);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_got_for_a_pull_that_failed_or_was_given_up_is_collected() {
    let image = image();
    let missing = layers_of(&image)[1].clone();
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        seen.path.contains(&missing).then(|| Reply::error(404, "BLOB_UNKNOWN", "it is not here"))
    })
    .await;
    let slow = |lazy: &Lazy, layer: &RemoteLayer<'_>| {
        if layer.parent.is_some() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(300));
        lazy.get(layer)
    };
    let place = Place::with(&image, slow, |config| config.collect_after = Duration::from_millis(200));
    place.images.collect().await.expect("from now on collections run by themselves");
    let name = server.name("lazy:v1");
    let error = place.images.pull(&name, None, None).await.expect_err("a blob is missing");
    assert!(error.chain().contains("it is not here"), "{}", error.chain());
    assert!(!place.lazy.asked().is_empty() && place.images.list().is_empty());
    place.until_no_layer_is_left().await;
    // The caller leaves while it works; what it then brings is nobody's.
    let pull = tokio::time::timeout(Duration::from_millis(100), place.images.pull(&name, None, None));
    assert!(pull.await.is_err(), "it takes longer");
    tokio::time::sleep(Duration::from_millis(400)).await;
    place.until_no_layer_is_left().await;
    assert!(place.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn for_an_image_that_the_policy_refuses_it_is_asked_for_nothing() {
    let image = image();
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let place = Place::with(
        &image,
        |lazy, layer| lazy.get(layer),
        |config| {
            let policy = config.root.join("policy.json");
            std::fs::write(&policy, r#"{"default":[{"type":"reject"}]}"#).expect("policy");
            config.policy = Some(policy);
        },
    );
    let error = place.images.pull(&server.name("lazy:v1"), None, None).await.expect_err("refused");
    assert!(error.chain().contains("policy"), "{}", error.chain());
    assert!(place.lazy.asked().is_empty());
}
