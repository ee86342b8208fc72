//! Debian's docker-registry under test-support: it starts side by side, takes images, and ends.

use test_support::image::{Compression, Layer, Media, Platform};
use test_support::registry::Options;
use test_support::{Image, Registry, http};

fn image(media: Media, compression: Compression, content: &str) -> Image {
    let layer = Layer::new().dir("etc", 0o755).file("etc/name", 0o644, content);
    Image::builder()
        .layer(layer)
        .compression(compression)
        .media(media)
        .cmd(&["/x"])
        .build()
        .expect("an image")
}

/// Says so and ends the test where docker-registry is not installed.
fn without_registry() -> bool {
    if !Registry::available() {
        eprintln!("skipped: docker-registry is not installed");
    }
    !Registry::available()
}

#[test]
fn every_kind_of_image_is_taken() {
    if without_registry() {
        return;
    }
    let registry = Registry::start().expect("a registry");
    for (tag, media, compression) in [
        ("oci-gzip", Media::Oci, Compression::Gzip),
        ("oci-zstd", Media::Oci, Compression::Zstd),
        ("oci-plain", Media::Oci, Compression::None),
        ("docker-gzip", Media::Docker, Compression::Gzip),
        ("docker-plain", Media::Docker, Compression::None),
    ] {
        let image = image(media, compression, tag);
        let reference = registry.push("team/app", tag, &image).expect("pushed");
        assert!(reference.starts_with("127.0.0.1:") && reference.ends_with(tag));
        let accept = [("Accept", image.top.media_type.as_str())];
        let path = format!("/v2/team/app/manifests/{tag}");
        let answer = http::request(registry.address(), "GET", &path, &accept, &[]).expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (200, &image.top.data[..]), "{tag}");
    }
    let images =
        ["amd64", "arm64"].map(|arch| (Platform::linux(arch), image(Media::Oci, Compression::Gzip, arch)));
    let index = Image::index(Media::Oci, images.to_vec()).expect("an index");
    registry.push("team/app", "both", &index).expect("pushed");
}

#[test]
fn registries_start_at_the_same_time() {
    if without_registry() {
        return;
    }
    let starting: Vec<_> =
        (0..3).map(|_| std::thread::spawn(|| Registry::start().expect("a registry"))).collect();
    let registries: Vec<_> = starting.into_iter().map(|thread| thread.join().expect("started")).collect();
    let ports: std::collections::BTreeSet<_> =
        registries.iter().map(|registry| registry.address().port()).collect();
    assert_eq!(ports.len(), 3);
}

#[test]
fn a_registry_with_a_password_refuses_those_without_and_ends_with_its_test() {
    if without_registry() {
        return;
    }
    let registry =
        Registry::start_with(&Options { basic_auth: true, ..Options::default() }).expect("a registry");
    registry.push("private", "v1", &image(Media::Oci, Compression::Gzip, "secret")).expect("pushed");
    let path = "/v2/private/manifests/v1";
    let accept = ("Accept", "application/vnd.oci.image.manifest.v1+json");
    let refused = http::request(registry.address(), "GET", path, &[accept], &[]).expect("an answer");
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").is_some_and(|asked| asked.starts_with("Basic ")));
    // base64 of tester:only-for-tests
    let password = ("Authorization", "Basic dGVzdGVyOm9ubHktZm9yLXRlc3Rz");
    let served = http::request(registry.address(), "GET", path, &[accept, password], &[]).expect("an answer");
    assert_eq!(served.status, 200);
    let (address, storage) = (registry.address(), registry.storage());
    drop(registry);
    assert!(http::get(address, "/v2/").is_err(), "it still serves");
    assert!(!storage.exists(), "its storage is still there");
}

#[test]
fn a_registry_with_a_certificate_is_filled_and_speaks_no_plain_http() {
    if without_registry() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&chain, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let options = Options { tls: Some((chain, key)), ..Options::default() };
    let registry = Registry::start_with(&options).expect("a registry");
    registry.push("secure", "v1", &image(Media::Oci, Compression::Gzip, "x")).expect("pushed");
    // Go's server tells a client that speaks plain HTTP to a TLS port.
    assert_eq!(http::get(registry.address(), "/v2/").expect("an answer").status, 400);
}
