//! Images: names and credentials from the wire, records for it.

use crate::check::{self, ID_NUMBER_MAX};
use cri_api::v1;
use images::{Auth, BlobDetails, FsInfo, ImageDetails, ImageRecord, LayerDetails, Usage};
use serde_json::json;
use std::collections::HashMap;
use types::{Reference, Result};

/// Bytes of an image's name; `types::Reference` takes 512 at most.
pub const NAME_MAX: usize = 512;
/// Bytes of one part of the credentials; registry tokens are some kilobytes.
const SECRET_MAX: usize = 64 << 10;

/// The image that a request names.
pub fn name(field: &str, wire: Option<v1::ImageSpec>) -> Result<String> {
    let spec = check::present(field, wire)?;
    named(&format!("{field}.image"), &spec.image)?;
    Ok(spec.image)
}

/// The name of an image, as it came.
pub fn named(field: &str, name: &str) -> Result<()> {
    check::filled(field, name)?;
    check::word(field, name, NAME_MAX)
}

/// Credentials, as they came: which of them counts is decided where they are used. No sentence shows one.
pub fn auth(field: &str, wire: Option<v1::AuthConfig>) -> Result<Option<Auth>> {
    let Some(wire) = wire else { return Ok(None) };
    let part = |name: &str, value: String, header: bool| -> Result<Option<String>> {
        let field = format!("{field}.{name}");
        check::text(&field, &value, SECRET_MAX)?;
        // What goes into an HTTP header as it is could add a second one.
        if header && value.chars().any(char::is_control) {
            return check::refuse(&field, "it contains a control character; remove it");
        }
        Ok((!value.is_empty()).then_some(value))
    };
    let auth = Auth {
        username: part("username", wire.username, false)?,
        password: part("password", wire.password, false)?,
        auth: part("auth", wire.auth, false)?,
        server_address: part("server_address", wire.server_address, true)?,
        identity_token: part("identity_token", wire.identity_token, true)?,
        registry_token: part("registry_token", wire.registry_token, true)?,
    };
    Ok((auth != Auth::default()).then_some(auth))
}

/// An image for the wire.
pub fn to_wire(record: &ImageRecord) -> v1::Image {
    let (uid, username) = user(&record.config.user);
    v1::Image {
        id: record.id.to_string(),
        repo_tags: record.names.clone(),
        repo_digests: record.digests.clone(),
        size: record.size,
        uid: uid.map(|value| v1::Int64Value { value }),
        username,
        spec: Some(v1::ImageSpec { image: record.id.to_string(), ..Default::default() }),
        pinned: record.pinned,
    }
}

/// An image that was taken in, for the wire.
pub fn imported(image: images::Imported) -> cri_api::corten_v1::ImportedImage {
    cri_api::corten_v1::ImportedImage {
        image_ref: image.id.to_string(),
        names: image.names,
        digest: image.digest.to_string(),
    }
}

/// The user part of an image's `User`, as a number or as a name; neither where the image has none. A number
/// out of range stays text, so that the kubelet's runAsNonRoot refuses it (CVE-2024-40635).
fn user(text: &str) -> (Option<i64>, String) {
    let user = text.split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        Ok(uid) if (0..=ID_NUMBER_MAX).contains(&uid) && user.bytes().all(|b| b.is_ascii_digit()) => {
            (Some(uid), String::new())
        }
        _ => (None, user.to_owned()),
    }
}

/// Whether `asked` of a filter means this image though it is not its exact name: a repository without tag
/// and digest means all its tags, as `crictl images REPOSITORY` expects.
pub fn is_of_repository(asked: &str, record: &ImageRecord) -> bool {
    let Ok(reference) = Reference::parse(asked) else { return false };
    let bare = !asked.contains('@') && !asked.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let repository = reference.repository();
    let of = |name: &String| Reference::parse(name).is_ok_and(|name| name.repository() == repository);
    bare && record.names.iter().chain(&record.digests).any(of)
}

/// What of a configuration containerd shows (OCI image specification, "Properties"); the rest is Docker's own.
const SPEC: [&str; 10] = [
    "created",
    "author",
    "architecture",
    "variant",
    "os",
    "os.version",
    "os.features",
    "config",
    "rootfs",
    "history",
];

