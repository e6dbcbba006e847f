"""A Linux machine attaches the simulated FT232H over USB/IP; flashrom drives it there.

The kernel's vhci_hcd, usbip, libusb, libftdi and flashrom judge the server, the simulated FT232H
and the simulated chip; hwflash's own driver takes no part.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import linux_guest
import pytest
from conftest import require
from support import pattern

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

HWFLASH = [sys.executable, "-c", "from hwflash.cli.main import main; main()"]
SIZE = 1 << 20
#: Seconds; a healthy run takes about 25, most of it QEMU without hardware support.
PATIENCE = 400.0
#: Broken wires, and what flashrom then takes for the id.
BROKEN = {
    "swap=mosi-miso": "id1 0xff, id2 0xffff",
    "supply=off": "id1 0x00, id2 0x00",
}

SCRIPT = """
step() { echo "== $1"; shift; "$@"; echo "rc $? at $(cut -d' ' -f1 /proc/uptime)"; }
port=PORT
usbip_() { usbip --tcp-port $port "$@"; }
there() { cat /sys/bus/usb/devices/*/idProduct | grep -q 6014; }
wait_for() { for n in $(seq 100); do "$@" && return 0; sleep 0.1; done; return 1; }
rom() { timeout 120 flashrom -p ft2232_spi:type=232H -c W25Q80.V "$@"; }
step list usbip_ list -r 10.0.2.2
step attach usbip_ attach -r 10.0.2.2 -b 1-1
step attach-busy usbip_ attach -r 10.0.2.2 -b 1-1
step attach-other usbip_ attach -r 10.0.2.2 -b 9-9
step there wait_for there
step probe rom
step write rom -w /image.bin
step verify rom -v /image.bin
step verify-other rom -v /other.bin
step read rom -r /tmp/back.bin
step sums sha256sum /tmp/back.bin
insmod /modules/usbserial.ko
insmod /modules/ftdi_sio.ko
step serial wait_for test -c /dev/ttyUSB0
step listen timeout 1 cat /dev/ttyUSB0
step detach usbip_ detach -p 0
step attach-again wait_for usbip_ attach -r 10.0.2.2 -b 1-1
step there-again wait_for there
step probe-again rom
for port in WIRES; do
usbip_ detach -p 0
step attach-$port wait_for usbip_ attach -r 10.0.2.2 -b 1-1
step there-$port wait_for there
step probe-$port rom -V
done
step kernel dmesg
"""


@dataclass
class Step:
    """What a command in the guest printed, and its exit code."""

    text: str
    code: int


def steps(console: str) -> dict[str, Step]:
    found = re.findall(r"(?ms)^== (\S+)\n(.*?)^rc (\d+) at [\d.]+$", console)
    return {name: Step(text, int(code)) for name, text, code in found}


@dataclass
class Server:
    """``hwflash serve usbip`` in a process of its own."""

    process: subprocess.Popen[str]
    port: int

    def stop(self) -> dict[str, object]:
        """Ctrl-C; its result."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, err
        return json.loads(out.splitlines()[-1])


@contextmanager
def serving(url: str, state: Path) -> Iterator[Server]:
    process = subprocess.Popen(
        [*HWFLASH, "serve", "usbip", "-p", url, "--listen", "127.0.0.1:0", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PATH": "/usr/bin:/bin", "HWFLASH_STATE_DIR": str(state)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = 0
        while not port:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            port = json.loads(line).get("context", {}).get("port", 0)
        yield Server(process, port)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_flashrom_in_a_linux_guest(tmp_path: Path, qemu: str) -> None:
    flashrom = shutil.which("flashrom", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    require(flashrom, "package flashrom")
    assert flashrom is not None
    try:
        linux_guest.parts()
    except linux_guest.GuestUnavailable as exc:
        require(None, f"the guest's Debian packages ({exc})")
    chip = tmp_path / "chip.bin"
    chip.write_bytes(pattern(SIZE, 1))
    # Some of it differs from what is there, some does not, and some is blank.
    image = pattern(SIZE // 2, 1) + pattern(SIZE // 4, 2) + b"\xff" * (SIZE // 4)
    other = image[:-1] + b"\x00"

    with ExitStack() as stack:
        server = stack.enter_context(
            serving(f"sim://w25q80dv?image={chip}&seed=5", tmp_path / "state")
        )
        wires = {
            fault: stack.enter_context(
                serving(f"sim://w25q80dv?faults={fault}", tmp_path / fault)
            ).port
            for fault in BROKEN
        }
        script = SCRIPT.replace("PORT", str(server.port))
        script = script.replace("WIRES", " ".join(map(str, wires.values())))
        root = tmp_path / "root.cpio"
        files = {"image.bin": image, "other.bin": other}
        root.write_bytes(linux_guest.initramfs(script, files, {"flashrom": Path(flashrom)}))
        console = linux_guest.boot(qemu, root, PATIENCE)
        result = server.stop()

    done = steps(console)
    failed = {name for name, step in done.items() if step.code}
    # busybox's timeout ends `cat` with SIGTERM: 128 + 15.
    unseen = {f"probe-{port}" for port in wires.values()}
    assert failed == {"attach-busy", "attach-other", "verify-other", "listen", *unseen}, console
    for fault, seen in BROKEN.items():
        said = done[f"probe-{wires[fault]}"].text
        assert f"compare_id: {seen}" in said, said
        assert "No EEPROM/flash device found." in said
    assert done["listen"].code == 143
    assert re.search(r"1-1: .*\(0403:6014\)", done["list"].text)
    assert "Device busy" in done["attach-busy"].text
    assert "not found" in done["attach-other"].text
    assert 'Found Winbond flash chip "W25Q80.V" (1024 kB, SPI) on ft2232_spi.' in done["probe"].text
    assert "Erase/write done." in done["write"].text
    assert "VERIFIED" in done["write"].text
    assert "VERIFIED" in done["verify"].text
    assert "FAILED" in done["verify-other"].text
    assert sha256(image) in done["sums"].text
    assert "ftdi_sio 1-1:1.0: FTDI USB Serial Device converter detected" in done["kernel"].text
    assert "Detected FT232H" in done["kernel"].text
    assert "unlink->seqnum" in done["kernel"].text  # a closed terminal takes its reads back
    assert "W25Q80.V" in done["probe-again"].text

    assert chip.read_bytes() == image
    assert (result["imports"], result["refused"]) == (2, 2)
    back = tmp_path / "back.bin"
    subprocess.run([*HWFLASH, "read", str(back), "-p", f"sim://w25q80dv?image={chip}"], check=True)
    assert back.read_bytes() == image


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
