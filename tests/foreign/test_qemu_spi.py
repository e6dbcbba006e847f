"""hwflash by its ordinary means on QEMU's chip models; the backing file is the witness."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import require_qemu_arm
from qemu_differences import DIFFERENCES, SFDP, TESTED, VERSION

from hwflash.bus import qtest
from hwflash.bus.qemu_spi import QemuSpiBus
from hwflash.bus.qtest import PROGRAM, abilities, find_program
from hwflash.bus.spi import Transfer
from hwflash.chip import dumps
from hwflash.errors import (
    ChipStateUnknown,
    ChipUnknown,
    ChipUnsupported,
    EnvironmentFault,
    HwflashError,
    ImageError,
    ProgrammerBusy,
    ProgrammerLost,
    UsageError,
)
from hwflash.flash.identify import read_sfdp
from hwflash.flash.protection import ProtectionAccess
from hwflash.jobs.opening import Request
from hwflash.jobs.read import read, verify
from hwflash.jobs.registers import register_keys
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.write import WriteOptions, write
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, NullReporter, Progress
from hwflash.units import KIB, MIB, Range

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

QUIET = NullReporter()
CANCEL = CancelToken()
DOCUMENT = Path(__file__).parents[2] / "docs" / "qemu-chips.md"

#: model: (id, size in MiB, part or what SFDP makes of it, source, part to insist on)
MODELS: dict[str, tuple[str, int, str, str, str | None]] = {
    "w25q64": ("ef4017", 8, "W25Q64JV", "catalog", None),
    "en25q64": ("1c3017", 8, "EN25Q64", "catalog", None),
    "gd25q64": ("c84017", 8, "GD25Q64C", "catalog", None),
    "mx25l12805d": ("c22018", 16, "MX25L12833F", "catalog", None),
    "n25q128": ("20ba18", 16, "N25Q128A", "catalog", None),
    "is25lp128": ("9d6018", 16, "IS25LP128", "catalog", None),
    "is25lp256": ("9d6019", 32, "IS25LP256D", "catalog", None),
    "s25fl256s1": ("010219", 32, "S25FL256S", "override", "S25FL256S"),
    "n25q256a": ("20ba19", 32, "N25Q256A", "sfdp", None),
    "mx25l25635e": ("c22019", 32, "MX25L25635F", "sfdp", None),
    "mx25l25635f": ("c22019", 32, "MX25L25635F", "sfdp", None),
    "w25q256": ("ef4019", 32, "W25Q256JV", "sfdp", None),
    "w25q512jv": ("ef4020", 64, "W25Q512JV", "sfdp", None),
    "mx66l51235f": ("c2201a", 64, "MX25L51245G", "catalog", None),
    "mt25ql512ab": ("20ba20", 64, "MT25QL512ABB", "catalog", None),
    "sst25vf016b": ("bf2541", 2, "SST25VF016B", "catalog", None),
    "s25fl512s": ("010220", 64, "S25FL512S", "override", "S25FL512S"),
    "mt25ql01g": ("20ba21", 128, "MT25QL01GBBB", "override", "MT25QL01GBBB"),
    "mx66l1g45g": ("c2201b", 128, "SFDP-c2201b", "sfdp", None),
    "w25q01jvq": ("ef4021", 128, "W25Q01JV", "override", "W25Q01JV"),
}


def children() -> set[str]:
    """What the processes that this one started are called."""
    found: set[str] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().rpartition(")")
            except OSError:
                continue
            if int(rest.split()[1]) == os.getpid():
                found.add(name + entry.name)
    return found


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, no socket, no temporary file, whatever happens."""
    require_qemu_arm()
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = children(), descriptors()
    yield
    assert (children(), descriptors()) == before
    assert list(scratch.iterdir()) == []


def request_for(tmp_path: Path, model: str, image: Path | None, **more: Any) -> Request:
    url = f"qemu://{model}" + (f"?image={image}" if image else "")
    return Request(programmer=url, environ={"HWFLASH_STATE_DIR": str(tmp_path / "state")}, **more)


