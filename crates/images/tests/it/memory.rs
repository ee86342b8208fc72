//! The memory of pulls, measured in a process of its own: this one holds the registry, and runs other tests.

use crate::image::{Image, digest, layer, noise};
use crate::server::{Server, Shelf};
use bytes::Bytes;
use corten_images::{Images, ImagesConfig};
use std::io::Write;
use std::sync::Arc;
use store::meta::Meta;

/// Pulls at once.
const PULLS: usize = 20;
/// What they may take above what the process had before the first.
const MOST_KIB: u64 = 64 << 10;
/// Set in the process that pulls: where the registry is.
const REGISTRY: &str = "CORTEN_TEST_REGISTRY";

/// A layer that takes a decoder with a window of `1 << log` bytes.
fn windowed(files: &[(&str, &[u8])], log: u32) -> (Bytes, String) {
    let (gzip, diff_id) = layer(files);
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip[..]), &mut tar).expect("inflate");
    assert_eq!(digest(&tar), diff_id);
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("encoder");
    zstd.window_log(log).expect("window");
    zstd.write_all(&tar).expect("compress");
    (zstd.finish().expect("compress").into(), diff_id)
}

#[test]
fn twenty_pulls_at_once_with_large_windows_take_at_most_64_mib() {
    if let Ok(registry) = std::env::var(REGISTRY) {
        return pull_all(&registry);
    }
    let mut shelf = Shelf::default();
    let content = noise(1 << 20, 77);
    for at in 0..PULLS {
        // Windows of 32 MiB and of 8 MiB, each with as much content as fills it.
        let (copies, log) = if at % 10 == 0 { (34, 25) } else { (9, 23) };
        let own = noise(20_000, at as u64 + 1);
        let names: Vec<String> = (0..copies).map(|copy| format!("{at}/{copy}")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &content[..])).collect();
        files.push(("own", &own));
        let image = Image::new(&format!("app{at}"), &[windowed(&files, log), layer(&[("small", &own)])]);
        shelf = shelf.with(&format!("v{at}"), &image);
    }
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let server = runtime.block_on(Server::start(shelf, |_| None));
    let own = std::env::current_exe().expect("own program");
    let name = "memory::twenty_pulls_at_once_with_large_windows_take_at_most_64_mib";
    let output = std::process::Command::new(own)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(REGISTRY, server.name("app:v0").host())
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let taken = said.split_whitespace().skip_while(|word| *word != "taken-kib").nth(1);
    let taken: u64 = taken.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!((1..=MOST_KIB).contains(&taken), "{taken} KiB");
}

/// The other process.
fn pull_all(registry: &str) {
    // As the daemon does.
    sys::memory::bound_heap();
    let dir = tempfile::Builder::new().prefix("images-memory-").tempdir_in("/var/tmp").expect("temp dir");
    let meta = Arc::new(Meta::open(&dir.path().join("meta.redb")).expect("meta"));
    let snapshotter = snapshots::open("overlayfs", &dir.path().join("snapshots")).expect("snapshotter");
    let images = Images::open(ImagesConfig::new(dir.path()), meta, snapshotter).expect("images");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let idle = memory("VmRSS:");
    runtime.block_on(async {
        let pulls: Vec<_> = (0..PULLS)
            .map(|at| {
                let reference = types::Reference::parse(&format!("{registry}/app:v{at}")).expect("reference");
                let images = images.clone();
                tokio::spawn(async move { images.pull(&reference, None, None).await })
            })
            .collect();
        for pull in pulls {
            pull.await.expect("no panic").expect("pull");
        }
    });
    assert_eq!(images.list().len(), PULLS);
    println!("taken-kib {} ", memory("VmHWM:").saturating_sub(idle));
}

/// A line of proc_pid_status(5), in KiB.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let found = status.lines().find_map(|l| l.strip_prefix(line)).expect("line");
    found.split_whitespace().next().and_then(|number| number.parse().ok()).expect("number")
}
