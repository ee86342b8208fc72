//! Tests of [`super`]: where a tree of files sends a pull.

use super::*;
use proptest::prelude::*;

struct Tree(tempfile::TempDir, RegistriesConf);

fn tree(main: &str, drop_ins: &[(&str, &str)]) -> Tree {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("registries.conf");
    std::fs::write(&path, main).expect("write");
    std::fs::create_dir(dir.path().join("registries.conf.d")).expect("folder");
    for (name, text) in drop_ins {
        std::fs::write(dir.path().join("registries.conf.d").join(name), text).expect("write");
    }
    let conf = RegistriesConf::new(path);
    Tree(dir, conf)
}

fn sources(conf: &RegistriesConf, name: &str) -> Vec<String> {
    let reference = Reference::parse(name).expect("reference");
    let all = conf.pull_sources(&reference).expect(name);
    all.iter().map(|s| format!("{}/{}{}", s.host, s.repository, if s.insecure { "!" } else { "" })).collect()
}

const MANUAL: &str = r#"
unqualified-search-registries = ["example.com", "docker.io"]
[[registry]]
prefix = "example.com/foo"
location = "internal-registry-for-example.net/bar"
[[registry.mirror]]
location = "example-mirror-0.local/mirror-for-foo"
[[registry.mirror]]
location = "example-mirror-1.local/mirrors/foo"
insecure = true
[[registry]]
location = "plain.example:5000"
insecure = true
[[registry]]
prefix = "*.wild.example"
blocked = true
[[registry]]
prefix = "ok.wild.example"
location = "ok.wild.example"
[aliases]
"tool" = "quay.io/org/tool"
"#;

#[test]
fn the_manuals_example_leads_where_the_manual_says() {
    let Tree(_dir, conf) = tree(MANUAL, &[]);
    assert_eq!(
        sources(&conf, "example.com/foo/image:latest"),
        [
            "example-mirror-0.local/mirror-for-foo/image",
            "example-mirror-1.local/mirrors/foo/image!",
            "internal-registry-for-example.net/bar/image"
        ]
    );
    assert_eq!(sources(&conf, "example.com/foobar/image"), ["example.com/foobar/image"]);
    assert_eq!(sources(&conf, "plain.example:5000/a/b:1"), ["plain.example:5000/a/b!"]);
}

#[test]
fn the_longest_prefix_counts_and_a_wildcard_covers_subdomains() {
    let Tree(_dir, conf) = tree(MANUAL, &[]);
    for name in ["a.wild.example/x", "a.b.wild.example:5000/x/y:1"] {
        let error = conf.pull_sources(&Reference::parse(name).expect("reference")).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(
            error.message().contains("is blocked") && error.message().contains("registries.conf"),
            "{error}"
        );
    }
    assert_eq!(sources(&conf, "ok.wild.example/x"), ["ok.wild.example/x"]);
    assert_eq!(sources(&conf, "wild.example/x"), ["wild.example/x"]);
    assert_eq!(sources(&conf, "notwild.example/x"), ["notwild.example/x"]);
}

#[test]
fn mirrors_are_for_digests_or_tags_where_that_is_said() {
    let text = |more: &str, own: &str| {
        format!(
            "[[registry]]\nlocation=\"r.example\"\n{own}\n[[registry.mirror]]\nlocation=\"m.example\"\n{more}\n"
        )
    };
    let digest = format!("r.example/a@sha256:{}", "ab".repeat(32));
    for (more, own, by_tag, by_digest) in [
        ("", "", true, true),
        ("pull-from-mirror = \"all\"", "", true, true),
        ("pull-from-mirror = \"digest-only\"", "", false, true),
        ("pull-from-mirror = \"tag-only\"", "", true, false),
        ("", "mirror-by-digest-only = true", false, true),
    ] {
        let Tree(_dir, conf) = tree(&text(more, own), &[]);
        assert_eq!(sources(&conf, "r.example/a:1").len() == 2, by_tag, "{more}{own}");
        assert_eq!(sources(&conf, &digest).len() == 2, by_digest, "{more}{own}");
    }
}

