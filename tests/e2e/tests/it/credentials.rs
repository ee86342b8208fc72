//! Credentials from Docker's config.json and from helper programs, through the command and the daemon to a registry that
//! asks for them; and that no secret is seen on the way.

use crate::node::{Node, text};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use test_support::registry::{Options, PASSWORD, Registry, USER};

/// Base64 of `tester:only-for-tests`.
const BASIC: &str = "dGVzdGVyOm9ubHktZm9yLXRlc3Rz";
/// What nobody gives, and nobody may see.
const WRONG: &str = "wr0ng-p4ssword";
/// What a helper says where nobody should listen.
const ASIDE: &str = "s4id-aside";

/// A node whose daemon says everything, a registry that asks for a password, and a home for the command.
struct Setup {
    node: Node,
    registry: Registry,
    home: PathBuf,
    /// All that the commands said.
    said: std::cell::RefCell<String>,
}

impl Setup {
    fn new() -> Option<Setup> {
        let mut node = Node::new()?;
        let config = std::fs::read_to_string(node.config()).expect("configuration");
        std::fs::write(node.config(), config.replace("level = \"debug\"", "level = \"trace\""))
            .expect("write");
        // What the libraries below say, too.
        node.start_under(&["/usr/bin/env", "CORTEN_LOG=trace"]);
        let registry =
            Registry::start_with(&Options { basic_auth: true, ..Options::default() }).expect("registry");
        let home = node.temp.path().join("home");
        std::fs::create_dir_all(home.join("docker")).expect("folder");
        std::fs::create_dir_all(home.join("bin")).expect("folder");
        node.ok(&["pull", &node.busybox()]);
        Some(Setup { node, registry, home, said: Default::default() })
    }

    fn config(&self, json: &str) {
        std::fs::write(self.home.join("docker/config.json"), json).expect("config.json");
    }

    fn auths(&self, auth: &str) {
        self.config(&format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.registry.host()));
    }

    /// A helper program in `PATH`, and a config.json that names it for the registry.
    fn helper(&self, name: &str, body: &str) {
        let path = self.home.join("bin").join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("helper");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        self.config(&format!(r#"{{"credHelpers":{{"{}":"{name}"}}}}"#, self.registry.host()));
    }

    fn run(&self, words: &[&str]) -> Output {
        let path =
            format!("{}:{}", self.home.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let output = self
            .node
            .command(words)
            .env("PATH", path)
            .env("HOME", &self.home)
            .env("DOCKER_CONFIG", self.home.join("docker"))
            .env("CORTEN_HELPER_TIMEOUT", "2s")
            .env("CORTEN_LOG", "trace")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("REGISTRY_AUTH_FILE")
            .output()
            .expect("the program runs");
        let mut said = self.said.borrow_mut();
        said.push_str(&text(&output.stdout));
        said.push_str(&text(&output.stderr));
        output
    }

    fn ok(&self, words: &[&str]) {
        let output = self.run(words);
        assert!(output.status.success(), "corten {words:?}: {}", text(&output.stderr));
    }

    /// What a verb that has to fail says about it, without the log.
    fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "corten {words:?} succeeded");
        let all = text(&output.stderr);
        all.lines().filter(|line| line.starts_with("corten: ")).collect::<Vec<_>>().join("\n")
    }

    fn name(&self, repository: &str) -> String {
        self.registry.reference(repository, "1")
    }

    /// Ends the node, and looks for secrets in all that was said and kept.
    fn end(mut self) {
        assert!(self.node.end_daemon(rustix::process::Signal::TERM), "the daemon ended badly");
        let log = self.node.daemon_log();
        assert!(log.contains("TRACE") && log.contains("rpc="), "the log is not what it should be");
        let said = self.said.take();
        assert!(said.contains("TRACE"), "the command's log is not what it should be");
        let mut places = vec![
            ("the daemon's log".to_owned(), log.into_bytes()),
            ("the command".to_owned(), said.into_bytes()),
        ];
        for folder in [self.node.temp.root(), self.node.temp.state()] {
            kept(&folder, &mut places);
        }
        assert!(places.iter().any(|(place, _)| place.ends_with("meta.redb")), "nothing was looked at");
        for secret in [PASSWORD, BASIC, WRONG, ASIDE] {
            for (place, bytes) in &places {
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{secret} is in {place}");
            }
        }
        self.node.assert_nothing_left();
    }
}

/// The small files below a folder.
fn kept(folder: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, facts) = (entry.path(), entry.metadata());
        match facts {
            Ok(facts) if facts.is_dir() => kept(&path, places),
            Ok(facts) if facts.is_file() && facts.len() < 4 << 20 => {
                places.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
            }
            _ => {}
        }
    }
}

fn encoded(pair: &str) -> String {
    let output = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$0\" | base64 -w0", pair])
        .output()
        .expect("base64");
    text(&output.stdout)
}

