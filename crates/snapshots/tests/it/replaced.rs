//! A damaged layer gives way to a whole one while containers come, and whoever does that is killed at any of its steps: the
//! old one stays for who runs on it, and for nobody else.

use crate::builder::Builder;
use crate::case::{Case, View};
use crate::killed::{at_calls, done, has_strace, of_child};
use snapshots::ChainId;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

every_snapshotter!(killed_while_a_layer_is_replaced_the_old_one_stays_for_who_runs_on_it_and_no_longer);

/// The calls of an exchange.
const CALLS: [&str; 3] = ["renameat2", "renameat", "fsync"];

fn chain() -> ChainId {
    ChainId::sha256(&[7; 32])
}

fn layer(byte: u8) -> Builder {
    Builder::default().dir("d", 0o755).file("d/f", &[byte; 5000])
}

/// The inode of what is in the layer's place.
fn in_place(case: &Case) -> u64 {
    case.path("layers").join(chain().hex()).metadata().expect("a layer").ino()
}

/// What the process does that is killed.
#[test]
fn child() {
    let Some(case) = of_child() else { return };
    let (draft, unpacked) = case.draft(&chain(), None, layer(2));
    std::fs::write(case.top.path().join("begun"), b"").expect("begun");
    // A container that nobody knew of before the new layer lay beside the old one.
    let users = || match case.count("replaced") {
        0 | 1 => Vec::new(),
        _ => vec!["late".to_owned()],
    };
    case.snapshotter.replace_layer(draft, &chain(), &[], &unpacked, &users).expect("replace");
    done(&case);
}

fn killed_while_a_layer_is_replaced_the_old_one_stays_for_who_runs_on_it_and_no_longer(case: Case) {
    if !has_strace() {
        return;
    }
    let prepare = |folder: &Path| {
        let case = Case::within(case.name, folder);
        let (draft, unpacked) = case.draft(&chain(), None, layer(1));
        case.snapshotter.commit_layer(draft, &chain(), &[], &unpacked).expect("commit");
        std::fs::write(folder.join("old"), in_place(&case).to_string()).expect("old");
    };
    let seen = std::cell::Cell::new([0; 2]);
    at_calls(
        &case,
        "replaced::child",
        &CALLS,
        |count| count + 1,
        prepare,
        |folder| {
            let case = Case::within(case.name, folder);
            if folder.join("begun").exists() {
                let exchanged = look(&case, folder);
                let mut counts = seen.get();
                counts[usize::from(exchanged)] += 1;
                seen.set(counts);
            }
        },
    );
    let [before, after] = seen.get();
    assert!(before >= 3 && after >= 5, "kills before and after the exchange: {before}, {after}");
}

/// As a collection: what somebody runs on stays, until they go.
fn look(case: &Case, folder: &Path) -> bool {
    let old: u64 = std::fs::read_to_string(folder.join("old")).expect("old").parse().expect("a number");
    let exchanged = in_place(case) != old;
    let replaced = case.snapshotter.replaced(&|layer| {
        assert_eq!(*layer, chain());
        vec!["late".to_owned()]
    });
    let (kept, unused): (Vec<_>, Vec<_>) =
        replaced.expect("replaced").into_iter().partition(|(_, users)| users.contains(&"late".to_owned()));
    for (name, _) in &unused {
        case.snapshotter.remove_replaced(name).expect("remove");
    }
    assert_eq!(kept.len(), usize::from(exchanged), "{kept:?}");
    if let Some((name, _)) = kept.first() {
        let there = case.path("replaced").join(name).metadata().expect("the old one");
        assert_eq!(there.ino(), old);
        // Containers that come later are on the new one, and do not keep it.
        let again = case.snapshotter.replaced(&|_| vec!["later".to_owned()]).expect("replaced");
        assert_eq!(again, kept);
        case.snapshotter.remove_replaced(name).expect("remove");
    }
    assert_eq!((case.count("replaced"), case.count("trash"), case.count("ingest")), (0, 0, 0));
    let view = View::new(&case.snapshotter.view(&[chain()]).expect("view"));
    let content = std::fs::read(view.path("d/f")).expect("a whole layer");
    assert!(content == [if exchanged { 2 } else { 1 }; 5000]);
    exchanged
}