#[test]
fn drop_ins_change_what_came_before_in_the_order_of_their_names() {
    let Tree(_dir, conf) = tree(
        MANUAL,
        &[
            (
                "20.conf",
                "unqualified-search-registries = [\"two.example\"]\n[aliases]\ntool = \"\"\nnew = \"b.example/new\"",
            ),
            (
                "10.conf",
                "unqualified-search-registries = [\"one.example\"]\n[[registry]]\nprefix = \"example.com/foo\"\nlocation = \"other.example\"",
            ),
            ("30.conf.off", "this is not read"),
        ],
    );
    assert_eq!(sources(&conf, "example.com/foo/image"), ["other.example/image"]);
    let of = |name: &str| conf.resolve(name).expect(name).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of("tool"), ["two.example/tool:latest"]);
    assert_eq!(of("new:3"), ["b.example/new:3"]);
}

#[test]
fn short_names_are_resolved_by_alias_then_by_the_search_registries() {
    let Tree(_dir, conf) = tree(MANUAL, &[]);
    let of = |name: &str| conf.resolve(name).expect(name).iter().map(ToString::to_string).collect::<Vec<_>>();
    let digest = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(of("tool"), ["quay.io/org/tool:latest"]);
    assert_eq!(of("tool:1"), ["quay.io/org/tool:1"]);
    assert_eq!(of(&format!("tool@{digest}")), [format!("quay.io/org/tool@{digest}")]);
    assert_eq!(of("nginx:1"), ["example.com/nginx:1", "docker.io/library/nginx:1"]);
    assert_eq!(of("a/b"), ["example.com/a/b:latest", "docker.io/a/b:latest"]);
    assert_eq!(of("h.example/a/b"), ["h.example/a/b:latest"]);
    assert_eq!(of("localhost/a"), ["localhost/a:latest"]);
}

#[test]
fn a_short_name_that_could_mean_several_is_refused_where_that_is_enforced() {
    let Tree(_dir, conf) =
        tree("short-name-mode = \"enforcing\"\nunqualified-search-registries = [\"a.io\", \"b.io\"]", &[]);
    assert!(conf.resolve("nginx").expect_err("two").message().contains("enforcing"));
    let Tree(_dir, conf) =
        tree("short-name-mode = \"enforcing\"\nunqualified-search-registries = [\"a.io\"]", &[]);
    assert_eq!(conf.resolve("nginx").expect("one")[0].to_string(), "a.io/nginx:latest");
    let Tree(_dir, conf) = tree("", &[]);
    let error = conf.resolve("nginx").expect_err("none");
    assert!(error.message().contains("unqualified-search-registries is empty"), "{error}");
}

#[test]
fn a_changed_file_counts_the_next_time_and_an_unchanged_one_is_not_read_again() {
    let Tree(dir, conf) = tree("[[registry]]\nlocation = \"a.example\"\nblocked = true", &[]);
    let name = Reference::parse("a.example/x").expect("reference");
    conf.pull_sources(&name).expect_err("blocked");
    // The same length, in the same moment.
    std::fs::write(
        dir.path().join("registries.conf"),
        "[[registry]]\nlocation = \"b.example\"\nblocked = true",
    )
    .expect("write");
    conf.pull_sources(&name).expect("not blocked any more");
    std::fs::write(
        dir.path().join("registries.conf.d/x.conf"),
        "[[registry]]\nlocation = \"a.example\"\nblocked = true",
    )
    .expect("write");
    conf.pull_sources(&name).expect_err("blocked by a drop-in");
    // What has been quiet for a while is remembered, until it changes.
    std::thread::sleep(SETTLED + Duration::from_millis(1100));
    let first = conf.load().expect("load");
    assert!(Arc::ptr_eq(&first, &conf.load().expect("load")));
    std::fs::remove_file(dir.path().join("registries.conf.d/x.conf")).expect("remove");
    conf.pull_sources(&name).expect("not blocked any more");
}

