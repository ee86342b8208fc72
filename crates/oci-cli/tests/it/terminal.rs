//! A terminal's master comes over the console socket.

use super::Place;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

fn master(listener: &UnixListener) -> (String, OwnedFd) {
    let (socket, _) = listener.accept().unwrap();
    let mut name = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(&socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (String::from_utf8_lossy(&name[..got.bytes]).into_owned(), fd.unwrap())
}

fn read_all(master: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // The end of a terminal whose last process ended is EIO (pty(7)).
    let _ = std::fs::File::from(master).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_master_of_a_terminal_goes_over_the_console_socket() {
    let Some(place) = Place::running("terminal", &["sh", "-c", "tty; test -t 0 && echo yes"]) else { return };
    place.edit(|config| config["process"]["terminal"] = json!(true));
    // Longer than a socket's name may be.
    let deep = place.dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let path = deep.join("console");
    let here = std::fs::File::open(&deep).unwrap();
    let listener = {
        use std::os::fd::AsRawFd;
        UnixListener::bind(format!("/proc/self/fd/{}/console", here.as_raw_fd())).unwrap()
    };
    // Its pipes end with `create`, although the container waits: containerd reads them to the end.
    let created = place.run(&["create", "--console-socket", path.to_str().unwrap(), &place.id]);
    assert!(created.status.success(), "{created:?}");
    assert_eq!(place.status(), "created");
    let (name, fd) = master(&listener);
    assert!(name.starts_with("/dev/pts/"), "{name}");
    place.good(&["start", &place.id]);
    let text = read_all(fd);
    assert!(text.contains("/dev/pts/") && text.contains("yes"), "{text:?}");
    place.await_status("stopped");
    place.good(&["delete", &place.id]);
    place.edit(|config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sleep", "100"]);
    });
    place.good(&["run", "-d", &place.id]);
    place.good(&["exec", "-d", "-t", "--console-socket", path.to_str().unwrap(), &place.id, "tty"]);
    let (_, fd) = master(&listener);
    assert!(read_all(fd).contains("/dev/pts/"));
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

/// A program on a terminal of its own, whose slave is its standard input, output and error.
fn on_a_terminal(mut command: std::process::Command) -> (std::process::Child, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = rustix::termios::Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    let copy = || std::process::Stdio::from(slave.try_clone().unwrap());
    let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
    (child, master)
}

#[test]
fn in_the_foreground_the_terminal_is_relayed_and_the_callers_own_restored() {
    use std::io::Write;
    let Some(place) =
        Place::running("relay", &["sh", "-c", "tty; busybox stty size; read line; echo got-$line; exit 4"])
    else {
        return;
    };
    place.edit(|config| config["process"]["terminal"] = json!(true));
    let (mut child, master) = on_a_terminal(place.command(&["run", &place.id]));
    let before = rustix::termios::tcgetattr(&master).unwrap().local_modes;
    let mut terminal = std::fs::File::from(master.try_clone().unwrap());
    let mut seen = String::new();
    let mut until = |terminal: &mut std::fs::File, words: &str| {
        let mut bytes = [0; 1024];
        while !seen.contains(words) {
            let count = terminal.read(&mut bytes).unwrap();
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        seen.clone()
    };
    let text = until(&mut terminal, "33 99");
    assert!(text.contains("/dev/pts/"), "{text}");
    assert_ne!(rustix::termios::tcgetattr(&master).unwrap().local_modes, before, "it is raw meanwhile");
    terminal.write_all(b"typed\n").unwrap();
    until(&mut terminal, "got-typed");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert_eq!(rustix::termios::tcgetattr(&master).unwrap().local_modes, before);
    place.assert_nothing_left();
    // Without a terminal of the caller's, and for an exec.
    place.edit(|config| config["process"]["args"] = json!(["sh", "-c", "tty; exit 4"]));
    let output = place.run(&["run", &place.id]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(place.bad(1, &["create", &place.id]).contains("--console-socket"));
    place.edit(|config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sleep", "100"]);
    });
    place.good(&["run", "-d", &place.id]);
    let exec = place.run(&["exec", "-t", &place.id, "sh", "-c", "tty; exit 5"]);
    assert_eq!(exec.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&exec.stdout).contains("/dev/pts/"), "{exec:?}");
    // Who writes on after the program's end keeps nobody.
    let exec = place.run(&["exec", "-t", &place.id, "sh", "-c", "trap '' HUP; busybox yes & exit 5"]);
    assert_eq!(exec.status.code(), Some(5));
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}
