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

[images]
# Images that the kubelet's collection and `corten rmi --prune` leave alone: references, or patterns in which * stands
# for any text: ["registry.k8s.io/pause:*"].
pinned = []

# Keep no compressed layer once it is unpacked. It takes less disk; a push or an export has to fetch layers again, and
# `corten images check` cannot see into unpacked files.
discard_unpacked = false

# Space that stays free in the file system of root: a pull that would need it is refused. Bytes, or with KiB, MiB, GiB or
# TiB; "0" lets the disk be filled.
min_free = "256MiB"

# What one layer, and all layers of one image, may unpack to. A layer that is longer is refused as soon as it is.
max_layer_bytes = "64GiB"
max_image_bytes = "256GiB"

# How many times its compressed size a layer may unpack to. It is looked at behind the first GiB; 0 is no bound. Real
# layers are below 20, a bomb is near 1000.
max_layer_ratio = 250

# Which images may be used, in the form of containers-policy.json(5): insecureAcceptAnything, reject, and
# sigstoreSigned with keys. Unset: any image. It is read at each pull.
# policy = "/etc/containers/policy.json"

# Private keys (PEM, one in a file) that open encrypted layers. The folder need not exist.
decryption_keys = "/etc/corten/keys.d"

[registry]
# Mirrors and certificates per registry: HOST/hosts.toml files, in containerd's format, or Docker's *.crt, *.cert and
# *.key files. The folder need not exist. To share containerd's, set "/etc/containerd/certs.d". It is read at each pull.
config_path = "/etc/corten/certs.d"

# Mirrors, blocked registries and short names in the form of CRI-O's and Podman's registries.conf, version 2, with its
# drop-ins in the folder of the same name and .d. It is read at each pull. Unset: short names are Docker Hub's.
# registries_conf = "/etc/containers/registries.conf"

# Blobs that are fetched at the same time, by all pulls together.
max_concurrent_downloads = 8

# A registry that makes no progress for so long, by silence, by next to nothing or by asking to wait, ends the pull.
progress_timeout = "60s"

[streaming]
# Where the kubelet will fetch exec, attach and port-forward streams. Streams are not served yet: the value is
# checked (loopback only) and has no effect.
address = "127.0.0.1:0"

[cgroups]
# Who makes cgroups: cgroupfs. It must be what the kubelet uses.
driver = "cgroupfs"

[snapshots]
# How layers become a root file system: overlayfs, erofs (layers in image files), btrfs (subvolumes), native
# (copies, works everywhere), proxy (another process keeps them),
# devmapper (thin devices), zfs, or auto, which takes overlayfs where it works.
snapshotter = "auto"

# The most that the writable layer of one container takes: in the container the disk is full at that size. Bytes, or with
# KiB, MiB, GiB or TiB; 0 is no bound. Each container gets a file system of its own in a
# file, which takes mkfs.ext4; one in a user namespace a project quota, where root's file system has that. With
# overlayfs and erofs only.
writable_quota = "0"

[snapshots.proxy]
# The Unix socket of a snapshotter that speaks containerd's snapshots API, such as stargz's, for snapshotter = "proxy".
# address = "/run/containerd-stargz-grpc/containerd-stargz-grpc.sock"

# Its name there, for a server that has several.
snapshotter = "overlayfs"

[snapshots.devmapper]
# A thin pool that exists, by its name below /dev/mapper, for snapshotter = "devmapper".
# pool = "pool"

# The size of the file system of each layer and container.
base_size = "10GiB"

[snapshots.zfs]
# The data set below which layers and containers are made, for snapshotter = "zfs".
# dataset = "pool/corten"

[runtimes.native]
# The program that runs one pod. Unset: corten-shim in the folder of the corten program.
# shim = "/usr/bin/corten-shim"

[log]
# The least important level that is written: error, warn, info, debug or trace.
level = "info"

# text for people, json for collectors.
format = "text"
"##;