#[test]
fn push_and_pull_take_dockers_config_json_and_its_secret_is_seen_nowhere() {
    let Some(setup) = Setup::new() else { return };
    let (busybox, target) = (setup.node.busybox(), setup.name("team/app"));
    let said = setup.fails(&["push", &busybox, &target]);
    assert!(said.contains("asks for credentials, and there are none for it"), "{said}");
    setup.auths(&encoded(&format!("{USER}:{WRONG}")));
    let said = setup.fails(&["push", &busybox, &target]);
    assert!(said.contains("does not accept the given ones"), "{said}");
    assert_eq!(encoded(&format!("{USER}:{PASSWORD}")), BASIC);
    setup.auths(BASIC);
    setup.ok(&["push", &busybox, &target]);
    // What is there came with the password, and goes back only with it.
    setup.auths(&encoded(&format!("{USER}:{WRONG}")));
    let said = setup.fails(&["pull", &target]);
    assert!(said.contains("does not accept the given ones"), "{said}");
    setup.auths(BASIC);
    setup.ok(&["pull", &target]);
    setup.config("{}");
    let said = setup.fails(&["pull", &target]);
    assert!(said.contains("there are none for it"), "{said}");
    // The flags are for the same.
    setup.ok(&["--debug", "pull", "--creds", &format!("{USER}:{PASSWORD}"), &target]);
    setup.ok(&["pull", "--auth", BASIC, &target]);
    let file = setup.node.file(
        "auth.json",
        &format!(r#"{{"auths":{{"{}/team":{{"auth":"{BASIC}"}}}}}}"#, setup.registry.host()),
    );
    setup.ok(&["push", "--authfile", &file, &busybox, &target]);
    let said = setup.fails(&["push", "--authfile", &file, &busybox, &setup.name("others/app")]);
    assert!(said.contains("there are none for it"), "a key for a folder is for that folder: {said}");
    // A file that cannot be read names itself, and shows nothing of what it holds.
    setup.config(&format!(r#"{{"auths":{{"x":{{"auth":"{WRONG}"}},}}}}"#));
    let said = setup.fails(&["pull", &target]);
    assert!(said.contains("docker/config.json") && said.contains("line 1"), "{said}");
    setup.end();
}

#[test]
fn push_and_pull_ask_a_credential_helper_and_survive_what_it_does() {
    let Some(setup) = Setup::new() else { return };
    let (busybox, target) = (setup.node.busybox(), setup.name("team/app"));
    let host = setup.registry.host();
    let answer =
        |password: &str| format!(r#"{{"ServerURL":"{host}","Username":"{USER}","Secret":"{password}"}}"#);
    setup.helper(
        "good",
        &format!(
            "read server; echo \"{ASIDE} for $server\" >&2; [ \"$1\" = get ] && [ \"$server\" = {host} ] || exit 9\necho '{}'",
            answer(PASSWORD)
        ),
    );
    setup.ok(&["push", &busybox, &target]);
    setup.ok(&["pull", &target]);
    setup.helper("wrong", &format!("echo '{}'", answer(WRONG)));
    let said = setup.fails(&["push", &busybox, &target]);
    assert!(said.contains("does not accept the given ones"), "{said}");
    for (name, body, words) in [
        ("locked", format!("echo {ASIDE} >&2; echo the keyring is locked; exit 1"), "the keyring is locked"),
        ("mute", format!("echo {ASIDE} {PASSWORD} >&2; exit 3"), "exit status: 3"),
        ("endless", format!("echo {ASIDE} >&2; head -c 3000000 /dev/zero | tr '\\0' x"), "says more than"),
        ("odd", format!("echo no JSON {WRONG}"), "is not the JSON of a credential"),
        (
            "nothing",
            "echo credentials not found in native keychain; exit 1".to_owned(),
            "there are none for it",
        ),
        ("killed", "kill -9 $$".to_owned(), "signal: 9"),
    ] {
        setup.helper(name, &body);
        for words_of_verb in [vec!["push", &busybox, &target], vec!["pull", &target]] {
            let said = setup.fails(&words_of_verb);
            assert!(said.contains(words), "{name} {words_of_verb:?}: {said}");
        }
    }
    // One that hangs is ended with what it started.
    let mark = format!("3{:06}", std::process::id());
    setup.helper("hanging", &format!("sleep {mark} & sleep {mark}"));
    let start = std::time::Instant::now();
    let said = setup.fails(&["pull", &target]);
    assert!(
        said.contains("gave no answer within 2 s") && said.contains("docker-credential-hanging"),
        "{said}"
    );
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
    setup.node.wait_for("the helper's processes to end", |_| !runs(&mark));
    setup.config(&format!(r#"{{"credHelpers":{{"{host}":"not-installed"}}}}"#));
    let said = setup.fails(&["pull", &target]);
    assert!(said.contains("docker-credential-not-installed is not in any folder of PATH"), "{said}");
    setup.end();
}

/// Whether a process has this word in its command line.
fn runs(word: &str) -> bool {
    std::fs::read_dir("/proc").expect("proc").flatten().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|part| part == word.as_bytes())
    })
}
