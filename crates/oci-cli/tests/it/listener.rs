//! A seccomp listener goes to its socket with the state of the container.

use super::Place;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

fn receive(listener: &UnixListener) -> (Vec<u8>, OwnedFd) {
    let (socket, _) = listener.accept().unwrap();
    let mut text = [0; 16384];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(&socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (text[..got.bytes].to_vec(), fd.unwrap())
}

fn name(fd: &OwnedFd) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    link.to_str().unwrap().to_owned()
}

#[test]
fn the_listener_goes_to_its_socket_for_the_container_and_for_an_exec() {
    let Some(place) = Place::running("notify", &["sleep", "100"]) else { return };
    let path = place.dir.path().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    for no_new_privileges in [true, false] {
        place.edit(|config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": path, "listenerMetadata": "for the agent",
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
            });
        });
        place.good(&["create", &place.id]);
        let (text, fd) = receive(&listener);
        assert_eq!(name(&fd), "anon_inode:seccomp notify");
        let told: Value = serde_json::from_slice(&text).unwrap();
        let state: Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
        assert_eq!((&told["fds"], &told["metadata"]), (&json!(["seccompFd"]), &json!("for the agent")));
        assert_eq!((&told["pid"], &told["state"]["id"]), (&state["pid"], &json!(place.id)));
        assert_eq!(told["state"]["status"], "creating");
        place.good(&["start", &place.id]);
        let status = std::fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
        place.good(&["exec", "-d", &place.id, "sleep", "100"]);
        let (text, fd) = receive(&listener);
        assert_eq!(name(&fd), "anon_inode:seccomp notify");
        let told: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(told["state"]["status"], "running");
        assert_ne!(told["pid"], told["state"]["pid"]);
        place.good(&["delete", "-f", &place.id]);
        place.assert_nothing_left();
    }
}

#[test]
fn a_listener_without_anybody_to_hear_it_is_refused() {
    let Some(place) = Place::running("nobody", &["true"]) else { return };
    for (path, words) in [("/nonexistent/agent", "seccomp listener socket"), ("", "listenerPath")] {
        place.edit(|config| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
                "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
            });
        });
        let error = place.bad(1, &["run", &place.id]);
        assert!(error.contains(words), "{error}");
        place.assert_nothing_left();
    }
}

#[test]
fn a_pidfd_goes_to_its_socket() {
    let Some(place) = Place::running("pidfd", &["sleep", "100"]) else { return };
    let path = place.dir.path().join("pidfd");
    let listener = UnixListener::bind(&path).unwrap();
    place.good(&["run", "-d", "--pidfd-socket", path.to_str().unwrap(), &place.id]);
    let (text, fd) = receive(&listener);
    assert_eq!((text.as_slice(), name(&fd).as_str()), (b"standard".as_slice(), "anon_inode:[pidfd]"));
    let state: Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    assert!(info.contains(&format!("Pid:\t{}\n", state["pid"])), "{info}");
    place.good(&["exec", "-d", "--pidfd-socket", path.to_str().unwrap(), &place.id, "sleep", "100"]);
    assert_eq!(receive(&listener).0, b"setns");
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}
