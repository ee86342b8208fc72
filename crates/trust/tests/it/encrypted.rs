//! Layers that skopeo encrypted for RSA and EC keys open with each of them, in every form that openssl writes
//! private keys in; with another key, or changed on their way, they do not.

use crate::{run, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use trust::{Decrypted, LayerKey, PrivateKeys};
use types::{Digest, ErrorKind};

/// An OCI layout with one layer, as skopeo reads it.
fn layout(folder: &Path, layer: &[u8]) {
    let hex = |bytes: &[u8]| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        digest.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("make");
    let put = |bytes: &[u8]| {
        std::fs::write(blobs.join(hex(bytes)), bytes).expect("write");
        format!(r#""digest":"sha256:{}","size":{}"#, hex(bytes), bytes.len())
    };
    let config = put(format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        hex(layer)
    )
    .as_bytes());
    let layer = put(layer);
    let manifest = put(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{config}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar",{layer}}}]}}"#
    )
    .as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",{manifest},"annotations":{{"org.opencontainers.image.ref.name":"1"}}}}]}}"#
    );
    std::fs::write(folder.join("index.json"), index).expect("write");
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
}

/// An encrypted layer of a layout.
struct Encrypted {
    digest: Digest,
    media_type: String,
    annotations: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

fn first_layer(folder: &Path) -> Encrypted {
    let json =
        |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON") };
    let blob = |descriptor: &Value| -> PathBuf {
        let digest = descriptor["digest"].as_str().expect("digest");
        folder.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    };
    let manifest = json(&blob(&json(&folder.join("index.json"))["manifests"][0]));
    let layer = &manifest["layers"][0];
    Encrypted {
        digest: Digest::parse(layer["digest"].as_str().expect("digest")).expect("digest"),
        media_type: layer["mediaType"].as_str().expect("type").to_owned(),
        annotations: serde_json::from_value(layer["annotations"].clone()).expect("annotations"),
        bytes: std::fs::read(blob(layer)).expect("read"),
    }
}

/// A tar archive of one file, and its content encrypted for the keys; `None` where a program is missing.
fn encrypted(folder: &Path, recipients: &[&Path]) -> Option<(Vec<u8>, Encrypted)> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "file", content.as_slice()).expect("append");
    let plain = archive.into_inner().expect("archive");
    layout(&folder.join("plain"), &plain);
    let recipients: Vec<String> = recipients.iter().map(|key| format!("jwe:{}", key.display())).collect();
    let (from, to) =
        (format!("oci:{}/plain:1", folder.display()), format!("oci:{}/encrypted:1", folder.display()));
    let mut arguments = vec!["--insecure-policy", "copy"];
    for recipient in &recipients {
        arguments.extend(["--encryption-key", recipient]);
    }
    arguments.extend([from.as_str(), to.as_str()]);
    run("skopeo", &arguments).then(|| (plain, first_layer(&folder.join("encrypted"))))
}

/// The layer compressed again by skopeo or not: what comes out, inflated where it is gzip.
fn open(layer: &Encrypted, keys: &PrivateKeys) -> types::Result<Vec<u8>> {
    let key = LayerKey::open(&layer.digest, &layer.annotations, keys)?;
    let mut reader = Decrypted::new(layer.bytes.as_slice(), &key)?;
    let mut plain = Vec::new();
    // An odd size, so that parts end in the middle of a cipher's block.
    let mut buffer = [0; 1009];
    loop {
        match reader.read(&mut buffer).expect("read") {
            0 => break,
            count => plain.extend_from_slice(&buffer[..count]),
        }
    }
    assert_eq!(reader.finish().expect("authentic").len(), 0);
    if plain.starts_with(&[0x1f, 0x8b]) {
        let mut inflated = Vec::new();
        flate2::read::MultiGzDecoder::new(plain.as_slice()).read_to_end(&mut inflated).expect("gzip");
        return Ok(inflated);
    }
    Ok(plain)
}

