//! What documents are taken for.

use super::*;
use proptest::prelude::*;

fn digest() -> Digest {
    Digest::parse(&format!("sha256:{}", "ab".repeat(32))).expect("digest")
}

fn descriptor(media_type: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":3}}"#, digest())
}

fn image(layer_type: &str, count: usize) -> String {
    let layers = vec![descriptor(layer_type); count].join(",");
    let config = descriptor("application/vnd.oci.image.config.v1+json");
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#)
}

fn read(announced: Option<&str>, json: &str) -> Result<Document, ManifestError> {
    parse(&digest(), announced, json.as_bytes())
}

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[test]
fn images_and_indexes_are_told_apart() {
    for announced in [
        None,
        Some(OCI_MANIFEST),
        Some("application/json"),
        Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
    ] {
        assert!(
            matches!(read(announced, &image(GZIP, 2)), Ok(Document::Image { layers, .. }) if layers.len() == 2)
        );
    }
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#,
        descriptor(OCI_MANIFEST)
    );
    assert!(matches!(read(Some(OCI_INDEX), &index), Ok(Document::Index(m)) if m.len() == 1));
}

#[test]
fn a_document_that_is_two_things_is_refused() {
    let both = format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}}"#, descriptor(""));
    assert!(matches!(read(None, &both), Err(ManifestError::Ambiguous { .. })));
    let only_config = format!(r#"{{"manifests":[],"config":{}}}"#, descriptor(""));
    assert!(matches!(read(None, &only_config), Err(ManifestError::Ambiguous { .. })));
    assert!(matches!(read(Some(OCI_INDEX), &image(GZIP, 1)), Err(ManifestError::Ambiguous { .. })));
    let says = image(GZIP, 1).replacen('{', &format!(r#"{{"mediaType":"{OCI_MANIFEST}","#), 1);
    assert!(matches!(read(Some(DOCKER_MANIFEST), &says), Err(ManifestError::TypeMismatch { .. })));
    assert!(matches!(read(Some(OCI_INDEX), &says), Err(ManifestError::TypeMismatch { .. })));
    let twice = r#"{"manifests":[],"manifests":[]}"#;
    assert!(matches!(read(None, twice), Err(ManifestError::Json { .. })));
}

#[test]
fn schema_1_strange_layers_and_too_many_are_refused_with_a_reason() {
    let old = r#"{"schemaVersion":1,"fsLayers":[],"history":[],"signatures":[]}"#;
    for announced in [None, Some("application/vnd.docker.distribution.manifest.v1+prettyjws")] {
        assert!(matches!(read(announced, old), Err(ManifestError::Schema1 { .. })));
    }
    let error = read(None, &image("application/vnd.in-toto+json", 1)).expect_err("no layer").to_string();
    assert!(error.contains("no layer"), "{error}");
    for foreign in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ] {
        assert!(is_foreign(foreign) && read(None, &image(foreign, 1)).is_ok(), "{foreign}");
    }
    assert!(matches!(read(None, &image(GZIP, 257)), Err(ManifestError::TooManyLayers { .. })));
    let nothing = format!(r#"{{"config":{}}}"#, descriptor("application/vnd.cncf.helm.config.v1+json"));
    assert!(matches!(read(None, &nothing), Err(ManifestError::EmptyArtifact { .. })));
    assert!(matches!(read(None, r#"{"a":1}"#), Err(ManifestError::NotAnImage { .. })));
}

#[test]
fn an_artifact_is_told_by_its_type_or_its_configurations_and_an_image_stays_one() {
    const NOTHING: &str = "application/vnd.oci.empty.v1+json";
    let of = |kind: &str, config: &str, layer: &str| {
        let (config, layer) = (descriptor(config), descriptor(layer));
        format!(
            r#"{{"artifactType":{kind},"config":{config},"layers":[{layer}],"annotations":{{"a":"b","org.opencontainers.image.created":"2026-01-01T00:00:00Z"}}}}"#
        )
    };
    for (kind, config, layer, expected) in [
        (r#""a/b""#, NOTHING, "text/plain", "a/b"),
        ("null", NOTHING, "text/plain", NOTHING),
        (
            r#""""#,
            "application/vnd.cncf.helm.config.v1+json",
            GZIP,
            "application/vnd.cncf.helm.config.v1+json",
        ),
        (r#""a/b""#, OCI_CONFIG, "text/plain", "a/b"),
        (r#""a/b""#, "application/json", GZIP, "a/b"),
    ] {
        for announced in [None, Some(OCI_MANIFEST)] {
            match read(announced, &of(kind, config, layer)) {
                Ok(Document::Artifact { layers, artifact, .. }) => {
                    assert_eq!((layers.len(), artifact.kind.as_str()), (1, expected));
                    assert_eq!(artifact.created.as_deref(), Some("2026-01-01T00:00:00Z"));
                    assert!(!artifact.has_subject);
                }
                other => panic!("{kind} {config} {layer}: {other:?}"),
            }
        }
        let docker = read(Some(DOCKER_MANIFEST), &of(kind, config, layer));
        assert!(!matches!(docker, Ok(Document::Artifact { .. })), "Docker has none");
        let both = of(kind, config, layer).replacen('{', r#"{"manifests":[],"#, 1);
        assert!(matches!(read(None, &both), Err(ManifestError::Ambiguous { .. })));
        let index = read(Some(OCI_INDEX), &of(kind, config, layer));
        assert!(matches!(index, Err(ManifestError::Ambiguous { .. })));
    }
    // What others would run is an image here, too.
    for kind in ["null", r#""a/b""#] {
        assert!(matches!(read(None, &of(kind, OCI_CONFIG, GZIP)), Ok(Document::Image { .. })));
    }
    assert!(matches!(read(None, &of("null", OCI_CONFIG, "text/plain")), Err(ManifestError::Layer { .. })));
    let signature =
        of("null", NOTHING, "text/plain").replacen('{', &format!(r#"{{"subject":{},"#, descriptor("")), 1);
    assert!(
        matches!(read(None, &signature), Ok(Document::Artifact { artifact, .. }) if artifact.has_subject)
    );
    let lone = format!(
        r#"{{"config":{},"layers":[{{"mediaType":"a/b","digest":"{}","size":1,"annotations":{{"org.opencontainers.image.title":"\ud800"}}}}]}}"#,
        descriptor(NOTHING),
        digest()
    );
    assert!(matches!(read(None, &lone), Err(ManifestError::Json { .. })), "a name is text");
}

#[test]
fn the_best_platform_is_chosen_and_a_missing_one_is_named() {
    let with = |os: &str, arch: &str, variant: &str| Descriptor {
        platform: Some(Platform { os: os.into(), arch: arch.into(), variant: variant.into() }),
        ..Descriptor::new(OCI_MANIFEST, digest(), 1)
    };
    let wanted = Platform { os: "linux".into(), arch: "amd64".into(), variant: String::new() };
    let none = Descriptor { platform: None, ..with("", "", "") };
    let all =
        [none.clone(), with("unknown", "unknown", ""), with("linux", "386", ""), with("linux", "amd64", "")];
    assert_eq!(choose(&digest(), &all, &wanted).expect("found"), &all[3]);
    assert_eq!(choose(&digest(), &all[..3], &wanted).expect("found"), &all[2]);
    assert_eq!(choose(&digest(), &all[..2], &wanted).expect("found"), &none);
    let sbom = Descriptor { artifact_type: Some("a/b".into()), ..none.clone() };
    assert_eq!(choose(&digest(), std::slice::from_ref(&sbom), &wanted).expect("alone"), &sbom);
    assert!(choose(&digest(), &[with("linux", "arm64", "v8"), sbom], &wanted).is_err(), "no image");
    let error = choose(&digest(), &[with("linux", "arm64", "v8")], &wanted).expect_err("none").to_string();
    assert!(error.contains("linux/amd64") && error.contains("linux/arm64/v8"), "{error}");
}

proptest! {
    #[test]
    fn no_document_panics(json in "\\PC{0,200}", kind in proptest::option::of("\\PC{0,40}")) {
        let _ = read(kind.as_deref(), &json);
    }
}
