//! A program that pulls, tags, removes, and makes containers, several at a time, is killed at any moment; then what its
//! disk holds is compared with what it had done.
//!
//! The program is this test binary, started once more. It writes down each step before and after it does it, as the
//! engine does with its containers; so after a kill at most one step of each of its tasks is open.

use super::disk::Place;
use super::trees::{blobs_are_whole, exactly, exactly_soon, files, layer as tree, names, snapshots};
use crate::image::{Image, digest, layer, noise};
use crate::node::{Node, Settings};
use crate::server::{Reply, Server, Shelf};
use crate::transfer::{Archive, incoming};
use corten_images::ImportOptions;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use store::meta::{Meta, Table};

const CHILD: &str = "CORTEN_TEST_KILLED";
const TASKS: usize = 2;
const VERSIONS: usize = 3;
const TAGS: usize = 2;
const AFTER: Duration = Duration::from_millis(200);

/// Pseudo-random numbers that are the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % sides
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Pull {
        tag: usize,
        version: usize,
    },
    /// The same from an archive.
    Import {
        tag: usize,
        version: usize,
    },
    PullBroken,
    Remove {
        tag: usize,
    },
    Create {
        container: usize,
        version: usize,
    },
    Release {
        container: usize,
    },
}

impl Step {
    fn random(dice: &mut Dice) -> Step {
        let (tag, version, container) = (dice.roll(TAGS), dice.roll(VERSIONS), dice.roll(3));
        match dice.roll(11) {
            10 => Step::Import { tag, version },
            0..=3 => Step::Pull { tag, version },
            4 => Step::PullBroken,
            5 | 6 => Step::Remove { tag },
            7 | 8 => Step::Create { container, version },
            _ => Step::Release { container },
        }
    }

    fn write(&self) -> String {
        match self {
            Step::Pull { tag, version } => format!("pull {tag} {version}"),
            Step::Import { tag, version } => format!("import {tag} {version}"),
            Step::PullBroken => "broken 0 0".into(),
            Step::Remove { tag } => format!("remove {tag} 0"),
            Step::Create { container, version } => format!("create {container} {version}"),
            Step::Release { container } => format!("release {container} 0"),
        }
    }

    fn read(words: &[&str]) -> Step {
        let number = |at: usize| words[at].parse().expect("number");
        match words[0] {
            "pull" => Step::Pull { tag: number(1), version: number(2) },
            "import" => Step::Import { tag: number(1), version: number(2) },
            "broken" => Step::PullBroken,
            "remove" => Step::Remove { tag: number(1) },
            "create" => Step::Create { container: number(1), version: number(2) },
            "release" => Step::Release { container: number(1) },
            other => panic!("{other}"),
        }
    }
}

/// What one task's images and containers should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// The tags of each version that is there.
    images: BTreeMap<usize, BTreeSet<usize>>,
    containers: BTreeMap<usize, usize>,
}

impl State {
    fn after(&self, step: &Step) -> State {
        let mut next = self.clone();
        match *step {
            Step::Pull { tag, version } | Step::Import { tag, version } => {
                for tags in next.images.values_mut() {
                    tags.remove(&tag);
                }
                next.images.entry(version).or_default().insert(tag);
            }
            Step::Remove { tag } => next.images.retain(|_, tags| !tags.contains(&tag)),
            Step::Create { container, version } => {
                if next.images.contains_key(&version) {
                    next.containers.entry(container).or_insert(version);
                }
            }
            Step::Release { container } => drop(next.containers.remove(&container)),
            Step::PullBroken => {}
        }
        next
    }
}

/// What is open of a task, and what was there before.
#[derive(Debug, Clone, Default)]
struct Open {
    state: State,
    step: Option<Step>,
}

/// `TASK begin STEP`, `TASK end`, `TASK drop` (the step did not happen).
#[derive(Debug)]
struct Diary(Mutex<std::fs::File>);

impl Diary {
    fn open(root: &Path) -> Diary {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(root.join("diary"));
        Diary(Mutex::new(file.expect("diary")))
    }

