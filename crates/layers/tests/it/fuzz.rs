//! Random and mutated archives: no panic, nothing outside of the root.

use crate::builder::{Builder, seal};
use crate::sandbox::Sandbox;
use layers::{Compression, UnpackLimits, WhiteoutMode};
use proptest::prelude::*;

const LIMITS: UnpackLimits = UnpackLimits {
    max_bytes: 1 << 20,
    max_entries: 200,
    max_path: 300,
    max_xattr_bytes: 4096,
    ..UnpackLimits::DEFAULT
};

fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        5 => prop::sample::select(vec!["a", "b", "c", "l"]),
        1 => prop::sample::select(vec!["..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.", "outside", "sentinel"]),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn entry() -> impl Strategy<Value = Builder> {
    let make = |f: fn(&str, &str) -> Builder| (name(), name()).prop_map(move |(a, b)| f(&a, &b));
    prop_oneof![
        4 => make(|a, b| Builder::default().file(a, b.as_bytes())),
        3 => make(|a, _| Builder::default().dir(a, 0o755)),
        3 => make(|a, b| Builder::default().symlink(a, b)),
        1 => make(|a, _| Builder::default().symlink(a, "../outside")),
        1 => make(|a, b| Builder::default().symlink(a, &format!("/{b}"))),
        3 => make(|a, b| Builder::default().hardlink(a, b)),
        1 => make(|a, _| Builder::default().hardlink(a, "../outside/sentinel")),
        1 => make(|a, _| Builder::default().with(b'6', a, |_| {})),
        1 => make(|a, b| Builder::default().pax(b'x', &[("path", b.as_bytes())]).file(a, b"x")),
        1 => make(|a, b| Builder::default().long(b'L', b.as_bytes()).dir(a, 0o700)),
        1 => make(|a, _| Builder::default().device(b'3', a, 0, 0)),
    ]
}

fn both(bytes: &[u8], compression: Compression) {
    let _ = layers::inspect(bytes, compression, &LIMITS);
    for mode in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
        let sandbox = Sandbox::new();
        if let Ok(unpacked) = sandbox.unpack_as(bytes, compression, mode, &LIMITS) {
            let lower = [sandbox.fd()];
            let _ = layers::settle(std::os::fd::AsFd::as_fd(&sandbox.fd()), &lower, &unpacked.pending);
            sandbox.assert_untouched();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), gzip in any::<bool>()) {
        let compression = if gzip { Compression::Gzip } else { Compression::Zstd };
        prop_assert!(layers::inspect(bytes.as_slice(), compression, &LIMITS).is_err() || bytes.is_empty());
        let _ = layers::inspect(bytes.as_slice(), Compression::None, &LIMITS);
    }

    #[test]
    fn valid_headers_in_any_order_stay_inside(entries in prop::collection::vec(entry(), 1..25)) {
        let mut archive = Builder::default();
        for entry in entries {
            archive = archive.raw(&entry.0);
        }
        both(&archive.end(), Compression::None);
    }

    #[test]
    fn mutated_archives_stay_inside(
        entries in prop::collection::vec(entry(), 1..8),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        reseal in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes: Vec<u8> = entries.into_iter().flat_map(|e| e.0).collect();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
            let block = at / 512 * 512;
            if reseal && let Some(block) = bytes[block..].first_chunk_mut() {
                seal(block);
            }
        }
        if !reseal {
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        both(&bytes, Compression::None);
    }
}