def segments(size: int, random: Random) -> list[Segment]:
    """Random pieces: over the start, an odd place, around 16 MiB, the end."""
    last = 64 * KIB
    places = [(0, 64 * KIB), (size // 3 + 77, 100_001), (size - last, last)]
    if size <= 4 * MIB:  # bytes and words take many commands
        places = [(1, 4 * KIB), (size // 3 + 77, 5001), (size - 4097, 4097)]
    if size > 16 * MIB:
        places.append((16 * MIB - 40_000, 128 * KIB))
    return [Segment(address, random.randbytes(length)) for address, length in places]


def put(session: Session, targets: list[Segment], state: Path) -> None:
    write(session, targets, WriteOptions(state), QUIET, CANCEL)


def test_registers_as_somebody_else_models_them(tmp_path: Path) -> None:
    """NVCR, VCR and EVCR of QEMU's N25Q256A at power-up, and its flag status in the 4-byte mode."""
    with open_session(request_for(tmp_path, "n25q256a", None), QUIET) as session:
        found = {item["name"]: item for item in register_keys(session)}
    assert [found[name]["value"] for name in ("NVCR", "VCR", "EVCR")] == [0x8FFF, 0x8B, 0xDF]
    words = {
        (name, bit["name"]): bit["words"] for name, item in found.items() for bit in item["bits"]
    }
    assert words["NVCR", "address bytes"] == "3 at power-up"
    assert words["NVCR", "dummy clocks"] == words["VCR", "dummy clocks"] == "8 clocks"
    assert words["NVCR", "XIP at power-up"] == words["VCR", "XIP"] == "off"
    assert words["EVCR", "quad protocol"] == words["NVCR", "quad protocol"] == "off"
    assert words["VCR", "wrap"] == "continuous"
    assert (words["FSR", "4-byte mode"], words["FSR", "ready"]) == ("on", "ready")


@pytest.mark.parametrize("model", ["mt25ql512ab", "s25fl256s1", "mx25l25635f"])
def test_lock_bits_that_a_model_does_not_know_are_not_taken_for_locks(
    model: str, tmp_path: Path
) -> None:
    """QEMU answers 00 to them, which would say that everything is locked."""
    with open_session(request_for(tmp_path, model, None, chip=MODELS[model][4]), QUIET) as session:
        assert session.protection().ranges == ()
        sectors = ProtectionAccess(session.flash).sectors([Range(0, 1)])
        assert sectors is None or sectors.ranges == ()


@pytest.mark.parametrize("model", MODELS)
def test_every_job_on_every_model(model: str, tmp_path: Path) -> None:
    jedec_id, mib, part, source, insist = MODELS[model]
    size = mib * MIB
    image = tmp_path / "chip.bin"
    # Fast reads of this one are shifted in QEMU, and its plain ones end at 25 MHz.
    slow = 20e6 if model == "sst25vf016b" else None
    request = request_for(tmp_path, model, image, chip=insist, frequency=slow)
    targets = segments(size, Random(model))
    expected = bytearray(b"\xff") * size
    for item in targets:
        expected[item.address : item.address + len(item.data)] = item.data

    with open_session(request, QUIET) as session:
        assert session.identity.jedec_id.hex() == jedec_id
        assert (session.chip.part, session.chip.size) == (part, size)
        assert session.identity.resolved.source == source
        assert (session.identity.sfdp is not None) == (model in SFDP)
        put(session, targets, tmp_path / "state")
        assert verify(session, targets, QUIET, CANCEL).mismatches == ()
        wrong = [Segment(4096, bytes(16))]
        assert verify(session, wrong, QUIET, CANCEL).mismatches
        assert session.stats()["retries"] == 0
        assert session.stats()["modelled_seconds"] > 0
    assert image.read_bytes() == expected

    # Over what stands there, then erase a part, in a new process that starts from the file.
    second = [Segment(1000, Random(2).randbytes(70_000 if size > 4 * MIB else 5000))]
    expected[1000 : 1000 + len(second[0].data)] = second[0].data
    hole = Range(size // 3 + 40_000, 20_000)
    with open_session(request, QUIET) as session:
        put(session, [*second, Segment(hole.address, b"\xff" * hole.length)], tmp_path / "state")
        expected[hole.address : hole.end] = b"\xff" * hole.length
        near = [Range(0, 256 * KIB), Range(size // 3, 256 * KIB), Range(size - MIB, MIB)]
        # A whole one takes seconds; the file is compared as a whole in any case.
        places = [Range(0, size)] if size <= 16 * MIB else near
        for place, found in read(session, places, QUIET, CANCEL).pieces:
            assert found == expected[place.address : place.end]
    assert image.read_bytes() == expected


@pytest.mark.parametrize("model", ["n25q256a", "w25q256", "is25lp256", "mx25l25635f", "w25q64"])
def test_every_erase_command(model: str, tmp_path: Path) -> None:
    with open_session(request_for(tmp_path, model, None), QUIET) as session:
        flash, size = session.flash, session.chip.size
        for kind in flash.geometry.regions[0].types:
            for address in (0, size - 2 * kind.size):
                flash.program(address, bytes(2 * kind.size))
                flash.erase(address, kind.size)
                assert flash.read(address, kind.size) == b"\xff" * kind.size
                assert flash.read(address + kind.size, kind.size) == bytes(kind.size)
        if session.chip.chip_erase is not None:
            flash.erase(0, size)
            assert flash.read(0, size) == b"\xff" * size


def test_one_die_of_a_stack_is_erased(tmp_path: Path) -> None:
    request = request_for(tmp_path, "mt25ql01g", None, chip="MT25QL01GBBB")
    with open_session(request, QUIET) as session:
        flash, die = session.flash, session.chip.die_size
        flash.program(die - 300, bytes(600))
        flash.program(2 * die - 100, bytes(100))
        assert flash.read(die - 300, 600) == bytes(600), "across the border"
        flash.erase(die, die)
        assert dict(flash.erases) == {die: 1}
        assert flash.read(die - 300, 600) == bytes(300) + b"\xff" * 300
        assert flash.read(2 * die - 100, 100) == b"\xff" * 100


def test_dataflash_is_refused(tmp_path: Path) -> None:
    for insist in (None, "W25Q64JV"):
        request = request_for(tmp_path, "at45db081d", None, chip=insist)
        with pytest.raises(ChipUnsupported) as caught, open_session(request, QUIET):
            pass
        assert caught.value.code == "chip.dataflash"


def hwflash(*words: str, state: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from hwflash.cli.main import main; main()", *words],
        capture_output=True, text=True, timeout=120, cwd=state,
        env={**os.environ, "HWFLASH_STATE_DIR": str(state), "NO_COLOR": "1", **more},
    )  # fmt: skip


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(data := Random(3).randbytes(200_000))
    url = ("-p", "qemu://n25q256a?image=chip.bin")
    at = ("--at", "0xFF8000")  # around 16 MiB
    done = hwflash("probe", *url, state=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "N25Q256A" in done.stdout
    for words in (
        ("write", *url, "in.bin", *at, "--yes"),
        ("verify", *url, "in.bin", *at),
        ("read", *url, "out.bin", "--range", "0xFF8000:200000"),
        ("erase", *url, "--range", "0xFF8000:64K", "--yes"),
    ):
        done = hwflash(*words, state=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.bin").read_bytes() == data
    assert hwflash("verify", *url, "in.bin", *at, state=tmp_path).returncode == 1
    image = (tmp_path / "chip.bin").read_bytes()
    assert image[0xFF8000:][:200_000] == b"\xff" * 65536 + data[65536:]
    assert image.count(0xFF, 0, 0xFF8000) == 0xFF8000


@pytest.mark.parametrize(
    ("model", "dump", "length"),
    [("n25q256a", "N25Q256A", 256), ("w25q01jvq", "W25Q01JV", 216),
     ("mx25l25635e", "MX25L25635E", 128), ("mx25l25635f", "MX25L25635F", 112)],
)  # fmt: skip
def test_tables_are_those_of_the_real_part(model: str, dump: str, length: int) -> None:
    """QEMU's SFDP bytes and our dump came from different people."""
    bus = QemuSpiBus(model)
    try:
        tables = read_sfdp(bus)
        area = bus.execute([Transfer(b"\x5a\0\0\0\0", length)])[0]
    finally:
        bus.close()
    assert tables is not None
    stored = dumps.load(dump).sfdp
    assert area == stored[:length]
    assert tables[:length] == area[: len(tables)]


# --- the table of differences -----------------------------------------------------------------

#: One model of each kind is enough to see whether QEMU has changed.
SHOWN = {"w25q64", "n25q256a", "mx25l25635f", "is25lp128", "s25fl256s1", "gd25q64", "w25q256"}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_is_there(name: str) -> None:
    if not abilities(find_program(), "ast2500-evb").version.startswith(VERSION):
        pytest.skip(f"the table tells of QEMU {VERSION}x")
    item = DIFFERENCES[name]
    models = sorted(item.models or TESTED)
    for model in [model for model in models if model in SHOWN][:3] or models[:1]:
        bus = QemuSpiBus(model)

        def ask(sent: str, count: int, bus: QemuSpiBus = bus) -> str:
            return bus.execute([Transfer(bytes.fromhex(sent), count)])[0].hex()

        try:
            assert item.shown(ask), (name, model)
        finally:
            bus.close()


def test_the_document_tells_of_every_difference_and_model() -> None:
    text = DOCUMENT.read_text()
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)) == set(DIFFERENCES)
    assert set(re.findall(r"^\| `qemu://([a-z0-9]+)` \|", text, re.MULTILINE)) == set(MODELS)
    assert set(MODELS) == TESTED


# --- what goes wrong --------------------------------------------------------------------------


def test_a_model_nobody_describes(tmp_path: Path) -> None:
    """No SFDP, not in the catalog: it needs --chip, or a chip file."""
    with pytest.raises(ChipUnknown), open_session(request_for(tmp_path, "m25p16", None), QUIET):
        pass
    with pytest.raises(ChipUnknown), open_session(request_for(tmp_path, "s25fl256s1", None), QUIET):
        pass


def test_unknown_model(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError) as caught,
        open_session(request_for(tmp_path, "w25q265", None), QUIET),
    ):
        pass
    assert caught.value.code == "usage.qemu-model"
    assert "w25q256" in caught.value.context["near"]
    assert len(caught.value.context["known"]) > 100
    done = hwflash("probe", "-p", "qemu://w25q265", state=tmp_path)
    assert done.returncode == 2
    assert "w25q256" in done.stderr


def test_qemu_is_missing(tmp_path: Path) -> None:
    done = hwflash("probe", "-p", "qemu://w25q64", state=tmp_path, PATH="/nonexistent")
    assert done.returncode == 3
    assert "environment.qemu-missing" in done.stderr
    assert "qemu-system-arm" in done.stderr


def test_qemu_of_another_kind() -> None:
    """A QEMU without Aspeed machines."""
    for name in ("qemu-system-x86_64", "qemu-system-i386"):
        try:
            program = find_program(name)
        except EnvironmentFault:
            continue
        with pytest.raises(EnvironmentFault) as caught:
            QemuSpiBus("w25q64", program=program)
        assert caught.value.code == "environment.qemu-version"
        return
    pytest.skip("no other QEMU is installed")


def test_images_that_do_not_fit(tmp_path: Path) -> None:
    image = tmp_path / "odd, name.bin"
    image.write_bytes(b"\0" * MIB)
    with pytest.raises(ImageError) as caught:
        QemuSpiBus("w25q64", image)
    assert caught.value.code == "qemu.image-size"
    assert caught.value.context["expected"] == 8 * MIB
    assert image.read_bytes() == b"\0" * MIB
    image.write_bytes(b"\1" * (8 * MIB + 512))
    bus = QemuSpiBus("w25q64", image)
    assert bus.execute([Transfer(b"\3\0\0\0", 4)]) == [b"\1" * 4]
    bus.close()


def test_one_image_is_used_by_one_process(tmp_path: Path) -> None:
    image = tmp_path / "chip.bin"
    request = request_for(tmp_path, "w25q64", image)
    with open_session(request, QUIET):
        with pytest.raises(ProgrammerBusy), open_session(request, QUIET):
            pass
        simulated = Request(f"sim://w25q64jv?image={image}", environ=request.environ)
        with pytest.raises(ProgrammerBusy), open_session(simulated, QUIET):
            pass
    with open_session(request, QUIET):
        pass


def test_qemu_dies_in_the_middle() -> None:
    bus = QemuSpiBus("w25q64")
    os.kill(bus.machine.pid, signal.SIGKILL)
    with pytest.raises(ProgrammerLost) as caught:
        bus.execute([Transfer(b"\x05", 1)] * 1000)
    assert caught.value.code == "programmer.qemu-lost"
    assert caught.value.context["status"] == -9
    with pytest.raises(ProgrammerLost):
        bus.execute([Transfer(b"\x05", 1)])
    bus.close()


class Killer(NullReporter):
    """Kills QEMU when a phase is half done."""

    def __init__(self, session: Session, phase: str) -> None:
        self.bus: Any = session.programmer.bus
        self.phase = phase

    def progress(self, event: Progress, /) -> None:
        if event.phase == self.phase and event.done * 2 >= event.total:
            os.kill(self.bus.machine.pid, signal.SIGKILL)


def test_qemu_dies_during_a_write(tmp_path: Path) -> None:
    """The write says that the chip is in an unknown state; the same job again completes it."""
    image = tmp_path / "chip.bin"
    request = request_for(tmp_path, "w25q64", image)
    target = [Segment(5000, Random(9).randbytes(300_000))]
    options = WriteOptions(tmp_path / "state")

    def doomed() -> None:
        with open_session(request, QUIET) as session:
            write(session, target, options, Killer(session, "program"), CANCEL)

    with pytest.raises(ChipStateUnknown) as caught:
        doomed()
    assert isinstance(caught.value.__cause__, HwflashError)
    with open_session(request, QUIET) as session:
        put(session, target, tmp_path / "state")
        assert verify(session, target, QUIET, CANCEL).mismatches == ()
    assert image.read_bytes()[5000:305_000] == target[0].data


def test_qemu_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qtest, "_LAST_WORDS_SECONDS", 0.2)
    bus = QemuSpiBus("w25q64")
    os.kill(bus.machine.pid, signal.SIGSTOP)
    bus.machine.qtest._socket.settimeout(0.3)
    with pytest.raises(ProgrammerLost) as caught:
        bus.execute([Transfer(b"\x05", 1)])
    assert caught.value.code == "programmer.qemu-timeout"
    bus.close()


def test_nothing_survives_a_killed_hwflash(tmp_path: Path) -> None:
    """Not even SIGKILL leaves a QEMU behind, and what was written is in the image."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from hwflash.bus.qemu_spi import QemuSpiBus; from hwflash.bus.spi import Transfer\n"
        "bus = QemuSpiBus('w25q64', Path(sys.argv[1]))\n"
        "bus.execute([Transfer(b'\\6'), Transfer(b'\\2\\0\\0\\0hello')])\n"
        "print(bus.machine.pid, flush=True); time.sleep(60)\n"
    )
    image = tmp_path / "chip.bin"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(image)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}/comm").read_text().startswith(PROGRAM[:15])
        process.kill()
    limit = time.monotonic() + 20
    while _alive(pid) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not _alive(pid)
    assert image.read_bytes()[:6] == b"hello\xff"


def _alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