    fn note(&self, task: usize, what: &str) {
        self.0.lock().expect("diary").write_all(format!("{task} {what}\n").as_bytes()).expect("write");
    }

    fn read(root: &Path) -> Vec<Open> {
        let mut open = vec![Open::default(); TASKS];
        let text = std::fs::read_to_string(root.join("diary")).unwrap_or_default();
        // The last line may be torn.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let task = &mut open[words[0].parse::<usize>().expect("task")];
            match words[1] {
                "begin" => task.step = Some(Step::read(&words[2..])),
                "end" => {
                    let step = task.step.take().expect("begun");
                    task.state = task.state.after(&step);
                }
                "drop" => task.step = None,
                other => panic!("{other}"),
            }
        }
        open
    }
}

/// Names and contents.
type Files = Vec<(String, Vec<u8>)>;

/// The images of all tasks; layers are shared between tasks.
struct Gallery {
    images: Vec<Vec<Image>>,
    broken: Vec<Image>,
    /// What an unpacked layer holds, by its place in an image's chain.
    content: Vec<Files>,
    own: Vec<Vec<Files>>,
}

impl Gallery {
    fn new() -> Gallery {
        let file = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
        let bases: Vec<Vec<(String, Vec<u8>)>> = (0..2)
            .map(|n| vec![file("base", noise(200_000, 3 + n)), file("sub/more", vec![n as u8; 9])])
            .collect();
        let pack = |files: &[(String, Vec<u8>)]| {
            let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
            layer(&files)
        };
        let packed: Vec<_> = bases.iter().map(|files| pack(files)).collect();
        let (mut images, mut own, mut broken) = (Vec::new(), Vec::new(), Vec::new());
        for task in 0..TASKS {
            let files: Vec<Vec<(String, Vec<u8>)>> = (0..VERSIONS)
                .map(|v| vec![file("own", noise(20_000, (task * 10 + v + 50) as u64))])
                .collect();
            images.push(
                (0..VERSIONS)
                    .map(|v| Image::new(&format!("t{task}v{v}"), &[packed[v % 2].clone(), pack(&files[v])]))
                    .collect(),
            );
            own.push(files);
            let bad = pack(&[file(&format!("bad{task}"), vec![1; 99])]);
            broken.push(Image::new(&format!("bad{task}"), &[packed[0].clone(), bad]));
        }
        Gallery { images, broken, content: bases, own }
    }

    async fn serve(&self, root: &Path) -> Server {
        let mut shelf = Shelf::default();
        for (task, images) in self.images.iter().enumerate() {
            for (v, image) in images.iter().enumerate() {
                shelf = shelf.with(&format!("t{task}v{v}"), image);
            }
            shelf = shelf.with(&format!("bad{task}"), &self.broken[task]);
        }
        let lies: Vec<String> = self.broken.iter().map(|image| image.blobs[2].0.clone()).collect();
        let manifests: Vec<Vec<bytes::Bytes>> =
            self.images.iter().map(|all| all.iter().map(|i| i.manifest.clone()).collect()).collect();
        let moves = root.join("moves");
        Server::start(shelf, move |seen| {
            if lies.iter().any(|lie| seen.path.contains(lie)) {
                return Some(Reply::new(200, "a lie"));
            }
            let tag = seen.path.rsplit('/').next()?.strip_prefix("tag")?.to_owned();
            let (task, _) = tag.split_once('-')?;
            let version: usize = std::fs::read_to_string(moves.join(&tag)).ok()?.trim().parse().ok()?;
            let manifest = manifests.get(task.parse::<usize>().ok()?)?.get(version)?;
            Some(
                Reply::new(200, manifest.clone())
                    .with("content-type", crate::image::OCI_MANIFEST)
                    .with("docker-content-digest", digest(manifest)),
            )
        })
        .await
    }

    fn files(&self, task: usize, version: usize, at: usize) -> Vec<(String, Vec<u8>)> {
        let mut files =
            if at == 0 { self.content[version % 2].clone() } else { self.own[task][version].clone() };
        files.sort();
        files
    }
}

