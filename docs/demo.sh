#!/bin/sh
# The main job, start to end, on a simulated FT232H: no hardware is needed. The code that runs
# is the code that drives a real FT232H; only the USB device below it is simulated. With an
# FT232H on the desk, leave out -p.
set -eu

out=${1:-demo-out}
ovmf=${OVMF:-/usr/share/OVMF}
rm -rf "$out"
mkdir -p "$out"
export HWFLASH_STATE_DIR="$out/state"
export HWFLASH_PROGRAMMER="sim://w25q32jv?image=$out/chip.bin"

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "$@"; "$@"; }

# OVMF as it stands in a 4 MiB flash: the variable store below, the code above.
cat "$ovmf/OVMF_VARS_4M.fd" "$ovmf/OVMF_CODE_4M.fd" >"$out/OVMF.fd"

run hwflash probe
run hwflash write "$out/OVMF.fd" --dry-run
run hwflash write "$out/OVMF.fd" --yes
run hwflash verify "$out/OVMF.fd"
run hwflash read "$out/back.fd"
run cmp "$out/OVMF.fd" "$out/back.fd"

# One byte of the code changes: one small erase, and only what it touches is read back.
cp "$out/OVMF.fd" "$out/changed.fd"
printf 'hwflash' | dd of="$out/changed.fd" bs=1 seek=2097152 conv=notrunc status=none
run hwflash write "$out/changed.fd" --yes

# The power fails in the middle of a write; the journal goes on from there.
export HWFLASH_PROGRAMMER="sim://w25q32jv?image=$out/chip.bin&power_cut=40"
say "hwflash write $out/OVMF.fd --range 0x84000:256K --yes    # the power fails"
dd if=/dev/urandom of="$out/part.bin" bs=256K count=1 status=none
hwflash write "$out/part.bin" --range 0x84000:256K --yes && exit 1
export HWFLASH_PROGRAMMER="sim://w25q32jv?image=$out/chip.bin"
run hwflash write --resume --yes
run hwflash verify "$out/part.bin" --at 0x84000
run hwflash write --restore "$(ls -t "$out"/state/backups/*.bin | head -n 1)" --yes
run hwflash verify "$out/changed.fd"

# A UEFI variable on the chip: programmed in place, also when the power fails in the middle.
store="sim://w25q32jv?image=$out/chip.bin"
run hwflash vars set "$store" Timeout --u16 3 --yes
say "hwflash vars set \"$store&power_cut=4\" Timeout --u16 7 --yes    # the power fails"
hwflash vars set "$store&power_cut=4" Timeout --u16 7 --yes && exit 1
run hwflash vars get "$store" Timeout
run hwflash ftw recover "$store" --yes
run hwflash vars set "$store" Timeout --u16 7 --yes
run hwflash vars check "$store"

printf '\nThe chip holds the image; %s has everything that was made.\n' "$out"
