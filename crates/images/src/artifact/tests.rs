//! Which names are taken, and what comes of them.

use super::*;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn digest(byte: u8) -> Digest {
    Digest::sha256(&[byte; 32])
}

fn blob(byte: u8, media_type: &str, title: Option<&str>) -> Descriptor {
    let mut layer = Descriptor::new(media_type, digest(byte), 3);
    layer.annotations.extend(title.map(|title| (NAMES[0].to_owned(), title.to_owned())));
    layer
}

fn read(layers: &[Descriptor]) -> Result<Artifact, ManifestError> {
    Artifact::new(&digest(1), "a/b".into(), None, false, layers)
}

fn parts(layers: &[Descriptor]) -> Vec<Part> {
    read(layers).expect("an artifact").parts
}

#[test]
fn a_layers_type_makes_a_tree_any_other_a_file_and_nothing_stays_nothing() {
    let file = |name: &str| Part::File(name.to_owned());
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let all = [
        blob(2, gzip, Some("folder")),
        blob(3, "text/plain; charset=utf-8", Some("a/b.txt")),
        blob(4, "", Some("./c")),
        blob(5, PLAIN_TAR, Some("notes.txt")),
        blob(6, PLAIN_TAR, None),
        blob(7, "application/vnd.cncf.model.weight.v1.tar", Some("w.tar")),
        blob(8, EMPTY, Some("x")),
        blob(9, "text/plain", None),
    ];
    let expected = [
        Part::Tree,
        file("a/b.txt"),
        file("c"),
        Part::TreeOrFile("notes.txt".into()),
        Part::Tree,
        file("w.tar"),
        Part::Nothing,
        file(&format!("sha256-{}", "09".repeat(32))),
    ];
    assert_eq!(parts(&all), expected);
    let mut model = blob(2, "a/b", None);
    model.annotations.insert(NAMES[2].into(), "old".into());
    assert_eq!(parts(std::slice::from_ref(&model)), [file("old")]);
    model.annotations.insert(NAMES[1].into(), "m/weights".into());
    assert_eq!(parts(std::slice::from_ref(&model)), [file("m/weights")]);
    model.annotations.insert(NAMES[0].into(), "title".into());
    assert_eq!(parts(std::slice::from_ref(&model)), [file("title")]);
    assert!(matches!(read(&[]), Err(ManifestError::EmptyArtifact { .. })));
    assert!(matches!(read(&[blob(2, EMPTY, None)]), Err(ManifestError::EmptyArtifact { .. })));
}

#[test]
fn a_name_that_is_no_path_below_the_root_is_refused_with_its_blob() {
    let long = "x".repeat(256);
    let deep = vec!["d"; 65].join("/");
    let longer = vec!["y".repeat(100); 41].join("/");
    let huge = "z".repeat(1 << 20);
    for (name, word) in [
        ("..", "no name"),
        ("../x", "no name"),
        ("a/../../x", "no name"),
        ("a/./b", "no name"),
        ("a/..", "no name"),
        ("/etc/passwd", "no relative path"),
        (".//x", "no relative path"),
        ("a//b", "empty component"),
        ("a/", "empty component"),
        ("./", "empty component"),
        ("a\0b", "control characters"),
        ("a\nb", "control characters"),
        (".wh.x", "whiteout"),
        ("a/.wh..wh..opq", "whiteout"),
        (".wh.d/x", "whiteout"),
        (long.as_str(), "longer than 255"),
        (deep.as_str(), "64 folders"),
        (longer.as_str(), "4095 are the most"),
        (huge.as_str(), "4095 are the most"),
    ] {
        for kind in ["text/plain", PLAIN_TAR] {
            let error = read(&[blob(2, "a/b", Some("fine")), blob(3, kind, Some(name))]).expect_err(word);
            let text = error.to_string();
            assert!(text.contains(word) && text.contains(digest(3).as_str()), "{word}: {text}");
            assert!(text.len() < 700 && !text.contains(char::is_control), "{text}");
        }
    }
    let deepest = vec!["d"; 64].join("/");
    for fine in ["a.wh.b", "..a", "a..", "…", "a b", "-x", "a\\b", deepest.as_str()] {
        assert!(read(&[blob(3, "text/plain", Some(fine))]).is_ok(), "{fine}");
    }
    let secret = blob(3, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None);
    assert!(read(&[secret]).expect_err("encrypted").to_string().contains("encrypted"));
}

