//! Tests of [`super`]: whose credentials are found in which file.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn file(text: &str) -> CredentialsFile {
    CredentialsFile::parse(Path::new("/x/config.json"), text.as_bytes()).expect(text)
}

fn auth(file: &CredentialsFile, name: &str) -> Option<String> {
    let found = file.auth(&Reference::parse(name).expect("reference"), PATIENCE).expect(name)?;
    found.auth.or(found.identity_token).or(found.registry_token).or(found.password)
}

#[test]
fn the_longest_key_counts() {
    let file = file(
        r#"{"auths":{"r.example/a/b":{"auth":"one"},"r.example/a":{"auth":"two"},"r.example":{"auth":"three"},
            "h:5000":{"identitytoken":"four"},"t.example":{"registrytoken":"five"},"u.example":{"username":"u","password":"six"},
            "empty.example":{},"null.example":null}, "HttpHeaders": {"x": "y"}}"#,
    );
    for (name, wanted) in [
        ("r.example/a/b:1", Some("one")),
        ("r.example/a/c", Some("two")),
        ("r.example/a/b/c", Some("one")),
        ("r.example/ab", Some("three")),
        ("h:5000/x", Some("four")),
        ("t.example/x", Some("five")),
        ("u.example/x", Some("six")),
        ("h/x", None),
        ("other.example/x", None),
        ("empty.example/x", None),
        ("null.example/x", None),
    ] {
        assert_eq!(auth(&file, name).as_deref(), wanted, "{name}");
    }
}

#[test]
fn docker_hub_is_found_under_all_its_names() {
    for key in [
        "https://index.docker.io/v1/",
        "index.docker.io",
        "docker.io",
        "registry-1.docker.io",
        "https://docker.io",
    ] {
        let file = file(&format!(r#"{{"auths":{{"{key}":{{"auth":"hub"}}}}}}"#));
        assert_eq!(auth(&file, "nginx").as_deref(), Some("hub"), "{key}");
        let found = file
            .auth(&Reference::parse("nginx").expect("reference"), PATIENCE)
            .expect("auth")
            .expect("found");
        assert_eq!(found.server_address.as_deref(), Some("docker.io"), "it is the Hub's alone");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused_without_showing_it() {
    for bad in ["", "7", r#"{"auths":{"a":{"auth":7,"password":"s3cret"}}}"#, r#"{"auths":"s3cret"}"#] {
        let error = CredentialsFile::parse(Path::new("/x/config.json"), bad.as_bytes()).expect_err(bad);
        assert!(
            error.message().contains("/x/config.json") && !error.chain().contains("s3cret"),
            "{}",
            error.chain()
        );
    }
    assert!(!format!("{:?}", file(r#"{"auths":{"a":{"auth":"s3cret"}}}"#)).contains("s3cret"));
}

#[test]
fn the_places_follow_the_environment() {
    let places = |variables: &[(&str, &str)]| {
        CredentialsFile::places(&|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
    };
    assert_eq!(places(&[("REGISTRY_AUTH_FILE", "/a.json"), ("HOME", "/h")]), [Path::new("/a.json")]);
    assert_eq!(
        places(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/u")]),
        ["/run/u/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
            .map(PathBuf::from)
    );
    assert_eq!(places(&[("DOCKER_CONFIG", "/d")]), [Path::new("/d/config.json")]);
}

/// A helper that is a shell script, in a folder that is not in `PATH`: called by its path.
fn helper(body: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("docker-credential-x");
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("write");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    (dir, path)
}

/// `PATH` belongs to the whole process, so only this test changes it; the others never look there.
#[test]
fn helpers_are_found_in_path_and_asked_by_the_protocol() {
    let (dir, _) = helper(
        r#"read server
[ "$1" = get ] || exit 9
case $server in
  r.example) echo '{"ServerURL":"r.example","Username":"ann","Secret":"s3cret"}';;
  https://index.docker.io/v1/) echo '{"Username":"<token>","Secret":"refresh"}';;
  broken.example) echo 's3cret is broken'; exit 1;;
  odd.example) echo 'no json s3cret';;
  *) echo 'credentials not found in native keychain'; exit 1;;
esac"#,
    );
    let before = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:relative:{before}", dir.path().display());
    let output = std::process::Command::new(std::env::current_exe().expect("test"))
        .args(["--exact", "credentials::tests::inside_a_changed_path", "--nocapture"])
        .env("PATH", path)
        .env("CREDENTIALS_TEST_INSIDE", "1")
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The other half of the test above, in a process of its own.
#[test]
fn inside_a_changed_path() {
    if std::env::var_os("CREDENTIALS_TEST_INSIDE").is_none() {
        return;
    }
    let file = file(
        r#"{"credHelpers":{"r.example":"x","docker.io":"x","broken.example":"x","odd.example":"x","bad.example":"../x","gone.example":"nowhere"},
            "credsStore":"x","auths":{"file.example":{"auth":"from the file"},"r.example":{"auth":"not this"}}}"#,
    );
    let of = |name: &str| file.auth(&Reference::parse(name).expect("reference"), PATIENCE);
    let ann = of("r.example/a").expect("asked").expect("found");
    assert_eq!((ann.username.as_deref(), ann.password.as_deref()), (Some("ann"), Some("s3cret")));
    assert_eq!(ann.server_address.as_deref(), Some("r.example"));
    assert_eq!(of("nginx").expect("asked").expect("found").identity_token.as_deref(), Some("refresh"));
    assert_eq!(of("file.example/a").expect("asked").expect("found").auth.as_deref(), Some("from the file"));
    assert_eq!(of("nowhere.example/a").expect("asked"), None);
    for (name, words) in [
        ("broken.example/a", "failed for broken.example"),
        ("odd.example/a", "is not the JSON"),
        ("bad.example/a", "not the name of a credential helper"),
        ("gone.example/a", "not in any folder of PATH"),
    ] {
        let text = of(name).expect_err(name).chain();
        assert!(text.contains(words) && text.contains("/x/config.json"), "{text}");
        assert!(name.starts_with("broken") || !text.contains("s3cret"), "{text}");
    }
}

#[test]
fn a_helper_that_hangs_or_talks_without_end_is_ended_with_what_it_started() {
    let mark = format!("4{:06}", std::process::id());
    let (_dir, path) = helper(&format!("sleep {mark} & sleep {mark}"));
    let start = Instant::now();
    let error = helper::run(&path, "r.example", Duration::from_millis(300)).expect_err("hangs");
    assert!(
        error.message().contains("gave no answer") && start.elapsed() < Duration::from_secs(10),
        "{error}"
    );
    let sleeps = || {
        let processes = std::fs::read_dir("/proc").expect("proc").flatten();
        processes
            .filter(|p| {
                let line = std::fs::read(p.path().join("cmdline")).unwrap_or_default();
                line.starts_with(b"sleep\0") && line.ends_with(format!("{mark}\0").as_bytes())
            })
            .count()
    };
    while sleeps() > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "a helper's process is left");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (_dir, path) = helper("yes");
    let error = helper::run(&path, "r.example", Duration::from_secs(10)).expect_err("talks");
    assert!(error.message().contains("more than"), "{error}");
}

proptest! {
    #[test]
    fn no_file_panics(text in "[a-z\"{}:,\\[\\] ]{0,80}|\\PC{0,80}") {
        fuzz_docker_config(text.as_bytes());
    }
}
