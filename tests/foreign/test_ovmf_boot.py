"""OVMF boots from what hwflash wrote into a chip and read back: the firmware is the judge."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

from hwflash.flash.execute import differences
from hwflash.jobs.opening import Request
from hwflash.jobs.read import read
from hwflash.jobs.session import open_session
from hwflash.jobs.write import WriteOptions, write
from hwflash.layout.records import Segment
from hwflash.progress import CancelToken, NullReporter
from hwflash.units import Range

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

#: CPU seconds a boot may take under TCG; a healthy one takes about 5.
PATIENCE = 120.0


def boot(qemu: str, store: Path, code: Path, until: bytes) -> bytes:
    """Boot a machine from two pflash images until its serial console shows something."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        machine = subprocess.Popen(
            [
                qemu, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
                "-accel", "tcg", "-m", "256", "-vga", "none", "-net", "none",
                "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}",
                "-drive", f"if=pflash,unit=1,format=raw,file={store}",
                "-chardev", f"socket,id=s,host=127.0.0.1,port={port}", "-serial", "chardev:s",
            ],
            stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            listener.settimeout(30)
            console, _ = listener.accept()
            with console:
                console.settimeout(1)
                seen = b""
                limit = time.monotonic() + PATIENCE
                while until not in seen and time.monotonic() < limit:
                    try:
                        seen += console.recv(4096)
                    except TimeoutError:
                        assert machine.poll() is None, "QEMU ended"
            return seen
        finally:
            machine.terminate()
            machine.communicate(timeout=20)


def test_ovmf_boots_from_the_chip(tmp_path: Path, qemu: str, ovmf: tuple[Path, Path]) -> None:
    store, code = (path.read_bytes() for path in ovmf)
    image = store + code
    url = f"sim://w25q32jv?image={tmp_path / 'chip.bin'}&seed=7&faults=slow=0.01"
    quiet, cancel = NullReporter(), CancelToken()
    request = Request(programmer=url, environ={"HWFLASH_STATE_DIR": str(tmp_path / "state")})
    with open_session(request, quiet) as session:
        write(session, [Segment(0, image)], WriteOptions(tmp_path / "state"), quiet, cancel)
        found = read(session, [Range(0, len(image))], quiet, cancel).pieces[0][1]
    assert found == image
    (tmp_path / "vars.fd").write_bytes(found[: len(store)])
    (tmp_path / "code.fd").write_bytes(found[len(store) :])

    console = boot(qemu, tmp_path / "vars.fd", tmp_path / "code.fd", b"Shell>")

    assert b"Shell>" in console
    # The firmware has used its store; bring its changes onto the chip and boot again from that.
    used = (tmp_path / "vars.fd").read_bytes()
    assert differences(0, used, store), "a boot writes at least one variable"
    with open_session(request, quiet) as session:
        options = WriteOptions(tmp_path / "state")
        result = write(session, [Segment(0, used)], options, quiet, cancel)
        again = read(session, [Range(0, len(image))], quiet, cancel).pieces[0][1]
    assert not result.plan.erases(), "variables are appended: bits are only cleared"
    assert again == used + code
    (tmp_path / "vars.fd").write_bytes(again[: len(store)])
    assert b"Shell>" in boot(qemu, tmp_path / "vars.fd", tmp_path / "code.fd", b"Shell>")