fn container(task: usize, container: usize) -> String {
    format!("t{task}c{container}")
}

fn settings(snapshotter: &'static str, discard: bool) -> Settings {
    Settings { snapshotter, discard, collect_after: AFTER, ..Settings::default() }
}

/// What the engine does at its start: it holds for every container that is recorded, and removes writable layers of others.
fn recover(node: &Node, gallery: &Gallery, open: &[Open]) -> Vec<types::Digest> {
    let (mut known, mut held) = (BTreeSet::new(), Vec::new());
    for (task, open) in open.iter().enumerate() {
        for (c, version) in &open.state.containers {
            let chain = chain(&gallery.images[task][*version]);
            held.extend(chain.clone());
            node.images.hold_layers(&container(task, *c), chain);
            known.insert(container(task, *c));
        }
    }
    for id in node.snapshotter.containers().expect("containers") {
        if !known.contains(&id) {
            node.snapshotter.remove(&id).expect("remove");
        }
    }
    held
}

/// The chain ids of an image, as the specification has them.
pub fn chain(image: &Image) -> Vec<types::Digest> {
    let config: serde_json::Value = serde_json::from_slice(&image.config).expect("JSON");
    let mut chain: Vec<String> = Vec::new();
    for diff in config["rootfs"]["diff_ids"].as_array().expect("list") {
        let diff = diff.as_str().expect("text");
        chain.push(match chain.last() {
            None => diff.to_owned(),
            Some(below) => digest(format!("{below} {diff}").as_bytes()),
        });
    }
    chain.iter().map(|id| types::Digest::parse(id).expect("digest")).collect()
}

/// One life of the program; it ends with a kill.
fn child(root: PathBuf) {
    let word = |name: &str| std::env::var(format!("{CHILD}_{name}")).expect(name);
    let (address, seed) = (word("SERVER"), word("SEED").parse::<u64>().expect("seed"));
    let snapshotter = if word("SNAPSHOTTER") == "native" { "native" } else { "overlayfs" };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async move {
        let gallery = Arc::new(Gallery::new());
        let node = Arc::new(Node::open(root.clone(), settings(snapshotter, word("DISCARD") == "1"), None));
        let open = Diary::read(&root);
        recover(&node, &gallery, &open);
        node.images.collect().await.expect("first");
        let diary = Arc::new(Diary::open(&root));
        let mut tasks = tokio::task::JoinSet::<()>::new();
        for (task, open) in open.into_iter().enumerate() {
            assert!(open.step.is_none(), "the parent settles what was open");
            let (node, gallery, diary) = (node.clone(), gallery.clone(), diary.clone());
            let (root, address) = (root.clone(), address.clone());
            tasks.spawn(async move {
                let mut dice = Dice(seed * 7919 + task as u64 + 1);
                let mut state = open.state;
                loop {
                    let step = Step::random(&mut dice);
                    diary.note(task, &format!("begin {}", step.write()));
                    act(&node, &gallery, &root, &address, task, &state, &step).await;
                    state = state.after(&step);
                    diary.note(task, "end");
                }
            });
        }
        std::fs::write(root.join("ready"), "").expect("ready");
        // They end only with the process.
        if let Some(ended) = tasks.join_next().await {
            panic!("a task ended: {ended:?}");
        }
    });
}