#[test]
fn two_files_cannot_have_one_name_nor_lie_below_each_other() {
    let two = |one: &str, other: &str| read(&[blob(2, "a/b", Some(one)), blob(3, "a/b", Some(other))]);
    for (one, other) in [("x", "x"), ("x", "./x"), ("x", "x/y"), ("x/y/z", "x/y")] {
        let text = two(one, other).expect_err(one).to_string();
        assert!(text.contains(digest(2).as_str()) && text.contains(digest(3).as_str()), "{text}");
    }
    assert!(two("x", "xy").is_ok() && two("d/x", "d/y").is_ok() && two("d-x", "d/y").is_ok());
    assert!(read(&[blob(2, "a/b", Some("x")), blob(2, "a/c", Some("x"))]).is_ok(), "it is one file");
}

#[test]
fn chain_ids_are_none_of_an_image_and_each_is_bound_to_all_that_makes_it() {
    let ids = |layers: &[Descriptor]| read(layers).expect("an artifact").chain_ids(layers);
    let base = [blob(2, "a/b", Some("x")), blob(3, "a/b", Some("y"))];
    let chain = ids(&base);
    assert!(chain.iter().all(|id| id.algorithm() == Algorithm::Sha512));
    assert_eq!(chain, ids(&base), "always the same");
    assert_eq!(chain[0], ids(&base[..1])[0], "layers below are shared");
    for (other, what) in [
        ([blob(2, "a/b", Some("z")), base[1].clone()], "a name"),
        ([blob(4, "a/b", Some("x")), base[1].clone()], "a blob"),
        ([blob(2, PLAIN_TAR, Some("x")), base[1].clone()], "how it is taken"),
        ([base[1].clone(), base[0].clone()], "the order"),
    ] {
        let other = ids(&other);
        assert!(chain.iter().all(|id| !other.contains(id)), "{what}");
    }
}

/// Unpacks a blob of this content, and gives the folder.
fn unpacked(part: &Part, content: &[u8]) -> (tempfile::TempDir, Unpacked) {
    let dir = tempfile::tempdir().expect("temp dir");
    let root = std::fs::File::open(dir.path()).expect("open");
    let head = &content[..content.len().min(BLOCK)];
    let unpacked = part
        .unpack(
            head,
            content.len() as u64,
            content,
            root.as_fd(),
            WhiteoutMode::Apply,
            &UnpackLimits::DEFAULT,
        )
        .expect("unpack");
    (dir, unpacked)
}

#[test]
fn a_file_is_roots_and_of_1970_whatever_its_length_and_path() {
    let deep = format!("models/{}/{}/weights", "a".repeat(200), "b".repeat(200));
    for length in [0, 1, 511, 512, 513, 700_000] {
        let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        for name in ["x", "models/llm/x", deep.as_str()] {
            let (dir, unpacked) = unpacked(&Part::File(name.to_owned()), &content);
            let path = dir.path().join(name);
            assert!(std::fs::read(&path).expect("read") == content, "{name} {length}");
            let meta = std::fs::symlink_metadata(&path).expect("stat");
            assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime()), (0o644, 0, 0, 0));
            assert_eq!(unpacked.bytes, length);
            let folders = Path::new(name).ancestors().skip(1).filter(|path| *path != Path::new(""));
            for folder in folders {
                let meta = std::fs::symlink_metadata(dir.path().join(folder)).expect("stat");
                assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime()), (0o755, 0, 0), "{folder:?}");
            }
        }
    }
}

#[test]
fn a_blob_that_may_be_a_tar_is_one_only_if_its_first_header_says_so() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    header.set_mode(0o600);
    archive.append_data(&mut header, "inside", &b"in"[..]).expect("append");
    let archive = archive.into_inner().expect("archive");
    let part = Part::TreeOrFile("name".to_owned());
    let (dir, _) = unpacked(&part, &archive);
    assert!(dir.path().join("inside").exists() && !dir.path().join("name").exists());
    let mut gzip = vec![0x1f, 0x8b];
    gzip.extend_from_slice(&archive);
    for content in [&archive[1..], &archive[..511], &gzip, b"text", b"", &[0; 4096]] {
        let (dir, _) = unpacked(&part, content);
        assert!(std::fs::read(dir.path().join("name")).expect("read") == content);
    }
    let (dir, unpacked) = unpacked(&Part::Nothing, b"{}");
    assert_eq!((std::fs::read_dir(dir.path()).expect("list").count(), unpacked.inodes), (0, 0));
}
