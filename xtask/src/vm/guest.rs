//! One guest: booted or gone on from its saved state, given a drive, listened to, ended.
//!
//! What it writes to its root file system is thrown away.

use super::image::Image;
use super::machine::{Accelerator, Disk, command};
use super::monitor::Monitor;
use super::place::Passing;
use super::process::{Process, tail};
use crate::steps::interrupted;
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// How long QEMU may take until it has connected to us.
const START: Duration = Duration::from_secs(30);
/// How long a saved guest may take until it goes on; reading its memory is most of it.
const RESUME: Duration = Duration::from_secs(60);
/// How long an interpreted kernel may take until everything is up, on a machine that is busy with other work.
const BOOT: Duration = Duration::from_secs(420);
/// The same on the processor.
const BOOT_KVM: Duration = Duration::from_secs(60);
/// How often we look whether to go on waiting.
const LOOK: Duration = Duration::from_millis(200);
/// The longest line of a guest: the output of a test, which is cut there too.
const LINE: usize = 1 << 20;

/// It runs until it is dropped.
pub struct Guest<'a> {
    process: Process,
    monitor: Monitor,
    port: UnixStream,
    /// What came from the guest and is no whole line yet.
    rest: Vec<u8>,
    run: &'a Passing,
}

impl<'a> Guest<'a> {
    /// Goes on from a saved state.
    pub fn resume(
        image: &Image,
        saved: &Path,
        accelerator: Accelerator,
        run: &'a Passing,
    ) -> Result<Self, String> {
        let disk = saved.join("root.img");
        let disk = Disk { path: &disk, lasting: false };
        let mut guest = Self::start(image, &disk, Some(&saved.join("state")), accelerator, run)?;
        let end = Instant::now() + RESUME;
        loop {
            let status = guest.monitor.ask("query-status", json!({}))?;
            match status["status"].as_str() {
                Some("running") => return Ok(guest),
                // As it was when it was saved.
                Some("paused") => drop(guest.monitor.ask("cont", json!({}))?),
                Some("inmigrate") => {}
                other => return Err(format!("QEMU is {other:?}\n{}", guest.said())),
            }
            guest.wait(end, "go on from its saved state")?;
        }
    }

    /// Boots and waits until everything is up.
    pub fn boot(
        image: &Image,
        disk: &Disk,
        accelerator: Accelerator,
        run: &'a Passing,
    ) -> Result<Self, String> {
        let mut guest = Self::start(image, disk, None, accelerator, run)?;
        let patience = if accelerator == Accelerator::Kvm { BOOT_KVM } else { BOOT };
        match guest.line(Instant::now() + patience)? {
            Some(word) if word == "ready" => Ok(guest),
            Some(other) => Err(format!("the guest said {other:?} where it says that it is ready")),
            None => Err(format!("the guest did not boot within {patience:?}\n{}", guest.said())),
        }
    }

    fn start(
        image: &Image,
        disk: &Disk,
        state: Option<&Path>,
        accelerator: Accelerator,
        run: &'a Passing,
    ) -> Result<Self, String> {
        // QEMU connects to us: what the guest says is then never lost.
        let [port, monitor] = ["port", "monitor"].map(|name| listen(&run.path().join(name)));
        let (port, monitor) = (port?, monitor?);
        let words = command(accelerator, image, disk, state, run.path());
        let mut process = Process::start(words, &[], &run.path().join("qemu.log"))?;
        let end = Instant::now() + START;
        let mut accepted = |listener: UnixListener| loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    return stream.set_nonblocking(false).map(|()| stream).map_err(|said| said.to_string());
                }
                Err(said) if said.kind() != ErrorKind::WouldBlock => return Err(said.to_string()),
                Err(_) if !process.runs() => return Err("it ended".to_owned()),
                Err(_) if interrupted() => return Err("interrupted".to_owned()),
                Err(_) if Instant::now() > end => return Err(format!("it took longer than {START:?}")),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let streams = accepted(port).and_then(|port| Ok((port, accepted(monitor)?)));
        let (port, monitor) = streams.map_err(|why| {
            format!("QEMU did not start: {why}\n{}", tail(&run.path().join("qemu.log"), 10))
        })?;
        port.set_read_timeout(Some(LOOK))
            .map_err(|said| format!("cannot limit the wait for the guest: {said}"))?;
        Ok(Self { process, monitor: Monitor::new(monitor)?, port, rest: Vec::new(), run })
    }

    /// Plugs in a drive, which the guest finds by its serial number, and lets the guest go to work on it.
    pub fn send(&mut self, drive: &Path) -> Result<(), String> {
        let file = json!({ "driver": "file", "filename": drive, "read-only": true });
        let node = json!({ "driver": "raw", "node-name": "work", "read-only": true, "file": file });
        self.monitor.ask("blockdev-add", node)?;
        let device =
            json!({ "driver": "virtio-blk-pci", "id": "work", "drive": "work", "serial": "corten-work" });
        self.monitor.ask("device_add", device)?;
        let clock = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        writeln!(self.port, "{}", clock.as_secs())
            .map_err(|said| format!("the guest does not listen: {said}"))
    }

    /// The guest's next line; `None` when there was none until `end`.
    pub fn line(&mut self, end: Instant) -> Result<Option<String>, String> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..at]).trim_end().to_owned()));
            }
            if self.rest.len() > LINE {
                return Err("the guest sends a line that does not end".to_owned());
            }
            let mut buffer = [0; 8192];
            match self.port.read(&mut buffer) {
                Ok(0) => return Err(format!("the guest is down\n{}", self.said())),
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
                Err(said)
                    if matches!(
                        said.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) =>
                {
                    if interrupted() {
                        return Err("interrupted".to_owned());
                    }
                    if Instant::now() > end {
                        return Ok(None);
                    }
                }
                Err(said) => return Err(format!("the guest is down: {said}\n{}", self.said())),
            }
        }
    }

    /// Writes memory and devices to a file. The guest is not used after that.
    pub fn save(mut self, state: &Path) -> Result<(), String> {
        self.monitor.ask("stop", json!({}))?;
        self.monitor.ask("migrate-set-parameters", json!({ "max-bandwidth": 1_u64 << 34 }))?;
        let target = format!("exec:cat > {}", super::machine::quoted(state));
        self.monitor.ask("migrate", json!({ "uri": target }))?;
        let end = Instant::now() + RESUME;
        loop {
            let status = self.monitor.ask("query-migrate", json!({}))?;
            match status["status"].as_str() {
                Some("completed") => break,
                Some("failed" | "cancelled") => {
                    return Err(format!("QEMU could not save the guest\n{}", self.said()));
                }
                _ => self.wait(end, "be saved")?,
            }
        }
        // It ends in order, so that its disk is whole.
        self.monitor.ask("quit", json!({}))?;
        self.process.end_within(START).map(drop).ok_or_else(|| "QEMU does not end".to_owned())
    }

    fn wait(&mut self, end: Instant, what: &str) -> Result<(), String> {
        if interrupted() {
            return Err("interrupted".to_owned());
        }
        if !self.process.runs() || Instant::now() > end {
            return Err(format!("the guest did not {what}\n{}", self.said()));
        }
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    }

    /// The ends of QEMU's log and of the guest's console.
    fn said(&self) -> String {
        let of = |name| tail(&self.run.path().join(name), 15);
        format!("QEMU:\n{}the guest's console:\n{}", of("qemu.log"), of("console.log"))
    }
}

fn listen(path: &Path) -> Result<UnixListener, String> {
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|said| format!("cannot listen at {}: {said}", path.display()))
}