async fn act(
    node: &Node,
    gallery: &Gallery,
    root: &Path,
    address: &str,
    task: usize,
    state: &State,
    step: &Step,
) {
    let reference = |name: &str| types::Reference::parse(&format!("{address}/app:{name}")).expect("name");
    match *step {
        Step::Pull { tag, version } => {
            let name = format!("tag{task}-{tag}");
            std::fs::write(root.join("moves").join(&name[3..]), version.to_string()).expect("move");
            let record = node.images.pull(&reference(&name), None, None).await.expect("pull");
            assert_eq!(record.id.as_str(), gallery.images[task][version].id());
        }
        Step::Import { tag, version } => {
            let name = reference(&format!("tag{task}-{tag}")).to_string();
            let archive = Archive::of(&gallery.images[task][version], &name).bytes();
            let options = ImportOptions::default();
            node.images.import(incoming(&archive), options, None).await.expect("import");
        }
        Step::PullBroken => {
            node.images.pull(&reference(&format!("bad{task}")), None, None).await.expect_err("a lie");
        }
        Step::Remove { tag } => {
            node.images.remove(&reference(&format!("tag{task}-{tag}")).to_string()).await.expect("remove");
        }
        Step::Create { container: c, version } => {
            let id = container(task, c);
            if state.containers.contains_key(&c) {
                return;
            }
            let held = node.images.hold_image(&id, &gallery.images[task][version].id());
            assert_eq!(held.is_some(), state.images.contains_key(&version));
            if let Some(image) = held {
                node.snapshotter.prepare(&id, &node.images.layers(&image)).expect("prepare");
            }
        }
        Step::Release { container: c } => {
            node.snapshotter.remove(&container(task, c)).expect("remove");
            node.images.release(&container(task, c));
        }
    }
}

/// Looks at what a kill left, and settles what was open. The node is as the engine would have it now.
async fn compare(root: &Path, gallery: &Gallery, settings: Settings) {
    let open = Diary::read(root);
    let node = Node::open(root.to_owned(), settings, None);
    let held = recover(&node, gallery, &open);
    let mut found: Vec<BTreeMap<usize, BTreeSet<usize>>> = vec![BTreeMap::new(); TASKS];
    for image in node.images.list() {
        let (task, version) = (0..TASKS)
            .flat_map(|t| (0..VERSIONS).map(move |v| (t, v)))
            .find(|(t, v)| gallery.images[*t][*v].id() == image.id.as_str())
            .unwrap_or_else(|| panic!("an image that nobody pulled: {image:?}"));
        let tags = image.names.iter().map(|name| name.rsplit('-').next().expect("tag").parse().expect("tag"));
        found[task].insert(version, tags.collect());
        for (at, chain) in image.chain.iter().enumerate() {
            assert_eq!(files(&tree(&node, chain)), expected(&node, gallery, task, version, at), "{image:?}");
        }
    }
    let diary = Diary::open(root);
    for (task, open) in open.iter().enumerate() {
        let before = open.state.images.clone();
        let after = open.step.as_ref().map(|step| open.state.after(step).images);
        let done = after.as_ref() == Some(&found[task]);
        assert!(
            done || before == found[task],
            "task {task}: {:?} is neither {open:?} nor after it",
            found[task]
        );
        match &open.step {
            None => {}
            // A container that was being made is undone; one that was being removed is still there, for its record goes last.
            Some(Step::Create { .. } | Step::Release { .. }) => diary.note(task, "drop"),
            Some(_) => diary.note(task, if done { "end" } else { "drop" }),
        }
        for (c, version) in &open.state.containers {
            for (at, layer) in chain(&gallery.images[task][*version]).iter().enumerate() {
                let there = files(&tree(&node, layer));
                assert_eq!(there, expected(&node, gallery, task, *version, at), "container {c}");
            }
        }
    }
    node.images.collect().await.expect("collect");
    exactly(&node, &node.images.list(), &held);
    blobs_are_whole(&node);
    let rows = |digests: Vec<String>| {
        digests.iter().map(|d| d.trim_start_matches("sha256:").to_owned()).collect::<BTreeSet<String>>()
    };
    let (layers, blobs) =
        (names(&snapshots(&node).join("layers")), names(&root.join("content/blobs/sha256")));
    drop(node);
    let meta = meta(root);
    let keys = |table| {
        let all = meta.scan::<serde_json::Value>(table).expect("scan");
        rows(all.into_iter().map(|(key, _)| key).collect())
    };
    assert_eq!(keys(Table::Layers), layers, "rows of layers");
    assert_eq!(keys(Table::Blobs), blobs, "rows of blobs");
}

