//! The program as an ordinary user.

use super::{PROGRAM, Place};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};

/// Nobody's on this machine, with no range in `/etc/subuid`.
const UID: u32 = 54_321;

struct User<'a>(&'a Place);

impl<'a> User<'a> {
    /// `None`, with a printed reason, where an ordinary user may have no user namespace.
    fn new(place: &'a Place) -> Option<Self> {
        let own = |args: &[&str]| {
            let mut command = Command::new("chown");
            assert!(command.args(args).arg(place.dir.path()).status().unwrap().success());
        };
        // Not by this process: a test beside it may fork while the copy is open, and then it is busy.
        let mut copy = Command::new("cp");
        assert!(copy.arg(PROGRAM).arg(place.dir.path().join("program")).status().unwrap().success());
        own(&["-R", "54321:54321"]);
        let user = Self(place);
        let may = user.as_user("unshare").args(["-U", "true"]).status().is_ok_and(|status| status.success());
        if !may {
            eprintln!("SKIPPED rootless: ordinary users may make no user namespaces here");
            return None;
        }
        std::fs::remove_file(place.bundle().join("config.json")).unwrap();
        assert!(user.run(&["spec", "--rootless"]).status.success());
        Some(user)
    }

    fn as_user(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "--"]).arg(program);
        command.env("XDG_RUNTIME_DIR", self.0.dir.path()).current_dir(self.0.bundle()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.as_user(self.0.dir.path().join("program")).args(args).output().unwrap()
    }

    /// With output to nobody, for a container that goes on.
    fn detached(&self, args: &[&str]) {
        let mut command = self.as_user(self.0.dir.path().join("program"));
        let status = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{args:?}");
    }

    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn an_ordinary_users_container_lives_and_leaves_nothing() {
    let Some(place) = Place::new("rootless") else { return };
    let Some(user) = User::new(&place) else { return };
    place.edit(|config| {
        config["process"]["args"] = json!(["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/setgroups"]);
    });
    let words = user.good(&["run", &place.id]);
    assert_eq!(words.split_whitespace().collect::<Vec<_>>(), ["0", "0", "54321", "1", "deny"]);
    place.edit(|config| {
        config["process"]["args"] = json!(["sleep", "100"]);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000 } });
    });
    user.detached(&["create", &place.id]);
    user.good(&["start", &place.id]);
    let state: Value = serde_json::from_str(&user.good(&["state", &place.id])).unwrap();
    assert_eq!((&state["status"], &state["owner"]), (&json!("running"), &json!(UID.to_string())));
    assert!(place.dir.path().join("corten-oci").join(&place.id).is_dir(), "below XDG_RUNTIME_DIR");
    let exec = user.good(&["exec", &place.id, "sh", "-c", "id -u; cat /proc/uptime; ps"]);
    assert!(exec.starts_with("0\n") && exec.contains("sleep 100"), "{exec}");
    let uptime: f64 = exec.lines().nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0, "{exec}");
    // Another container joins what the first one's user namespace owns.
    let pid = state["pid"].as_i64().unwrap();
    let second = format!("{}-b", place.id);
    place.edit(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            let kind = namespace["type"].as_str().unwrap().to_owned();
            if ["user", "ipc", "uts", "pid"].contains(&kind.as_str()) {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}"));
            }
        }
        config["hostname"] = json!("");
        config["process"]["args"] = json!(["sh", "-c", "ps; id -u"]);
    });
    let joined = user.good(&["run", &second]);
    assert!(joined.contains("sleep 100") && joined.ends_with("\n0\n"), "{joined}");
    user.good(&["kill", &place.id, "KILL"]);
    user.good(&["delete", "--force", &place.id]);
    assert_eq!(std::fs::read_dir(place.dir.path().join("corten-oci")).unwrap().count(), 0);
}

#[test]
fn what_an_ordinary_user_may_not_have_is_said() {
    let Some(place) = Place::new("rootless-bad") else { return };
    let Some(user) = User::new(&place) else { return };
    place.edit(|config| config["process"]["args"] = json!(["true"]));
    let original = std::fs::read(place.bundle().join("config.json")).unwrap();
    type Case = (&'static str, fn(&mut Value));
    let cases: [Case; 3] = [
        ("`user` namespace", |config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "user");
            config["linux"]["uidMappings"] = json!([]);
            config["linux"]["gidMappings"] = json!([]);
        }),
        ("newuidmap", |config| {
            config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 10 }]);
        }),
        ("additionalGids", |config| config["process"]["user"]["additionalGids"] = json!([5])),
    ];
    for (words, change) in cases {
        std::fs::write(place.bundle().join("config.json"), &original).unwrap();
        place.edit(change);
        let output = user.run(&["run", &place.id]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(words), "{words}: {told}");
        let left = std::fs::read_dir(place.dir.path().join("corten-oci")).map(Iterator::count).unwrap_or(0);
        assert_eq!(left, 0, "{words}");
    }
}