/// Verbose facts under the names that crictl's users know from containerd (`internal/cri/server/images/image_status.go`):
/// `chainID`, and `imageSpec` in the form of the OCI image specification. What is below them is ours.
pub fn info(record: &ImageRecord, details: Option<&ImageDetails>) -> HashMap<String, String> {
    let mut facts = json!({
        "chainID": record.chain.last(),
        "imageSpec": details.map_or_else(|| spec_of_record(record), |details| spec(&details.config)),
        "pinned": record.pinned,
        "pulledAt": types::time::rfc3339_nanos(record.pulled_at),
    });
    let blob = |blob: &BlobDetails| json!({ "digest": blob.digest, "mediaType": blob.media_type, "size": blob.size });
    match details {
        None => facts["manifest"] = json!({ "digest": record.manifest }),
        Some(details) => {
            facts["manifest"] = blob(&details.manifest);
            if let Some(kind) = &details.artifact_type {
                facts["artifactType"] = json!(kind);
            }
            facts["indexes"] = details.indexes.iter().map(blob).collect();
            facts["layers"] = details.layers.iter().map(layer).collect();
            let unpacked = details.layers.iter().filter_map(|layer| layer.unpacked);
            facts["sizes"] = json!({
                "layers": details.layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.blob.size)),
                "unpacked": unpacked.fold(0u64, |sum, (bytes, _)| sum.saturating_add(bytes)),
            });
        }
    }
    HashMap::from([("info".to_owned(), facts.to_string())])
}

fn layer(layer: &LayerDetails) -> serde_json::Value {
    json!({
        "digest": layer.blob.digest,
        "mediaType": layer.blob.media_type,
        "size": layer.blob.size,
        "diffID": layer.diff_id,
        "chainID": layer.chain,
        "unpackedSize": layer.unpacked.map(|(bytes, _)| bytes),
        "inodes": layer.unpacked.map(|(_, inodes)| inodes),
        "kept": layer.kept,
    })
}

fn spec(config: &serde_json::Value) -> serde_json::Value {
    let known = SPEC.iter().filter_map(|key| Some(((*key).to_owned(), config.get(key)?.clone())));
    serde_json::Value::Object(known.collect())
}

/// As much of the configuration as is in the record, for an image whose blobs cannot be read.
fn spec_of_record(record: &ImageRecord) -> serde_json::Value {
    let config = &record.config;
    let set =
        |list: &[String]| -> serde_json::Value { list.iter().map(|key| (key.clone(), json!({}))).collect() };
    json!({
        "created": record.created,
        "os": config.os,
        "architecture": config.architecture,
        "config": {
            "User": config.user,
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "WorkingDir": config.working_dir,
            "Volumes": set(&config.volumes),
            "Labels": config.labels,
            "StopSignal": config.stop_signal,
            "ExposedPorts": set(&config.exposed_ports),
        },
    })
}

/// What a part takes of a file system, for the wire.
pub fn usage(fs: &FsInfo, part: Usage) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: fs.timestamp,
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: fs.mountpoint.to_string_lossy().into_owned() }),
        used_bytes: Some(v1::UInt64Value { value: part.bytes }),
        inodes_used: Some(v1::UInt64Value { value: part.inodes }),
    }
}

#[cfg(test)]
pub mod testing {
    //! An image for tests.

    use images::{ImageConfig, ImageRecord};
    use types::Digest;

