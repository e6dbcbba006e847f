#!/bin/sh
# The technician's bench without hardware: a board, an image, and two simulated FT232H, one of them
# with a bad wire. The code that runs is the code that drives real ones.
set -eu

out=${1:-demo-out}
ovmf=${OVMF:-/usr/share/OVMF}
mkdir -p "$out/config/hwflash/boards"
export HWFLASH_STATE_DIR="$out/state"
XDG_CONFIG_HOME=$(cd "$out/config" && pwd)
export XDG_CONFIG_HOME

# OVMF as it stands in a 4 MiB flash; and the same with one word of the code changed.
cat "$ovmf/OVMF_VARS_4M.fd" "$ovmf/OVMF_CODE_4M.fd" >"$out/OVMF.fd"
cp "$out/OVMF.fd" "$out/OVMF-changed.fd"
printf 'hwflash' | dd of="$out/OVMF-changed.fd" bs=1 seek=2097152 conv=notrunc status=none
[ -e "$out/board-1.bin" ] || cp "$out/OVMF.fd" "$out/board-1.bin"

cat >"$out/config/hwflash/boards/demo.toml" <<'TOML'
name = "demo"
description = "a simulated board with OVMF in 4 MiB"
[wiring]
connector = "SOIC-8 clip"
[flash]
chip = "W25Q32JV"
size = "4M"
[[region]]
name = "vars"
start = 0
length = 0x84000
[[region]]
name = "code"
start = 0x84000
length = 0x37C000
[nvram]
variables = { start = 0, length = 0x40000 }
work = { start = 0x41000, length = 0x1000 }
spare = { start = 0x42000, length = 0x42000 }
TOML

cat <<TEXT
Press Enter on the first board, choose the image $out/OVMF-changed.fd, then F5.
The second board has a long wire: press C on it.
TEXT
exec hwflash tui -p "sim://w25q32jv?image=$out/board-1.bin" \
    -p "sim://w25q32jv?image=$out/board-2.bin&seed=2&faults=flip=0.0003@12M"
