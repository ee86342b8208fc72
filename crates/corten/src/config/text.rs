//! The default configuration as text, with every key explained. A test holds it equal to the defaults.

/// What `corten config default` prints.
pub const DEFAULT: &str = r##"# Configuration of corten. Every key is shown with its default; a line that begins with "# " and a key is
# one whose default follows from others. Check a changed file with `corten config check FILE`.

# What survives a reboot: images, layers, metadata.
root = "/var/lib/corten"

# What does not: the socket, pods, locks. Give every daemon of a machine its own root and state.
state = "/run/corten"

[grpc]
# The Unix socket of the CRI endpoint, as a path or unix:///path. Unset: corten.sock in the state folder.
# address = "/run/corten/corten.sock"

[network]
# CNI network configurations. The first file by name is used; a file that arrives later is seen at once.
conf_dir = "/etc/cni/net.d"

# Where CNI plugin programs are looked for, in order.
bin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]

# Run loopback, bridge, host-local and portmap in this process instead of executing programs; one of them that
# uses an option we do not know is executed all the same. Set false to execute them always.
builtin_plugins = true

# Make a bridge network when conf_dir holds no configuration. Unset: the daemon does not, because the
# cluster brings the network; `corten run` without a daemon does.
# default_network = false

# IPv4 network of that bridge.
subnet = "10.88.0.0/16"

[registry]
# Mirrors and certificates per registry: HOST/hosts.toml files, in containerd's format. The folder need not
# exist. To share containerd's, set "/etc/containerd/certs.d".
config_path = "/etc/corten/certs.d"

[streaming]
# Where the kubelet will fetch exec, attach and port-forward streams. Streams are not served yet: the value is
# checked (loopback only) and has no effect.
address = "127.0.0.1:0"

[cgroups]
# Who makes cgroups: cgroupfs. It must be what the kubelet uses.
driver = "cgroupfs"

[snapshots]
# How layers become a root file system: overlayfs, native (copies, works everywhere), or auto, which takes
# overlayfs where it works.
snapshotter = "auto"

[runtimes.native]
# The program that runs one pod. Unset: corten-shim in the folder of the corten program.
# shim = "/usr/bin/corten-shim"

[log]
# The least important level that is written: error, warn, info, debug or trace.
level = "info"

# text for people, json for collectors.
format = "text"
"##;
