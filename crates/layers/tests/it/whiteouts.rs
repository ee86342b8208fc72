//! Whiteouts hide lower layers and never their own layer, wherever they stand in the archive.

use crate::builder::Builder;
use crate::sandbox::Sandbox;

#[test]
fn whiteouts_become_devices_and_opaque_directories_for_overlayfs() {
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .file("etc/.wh.passwd", b"")
        .dir("var", 0o755)
        .file("var/.wh..wh..opq", b"")
        .file(".wh..wh.plnk/1.2", b"aufs")
        .file(".wh..wh.aufs", b"")
        .end();
    let unpacked = sandbox.unpack(&archive).expect("unpack");
    assert!(sandbox.is_whiteout("etc/passwd"));
    assert!(sandbox.is_opaque("var"));
    assert_eq!(sandbox.tree().len(), 3, "{:?}", sandbox.tree());
    assert_eq!(unpacked.pending.implied_dirs, [std::path::PathBuf::from("etc")]);
}

#[test]
fn a_whiteout_never_removes_what_its_own_layer_has() {
    let file = |name| Builder::default().file(name, b"new").0;
    let white = |name| Builder::default().file(name, b"").0;
    let dir = Builder::default().dir("a", 0o755).0;
    // Every order of a file and its whiteout, and of a directory with content and its whiteout.
    for order in [[file("a"), white(".wh.a")], [white(".wh.a"), file("a")]] {
        let sandbox = Sandbox::new();
        sandbox.unpack(&order.concat()).expect("unpack");
        assert_eq!(sandbox.read("a"), "new");
        let sandbox = Sandbox::new();
        std::fs::write(sandbox.root().join("a"), "lower").expect("lower");
        sandbox.apply(&order.concat()).expect("apply");
        assert_eq!(sandbox.read("a"), "new");
    }
    let orders = [
        vec![dir.clone(), file("a/f"), white(".wh.a")],
        vec![dir.clone(), white(".wh.a"), file("a/f")],
        vec![white(".wh.a"), dir.clone(), file("a/f")],
        vec![white(".wh.a"), file("a/f"), dir.clone()],
        vec![white(".wh.a"), file("a/f")],
        vec![file("a/f"), white(".wh.a")],
        vec![dir.clone(), file("a/f"), white("a/.wh..wh..opq")],
        vec![white("a/.wh..wh..opq"), dir, file("a/f")],
    ];
    for (at, order) in orders.iter().enumerate() {
        let sandbox = Sandbox::new();
        let unpacked = sandbox.unpack(&order.concat()).expect("unpack");
        assert_eq!(sandbox.read("a/f"), "new", "order {at}");
        assert!(sandbox.is_opaque("a"), "order {at}");
        assert!(unpacked.pending.implied_dirs.is_empty(), "order {at}: {:?}", unpacked.pending);

        let sandbox = Sandbox::new();
        std::fs::create_dir_all(sandbox.root().join("a/sub")).expect("lower");
        std::fs::write(sandbox.root().join("a/lower"), "").expect("lower");
        sandbox.apply(&order.concat()).expect("apply");
        assert_eq!(sandbox.read("a/f"), "new", "order {at}");
        assert!(!sandbox.has("a/lower") && !sandbox.has("a/sub"), "order {at}");
    }
}

#[test]
fn applied_whiteouts_delete_what_lower_layers_have() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    std::fs::create_dir_all(root.join("gone/deep/er")).expect("lower");
    std::fs::create_dir_all(root.join("opq/sub/own")).expect("lower");
    std::fs::write(root.join("opq/sub/lower"), "").expect("lower");
    std::os::unix::fs::symlink(sandbox.outside(), root.join("gone/link")).expect("lower");
    let archive = Builder::default()
        .file(".wh.gone", b"")
        .file(".wh.never", b"")
        .file("no/such/.wh.dir", b"")
        .file("opq/sub/own/file", b"own")
        .file("opq/.wh..wh..opq", b"")
        .file("opq/late", b"")
        .end();
    sandbox.apply(&archive).expect("apply");
    assert!(!sandbox.has("gone") && !sandbox.has("no") && !sandbox.has("opq/sub/lower"));
    assert_eq!(sandbox.read("opq/sub/own/file"), "own");
    assert!(sandbox.has("opq/late"));
}

#[test]
fn whiteouts_of_no_usable_name_are_refused() {
    for name in [".wh.", "a/.wh..", "a/.wh...", ".wh.a/b"] {
        let archive = Builder::default().file("keep", b"k").file(name, b"").end();
        for result in [Sandbox::new().unpack(&archive), Sandbox::new().apply(&archive)] {
            assert_eq!(result.expect_err(name).kind(), types::ErrorKind::InvalidArgument);
        }
    }
}

#[test]
fn a_file_that_replaces_a_lower_directory_wins_in_place() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.root().join("a/b/c")).expect("lower");
    std::fs::write(sandbox.root().join("f"), "lower").expect("lower");
    sandbox
        .apply(&Builder::default().file("a", b"file").dir("f", 0o755).file("f/x", b"").end())
        .expect("apply");
    assert_eq!(sandbox.read("a"), "file");
    assert!(sandbox.has("f/x"));
}
