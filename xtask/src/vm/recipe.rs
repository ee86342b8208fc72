//! What is in the guest: Debian's packages, a few files of ours, and the steps after them.
//!
//! The guest's folder is named after a hash of everything here, so a change makes a new guest. Nothing in
//! this file is done to the host.

use sha2::{Digest, Sha256};

/// The release. Test programs are built on the host and run here: its C library must not be newer.
pub const SUITE: &str = "bookworm";

/// What is there beside Debian's smallest set.
pub const PACKAGES: &[&str] = &[
    "linux-image-cloud-amd64",
    // systemd as pid 1, with D-Bus for scopes.
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "udev",
    "kmod",
    "procps",
    // What this kind of node has and a container host may lack.
    "apparmor",
    "dmsetup",
    "thin-provisioning-tools",
    "btrfs-progs",
    "e2fsprogs",
    "nftables",
    "iptables",
    "iproute2",
    // What tests run and compare with.
    "busybox-static",
    "conmon",
    "containerd",
    "containernetworking-plugins",
    "crun",
    // The bus of a user's own systemd.
    "dbus-user-session",
    "libcap2-bin",
    "podman",
    "runc",
    "strace",
    "uidmap",
    "util-linux",
];

/// Path, text, and whether it is a program.
pub const FILES: &[(&str, &str, bool)] = &[
    ("usr/local/sbin/corten-vm", include_str!("guest/agent.sh"), true),
    (
        "etc/systemd/system/corten-vm.service",
        "[Unit]\nDescription=Runs what the host sends\nAfter=multi-user.target\n\n\
         [Service]\nType=exec\nExecStart=/usr/local/sbin/corten-vm\nDelegate=yes\nTasksMax=infinity\n\
         LimitNOFILE=1048576\nLimitNPROC=infinity\nKillMode=process\n\n[Install]\nWantedBy=multi-user.target\n",
        false,
    ),
    // For `--keep`: root without a password on the console, which only the host's user can reach.
    (
        "etc/systemd/system/serial-getty@ttyS0.service.d/login.conf",
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty -a root --keep-baud 115200 %I $TERM\n",
        false,
    ),
    ("etc/hostname", "corten-vm\n", false),
    ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 corten-vm\n::1 localhost\n", false),
    ("etc/fstab", "/dev/vda / ext4 rw,noatime 0 0\n", false),
    ("etc/machine-id", "00000000000000000000000000c0e7e4\n", false),
    ("etc/modules-load.d/corten.conf", "overlay\nbr_netfilter\nbtrfs\ndm_thin_pool\n", false),
    (
        "etc/sysctl.d/90-corten.conf",
        "net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1\nkernel.printk=4 4 1 7\n\
         fs.inotify.max_user_instances=1024\n",
        false,
    ),
    ("etc/systemd/journald.conf.d/corten.conf", "[Journal]\nStorage=volatile\n", false),
    // The ordinary user of `STEPS` has a systemd of its own from the start on.
    ("var/lib/systemd/linger/corten", "\n", false),
    // An interpreted machine is slow; nothing of systemd's may give up for that.
    (
        "etc/systemd/system.conf.d/corten.conf",
        "[Manager]\nDefaultTimeoutStartSec=600\nDefaultDeviceTimeoutSec=600\n",
        false,
    ),
];

/// Run in the guest's root, in this order.
pub const STEPS: &[&[&str]] = &[
    &["passwd", "-d", "root"],
    &["mkdir", "-p", "/mnt/work"],
    &["useradd", "--create-home", "--uid", "1000", "--shell", "/bin/sh", "corten"],
    &["systemctl", "enable", "corten-vm.service", "apparmor.service"],
    &["systemctl", "set-default", "multi-user.target"],
    // What would wake up in the middle of a test.
    &[
        "systemctl",
        "mask",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "e2scrub_reap.service",
        "fstrim.timer",
        "systemd-tmpfiles-clean.timer",
        "getty@tty1.service",
        "systemd-random-seed.service",
        // Tests start what they need, with folders of their own.
        "containerd.service",
        "podman.service",
        "podman.socket",
        "podman-auto-update.service",
        "podman-auto-update.timer",
        "podman-restart.service",
    ],
    // Not needed, and what is not there need not be copied.
    &[
        "sh",
        "-c",
        "rm -rf /var/cache/apt/* /var/lib/apt/lists/* /usr/share/doc/* /usr/share/locale/* /usr/share/man/*",
    ],
];

/// The size of the root file system. The file is sparse.
pub const SIZE: &str = "8G";

/// The name of a guest made by this recipe.
pub fn key() -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        // With its length, so that no two lists look the same.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    [SUITE, SIZE].into_iter().chain(PACKAGES.iter().copied()).for_each(&mut add);
    for (path, text, program) in FILES {
        [*path, *text, if *program { "program" } else { "text" }].into_iter().for_each(&mut add);
    }
    STEPS.iter().for_each(|step| step.iter().copied().for_each(&mut add));
    short(&hash.finalize())
}

/// The first 48 bits in hexadecimal: enough to tell the few guests of one machine apart.
pub fn short(digest: &[u8]) -> String {
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_of_one_length_and_files_stay_below_the_root() {
        assert_eq!(key().len(), 12);
        assert_eq!(key(), key());
        for (path, text, _) in FILES {
            assert!(!path.starts_with('/') && !path.contains("..") && text.ends_with('\n'), "{path}");
        }
    }
}
