//! `podman build`: buildah drives the runtime itself, without conmon.

use super::{IMAGE, Podman};

#[test]
fn an_image_is_built_with_commands_that_the_runtime_runs() {
    let Some(podman) = Podman::new() else { return };
    let folder = podman.path("context");
    std::fs::create_dir(&folder).unwrap();
    let steps = format!(
        "FROM {IMAGE}\nRUN echo built > /file && test $(id -u) = 0\nWORKDIR /var/work\nENV A=b\nUSER 7:8\n\
         RUN test $(id -u) = 7 && test $(id -g) = 8 && test $(pwd) = /var/work && test $A = b\n\
         CMD [\"sh\", \"-c\", \"cat /file; id -u\"]\n"
    );
    std::fs::write(folder.join("Containerfile"), steps).unwrap();
    // For buildah this is the container's own group, not its parent.
    let group = format!("/{}/build", podman.cgroups().name);
    let parent = podman.cgroups().name.clone();
    let build = [
        "build",
        "--isolation",
        "oci",
        "--network",
        "none",
        "--cgroup-parent",
        &group,
        "-q",
        "-t",
        "localhost/built:1",
    ];
    podman.ok(&[&build[..], &[folder.to_str().unwrap()]].concat());
    let words = ["run", "--rm", "--network", "none", "--cgroup-parent", &parent, "localhost/built:1"];
    assert_eq!(podman.ok(&words), "built\n7");
    std::fs::write(folder.join("Containerfile"), format!("FROM {IMAGE}\nRUN exit 23\n")).unwrap();
    let (_, error) = podman.fails(&[&build[..], &[folder.to_str().unwrap()]].concat());
    assert!(error.contains("exit status 23"), "{error}");
    podman.end();
}
