#!/bin/sh
# Runs once per boot, as the service corten-vm: tells the host that the guest is up, waits for its word,
# then becomes the program that the host has put on the drive. A saved guest stands at the `read`. All that
# is printed goes to the host, which shows a line that it does not understand.
port=/dev/virtio-ports/corten
until [ -e "$port" ]; do sleep 0.1; done
exec <>"$port" >&0
systemctl is-system-running --wait >/dev/null 2>&1
# What systemd starts last should not run beside the tests.
sleep 3
echo ready
read -r clock
# Such as a C library that is older than the host's.
exec 2>&0
# The guest may have been saved days ago.
date -s "@$clock" >/dev/null
drive=/dev/disk/by-id/virtio-corten-work
# It was plugged in a moment ago.
for _ in $(seq 300); do [ -b "$drive" ] && break; sleep 0.1; done
mount -o ro "$drive" /mnt/work || { echo "the guest cannot mount its drive"; exit 1; }
exec /mnt/work/xtask vm-guest /mnt/work/job.json
