//! The machine that QEMU makes: its processor, memory, devices, and the kernel's command line.
//!
//! A saved guest goes on only in a machine that is exactly the same, so what is here is part of the name
//! under which a guest is saved. What differs from run to run is plugged in later.

use super::image::Image;
use super::recipe;
use crate::steps::read;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";
/// Processors: as many tests run at once.
pub const PROCESSORS: u32 = 2;
/// MiB of memory.
const MEMORY: u32 = 2048;
/// `mitigations`, `nokaslr`, `nowatchdog`, the clock and RCU words: an interpreted kernel is slow and its
/// time jumps when it goes on from a file; none of that is what tests are about.
const KERNEL: &str = "console=ttyS0 root=/dev/vda rw panic=-1 net.ifnames=0 psi=1 apparmor=1 \
    security=apparmor systemd.unified_cgroup_hierarchy=1 fsck.mode=skip quiet systemd.show_status=0 \
    systemd.getty_auto=0 audit=0 mitigations=off nokaslr nowatchdog no_timer_check tsc=reliable \
    rcupdate.rcu_cpu_stall_suppress=1";

/// Who executes the guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU: some 20 times slower, and 60 times where processes are made.
    Interpreter,
}

impl Accelerator {
    /// KVM with VMX or SVM below it. `/dev/kvm` alone says little: with `kvm_pvm` it cannot run a stock
    /// kernel at any useful speed.
    pub fn here() -> Self {
        let module = |name: &str| Path::new("/sys/module").join(name).is_dir();
        let device = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
        if device && !module("kvm_pvm") && (module("kvm_intel") || module("kvm_amd")) {
            Accelerator::Kvm
        } else {
            Accelerator::Interpreter
        }
    }

    fn words(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Page tables of five levels are only slower to walk.
            Accelerator::Interpreter => ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off"],
        }
    }
}

/// The machine without what it boots from.
fn fixed(accelerator: Accelerator) -> Vec<String> {
    let mut words: Vec<String> = [QEMU, "-name", "corten-vm", "-nodefaults", "-no-user-config", "-no-reboot"]
        .into_iter()
        .chain(["-display", "none", "-machine", "pc,usb=off"])
        .chain(accelerator.words())
        .map(str::to_owned)
        .collect();
    words.extend(["-smp".to_owned(), PROCESSORS.to_string(), "-m".to_owned(), format!("{MEMORY}M")]);
    for device in [
        "virtio-blk-pci,drive=root",
        "virtio-rng-pci",
        "virtio-serial-pci",
        "virtserialport,chardev=port,nr=1,name=corten",
    ] {
        words.extend(["-device".to_owned(), device.to_owned()]);
    }
    words.extend(["-serial".to_owned(), "chardev:console".to_owned()]);
    words.extend(["-mon".to_owned(), "chardev=monitor,mode=control".to_owned()]);
    words.extend(["-append".to_owned(), KERNEL.to_owned()]);
    words
}

/// The name of a saved guest: of this machine, QEMU's version, the accelerator, and under KVM the processor.
pub fn key(accelerator: Accelerator) -> Result<String, String> {
    let version = read(Command::new(QEMU).arg("--version"))?;
    let processors = match accelerator {
        Accelerator::Kvm => std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
        Accelerator::Interpreter => String::new(),
    };
    let model = processors.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    Ok(recipe::short(&Sha256::digest(fixed(accelerator).join(" ") + &version + model)))
}

/// Where a machine's root file system comes from, and whether what it writes there stays.
pub struct Disk<'a> {
    /// The image.
    pub path: &'a Path,
    /// It is written to. Else writes go to a file of QEMU's that nobody else sees.
    pub lasting: bool,
}

/// The whole command. The sockets `port` and `monitor` in `run` must be listened on; `console` is made there.
pub fn command(
    accelerator: Accelerator,
    image: &Image,
    disk: &Disk,
    state: Option<&Path>,
    run: &Path,
) -> Vec<OsString> {
    let snapshot = if disk.lasting { "off" } else { "on" };
    let [port, monitor, console, log] =
        ["port", "monitor", "console", "console.log"].map(|name| option(&run.join(name)));
    let mut words: Vec<OsString> = Vec::new();
    words.extend(fixed(accelerator).into_iter().map(OsString::from));
    words.extend(["-kernel".into(), image.kernel().into(), "-initrd".into(), image.initrd().into()]);
    for (name, value) in [
        (
            "-drive",
            format!(
                "if=none,id=root,file={},format=raw,snapshot={snapshot},cache=unsafe,discard=unmap",
                option(disk.path)
            ),
        ),
        ("-chardev", format!("socket,id=port,path={port}")),
        ("-chardev", format!("socket,id=monitor,path={monitor}")),
        ("-chardev", format!("socket,id=console,path={console},server=on,wait=off,logfile={log}")),
    ] {
        words.extend([name.into(), value.into()]);
    }
    if let Some(state) = state {
        words.extend(["-incoming".into(), format!("exec:cat {}", quoted(state)).into()]);
    }
    words
}

/// A path in an option's list: commas are doubled (qemu(1), "-drive").
fn option(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A path as one word of a shell's command.
pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_stay_one_word() {
        assert_eq!(option(Path::new("/a,b")), "/a,,b");
        assert_eq!(quoted(Path::new("/it's")), "'/it'\\''s'");
    }

    #[test]
    fn only_a_saved_guest_waits_for_a_state() {
        let image = Image { folder: "/guest".into() };
        let disk = Disk { path: Path::new("/guest/root.img"), lasting: false };
        let words = |state| {
            command(Accelerator::Interpreter, &image, &disk, state, Path::new("/run"))
                .join(std::ffi::OsStr::new(" "))
                .into_string()
                .expect("text")
        };
        assert!(!words(None).contains("-incoming"));
        assert!(words(Some(Path::new("/state"))).ends_with("-incoming exec:cat '/state'"));
    }
}
