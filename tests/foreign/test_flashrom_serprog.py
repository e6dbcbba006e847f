"""flashrom, through our serprog server, on simulated chips: an independent judge of both.

flashrom waits a second to get in step with a serprog device, so every run costs one.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import require
from serving import ServedPart

from hwflash.bus.pins import PinUse
from hwflash.bus.spi import Op, Transfer, Wait
from hwflash.chip import opcodes
from hwflash.chip.model import Chip, RegisterBit
from hwflash.chip.protection import RegisterLock, locked
from hwflash.jobs.opening import Request
from hwflash.jobs.session import open_session
from hwflash.progress import NullReporter
from hwflash.units import KIB

pytestmark = pytest.mark.foreign

#: Debian keeps it where a plain user's PATH does not look.
FLASHROM = shutil.which("flashrom", path=os.environ["PATH"] + ":/usr/sbin")
#: Part, and what flashrom 1.3 calls it: 8, 16 and 32 MiB of six makers.
CHIPS = [
    ("W25Q64JV", "W25Q64JV-.Q"),
    ("W25Q128JV", "W25Q128.V"),
    ("W25Q256JV", "W25Q256JV_Q"),
    ("MX25L12835F", "MX25L12833F/MX25L12835F/MX25L12845E/MX25L12865E/MX25L12873F"),
    ("MX25L25645G", "MX25L25635F/MX25L25645G"),
    ("GD25Q128E", "GD25Q127C/GD25Q128C"),
    ("GD25Q256E", "GD25Q256D/GD25Q256E"),
    ("N25Q128A", "N25Q128..3E"),
    ("MT25QL256ABA", "MT25QL256"),
    ("SST26VF064B", "SST26VF064B(A)"),
    ("IS25LP064A", "IS25LP064"),
    ("IS25LP256D", "IS25LP256"),
]
QUICK = "W25Q128JV"
#: Those of the catalog whose protection flashrom 1.3 can decode.
PROTECTED = [
    ("W25Q64JV", "W25Q64JV-.Q"),
    ("W25Q64JW", "W25Q64.W"),
    ("W25Q128JV", "W25Q128.V"),
    ("W25Q128JV-IM", "W25Q128.V..M"),
    ("W25Q128JW", "W25Q128.W"),
    ("W25Q256JV", "W25Q256JV_Q"),
    ("W25Q256JV-IM", "W25Q256JV_M"),
    ("GD25Q32C", "GD25Q32(B)"),
    ("GD25Q64C", "GD25Q64(B)"),
    ("GD25Q128E", "GD25Q127C/GD25Q128C"),
    ("GD25Q256E", "GD25Q256D/GD25Q256E"),
    ("GD25LQ128D", "GD25LQ128C/GD25LQ128D/GD25LQ128E"),
    ("S25FL128L", "S25FL128L"),
    ("XM25QH128C", "XM25QH128C"),
]
LAYOUT = "00010000:0002ffff changed\n00038000:0003bfff erased\n"
CHANGED = (0x10000, 0x20000)
ERASED = (0x38000, 0x4000)


@dataclass(frozen=True)
class Ran:
    code: int
    text: str


class Flashrom:
    """flashrom on one served chip."""

    def __init__(self, served: ServedPart, folder: Path) -> None:
        self.served = served
        self.folder = folder
        self.more = ""  # for the programmer
        (folder / "layout").write_text(LAYOUT)

    def run(self, *words: str, chip: str | None = None) -> Ran:
        serving = self.served.serving
        where = f"dev={serving.node}:115200" if serving.node else f"ip=127.0.0.1:{serving.port}"
        done = subprocess.run(
            [
                str(FLASHROM),
                "-p",
                f"serprog:{where}{self.more}",
                *(["-c", chip] if chip else []),
                *words,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            check=False,
        )
        assert serving.failure is None
        return Ran(done.returncode, done.stdout + done.stderr)

    def ok(self, chip: str, *words: str) -> str:
        ran = self.run(*words, chip=chip)
        assert ran.code == 0, ran.text
        return ran.text


Serve = Callable[..., Flashrom]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    require(FLASHROM, "package flashrom")
    opened: list[ServedPart] = []

    def begin(part: str, **options: object) -> Flashrom:
        opened.append(ServedPart(part, **options))
        return Flashrom(opened[-1], tmp_path)

    yield begin
    for item in opened:
        item.close()


def filled(size: int, length: int, seed: int) -> bytearray:
    """A chip of ``size`` bytes with ``length`` random ones at its beginning."""
    content = bytearray(b"\xff" * size)
    content[:length] = random.Random(seed).randbytes(length)
    return content


def next_version(content: bytes) -> bytearray:
    """Another content within `CHANGED`: bits cleared only, erase needed, left alone, all FF."""
    changed = bytearray(content)
    start, length = CHANGED
    fresh = random.Random(len(content)).randbytes(length)
    changed[start : start + length] = fresh
    for at in range(start, start + 4 * KIB):
        changed[at] = content[at] & fresh[at - start]
    changed[start + 8 * KIB : start + 16 * KIB] = content[start + 8 * KIB : start + 16 * KIB]
    changed[start + 32 * KIB : start + 36 * KIB] = b"\xff" * 4 * KIB
    return changed


def hwflash_read(url: str) -> bytes:
    with open_session(Request(programmer=url, allow_voltage=True, environ={}), NullReporter()) as s:
        return s.flash.read(0, s.chip.size)


def hwflash_does_the_same(hwflash: Callable[..., None], part: str, image: Path) -> bytes:
    """The same write and erase, by the commands a user would give."""
    url = f"sim://{part}?image={image}"
    start, length = CHANGED
    piece = image.with_name("piece.bin")
    piece.write_bytes(bytes(next_version(image.read_bytes())[start : start + length]))
    hwflash("write", "-p", url, "--yes", "--at", hex(start), str(piece))
    hwflash("erase", "-p", url, "--yes", "--range", f"{ERASED[0]:#x}:{ERASED[1]}")
    return image.read_bytes()


@pytest.fixture
def hwflash(tmp_path: Path) -> Callable[..., None]:
    from hwflash.cli.main import main

    def run(*words: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HWFLASH_STATE_DIR", str(tmp_path / "state"))
            with pytest.raises(SystemExit) as left:
                main(list(words))
        assert left.value.code == 0

    return run


@pytest.mark.parametrize(
    ("part", "name"),
    [
        pytest.param(*chip, id=chip[0], marks=[] if chip[0] == QUICK else [pytest.mark.slow])
        for chip in CHIPS
    ],
)
def test_probe_read_write_verify_erase(
    serve: Serve, hwflash: Callable[..., None], tmp_path: Path, part: str, name: str
) -> None:
    image = tmp_path / "image.bin"
    flashrom = serve(part)
    size = flashrom.served.chip.size
    before = filled(size, 0x40000, seed=size)
    flashrom.served.sim.die.content[:] = before
    image.write_bytes(before)

    assert f'"{name}" ({size // KIB} kB, SPI)' in flashrom.run().text
    (tmp_path / "old.bin").write_bytes(before)
    if part == QUICK:
        flashrom.ok(name, "-r", "read.bin")
        assert (tmp_path / "read.bin").read_bytes() == before
    expected = next_version(before)
    (tmp_path / "new.bin").write_bytes(expected)
    flashrom.ok(name, "-N", "-l", "layout", "-i", "changed", "-w", "new.bin")
    assert flashrom.served.sim.die.content == expected
    flashrom.ok(name, "-v", "new.bin")
    if part == QUICK:
        assert flashrom.run("-v", "old.bin", chip=name).code != 0

    flashrom.ok(name, "-N", "-l", "layout", "-i", "erased", "-E")
    expected[ERASED[0] : sum(ERASED)] = b"\xff" * ERASED[1]
    assert flashrom.served.sim.die.content == expected
    assert hwflash_read(flashrom.served.url) == expected
    assert hwflash_does_the_same(hwflash, part, image) == expected


@pytest.mark.slow
def test_whole_chip(serve: Serve, tmp_path: Path) -> None:
    part, name = "W25Q32JV", "W25Q32.V"
    flashrom = serve(part, timing="datasheet")
    size = flashrom.served.chip.size
    content = filled(size, size, seed=1)
    (tmp_path / "new.bin").write_bytes(content)
    flashrom.ok(name, "-w", "new.bin")
    assert flashrom.served.sim.die.content == content
    assert hwflash_read(flashrom.served.url) == content
    flashrom.ok(name, "-E")
    assert flashrom.served.sim.die.content.count(0xFF) == size


def test_over_a_serial_port(serve: Serve, tmp_path: Path) -> None:
    part, name = CHIPS[0]
    flashrom = serve(part, pty=True)
    flashrom.served.sim.die.content[:0x40000] = filled(0x40000, 0x40000, seed=7)
    before = bytes(flashrom.served.sim.die.content)
    (tmp_path / "new.bin").write_bytes(next_version(before))
    flashrom.ok(name, "-N", "-l", "layout", "-i", "changed", "-w", "new.bin")
    assert flashrom.served.sim.die.content == next_version(before)
    assert hwflash_read(flashrom.served.url) == next_version(before)


# --- protection -----------------------------------------------------------------------------------


def protection_bits(chip: Chip) -> list[RegisterBit]:
    layout = chip.protection
    extra = (layout.tb, layout.sec, layout.cmp)
    return [*layout.bp, *(bit for bit in extra if bit is not None)]


def settings(chip: Chip) -> Iterator[dict[int, int]]:
    """Every setting of the protection bits, as register values."""
    bits = protection_bits(chip)
    for values in itertools.product((0, 1), repeat=len(bits)):
        registers = dict.fromkeys(chip.status.read, 0)
        for bit, value in zip(bits, values, strict=True):
            registers[bit.register] |= value << bit.bit
        yield registers


def our_range(chip: Chip, registers: dict[int, int]) -> tuple[int, int]:
    ranges = locked(chip, registers).ranges
    assert len(ranges) <= 1
    return (ranges[0].address, ranges[0].length) if ranges else (0, 0)


def their_ranges(text: str) -> list[tuple[int, int]]:
    found = re.findall(r"start=0x([0-9a-f]+) length=0x([0-9a-f]+)", text)
    return [(int(start, 16), int(length, 16)) for start, length in found]


def read_registers(served: ServedPart) -> dict[int, int]:
    with open_session(
        Request(programmer=served.url, allow_voltage=True, environ={}), NullReporter()
    ) as session:
        return session.flash.registers()


def write_registers(chip: Chip, registers: dict[int, int]) -> list[Op]:
    """Each register by its own write command, with time to settle."""
    enable = Transfer(bytes((opcodes.WRITE_ENABLE,)))
    ops: list[Op] = []
    if chip.status.write.keys() >= {1, 2}:
        commands = [bytes((chip.status.write[number], registers[number])) for number in (1, 2)]
    else:
        commands = [bytes((chip.status.write[1], *(registers[number] for number in (1, 2))))]
    for command in commands:
        ops += [enable, Transfer(command), Wait(0.1)]
    return ops


@pytest.mark.slow
@pytest.mark.parametrize(("part", "name"), PROTECTED, ids=[chip[0] for chip in PROTECTED])
def test_ranges_a_chip_can_protect(serve: Serve, part: str, name: str) -> None:
    flashrom = serve(part)
    chip = flashrom.served.chip
    theirs = set(their_ranges(flashrom.ok(name, "--wp-list")))
    assert theirs == {our_range(chip, registers) for registers in settings(chip)}
    assert len(theirs) >= 20


@pytest.mark.parametrize(
    ("part", "name", "ranges"),
    [
        pytest.param("W25Q128JV", "W25Q128.V", [(0xFC0000, 0x40000), (0x8000, 0xFF8000)]),
        pytest.param("W25Q256JV", "W25Q256JV_Q", [(0, 0x10000), (0x100000, 0x1F00000)],
            marks=pytest.mark.slow),
        pytest.param("W25Q64JV", "W25Q64JV-.Q", [(0, 0x7E0000), (0x7FF000, 0x1000)],
            marks=pytest.mark.slow),
        pytest.param("GD25Q128E", "GD25Q127C/GD25Q128C", [(0, 0x40000), (0, 0xFC0000)],
            marks=pytest.mark.slow),
        pytest.param("GD25LQ128D", "GD25LQ128C/GD25LQ128D/GD25LQ128E",
            [(0x800000, 0x800000), (0x4000, 0xFFC000)], marks=pytest.mark.slow),
        pytest.param("GD25Q64C", "GD25Q64(B)", [(0x7E0000, 0x20000), (0, 0x7FF000)],
            marks=pytest.mark.slow),
        pytest.param("S25FL128L", "S25FL128L", [(0, 0x40000), (0xF00000, 0x100000)],
            marks=pytest.mark.slow),
        pytest.param("GD25Q256E", "GD25Q256D/GD25Q256E", [(0x1FF0000, 0x10000), (0, 0x1000000)],
            marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_protection_set_by_one_and_read_by_the_other(
    serve: Serve, part: str, name: str, ranges: list[tuple[int, int]]
) -> None:
    flashrom = serve(part)
    chip = flashrom.served.chip
    for start, length in ranges:
        flashrom.ok(name, "--wp-range", f"{start},{length}")
        assert our_range(chip, read_registers(flashrom.served)) == (start, length)
    flashrom.ok(name, "--wp-enable")
    state = locked(chip, read_registers(flashrom.served))
    assert state.register_lock is RegisterLock.WP_PIN
    flashrom.ok(name, "--wp-disable")
    chosen = random.Random(part).sample(list(settings(chip)), 2)
    for registers in chosen:
        flashrom.served.bus.execute(write_registers(chip, registers))
        text = flashrom.ok(name, "--wp-status")
        assert their_ranges(text) == [our_range(chip, registers)]


def their_mode(text: str) -> str:
    found = re.search(r"^Protection mode: (.*)$", text, re.MULTILINE)
    assert found, text
    return found[1]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        pytest.param(*chip, id=chip[0], marks=[] if chip[0] == QUICK else [pytest.mark.slow])
        for chip in PROTECTED
    ],
)
def test_our_protect_commands_as_flashrom_sees_them(
    serve: Serve, hwflash: Callable[..., None], part: str, name: str
) -> None:
    """``protect set``, ``lock`` and ``clear`` of each part: ranges and modes by --wp-status."""
    flashrom = serve(part)
    chip = flashrom.served.chip
    flashrom.served.sim.die.status.stored[2] |= 0x02  # quad enable, which is to stay
    flashrom.served.sim.die.restart()
    where = ("-p", flashrom.served.url, "--allow-voltage", "-c", chip.part, "--yes")
    draw = random.Random(part)
    ranges = {our_range(chip, registers) for registers in settings(chip)} - {(0, 0)}
    start, length = draw.choice(sorted(ranges))

    hwflash("protect", "set", f"{start}:{length}", *where)
    hwflash("protect", "lock", "wp-pin", *where)
    text = flashrom.ok(name, "--wp-status")
    assert (their_ranges(text), their_mode(text)) == ([(start, length)], "hardware")
    hwflash("protect", "lock", "none", *where)
    hwflash("protect", "clear", *where)
    text = flashrom.ok(name, "--wp-status")
    assert (their_ranges(text), their_mode(text)) == ([(0, 0)], "disabled")
    assert flashrom.served.sim.die.status.stored[2] == 0x02


def test_flashrom_is_refused_what_a_lifted_write_may(
    serve: Serve, hwflash: Callable[..., None], tmp_path: Path
) -> None:
    """flashrom locks; our write lifts and puts back; flashrom finds its lock again."""
    part, name = "W25Q128JV", "W25Q128.V"
    flashrom = serve(part)
    flashrom.ok(name, "--wp-range", "0,0x400000")
    (tmp_path / "piece.bin").write_bytes(b"lifted")
    where = ("-p", flashrom.served.url, "--yes", "--at", "0x1000", str(tmp_path / "piece.bin"))
    hwflash("write", "--lift-protection", *where)
    assert flashrom.served.sim.die.content[0x1000:0x1006] == b"lifted"
    assert their_ranges(flashrom.ok(name, "--wp-status")) == [(0, 0x400000)]


def test_protection_enforced_by_the_pin(serve: Serve, tmp_path: Path) -> None:
    """WP# low and SRP set: neither flashrom nor a write gets through, and content stays."""
    name = "W25Q128.V"
    flashrom = serve("W25Q128JV", wp=0, pins=PinUse(wp=None))
    chip = flashrom.served.chip
    flashrom.ok(name, "--wp-range", "0,0x400000")
    flashrom.ok(name, "--wp-enable")
    assert "Protection mode: hardware" in flashrom.ok(name, "--wp-status")
    registers = read_registers(flashrom.served)
    state = locked(chip, registers)
    assert our_range(chip, registers) == (0, 0x400000)
    assert state.register_lock is RegisterLock.WP_PIN

    assert flashrom.run("--wp-disable", chip=name).code != 0
    new = filled(chip.size, 0x20000, seed=3)
    (tmp_path / "new.bin").write_bytes(new)
    ran = flashrom.run("-N", "-l", "layout", "-i", "changed", "-w", "new.bin", chip=name)
    assert ran.code != 0
    assert flashrom.served.sim.die.content.count(0xFF) == chip.size
    assert read_registers(flashrom.served) == registers


