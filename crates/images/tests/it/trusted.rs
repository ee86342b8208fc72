//! Pulls under a policy, and of encrypted layers: skopeo signs and encrypts, Debian's docker-registry serves.

use crate::node::{Node, Settings};
use base64::Engine as _;
use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::image::{Image, Layer};
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
        std::fs::create_dir(place.path("registries.d")).expect("mkdir");
        let attachments = "default-docker:\n  use-sigstore-attachments: true\n";
        std::fs::write(place.path("registries.d/default.yaml"), attachments).expect("write");
        std::fs::write(place.path("pass"), "secret").expect("write");
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A key pair of openssl's: `NAME` and `NAME.pub`.
    fn key(&self, name: &str) {
        let (private, public) = (self.path(name), self.path(&format!("{name}.pub")));
        run(Command::new("openssl").args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]).arg(&private));
        run(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public));
    }

    /// Copies an image with one file into the registry, as skopeo does it with these arguments.
    fn copy(&self, name: &str, content: &str, arguments: &[&str]) -> Reference {
        let image = Image::builder().layer(Layer::new().file("f", 0o644, content)).build().expect("image");
        image.write_layout(&self.path(name), "x:1").expect("layout");
        let to = format!("docker://{}/{name}:1", self.registry.host());
        let mut skopeo = Command::new("skopeo");
        skopeo.arg("--registries.d").arg(self.path("registries.d"));
        skopeo.args(["--insecure-policy", "copy", "--dest-tls-verify=false"]).args(arguments);
        run(skopeo.arg(format!("oci:{}:1", self.path(name).display())).arg(&to));
        Reference::parse(&format!("{}/{name}:1", self.registry.host())).expect("reference")
    }

    /// As [`Place::copy`], signed with a key of [`Place::key`].
    fn signed(&self, name: &str, key: &str) -> Reference {
        let (sealed, pass) = (self.path(&format!("{key}.sealed")), self.path("pass"));
        std::fs::write(&sealed, cosign_key(&self.path(key), b"secret")).expect("write");
        let (sealed, pass) = (sealed.to_string_lossy().into_owned(), pass.to_string_lossy().into_owned());
        self.copy(
            name,
            name,
            &["--sign-by-sigstore-private-key", &sealed, "--sign-passphrase-file", &pass],
        )
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

/// A private key in the form of cosign's files: sealed with a password by scrypt and secretbox.
fn cosign_key(pem: &Path, password: &[u8]) -> String {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let text = std::fs::read_to_string(pem).expect("read");
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).expect("base64");
    let (salt, nonce, mut key) = ([7_u8; 32], [9_u8; 24], [0_u8; 32]);
    let cost = scrypt::Params::new(15, 8, 1, 32).expect("cost");
    scrypt::scrypt(password, &salt, &cost, &mut key).expect("scrypt");
    let sealed = XSalsa20Poly1305::new(Key::from_slice(&key)).encrypt(Nonce::from_slice(&nonce), der.as_slice());
    let json = format!(
        r#"{{"kdf":{{"name":"scrypt","params":{{"N":32768,"r":8,"p":1}},"salt":"{}"}},"cipher":{{"name":"nacl/secretbox","nonce":"{}"}},"ciphertext":"{}"}}"#,
        encode(&salt),
        encode(&nonce),
        encode(&sealed.expect("seal"))
    );
    let kind = "ENCRYPTED COSIGN PRIVATE KEY";
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", encode(json.as_bytes()))
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

    // The signature is for that tag, in that repository: it is no good for another.
    let other = format!("{host}/other:1");
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([format!("docker://{good}"), format!("docker://{other}")]));
    let tag = format!("sha256-{}.sig", image.manifest.hex());
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([format!("docker://{host}/good:{tag}"), format!("docker://{host}/other:{tag}")]));
    let error = node.images.pull(&Reference::parse(&other).expect("reference"), None, None).await;
    denied(error.expect_err("another name"), &["h", "which the policy does not take"]);

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
