//! A systemd that we play, on a bus of our own: what the real one does rarely.

use crate::alone;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use systemd::{Bus, Properties, Scope};
use types::ErrorKind;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

type Values = Vec<(String, OwnedValue)>;
type Units = Vec<(String, Values)>;

/// What is asked of it, and in which mood it is.
struct Played {
    calls: Arc<Mutex<Vec<String>>>,
}

fn refusal(name: &str) -> zbus::fdo::Error {
    match name {
        "denied" => zbus::fdo::Error::AccessDenied("you may not".to_owned()),
        _ => zbus::fdo::Error::InvalidArgs("no such property".to_owned()),
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Played {
    async fn start_transient_unit(
        &self,
        name: String,
        mode: String,
        properties: Values,
        _more: Units,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        let names: Vec<String> = properties.into_iter().map(|(name, _)| name).collect();
        self.calls.lock().unwrap().push(format!("start {mode} {}", names.join(",")));
        let job = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap();
        let result = match name.as_str() {
            name if name.contains("denied") => return Err(refusal("denied")),
            name if name.contains("badarg") => return Err(refusal("badarg")),
            name if name.contains("never") => return Ok(job),
            name if name.contains("failing") => "failed",
            _ => "done",
        };
        // Another job of the same unit, which is not to be mistaken for ours.
        let other = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/6").unwrap();
        Self::job_removed(&emitter, 6, other, name.clone(), "canceled".to_owned()).await.unwrap();
        Self::job_removed(&emitter, 7, job.clone(), name, result.to_owned()).await.unwrap();
        Ok(job)
    }

    async fn stop_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        self.calls.lock().unwrap().push("stop".to_owned());
        let job = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/8").unwrap();
        Self::job_removed(&emitter, 8, job.clone(), name, "done".to_owned()).await.unwrap();
        Ok(job)
    }

    fn reset_failed_unit(&self, _name: String) {
        self.calls.lock().unwrap().push("reset".to_owned());
    }

    fn set_unit_properties(&self, _name: String, runtime: bool, properties: Values) {
        self.calls.lock().unwrap().push(format!("set {runtime} {}", properties.len()));
    }

    #[zbus(property)]
    fn version(&self) -> String {
        "243-1".to_owned()
    }

    #[zbus(property)]
    fn control_group(&self) -> String {
        "/user.slice/user-7.slice/user@7.service".to_owned()
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

/// A bus, ended when dropped.
struct Daemon {
    child: Child,
    address: String,
}

impl Daemon {
    fn new() -> Option<Self> {
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--nosyslog", "--print-address"]);
        let mut child =
            match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
                Ok(child) => child,
                Err(error) => {
                    eprintln!("skipped: there is no dbus-daemon: {error}");
                    return None;
                }
            };
        let mut address = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut address).unwrap();
        Some(Daemon { child, address: address.trim().to_owned() })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn scope(name: &str) -> Scope {
    Scope::parse(&format!(":played:{name}"), name, Bus::User).unwrap()
}

#[test]
fn child_that_meets_a_played_systemd() {
    if std::env::var_os("CORTEN_TEST_PLAYED").is_none() {
        return;
    }
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let played = Played { calls: calls.clone() };
    let player = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _service = player.block_on(async {
        let builder = zbus::connection::Builder::address(address.as_str()).unwrap();
        let builder = builder.serve_at("/org/freedesktop/systemd1", played).unwrap();
        builder.name("org.freedesktop.systemd1").unwrap().build().await.unwrap()
    });
    let taken = || std::mem::take(&mut *calls.lock().unwrap());
    let patience = Duration::from_secs(5);
    let mut limits = cgroups::Limits { pids: Some(5), ..cgroups::Limits::default() };
    limits.cpu.cpus = "0".to_owned();
    let properties = Properties::of_limits(&limits, cgroups::Mode::V2).unwrap();

    scope("good").start(1, &properties, patience).unwrap();
    let started = taken();
    assert_eq!(started.len(), 1);
    assert!(started[0].starts_with("start fail Description,Slice,Delegate,PIDs,"), "{started:?}");
    // This one is of version 243, and AllowedCPUs came with 244.
    assert!(started[0].contains("TasksMax") && !started[0].contains("AllowedCPUs"), "{started:?}");

    let group = scope("good").cgroup(patience).unwrap();
    assert_eq!(group, "/user.slice/user-7.slice/user@7.service/user.slice/played-good.scope");

    scope("good").update(&properties, patience).unwrap();
    scope("good").update(&Properties::default(), patience).unwrap();
    scope("good").stop(patience).unwrap();
    assert_eq!(taken(), ["set true 1", "stop", "reset"]);

    for (name, kind, words) in [
        ("denied", ErrorKind::PermissionDenied, "you may not"),
        ("badarg", ErrorKind::InvalidArgument, "no such property"),
        ("failing", ErrorKind::FailedPrecondition, "its job ended as \"failed\""),
    ] {
        let error = scope(name).start(1, &Properties::default(), patience).unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.chain());
        assert!(error.message().contains(words), "{}", error.chain());
    }
    taken();
    let error = scope("never").start(1, &Properties::default(), Duration::from_millis(400)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", error.chain());
    assert_eq!(taken()[1..], ["stop", "reset"], "a start that came too late is taken back");
    println!("played");
}

#[test]
fn a_systemd_that_fails_denies_or_forgets_is_an_error_and_one_of_another_job_is_not_believed() {
    let Some(daemon) = Daemon::new() else { return };
    let variables = [("CORTEN_TEST_PLAYED", "1"), ("DBUS_SESSION_BUS_ADDRESS", daemon.address.as_str())];
    assert!(alone("played::child_that_meets_a_played_systemd", &variables).contains("played"));
}
