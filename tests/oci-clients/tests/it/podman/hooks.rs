//! Hooks that podman puts into a container's configuration from a folder (oci-hooks(5)).

use super::Podman;

#[test]
fn hooks_of_every_stage_run_with_the_containers_state() {
    let Some(podman) = Podman::new() else { return };
    let folder = podman.path("hooks");
    std::fs::create_dir(&folder).unwrap();
    let stages = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    for stage in stages {
        let out = podman.path(&format!("state-{stage}"));
        let hook = serde_json::json!({
            "version": "1.0.0",
            "hook": {
                "path": "/bin/sh",
                "args": ["sh", "-c", format!("cat > {}; test \"$A\" = b", out.display())],
                "env": ["A=b", "PATH=/usr/bin:/bin"],
            },
            "when": { "always": true },
            "stages": [stage],
        });
        std::fs::write(folder.join(format!("{stage}.json")), hook.to_string()).unwrap();
    }
    let folder = folder.display().to_string();
    let run = podman.making("run", &["--name", "hooked"], &["true"]);
    podman.ok(&[&["--hooks-dir", &folder][..], &run].concat());
    let id = podman.field("hooked", "{{.Id}}");
    podman.ok(&["rm", "-f", "hooked"]);
    for stage in stages {
        let text = std::fs::read_to_string(podman.path(&format!("state-{stage}"))).unwrap_or_default();
        let state: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|why| panic!("{stage}: {why}: {text:?}"));
        assert_eq!(state["id"], id.as_str(), "{stage}");
        let want: &[&str] = match stage {
            "poststop" => &["stopped"],
            // Debian's runc says "created" here; but the user's program has been started by then (config.md, "Poststart").
            "poststart" => &["running", "stopped"],
            // "creating" by the specification; Debian's runc says "created" for the first.
            _ => &["creating", "created"],
        };
        assert!(want.contains(&state["status"].as_str().unwrap()), "{stage}: {state}");
        assert!(state["bundle"].as_str().unwrap().contains(&id), "{stage}: {state}");
    }
    // One that fails ends the start, and nothing is left.
    let hook = serde_json::json!({
        "version": "1.0.0",
        "hook": { "path": "/bin/false" },
        "when": { "always": true },
        "stages": ["createRuntime"],
    });
    std::fs::write(podman.path("hooks/fails.json"), hook.to_string()).unwrap();
    let run = podman.making("run", &["--rm"], &["echo", "never"]);
    let (_, error) = podman.fails(&[&["--hooks-dir", &folder][..], &run].concat());
    assert!(error.contains("hook"), "{error}");
    podman.end();
}
