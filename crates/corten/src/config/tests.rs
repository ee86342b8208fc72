//! What the configuration promises.

use super::*;

fn error(text: &str) -> String {
    Config::parse("c.toml", text).unwrap_err().to_string()
}

#[test]
fn the_defaults_pass_their_own_checks() {
    let config = Config::default();
    assert_eq!(config.root, Path::new("/var/lib/corten"));
    assert_eq!(config.grpc.address, Path::new("/run/corten/corten.sock"));
    assert_eq!(config.network.default_network, None);
}

#[test]
fn the_printed_default_is_exactly_the_default() {
    assert_eq!(Config::parse("default", DEFAULT).unwrap(), Config::default());
}

#[test]
fn the_printed_default_names_every_key() {
    fn each(keys: &[keys::Key], visit: &mut dyn FnMut(&str)) {
        for keys::Key(name, inner) in keys {
            if inner.is_empty() { visit(name) } else { each(inner, visit) }
        }
    }
    each(keys::KEYS, &mut |name| {
        let shown =
            DEFAULT.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")));
        assert!(shown, "{name}");
    });
    // Uncommented, the optional keys are valid as well.
    let all = DEFAULT.replace("# address =", "address =").replace("# default_network", "default_network");
    let all = all.replace("# shim =", "shim =").replace("# registries_conf =", "registries_conf =");
    let config = Config::parse("all", &all).unwrap();
    assert_eq!(config.network.default_network, Some(false));
    assert_eq!(config.runtimes.native.shim_path(), Path::new("/usr/bin/corten-shim"));
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_the_nearest_key() {
    assert_eq!(
        error("root = \"/a\"\n\n[network]\nconf_dirs = \"/x\"\n"),
        "c.toml:4: unknown key network.conf_dirs; did you mean network.conf_dir?"
    );
    assert_eq!(error("[netwrok]\n"), "c.toml:1: unknown key netwrok; did you mean network?");
    assert_eq!(
        error("snapshotter = \"auto\"\n"),
        "c.toml:1: unknown key snapshotter; did you mean snapshots?"
    );
    assert_eq!(error("subnet = \"x\"\n"), "c.toml:1: unknown key subnet; did you mean network.subnet?");
    assert!(error("[runtimes.kata]\n").contains("unknown key runtimes.kata; known here: runtimes.native"));
}

#[test]
fn every_key_of_the_table_is_one_that_the_file_types_know() {
    fn each(keys: &[keys::Key], above: &str) {
        for keys::Key(name, inner) in keys {
            let path = if above.is_empty() { (*name).to_owned() } else { format!("{above}.{name}") };
            if inner.is_empty() {
                // No key takes a date: a known key fails on the type, an unknown one on its name.
                let error = toml::from_str::<raw::Raw>(&format!("{path} = 1979-05-27")).unwrap_err();
                assert!(!error.message().contains("unknown field"), "{path}: {error}");
            } else {
                each(inner, &path);
            }
        }
    }
    each(keys::KEYS, "");
}

#[test]
fn a_wrong_type_or_value_is_refused_with_its_line() {
    assert!(
        error("\nroot = 5\n").starts_with("c.toml:2: invalid type: integer"),
        "{}",
        error("\nroot = 5\n")
    );
    assert!(error("a = [\n").starts_with("c.toml:"));
    assert_eq!(
        error("[cgroups]\ndriver = \"systemd\"\n"),
        "c.toml:2: cgroups.driver: the systemd driver is not built yet; use cgroupfs, in the kubelet too"
    );
    assert!(error("[log]\nlevel = \"loud\"\n").contains("log.level: \"loud\" is not one of"));
    assert!(error("root = \"relative\"").contains("absolute"));
    assert!(error("root = \"/a/../b\"").contains(".."));
    assert!(error("[streaming]\naddress = \"0.0.0.0:1\"").contains("loopback"));
    assert!(error("[grpc]\naddress = \"tcp://1.2.3.4:5\"").contains("only a Unix socket"));
    assert!(error(&format!("state = \"/{}\"", "x".repeat(120))).contains("socket's path"));
    for bad in ["10.88.0.0", "10.88.0.1/16", "10.88.0.0/31", "fd00::/64", "x/16"] {
        assert!(error(&format!("[network]\nsubnet = \"{bad}\"")).contains("network.subnet"), "{bad}");
    }
}

#[test]
fn the_socket_follows_the_state_folder_and_takes_a_url() {
    let config = Config::parse("c", "state = \"/run/other\"").unwrap();
    assert_eq!(config.grpc.address, Path::new("/run/other/corten.sock"));
    let config = Config::parse("c", "[grpc]\naddress = \"unix:///run/x.sock\"").unwrap();
    assert_eq!(config.grpc.address, Path::new("/run/x.sock"));
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let error = Config::load(Some(Path::new("/nonexistent/corten.toml"))).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/corten.toml"));
}

#[test]
fn what_is_kept_of_images_is_read_and_checked() {
    let images = |text: &str| Config::parse("c.toml", &format!("[images]\n{text}\n"));
    let config =
        images("min_free = \"2GiB\"\ndiscard_unpacked = true\npinned = [\"busybox\", \"h.io/*\"]").unwrap();
    assert_eq!((config.images.min_free, config.images.discard_unpacked), (2 << 30, true));
    assert_eq!(config.images.pinned, images::Pinned::parse(&["busybox", "h.io/*"]).unwrap());
    assert_eq!(images("min_free = \"0\"").unwrap().images.min_free, 0);
    let limits =
        images("max_layer_bytes = \"1GiB\"\nmax_image_bytes = \"3GiB\"\nmax_layer_ratio = 0").unwrap().images;
    assert_eq!(
        (limits.max_layer_bytes, limits.max_image_bytes, limits.max_layer_ratio),
        (1 << 30, 3 << 30, 0)
    );
    for (text, part) in [
        ("min_free = \"2GB\"", "c.toml:2: images.min_free"),
        ("min_free = \"-1\"", "no number of bytes"),
        ("min_free = \"99999999999TiB\"", "no number of bytes"),
        ("pinned = [\"UPPER CASE\"]", "c.toml:2: images.pinned"),
    ] {
        let error = error(&format!("[images]\n{text}\n"));
        assert!(error.contains(part), "{error}");
    }
}
