"""Real firmware in QEMU: booted, talked to, watched, and gone afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from conftest import require, require_qemu_arm

from hwflash.cli.qemu_run import command
from hwflash.errors import EnvironmentFault, ImageError, Interrupted, ReferenceFailed
from hwflash.progress import CancelToken
from hwflash.qemu import trace
from hwflash.qemu.args import Dialect
from hwflash.qemu.boot import BootOptions, Guest
from hwflash.qemu.machine import Machine, make_machine
from hwflash.uefi.find import find_stores
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

AAVMF = Path("/usr/share/AAVMF")
GUID = UUID("8e3b7b34-5b1f-4e0a-9d0e-3f1a2b4c5d6e")
NV_BS_RT = 7


@pytest.fixture(scope="module")
def aavmf() -> Machine:
    """AAVMF with the packaged template; nothing of it is written."""
    require_qemu_arm()
    require(shutil.which("qemu-system-aarch64"), "package qemu-system-arm")
    code, template = AAVMF / "AAVMF_CODE.fd", AAVMF / "AAVMF_VARS.fd"
    require(code.exists() and template.exists(), "package qemu-efi-aarch64")
    return make_machine(str(code), str(template), "/nonexistent/vars.fd", machine="virt")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has a folder of its own for guests, which must be empty in the end."""
    place = tmp_path / "guests"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield
    limit = time.monotonic() + 20
    while time.monotonic() < limit and (list(place.iterdir()) or guests(place)):
        time.sleep(0.05)
    assert list(place.iterdir()) == []
    assert guests(place) == []