#[test]
fn a_layer_that_skopeo_encrypted_opens_with_each_recipients_key_in_every_form() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    if !run(
        "openssl",
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", text(&at("rsa"))],
    ) {
        return;
    }
    run("openssl", &["pkey", "-in", text(&at("rsa")), "-pubout", "-out", text(&at("rsa.pub"))]);
    run("openssl", &["rsa", "-traditional", "-in", text(&at("rsa")), "-out", text(&at("rsa1"))]);
    let mut publics = vec![at("rsa.pub")];
    let mut privates = vec![at("rsa"), at("rsa1")];
    for curve in ["P-256", "P-384", "P-521"] {
        let (key, public, sec1) = (at(curve), at(&format!("{curve}.pub")), at(&format!("{curve}.sec1")));
        let option = format!("ec_paramgen_curve:{curve}");
        run("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", &option, "-out", text(&key)]);
        run("openssl", &["pkey", "-in", text(&key), "-pubout", "-out", text(&public)]);
        run("openssl", &["ec", "-in", text(&key), "-out", text(&sec1)]);
        publics.push(public);
        privates.extend([key, sec1]);
    }
    let publics: Vec<&Path> = publics.iter().map(PathBuf::as_path).collect();
    let Some((plain, layer)) = encrypted(folder.path(), &publics) else { return };
    assert!(trust::is_encrypted(&layer.media_type), "{}", layer.media_type);
    for (nth, private) in privates.iter().enumerate() {
        let keys = at(&format!("keys-{nth}"));
        std::fs::create_dir(&keys).expect("make");
        std::fs::copy(private, keys.join("key.pem")).expect("copy");
        // What is no key does not take the others' use away.
        std::fs::write(keys.join("README"), "not a key").expect("write");
        let keys = PrivateKeys::read(&keys).expect("keys");
        let opened = open(&layer, &keys).unwrap_or_else(|e| panic!("{}: {e}", private.display()));
        assert!(opened == plain, "{}", private.display());
    }
    // The same with one recipient only, which is written in another form.
    std::fs::remove_dir_all(at("encrypted")).expect("remove");
    let Some((plain, layer)) = encrypted(folder.path(), &[&at("rsa.pub")]) else { return };
    assert!(open(&layer, &PrivateKeys::read(&at("keys-0")).expect("keys")).expect("opened") == plain);
}

#[test]
fn without_the_key_the_error_names_the_recipients_and_the_folder_and_a_changed_layer_is_found() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    for name in ["own", "other"] {
        let key = at(name);
        if !run(
            "openssl",
            &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", text(&key)],
        ) {
            return;
        }
    }
    run("openssl", &["pkey", "-in", text(&at("own")), "-pubout", "-out", text(&at("own.pub"))]);
    let Some((_, mut layer)) = encrypted(folder.path(), &[&at("own.pub")]) else { return };
    for missing in ["none", "wrong"] {
        let keys = at(missing);
        if missing == "wrong" {
            std::fs::create_dir(&keys).expect("make");
            std::fs::copy(at("other"), keys.join("key.pem")).expect("copy");
        }
        let error = open(&layer, &PrivateKeys::read(&keys).expect("keys")).expect_err(missing);
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        for word in [layer.digest.as_str(), "jwe ECDH-ES+A256KW P-256", text(&keys)] {
            assert!(error.chain().contains(word), "{word}: {}", error.chain());
        }
    }
    let keys = at("right");
    std::fs::create_dir(&keys).expect("make");
    std::fs::copy(at("own"), keys.join("key.pem")).expect("copy");
    let keys = PrivateKeys::read(&keys).expect("keys");
    let key = LayerKey::open(&layer.digest, &layer.annotations, &keys).expect("opened");
    layer.bytes[1000] ^= 1;
    let changed = Decrypted::new(layer.bytes.as_slice(), &key).expect("reader");
    let error = changed.finish().expect_err("changed");
    assert!(error.to_string().contains("HMAC"), "{error}");
    layer.bytes[1000] ^= 1;
    layer.bytes.pop();
    assert!(Decrypted::new(layer.bytes.as_slice(), &key).expect("reader").finish().is_err());
    // Only pgp: named, and said that it is not supported.
    let mut annotations = layer.annotations.clone();
    annotations.remove("org.opencontainers.image.enc.keys.jwe");
    annotations.insert("org.opencontainers.image.enc.keys.pgp".into(), "AA==".into());
    let error = LayerKey::open(&layer.digest, &annotations, &keys).expect_err("pgp");
    assert!(error.chain().contains("pgp (not supported)"), "{}", error.chain());
    annotations.clear();
    let error = LayerKey::open(&layer.digest, &annotations, &keys).expect_err("nothing");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    // A folder of keys is closed to nobody's mistake: an unreadable file is passed over.
    let mut file = std::fs::File::create(at("right/zzz")).expect("make");
    file.write_all(&vec![b'x'; 70_000]).expect("write");
    assert!(PrivateKeys::read(&at("right")).is_ok());
}
