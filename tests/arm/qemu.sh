#!/bin/sh
# Unpacks QEMU's user emulation of aarch64 from Debian's unstable suite, where it is one static program, into the folder given,
# beside the system and not into it. `sh qemu.sh FOLDER` leaves FOLDER/qemu-aarch64. Exit code 3: not to be had here.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -x "$folder/qemu-aarch64" ] && exit 0
. "$(dirname "$0")/../../editors/debian.sh"
debian_unpack "$folder" qemu-user
mv "$folder/tree/usr/bin/qemu-aarch64" "$folder/qemu-aarch64.new"
# It comes with forty other CPUs.
rm -rf "$folder/tree"
"$folder/qemu-aarch64.new" --version | head -n 1
mv "$folder/qemu-aarch64.new" "$folder/qemu-aarch64"
