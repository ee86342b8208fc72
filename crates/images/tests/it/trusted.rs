//! Pulls under a policy, and of encrypted layers: openssl signs what cosign would (Debian's skopeo has that disabled),
//! skopeo encrypts, Debian's docker-registry serves.

use crate::node::{Node, Settings};
use base64::Engine as _;
use std::path::PathBuf;
use std::process::Command;
use test_support::image::{Blob, Image, Layer};
use test_support::registry::Registry;
use types::{Error, ErrorKind, Reference};

/// A registry, and a folder for keys and layouts.
struct Place {
    registry: Registry,
    folder: tempfile::TempDir,
}

impl Place {
    /// `None`, said, where a program is missing.
    fn new() -> Option<Place> {
        for program in ["skopeo", "openssl"] {
            if Command::new(program).arg("--version").output().is_err() {
                println!("SKIPPED: there is no {program} here");
                return None;
            }
        }
        if !Registry::available() {
            println!("SKIPPED: there is no docker-registry here");
            return None;
        }
        let place = Place {
            registry: Registry::start().expect("registry"),
            folder: tempfile::tempdir().expect("a folder"),
        };
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A key pair of openssl's: `NAME` and `NAME.pub`.
    fn key(&self, name: &str) {
        let (private, public) = (self.path(name), self.path(&format!("{name}.pub")));
        run(Command::new("openssl")
            .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
            .arg(&private));
        run(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public));
    }

    /// Copies an image with one file into the registry, as skopeo does it with these arguments.
    fn copy(&self, name: &str, content: &str, arguments: &[&str]) -> Reference {
        let image = Image::builder().layer(Layer::new().file("f", 0o644, content)).build().expect("image");
        image.write_layout(&self.path(name), "x:1").expect("layout");
        let to = format!("docker://{}/{name}:1", self.registry.host());
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--dest-tls-verify=false"]).args(arguments);
        run(skopeo.arg(format!("oci:{}:1", self.path(name).display())).arg(&to));
        Reference::parse(&format!("{}/{name}:1", self.registry.host())).expect("reference")
    }

    /// An image with one file, signed under its name as cosign does it, by openssl with a key of [`Place::key`].
    fn signed(&self, name: &str, key: &str) -> Reference {
        let image = Image::builder().layer(Layer::new().file("f", 0o644, name)).build().expect("image");
        let reference = self.registry.push(name, "1", &image).expect("push");
        self.sign(name, &reference, &image.top.digest, key);
        Reference::parse(&reference).expect("reference")
    }

