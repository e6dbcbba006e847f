"""Time to find and list the variables of a 16 MiB dump, beside virt-firmware in the same run.

    python benchmarks/read_store.py [path of virt-fw-vars]

Both are run as whole programs, on the same file: 16 MiB of FF with the store of
OVMF_VARS_4M.ms.fd at 12 MiB and OVMF's code behind it, as a board's flash has it. virt-firmware
is GPL and is run only, never imported; it is left out when it is not there.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OVMF = Path("/usr/share/OVMF")
SIZE = 16 << 20
PLACE = 12 << 20
RUNS = 7


def dump() -> bytes:
    image = bytearray(b"\xff" * SIZE)
    parts = [(OVMF / name).read_bytes() for name in ("OVMF_VARS_4M.ms.fd", "OVMF_CODE_4M.fd")]
    content = b"".join(parts)
    image[PLACE : PLACE + len(content)] = content
    return bytes(image)


def seconds(words: list[str]) -> list[float]:
    found: list[float] = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found.append(time.perf_counter() - start)
    return found


if __name__ == "__main__":
    peer = sys.argv[1] if len(sys.argv) > 1 else shutil.which("virt-fw-vars")
    hwflash = [sys.executable, "-c", "from hwflash.cli.main import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump.bin"
        path.write_bytes(dump())
        commands = {"hwflash vars list --json": [*hwflash, "vars", "list", str(path), "--json"]}
        if peer:
            commands["virt-fw-vars --print"] = [peer, "-i", str(path), "--print"]
        for name, words in commands.items():
            times = seconds(words)
            print(f"{name:<26} {statistics.median(times):.3f} s (from {min(times):.3f})")