#[test]
fn a_file_that_is_wrong_fails_and_says_where() {
    for text in [
        "x = ",
        "[[registry]]\nblocked = true",
        "[[registry]]\nprefix = \"a.example\"",
        "[[registry]]\nlocation = \"https://a.example\"",
        "[[registry]]\nprefix = \"a.*.example\"\nlocation = \"b\"",
        "[[registry]]\nprefix = \"*.example/x\"\nlocation = \"b\"",
        "[[registry]]\nlocation = \"a\"\ninsecure = \"yes\"",
        "[[registry]]\nlocation = \"a\"\npull-from-mirror = \"all\"",
        "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\ninsecure = true",
        "[[registry]]\nlocation = \"a\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"all\"",
        "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"never\"",
        "[[registry]]\nlocation = \"a\"\n[[registry]]\nlocation = \"a\"\nprefix = \"b\"\nblocked = true",
        "unqualified-search-registries = [\"a/b\"]",
        "short-name-mode = \"sometimes\"",
        "[aliases]\n\"a.example/x\" = \"b.example/x\"",
        "[aliases]\n\"x:1\" = \"b.example/x\"",
        "[aliases]\nx = \"y\"",
        "[registries.search]\nregistries = [\"a/b\"]",
        "[registries.block]\nregistries = [\"https://a.example\"]",
        "[registries.insecure]\nregistries = [\"\"]",
        "[registries.block]\nregistries = \"a.example\"",
    ] {
        let Tree(_dir, conf) = tree(text, &[]);
        let error = conf.pull_sources(&Reference::parse("z.example/x").expect("reference")).expect_err(text);
        assert!(error.message().contains("registries.conf cannot be used"), "{text}: {error}");
    }
    let gone = RegistriesConf::new("/nonexistent/registries.conf");
    let error = gone.resolve("x").expect_err("gone");
    assert!(error.message().contains("/nonexistent/registries.conf"), "{error}");
}

#[test]
fn version_1_means_what_it_means_in_version_2() {
    let text = "[registries.search]\nregistries = [\"one.example\", \"docker.io\"]\n\
        [registries.insecure]\nregistries = [\"plain.example:5000/\", \"both.example\"]\n\
        [registries.block]\nregistries = [\"both.example/\", \"bad.example/team\"]\n";
    let Tree(_dir, conf) =
        tree(text, &[("a.conf", "[[registry]]\nlocation = \"later.example\"\ninsecure = true")]);
    let of = |name: &str| conf.resolve(name).expect(name).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of("nginx:1"), ["one.example/nginx:1", "docker.io/library/nginx:1"]);
    assert_eq!(sources(&conf, "plain.example:5000/a:1"), ["plain.example:5000/a!"]);
    assert_eq!(sources(&conf, "later.example/a:1"), ["later.example/a!"]);
    assert_eq!(sources(&conf, "bad.example/other"), ["bad.example/other"]);
    for name in ["both.example/x", "bad.example/team/x"] {
        let error = conf.pull_sources(&Reference::parse(name).expect("reference")).expect_err(name);
        assert!(error.message().contains("is blocked"), "{error}");
    }
    let Tree(_dir, conf) = tree(
        "[registries.search]\n[registries.block]\nregistries = []\n[[registry]]\nlocation = \"a.example\"",
        &[],
    );
    assert_eq!(sources(&conf, "a.example/b"), ["a.example/b"], "tables that say nothing are nothing");
}

#[test]
fn version_1_is_refused_beside_version_2_and_in_a_drop_in() {
    let first = "[registries.insecure]\nregistries = [\"x.example\"]\n";
    for second in [
        "unqualified-search-registries = [\"a.example\"]\n",
        "short-name-mode = \"permissive\"\n",
        "credential-helpers = [\"pass\"]\n",
        "[aliases]\nx = \"a.example/x\"\n",
        "[[registry]]\nlocation = \"a.example\"\n",
    ] {
        // What stands at the top comes before all tables.
        let Tree(_dir, conf) = tree(&format!("{second}{first}"), &[]);
        let error = conf.load().expect_err(second);
        assert!(error.message().contains("mixes the forms"), "{second}: {error}");
    }
    let Tree(_dir, conf) = tree("", &[("a.conf", first)]);
    let error = conf.load().expect_err("a drop-in");
    assert!(error.message().contains("a.conf") && error.message().contains("drop-in"), "{error}");
}

#[test]
fn a_push_goes_to_the_registry_itself() {
    let Tree(_dir, conf) = tree(MANUAL, &[]);
    let source = |name: &str| conf.push_source(&Reference::parse(name).expect("reference"));
    assert_eq!(source("example.com/foo/image").expect("push").host, "example.com");
    assert!(source("plain.example:5000/x").expect("push").insecure);
    source("a.wild.example/x").expect_err("blocked");
}

proptest! {
    #[test]
    fn no_file_and_no_name_panics(text in "\\PC{0,200}", name in "\\PC{0,40}") {
        fuzz_registries_conf(text.as_bytes());
        let mut config = Config::default();
        config.update(parse::parse(Path::new("/x"), MANUAL, true).expect("manual"));
        let _ = short::resolve(&config, Path::new("/x"), &name);
        let _ = config.find(&name);
    }
}