def guests(place: Path) -> list[int]:
    """Living QEMU processes whose files are in a folder."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if b"qemu-system" in command and os.fsencode(place) in command and not dead:
            found.append(int(entry.name))
    return found


def stored(image: bytes, name: str) -> bytes | None:
    """A variable in an image, as hwflash reads it."""
    (found,) = find_stores(image[:0xC0000])
    assert found.store is not None
    record = found.store.find(name, GUID)
    return None if record is None else record.data


def with_variable(image: bytes, name: str, data: bytes) -> bytes:
    """An image in which hwflash has set a variable."""
    (found,) = find_stores(image[:0xC0000])
    nvram = Nvram(Window(image[:0xC0000]), found)
    VariableServices(nvram).set_variable(name, GUID, NV_BS_RT, data)
    return nvram.flash.window().data + image[0xC0000:]


@pytest.mark.parametrize("dialect", ["named", "blockdev"])
def test_every_dialect_boots(aavmf: Machine, dialect: Dialect) -> None:
    """``-drive if=pflash`` is what all other tests boot with."""
    with Guest(aavmf, BootOptions(dialect=dialect)) as guest:
        shell = guest.wait_for_shell()
        shell.setvar("FromShell", b"seen", GUID)
        assert stored(guest.image(), "FromShell") == b"seen"


def test_variables_both_ways_and_the_operation_log(aavmf: Machine, tmp_path: Path) -> None:
    template = Path(aavmf.template.path).read_bytes() if aavmf.template else b""
    log, kept = tmp_path / "console.log", tmp_path / "kept.fd"
    with Guest(aavmf, BootOptions(operations=True, log=log)) as guest:
        shell = guest.wait_for_shell()
        shell.setvar("FromShell", b"first", GUID)
        assert stored(guest.image(), "FromShell") == b"first", "at once, not at the end"
        shell.setvar("FromShell", b"second", GUID)
        assert any(item.kind == "RT_Data" for item in shell.memory_map())
        assert shell.handles("FirmwareVolumeBlock")
        with pytest.raises(ReferenceFailed, match="not recognized"):
            shell.run("nosuchcommand", check=True)
        guest.console.send("half a li")  # somebody else at the keyboard
        assert shell.run("ver").startswith("UEFI Interactive Shell v2")
        pid = guest.process.pid
        assert guest.power_off(shell) == 0
        guest.keep(kept)
        operations = guest.operations().operations
        before = guest.content_before()
    assert not Path(f"/proc/{pid}").exists()
    assert Path(aavmf.template.path if aavmf.template else "").read_bytes() == template
    assert "Shell> setvar FromShell" in log.read_text()

    # The log is the whole truth, and a chip could have done all of it.
    after = kept.read_bytes()
    assert trace.replayed(before, operations).data == after
    assert trace.impossible_programs(before, operations) == []
    # A power cut in the middle of the last update: the old value or the new one.
    start = Window(before.data[:0xC0000])  # the volume; the rest of the unit is never written
    last = max(i for i, step in enumerate(operations) if isinstance(step, trace.Program))
    values = {stored(trace.replayed(start, operations[:n]).data, "FromShell")
              for n in range(last - 41, last + 2, 3)}  # fmt: skip
    assert b"second" in values
    assert values <= {b"first", b"second"}

    # What hwflash writes into the image, the firmware finds; here over a pseudo terminal.
    kept.write_bytes(with_variable(after, "FromHwflash", bytes(range(64))))
    own = make_machine(aavmf.code.path, None if aavmf.template is None else aavmf.template.path,
                       str(kept), machine="virt")  # fmt: skip
    with Guest(own, BootOptions(console="pty")) as guest:
        found = {item.name: item for item in guest.wait_for_shell().variables()}
    assert found["FromHwflash"].data == bytes(range(64))
    assert found["FromHwflash"].attributes == NV_BS_RT
    assert found["FromShell"].data == b"second"
    assert stored(kept.read_bytes(), "FromHwflash") == bytes(range(64)), "the guest had a copy"


def test_ovmf_boots_and_loses_no_output(ovmf: tuple[Path, Path], qemu: str) -> None:
    template, code = ovmf
    machine = make_machine(str(code), str(template), "/nonexistent/vars.fd")
    with Guest(machine, BootOptions(operations=True, qtest=True), program=qemu) as guest:
        shell = guest.wait_for_shell()
        sizes = {len(shell.run("dh -v", 60)) for _ in range(2)}
        assert len(sizes) == 1
        assert sizes.pop() > 50_000
        # The flash from inside and from outside: "_FVH" of the volume header.
        assert shell.peek(0xFFC00028) == 0x4856465F
        assert guest.qtest is not None
        guest.qmp.execute("stop")
        assert guest.qtest.execute([b"readl 0xffc00028"]) == [b"0x000000004856465f"]
        guest.qmp.execute("cont")
        assert "running" in guest.qmp.monitor("info status")
        operations = guest.operations().operations
        assert operations, "the first boot writes variables"
        assert trace.impossible_programs(guest.content_before(), operations) == []
        assert trace.replayed(guest.content_before(), operations).data == guest.image()


def test_a_guest_that_spins_is_given_up_by_its_cpu_time(
    ovmf: tuple[Path, Path], tmp_path: Path, qemu: str
) -> None:
    template, code = ovmf
    blank = tmp_path / "vars.fd"
    blank.write_bytes(b"\xff" * template.stat().st_size)
    machine = make_machine(str(code), str(template), str(blank))
    with (
        Guest(machine, program=qemu) as guest,
        pytest.raises(ReferenceFailed) as caught,
    ):
        guest.wait_for_shell(4)
    assert caught.value.code == "reference.boot-timeout"
    # Of 4 seconds of patience a fifth of the wall time was none of the guest's own.
    assert 1.5 < caught.value.context["cpu_seconds"] < 30


def test_a_stop_request_and_exceptions(aavmf: Machine) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with Guest(aavmf, cancel=cancel) as guest, pytest.raises(Interrupted):
        guest.wait_for_shell()
    with pytest.raises(ZeroDivisionError), Guest(aavmf):
        raise ZeroDivisionError


def test_a_qemu_that_ends_is_told(aavmf: Machine) -> None:
    with Guest(aavmf) as guest:
        os.kill(guest.process.pid, signal.SIGKILL)
        with pytest.raises(ReferenceFailed, match="signal SIGKILL") as caught:
            guest.wait_for_shell()
        assert caught.value.code == "reference.qemu-ended"


def test_what_does_not_start_says_why(aavmf: Machine, tmp_path: Path) -> None:
    with pytest.raises(ReferenceFailed, match="nosuchdevice") as caught:
        Guest(aavmf, BootOptions(extra=("-device", "nosuchdevice")))
    assert caught.value.code == "reference.qemu-start"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        extra = ("-chardev", f"socket,id=x,host=127.0.0.1,port={port},server=on,wait=off")
        with pytest.raises(EnvironmentFault) as busy:
            Guest(aavmf, BootOptions(extra=extra))
    assert busy.value.code == "environment.port-in-use"
    with pytest.raises(EnvironmentFault) as missing:
        Guest(aavmf, program="qemu-system-nosuch")
    assert missing.value.code == "environment.qemu-missing"
    nothing = make_machine(str(AAVMF / "AAVMF_CODE.fd"), str(tmp_path / "no.fd"), "/nonexistent/v",
                           machine="virt")  # fmt: skip
    with pytest.raises(ImageError):
        Guest(nothing)


def test_the_command(aavmf: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert aavmf.template is not None
    kept = tmp_path / "kept.fd"
    words = [aavmf.template.path, "--code", aavmf.code.path, "--machine", "virt", "--json"]
    words += ["-x", "ver", "-x", "nosuch", "--strict-nor", "--keep", str(kept)]
    with pytest.raises(SystemExit) as caught:
        command.main(words, standalone_mode=False)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert caught.value.code == result["exit_code"] == 0
    assert [item["status"] for item in result["commands"]] == [0, 0xE]
    assert result["commands"][0]["output"].startswith("UEFI Interactive Shell")
    assert result["impossible_programs"] == []
    assert find_stores(kept.read_bytes()[:0xC0000])[0].store is not None


SCRIPT = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from hwflash.qemu.boot import Guest
from hwflash.qemu.machine import make_machine
machine = make_machine(sys.argv[2], sys.argv[3], "/nonexistent/v", machine="virt")
with Guest(machine) as guest:
    print(guest.process.pid, flush=True)
    guest.wait_for("never comes", 500)
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_qemu_outlives_its_parent(aavmf: Machine, by: signal.Signals) -> None:
    assert aavmf.template is not None
    words = [tempfile.gettempdir(), aavmf.code.path, aavmf.template.path]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert pid in guests(Path(words[0]))
        # As Ctrl-C does: everything in the group of the terminal.
        os.killpg(parent.pid, by)
        parent.wait(20)
    # `nothing_is_left` sees to the rest.