/// Opened as soon as whoever had it has let go.
fn meta(root: &Path) -> Meta {
    let started = Instant::now();
    loop {
        match Meta::open(&root.join("meta.redb")) {
            Ok(meta) => return meta,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(5), "{}", error.chain()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The files of a layer; where layers are whole copies, with those below.
fn expected(
    node: &Node,
    gallery: &Gallery,
    task: usize,
    version: usize,
    at: usize,
) -> Vec<(String, Vec<u8>)> {
    let mut files = gallery.files(task, version, at);
    if node.snapshotter.name() == "native" {
        files = (0..=at).flat_map(|below| gallery.files(task, version, below)).collect();
        files.sort();
    }
    files
}

async fn lives(name: &str, snapshotter: &'static str, lives: usize) {
    let place = Place::new("killed");
    let root = place.root();
    std::fs::create_dir(root.join("moves")).expect("folder");
    let gallery = Gallery::new();
    let server = gallery.serve(root).await;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for life in 0..lives {
        let discard = life % 2 == 1;
        let ready = root.join("ready");
        let _ = std::fs::remove_file(&ready);
        let mut program = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(CHILD, root)
            .env(format!("{CHILD}_SERVER"), server.addr.to_string())
            .env(format!("{CHILD}_SEED"), (life + 1).to_string())
            .env(format!("{CHILD}_DISCARD"), if discard { "1" } else { "0" })
            .env(format!("{CHILD}_SNAPSHOTTER"), snapshotter)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(root.join("stderr")).expect("stderr"))
            .spawn()
            .expect("start");
        let started = Instant::now();
        while !ready.exists() && started.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_micros(dice.roll(400_000) as u64)).await;
        program.kill().expect("kill");
        let status = program.wait().expect("wait");
        let text = std::fs::read_to_string(root.join("stderr")).unwrap_or_default();
        assert_eq!(status.signal(), Some(9), "life {life} of {snapshotter} ended by itself: {text}");
        compare(root, &gallery, settings(snapshotter, discard)).await;
    }
    let steps = std::fs::read_to_string(root.join("diary")).expect("diary").matches("end").count();
    assert!(steps >= lives, "{steps} steps in {lives} lives");
    eprintln!("{snapshotter}: {lives} lives, {steps} steps");
}

/// `CORTEN_TEST_KILLS` asks for more lives.
fn wanted(usual: usize) -> usize {
    std::env::var("CORTEN_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[test]
fn a_kill_at_any_moment_leaves_what_is_in_use_whole_and_nothing_else() {
    if let Some(root) = std::env::var_os(CHILD) {
        return child(root.into());
    }
    let name = "keep::killed::a_kill_at_any_moment_leaves_what_is_in_use_whole_and_nothing_else";
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        lives(name, "overlayfs", wanted(8)).await;
        lives(name, "native", wanted(4)).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_unused_is_kept_past_the_delay_whatever_was_done() {
    let place = Place::new("unused");
    let root = place.root();
    std::fs::create_dir(root.join("moves")).expect("folder");
    let gallery = Gallery::new();
    let server = gallery.serve(root).await;
    for discard in [false, true] {
        let node = Node::open(root.to_owned(), settings("overlayfs", discard), None);
        node.images.collect().await.expect("first");
        let (mut dice, mut state) = (Dice(77), State::default());
        for image in node.images.list() {
            node.images.remove(image.id.as_str()).await.expect("remove");
        }
        for round in 0..6 {
            for _ in 0..6 {
                let step = Step::random(&mut dice);
                act(&node, &gallery, root, &server.addr.to_string(), 0, &state, &step).await;
                state = state.after(&step);
            }
            let held: Vec<types::Digest> =
                state.containers.values().flat_map(|v| chain(&gallery.images[0][*v])).collect();
            let started = Instant::now();
            exactly_soon(&node, &node.images.list(), &held).await;
            let took = started.elapsed();
            assert!(took < AFTER + Duration::from_secs(3), "round {round}: {took:?}");
        }
        for c in state.containers.keys() {
            node.snapshotter.remove(&container(0, *c)).expect("remove");
            node.images.release(&container(0, *c));
        }
        drop(node);
        drop(meta(root));
    }
}
