//! Without a systemd that answers.

use crate::alone;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use systemd::{Bus, Properties, Scope};
use types::ErrorKind;

fn start(bus: Bus, patience: Duration) -> types::Error {
    let scope = Scope::parse("", "none", bus).unwrap();
    scope.start(std::process::id() as i32, &Properties::default(), patience).unwrap_err()
}

#[test]
fn a_machine_without_systemd_says_so_in_one_sentence() {
    if std::path::Path::new("/run/systemd/system").is_dir() {
        eprintln!("skipped: this machine was started with systemd");
        return;
    }
    let error = start(Bus::System, Duration::from_secs(5));
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.chain().contains("not started with systemd"), "{}", error.chain());
    assert!(!error.chain().contains('\n'));
}

#[test]
fn child_whose_bus_is_missing() {
    if std::env::var_os("CORTEN_TEST_MISSING").is_none() {
        return;
    }
    for bus in [Bus::System, Bus::User] {
        let error = start(bus, Duration::from_secs(5));
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        assert!(error.chain().contains("cannot reach systemd at /nowhere/bus"), "{}", error.chain());
    }
    println!("refused");
}

#[test]
fn a_bus_that_is_not_there_is_named() {
    let address = "unix:path=/nowhere/bus";
    let variables = [
        ("CORTEN_TEST_MISSING", "1"),
        ("DBUS_SYSTEM_BUS_ADDRESS", address),
        ("DBUS_SESSION_BUS_ADDRESS", address),
    ];
    assert!(alone("absent::child_whose_bus_is_missing", &variables).contains("refused"));
}

#[test]
fn child_whose_bus_is_silent() {
    let Some(patience) = std::env::var_os("CORTEN_TEST_SILENT") else { return };
    let patience = Duration::from_millis(patience.to_str().unwrap().parse().unwrap());
    let start_of_wait = Instant::now();
    let error = start(Bus::System, patience);
    // The undo of a start that came too late has the same patience again; the rest is for machines that are emulated.
    assert!(start_of_wait.elapsed() < patience * 2 + Duration::from_secs(15));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", error.chain());
    println!("late");
}

#[test]
fn a_bus_that_never_answers_costs_no_more_than_the_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bus");
    let _listener = UnixListener::bind(&socket).unwrap();
    let address = format!("unix:path={}", socket.display());
    let variables = [("CORTEN_TEST_SILENT", "300"), ("DBUS_SYSTEM_BUS_ADDRESS", address.as_str())];
    assert!(alone("absent::child_whose_bus_is_silent", &variables).contains("late"));
}

#[test]
fn child_whose_bus_talks_rubbish() {
    if std::env::var_os("CORTEN_TEST_RUBBISH").is_none() {
        return;
    }
    let error = start(Bus::System, Duration::from_secs(3));
    assert!(
        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded),
        "{}",
        error.chain()
    );
    println!("refused");
}

#[test]
fn a_bus_that_talks_rubbish_is_an_error() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bus");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().take(4).flatten() {
            let _ = stream.write_all(b"OK \xff\xfe rubbish\r\nl\x01\x00\x01\xff\xff\xff\xff");
        }
    });
    let address = format!("unix:path={}", socket.display());
    let variables = [("CORTEN_TEST_RUBBISH", "1"), ("DBUS_SYSTEM_BUS_ADDRESS", address.as_str())];
    assert!(alone("absent::child_whose_bus_talks_rubbish", &variables).contains("refused"));
}