    /// `docker.io/library/app:1`, user 1000:1000.
    pub fn record() -> ImageRecord {
        ImageRecord {
            id: Digest::sha256(&[9; 32]),
            names: vec!["docker.io/library/app:1".into()],
            digests: vec![format!("docker.io/library/app@{}", Digest::sha256(&[8; 32]))],
            manifest: Digest::sha256(&[8; 32]),
            config: ImageConfig { user: "1000:1000".into(), ..ImageConfig::default() },
            chain: vec![Digest::sha256(&[7; 32])],
            size: 4096,
            created: Some("2026-01-31T00:00:00Z".into()),
            pulled_at: 1,
            blobs: Vec::new(),
            pinned: true,
            evidence: Default::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::record;
    use super::*;
    use crate::convert::testing::refused;

    #[test]
    fn an_image_is_told_as_the_kubelet_expects() {
        let image = to_wire(&record());
        assert_eq!(image.id, record().id.to_string());
        assert_eq!(image.repo_tags, ["docker.io/library/app:1"]);
        assert_eq!(image.repo_digests, record().digests);
        assert_eq!((image.size, image.pinned), (4096, true));
        assert_eq!((image.uid, image.username.as_str()), (Some(v1::Int64Value { value: 1000 }), ""));
        assert_eq!(image.spec.expect("always there").image, image.id);
    }

    #[test]
    fn the_user_of_an_image_is_a_number_or_a_name() {
        for (text, uid, name) in [
            ("", None, ""),
            ("0", Some(0), ""),
            ("1000:100", Some(1000), ""),
            ("www:www", None, "www"),
            ("4294967295", None, "4294967295"),
            ("99999999999999999999", None, "99999999999999999999"),
            ("-1", None, "-1"),
            ("+0", None, "+0"),
        ] {
            assert_eq!(user(text), (uid, name.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_repository_without_a_tag_means_all_its_tags() {
        for (asked, expected) in [
            ("app", true),
            ("docker.io/library/app", true),
            ("app:2", false),
            ("ap", false),
            ("registry.example:5000/app", false),
            ("NOT A NAME", false),
        ] {
            assert_eq!(is_of_repository(asked, &record()), expected, "{asked}");
        }
    }

    #[test]
    fn requests_without_an_image_are_refused() {
        refused(name("image", None), "image", "missing");
        refused(name("image", Some(v1::ImageSpec::default())), "image.image", "empty");
        let named =
            |image: &str| name("image", Some(v1::ImageSpec { image: image.into(), ..Default::default() }));
        refused(named("a b"), "image.image", "white space");
        refused(named(&"a".repeat(513)), "image.image", "512");
        assert_eq!(named("app:1").expect("sound"), "app:1");
    }

    #[test]
    fn credentials_arrive_whole_and_are_shown_nowhere() {
        assert_eq!(auth("auth", None).expect("none"), None);
        assert_eq!(auth("auth", Some(v1::AuthConfig::default())).expect("none"), None);
        let wire = v1::AuthConfig { username: "u".into(), password: "p".into(), ..Default::default() };
        let got = auth("auth", Some(wire)).expect("sound").expect("credentials");
        assert_eq!((got.username.as_deref(), got.password.as_deref()), (Some("u"), Some("p")));
        assert_eq!(got.identity_token, None);
        let forged = v1::AuthConfig { registry_token: "hunter2\r\nX: y".into(), ..Default::default() };
        let error = auth("auth", Some(forged)).expect_err("two lines");
        assert!(!error.chain().contains("hunter2"), "{}", error.chain());
        refused::<Option<Auth>>(Err(error), "auth.registry_token", "control character");
        let long = v1::AuthConfig { password: "p".repeat(SECRET_MAX + 1), ..Default::default() };
        refused(auth("auth", Some(long)), "auth.password", "too long");
    }

    #[test]
    fn verbose_facts_have_containerds_names_and_say_where_the_bytes_are() {
        let text = info(&record(), None)["info"].clone();
        let bare: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(bare["imageSpec"]["config"]["User"], "1000:1000");
        assert_eq!(bare["chainID"], record().chain[0].to_string());
        let digest = |n: u8| types::Digest::sha256(&[n; 32]);
        let blob = |n: u8| BlobDetails { digest: digest(n), media_type: "x/y".into(), size: u64::from(n) };
        let details = ImageDetails {
            config: json!({ "os": "linux", "container_config": {}, "config": { "User": "7" }, "history": [] }),
            artifact_type: Some("a/b".into()),
            manifest: blob(1),
            indexes: vec![blob(2)],
            layers: vec![LayerDetails {
                blob: blob(3),
                kept: false,
                diff_id: Some(digest(4)),
                chain: digest(4),
                unpacked: Some((4096, 2)),
            }],
        };
        let full: serde_json::Value =
            serde_json::from_str(&info(&record(), Some(&details))["info"]).expect("JSON");
        assert_eq!(full["imageSpec"], json!({ "os": "linux", "config": { "User": "7" }, "history": [] }));
        assert_eq!(full["indexes"][0]["size"], 2);
        assert_eq!(
            (&full["artifactType"], full["layers"][0]["diffID"].as_str()),
            (&json!("a/b"), Some(digest(4).as_str()))
        );
        assert!(bare.get("artifactType").is_none());
        assert_eq!(full["layers"][0]["unpackedSize"], 4096);
        assert_eq!(full["layers"][0]["kept"], false);
        assert_eq!(full["sizes"], json!({ "layers": 3, "unpacked": 4096 }));
    }
}