    /// Puts the signature of `digest` under the name `reference` beside the image `name`.
    fn sign(&self, name: &str, reference: &str, digest: &types::Digest, key: &str) {
        let text = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{reference}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        std::fs::write(self.path("text"), &text).expect("write");
        let mut openssl = Command::new("openssl");
        openssl
            .args(["dgst", "-sha256", "-sign"])
            .arg(self.path(key))
            .arg("-out")
            .arg(self.path("signature"));
        run(openssl.arg(self.path("text")));
        let signature = std::fs::read(self.path("signature")).expect("read");
        let signature = base64::engine::general_purpose::STANDARD.encode(signature);
        let text = Blob::new("application/vnd.dev.cosign.simplesigning.v1+json", text.into_bytes());
        let config = Blob::new("application/vnd.oci.image.config.v1+json", b"{}".to_vec());
        let mut layer = text.descriptor();
        layer["annotations"] = serde_json::json!({ "dev.cosignproject.cosign/signature": signature });
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind, "config": config.descriptor(), "layers": [layer],
        });
        let top = Blob::new(kind, manifest.to_string().into_bytes());
        let image = Image { top, manifests: vec![], blobs: vec![text, config], id: None };
        let tag = format!("{}-{}.sig", digest.algorithm_name(), digest.hex());
        self.registry.push(name, &tag, &image).expect("push");
    }

    fn node(&self) -> Node {
        let (policy, keys) = (Some(self.path("policy.json")), Some(self.path("keys")));
        Node::with(Settings { policy, decryption_keys: keys, ..Settings::default() })
    }

    fn policy(&self, docker: &str) {
        let json = format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{{docker}}}}}}}"#);
        std::fs::write(self.path("policy.json"), json).expect("write");
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("start");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn denied(error: Error, words: &[&str]) {
    let text = error.chain();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_policy_only_images_that_its_keys_signed_are_pulled_and_the_rule_is_named() {
    let Some(place) = Place::new() else { return };
    place.key("ours");
    place.key("theirs");
    let (good, bad) = (place.signed("good", "ours"), place.signed("bad", "theirs"));
    let plain = place.copy("plain", "plain", &[]);
    let host = place.registry.host();
    let key = place.path("ours.pub");
    let signed = format!(r#""{host}":[{{"type":"sigstoreSigned","keyPath":{key:?}}}]"#);
    place.policy(&signed);
    let node = place.node();
    let image = node.images.pull(&good, None, None).await.expect("signed");
    assert_eq!(node.file(&image, "f").as_deref(), Some("good"));
    let rule = format!("transports.docker[\"{host}\"], requirement 1 (sigstoreSigned)");
    let policy = place.path("policy.json").to_string_lossy().into_owned();
    let error = node.images.pull(&bad, None, None).await.expect_err("another key");
    denied(error, &["not made by a key", &rule, &policy]);
    let error = node.images.pull(&plain, None, None).await.expect_err("unsigned");
    denied(error, &["no signature", &rule, &policy]);
    assert_eq!(node.images.list().len(), 1, "what is refused is not recorded");

    // A signature for another name is no good for this one, though key and content are right.
    let image_digest = image.manifest.clone();
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([format!("docker://{good}"), format!("docker://{host}/other:1")]));
    place.sign("other", &good.to_string(), &image_digest, "ours");
    let other = Reference::parse(&format!("{host}/other:1")).expect("reference");
    let error = node.images.pull(&other, None, None).await.expect_err("another name");
    denied(error, &[&good.to_string(), "which the policy does not take"]);

    // A policy that becomes stricter counts for what is there already, without a restart.
    std::fs::copy(place.path("theirs.pub"), &key).expect("copy");
    let error = node.images.pull(&good, None, None).await.expect_err("the key changed");
    denied(error, &["not made by a key"]);
    place.policy(&format!(r#""{host}":[{{"type":"reject"}}]"#));
    let error = node.images.pull(&good, None, None).await.expect_err("rejected");
    denied(error, &["requirement 1 (reject)"]);
    place.policy(&format!(r#""{host}/plain":[{{"type":"insecureAcceptAnything"}}]"#));
    node.images.pull(&plain, None, None).await.expect("anything");
    let error = node.images.pull(&good, None, None).await.expect_err("the default");
    denied(error, &["default, requirement 1 (reject)"]);
    std::fs::write(place.path("policy.json"), "{}").expect("write");
    let error = node.images.pull(&plain, None, None).await.expect_err("no policy");
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.chain().contains(&policy), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_layer_is_pulled_with_its_key_and_without_names_the_recipient() {
    let Some(place) = Place::new() else { return };
    place.key("ours");
    place.policy(&format!(r#""{}":[{{"type":"insecureAcceptAnything"}}]"#, place.registry.host()));
    let recipient = format!("jwe:{}", place.path("ours.pub").display());
    let image = place.copy("sealed", "a secret", &["--encryption-key", &recipient]);
    let node = place.node();
    let error = node.images.pull(&image, None, None).await.expect_err("no key");
    let text = error.chain();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{text}");
    for word in ["is encrypted for jwe ECDH-ES+A256KW P-256", "none of the 0 keys", "keys"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(node.images.list().is_empty());
    std::fs::create_dir(place.path("keys")).expect("mkdir");
    std::fs::copy(place.path("ours"), place.path("keys/ours.pem")).expect("copy");
    let image = node.images.pull(&image, None, None).await.expect("with the key");
    assert_eq!(node.file(&image, "f").as_deref(), Some("a secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_opens_encrypted_layers_whose_keys_are_there_and_only_measures_the_others() {
    let Some(place) = Place::new() else { return };
    place.key("ours");
    place.policy(&format!(r#""{}":[{{"type":"insecureAcceptAnything"}}]"#, place.registry.host()));
    let recipient = format!("jwe:{}", place.path("ours.pub").display());
    let image = place.copy("sealed", "a secret", &["--encryption-key", &recipient]);
    std::fs::create_dir(place.path("keys")).expect("mkdir");
    std::fs::copy(place.path("ours"), place.path("keys/ours.pem")).expect("copy");
    let node = place.node();
    let image = node.images.pull(&image, None, None).await.expect("with the key");
    let report = node.images.check(&[], false, None, None).await.expect("check");
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    assert_eq!((report.layers, report.measured), (1, 0), "it was compared");
    let file = crate::keep::trees::layer(&node, &image.chain[0]).join("f");
    let modified = std::fs::metadata(&file).and_then(|facts| facts.modified()).expect("time");
    std::fs::write(&file, "a sEcret").expect("turn");
    let open = std::fs::File::options().write(true).open(&file).expect("open");
    open.set_times(std::fs::FileTimes::new().set_modified(modified)).expect("times");
    let report = node.images.check(&[], false, None, None).await.expect("check");
    let whats: Vec<&str> = report.damages.iter().map(|damage| damage.what.as_str()).collect();
    assert_eq!(whats, ["/f has other content from byte 3 on"]);
    // Whole again from the blob that is here, which stays encrypted.
    let report = node.images.check(&[], true, None, None).await.expect("check");
    assert!(report.damages.iter().all(|damage| damage.repaired), "{:?}", report.damages);
    assert_eq!(node.file(&image, "f").as_deref(), Some("a secret"));
    std::fs::remove_file(place.path("keys/ours.pem")).expect("remove");
    let report = node.images.check(&[], false, None, None).await.expect("without the key");
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    assert_eq!((report.layers, report.measured, report.blobs), (0, 1, 3), "the blob is read all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_becomes_stricter_counts_for_new_containers_and_asks_no_registry() {
    let Some(place) = Place::new() else { return };
    place.key("ours");
    place.key("theirs");
    let good = place.signed("good", "ours");
    let plain = place.copy("plain", "plain", &[]);
    let host = place.registry.host();
    let key = place.path("ours.pub");
    let signed = format!(r#""{host}":[{{"type":"sigstoreSigned","keyPath":{key:?}}}]"#);
    let anything = format!(r#""{host}":[{{"type":"insecureAcceptAnything"}}]"#);
    place.policy(&anything);
    let node = place.node();
    let unsigned = node.images.pull(&plain, None, None).await.expect("anything");
    let unsigned = node.images.find(unsigned.id.as_str()).expect("recorded");
    place.policy(&signed);
    node.images.pull(&good, None, None).await.expect("signed");
    let image = node.images.find(&good.to_string()).expect("recorded");
    let (name, id) = (good.to_string(), image.id.to_string());
    let asked = [["", &name], [&name, &id], ["", &id]];
    for names in &asked {
        node.images.permit_use(&image, names).await.expect("what was fetched at its pull vouches for it");
    }
    // Not so for what was pulled when no signature was asked for.
    let rule = format!("transports.docker[\"{host}\"], requirement 1 (sigstoreSigned)");
    let plain_name = plain.to_string();
    let refused = |error| denied(error, &["no signature", &rule, "pull it again"]);
    refused(node.images.permit_use(&unsigned, &[&plain_name]).await.expect_err("unsigned"));
    // That it is signed by now changes nothing until somebody pulls it: nobody is asked.
    place.sign("plain", &plain_name, &unsigned.manifest, "ours");
    refused(node.images.permit_use(&unsigned, &[&plain_name]).await.expect_err("unsigned"));
    node.images.pull(&plain, None, None).await.expect("signed by now, and unchanged");
    let node = node.restarted();
    let unsigned = node.images.find(&plain_name).expect("recorded");
    node.images.permit_use(&unsigned, &[&plain_name]).await.expect("known from the disk");
    // The keys are those of now.
    std::fs::copy(place.path("theirs.pub"), &key).expect("copy");
    for names in &asked {
        let error = node.images.permit_use(&image, names).await.expect_err("the key changed");
        denied(error, &["not made by a key", &rule]);
    }
    place.policy(&format!(r#""{host}":[{{"type":"reject"}}]"#));
    let error = node.images.permit_use(&image, &[&id]).await.expect_err("rejected");
    denied(error, &["requirement 1 (reject)", &host]);
    // The name that the author wrote counts, where the image has it; by its id it may be used under any of its names.
    place.policy(&format!(r#""{host}/other":[{{"type":"insecureAcceptAnything"}}],{anything}"#));
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([format!("docker://{good}"), format!("docker://{host}/other:1")]));
    let other = Reference::parse(&format!("{host}/other:1")).expect("reference");
    node.images.pull(&other, None, None).await.expect("anything");
    place.policy(&format!(r#""{host}/other":[{{"type":"insecureAcceptAnything"}}]"#));
    let image = node.images.find(&id).expect("recorded");
    node.images.permit_use(&image, &["", &id]).await.expect("under its other name");
    node.images.permit_use(&image, &[&other.to_string(), &id]).await.expect("that name");
    node.images.permit_use(&image, &["no.example/such:1", &id]).await.expect("a name that it has not");
    let error = node.images.permit_use(&image, &[&name, &id]).await.expect_err("the name that was asked for");
    denied(error, &["default, requirement 1 (reject)", &name]);
}