# --- odd chips ------------------------------------------------------------------------------------

#: Part, and what flashrom calls it: words; bytes, 90h and 50h; boot blocks at the top.
ODD = [
    ("SST25VF040B", "SST25VF040B"),
    ("SST25VF512A", "SST25VF512(A)"),
    ("EN25B16T", "EN25B16T"),
]
PIECE = (0x2000, 0x1000)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "name"), ODD, ids=[chip[0] for chip in ODD])
def test_odd_chips(
    serve: Serve, hwflash: Callable[..., None], tmp_path: Path, part: str, name: str
) -> None:
    """flashrom programs by words and bytes and lifts volatile locks; both see the same bytes."""
    flashrom = serve(part)
    flashrom.more = ",spispeed=20M"  # flashrom reads by 03h, at whatever clock it is given
    die = flashrom.served.sim.die
    size = flashrom.served.chip.size
    start, length = PIECE
    start = size - 0x4000 if part == "EN25B16T" else start  # a boot block of 8 KiB
    (tmp_path / "layout").write_text(f"{start:08x}:{start + length - 1:08x} changed\n")
    expected = filled(size, size, seed=size)
    die.content[:] = expected
    expected[start : start + length] = random.Random(5).randbytes(length)
    (tmp_path / "new.bin").write_bytes(expected)
    text = flashrom.ok(name, "-N", "-l", "layout", "-i", "changed", "-w", "new.bin")
    assert f'flash chip "{name}" ({size // KIB} kB, SPI)' in text
    assert flashrom.served.sim.die.content == expected

    expected[start + 1 : start + length - 1] = random.Random(6).randbytes(length - 2)
    (tmp_path / "piece.bin").write_bytes(expected[start + 1 : start + length - 1])
    where = ("-p", flashrom.served.url, "-c", part, "--yes", "--at", hex(start + 1))
    hwflash("write", *where, str(tmp_path / "piece.bin"))
    assert flashrom.served.sim.die.content == expected
    (tmp_path / "new.bin").write_bytes(expected)
    flashrom.ok(name, "-v", "new.bin")
