//! Tests of [`super`]: which endpoints a tree of `hosts.toml` files leads to.

use super::*;
use proptest::prelude::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temp dir");
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, text).expect("write");
    }
    dir
}

fn bases(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|e| format!("{}{}", e.base(), e.prefix)).collect()
}

#[test]
fn without_configuration_containerds_defaults_hold() {
    for (host, base) in [
        ("docker.io", "https://registry-1.docker.io"),
        ("quay.io", "https://quay.io"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("localhost:443", "https://localhost:443"),
        ("localhost", "https://localhost"),
        ("localhost.example.com:5000", "https://localhost.example.com:5000"),
    ] {
        let all = endpoints(None, host).expect(host);
        assert_eq!((all.len(), all[0].base(), all[0].origin), (1, base.to_owned(), true));
        assert_eq!(all[0].tls.skip_verify, is_loopback(all[0].authority.host()), "{host}");
    }
}

#[test]
fn mirrors_are_tried_in_the_order_of_the_file_and_the_server_last() {
    let dir = tree(&[(
        "docker.io/hosts.toml",
        r#"server = "https://registry-1.docker.io"
        [host."https://z.example/hub"]
          capabilities = ["pull"]
          override_path = true
          skip_verify = true
          [host."https://z.example/hub".header]
            Authorization = "Basic eDp5"
            x-a = ["1", "2"]
        [host."http://a.example:81"]
          future = 1
          dial_timeout = "500ms"
        [host."m.example/proxy"]
          capabilities = ["pull", "resolve", "push"]
        "#,
    )]);
    let all = endpoints(Some(dir.path()), "docker.io").expect("parse");
    assert_eq!(
        bases(&all),
        [
            "https://z.example/hub",
            "http://a.example:81/v2",
            "https://m.example/proxy/v2",
            "https://registry-1.docker.io/v2"
        ]
    );
    assert_eq!(all.iter().map(|e| e.origin).collect::<Vec<_>>(), [false, false, false, true]);
    assert_eq!(all.iter().map(|e| e.resolve).collect::<Vec<_>>(), [false, true, true, true]);
    assert!(all[0].tls.skip_verify && !all[1].tls.skip_verify);
    assert_eq!((all[0].headers.len(), all[1].headers.len(), all[3].headers.len()), (3, 0, 0));
    assert_eq!(all[1].dial_timeout, Some(Duration::from_millis(500)));
    assert!(!format!("{all:?}").contains("eDp5"), "a header's value is printed");
}

#[test]
fn a_folder_with_the_port_wins_over_the_default_one() {
    let dir = tree(&[
        ("h:5000/hosts.toml", "server = \"http://h:5000\""),
        ("i_5000_/hosts.toml", "server = \"http://i:5000\""),
        ("_default/hosts.toml", "[host.\"https://mirror.example\"]"),
        ("empty/unrelated", ""),
    ]);
    let of = |host: &str| bases(&endpoints(Some(dir.path()), host).expect(host));
    assert_eq!(of("h:5000"), ["http://h:5000/v2"]);
    assert_eq!(of("i:5000"), ["http://i:5000/v2"]);
    assert_eq!(of("other.io"), ["https://mirror.example/v2", "https://other.io/v2"]);
    assert_eq!(of("empty"), ["https://empty/v2"]);
}

#[test]
fn certificates_are_read_relative_to_the_file_and_must_exist() {
    let dir = tree(&[
        ("h/hosts.toml", "ca = [\"ca.pem\"]\nclient = [[\"c.pem\", \"k.pem\"]]"),
        ("h/ca.pem", "CA"),
        ("h/c.pem", "C"),
        ("h/k.pem", "K"),
        ("gone/hosts.toml", "ca = \"/nowhere/ca.pem\""),
    ]);
    let all = endpoints(Some(dir.path()), "h").expect("parse");
    assert_eq!((all.len(), all[0].tls.ca.clone()), (1, vec![b"CA".to_vec()]));
    assert_eq!(all[0].tls.client, [(b"C".to_vec(), b"K".to_vec())]);
    assert!(all[0].origin);
    let error = endpoints(Some(dir.path()), "gone").expect_err("missing");
    assert!(
        error.chain().contains("/nowhere/ca.pem") && error.chain().contains("gone/hosts.toml"),
        "{error}"
    );
}

#[test]
fn settings_for_tls_make_it_the_first_thing_that_is_tried() {
    let dir = tree(&[
        ("127.0.0.1:5000/hosts.toml", "skip_verify = true"),
        (
            "127.0.0.1:5001/hosts.toml",
            "[host.\"http://m:81\"]\nca = \"ca.pem\"\n[host.\"http://m\"]\nskip_verify = false",
        ),
        ("127.0.0.1:5001/ca.pem", "CA"),
        ("127.0.0.1:5002/ca.crt", "CA"),
        ("127.0.0.1:5003/hosts.toml", "[host.\"http://m:80\"]\nskip_verify = true\n[host.\"http://m:81\"]"),
        ("127.0.0.1:5004/notes.txt", ""),
        ("example.org/ca.crt", "CA"),
    ]);
    use Scheme::*;
    for (host, schemes) in [
        ("127.0.0.1:5000", &[HttpsFirst][..]),
        ("127.0.0.1:5001", &[HttpsFirst, HttpsFirst, HttpFirst]),
        ("127.0.0.1:5002", &[HttpsFirst]),
        ("127.0.0.1:5003", &[Http, Http, HttpFirst]),
        ("127.0.0.1:5004", &[HttpFirst]),
        ("127.0.0.1:80", &[Http]),
        ("example.org", &[Https]),
    ] {
        let all = endpoints(Some(dir.path()), host).expect(host);
        assert_eq!(all.iter().map(|e| e.scheme).collect::<Vec<_>>(), schemes, "{host}");
    }
}

#[test]
fn a_file_that_is_wrong_fails_and_says_where() {
    for text in [
        "server = ",
        "server = 1",
        "[host]\nx = 1",
        "[host.\"ftp://x\"]",
        "[host.\"https://u:p@x\"]",
        "capabilities = [\"fly\"]",
        "skip_verify = \"yes\"",
        "dial_timeout = \"soon\"",
        "header = 1",
        "[header]\n\"a b\" = \"c\"",
    ] {
        let dir = tree(&[("h/hosts.toml", text)]);
        let error = endpoints(Some(dir.path()), "h").expect_err(text);
        assert!(error.message().contains("h/hosts.toml"), "{error}");
        assert!(!error.chain().contains("u:p"), "{error}");
    }
}

#[test]
fn a_mirror_on_the_registrys_own_host_is_no_origin_over_plain_http() {
    let dir = tree(&[("h.example/hosts.toml", "[host.\"http://h.example\"]\n[host.\"https://h.example\"]")]);
    let all = endpoints(Some(dir.path()), "h.example").expect("parse");
    assert_eq!(all.iter().map(|e| e.origin).collect::<Vec<_>>(), [false, true, true]);
}

proptest! {
    #[test]
    fn no_file_panics(text in "\\PC{0,200}") {
        let own = default_endpoint("h").expect("own");
        let _ = file::parse(Path::new("/nonexistent/hosts.toml"), &text, own);
    }
}
