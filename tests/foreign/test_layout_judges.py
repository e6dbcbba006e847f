"""coreboot's ifdtool and fmaptool, and flashrom over our serprog server, judge layouts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import require
from serving import ServedPart

sys.path.insert(0, str(Path(__file__).parents[1] / "layout"))
from descriptors import V1, V2, gbe, image

from hwflash.jobs.region_import import imported
from hwflash.jobs.selection import RegionChoice
from hwflash.layout import fmap, ifd, textfile
from hwflash.layout.files import load_image
from hwflash.layout.gbe import read as read_gbe

pytestmark = pytest.mark.foreign

SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"
IFDTOOL, FMAPTOOL = shutil.which("ifdtool", path=SBIN), shutil.which("fmaptool", path=SBIN)
FLASHROM = shutil.which("flashrom", path=SBIN)
PLATFORM: dict[int, list[str]] = {1: [], 2: ["-p", "sklkbl"]}


def call(folder: Path, *words: str) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def ifdtool(tmp_path: Path) -> Callable[..., str]:
    require(IFDTOOL, "package coreboot-utils")
    return lambda version, *words: call(tmp_path, str(IFDTOOL), *PLATFORM[version], *words)


def ours(data: bytes) -> dict[str, tuple[int, int]]:
    found = ifd.parse(data, len(data))
    return {item.name: (item.range.address, item.range.end) for item in found.regions}


def theirs(path: Path) -> dict[str, tuple[int, int]]:
    found = textfile.parse(path.read_text(), path.name)
    return {item.name: (item.range.address, item.range.end) for item in found}


@pytest.mark.parametrize("version", [1, 2])
def test_ifdtool_reads_what_we_read(
    tmp_path: Path, ifdtool: Callable[..., str], version: int
) -> None:
    data = image(version)
    (tmp_path / "x.bin").write_bytes(data)
    ifdtool(version, "-f", "x.layout", "x.bin")
    assert theirs(tmp_path / "x.layout") == ours(data)
    text = ifdtool(version, "-d", "x.bin")
    size = re.search(r"Component 1 Density: +(\d+)MB", text)
    assert size
    assert int(size[1]) << 20 == ifd.parse(data).size
    straps = re.findall(r"^PCHSTRP\d+ *: 0x([0-9a-f]{8})", text, re.MULTILINE)
    count = re.search(
        r"^  [IP]SL: +0x([0-9a-f]+)", text, re.MULTILINE
    )  # it prints more than there are
    assert count
    known = [bytes.fromhex(word)[::-1] for word in straps[: int(count[1], 16)]]
    assert ifd.straps(data) == b"".join(known) != b""
    rights = ifd.parse(data, len(data)).masters[0]
    master = text.split("FLMSTR1")[1].split("FLMSTR2")[0]
    words = {"Flash Descriptor": "fd", "Host CPU/BIOS": "bios", "Intel ME": "me", "GbE": "gbe"}
    for kind, granted in (("Read", rights.read), ("Write", rights.write)):
        told = {
            name
            for title, name in words.items()
            if re.search(rf"{title}(?: Region)? {kind} Access: +enabled", master)
        }
        assert told == set(granted)


@pytest.mark.parametrize("version", [1, 2])
def test_what_ifdtool_changes_we_read(
    tmp_path: Path, ifdtool: Callable[..., str], version: int
) -> None:
    """Density, rights and region borders, each changed by ifdtool; the straps stay alone."""
    data = image(version)
    (tmp_path / "x.bin").write_bytes(data)
    ifdtool(version, "-D", "16", "-O", "d.bin", "x.bin")
    assert ifd.parse((tmp_path / "d.bin").read_bytes()).components[0] == 16 << 20
    ifdtool(version, "-l", "-O", "l.bin", "x.bin")
    locked = ifd.parse((tmp_path / "l.bin").read_bytes()).masters
    ifdtool(version, "-u", "-O", "u.bin", "x.bin")
    open_ = ifd.parse((tmp_path / "u.bin").read_bytes()).masters
    assert "me" not in locked[0].write
    assert "fd" not in locked[0].write
    assert {"fd", "bios", "me", "gbe"} <= set(open_[0].write)
    last = len(data) - 1
    lines = ["0:fff fd", "1000:2fff gbe", "3000:fffff me", f"400000:{last:x} bios"]
    lines += ["100000:11ffff ec"] if version == 2 else []
    text = "".join(f"{line}\n" for line in lines)
    (tmp_path / "n.layout").write_text(text)
    ifdtool(version, "-n", "n.layout", "-O", "n.bin", "x.bin")
    moved = ours((tmp_path / "n.bin").read_bytes())
    assert (moved["me"], moved["bios"]) == ((0x3000, 0x100000), (0x400000, last + 1))


@pytest.mark.parametrize("version", [1, 2])
def test_regions_that_ifdtool_extracts_are_ours(
    tmp_path: Path, ifdtool: Callable[..., str], version: int
) -> None:
    data = bytes(image(version))
    (tmp_path / "x.bin").write_bytes(data)
    ifdtool(version, "-x", "x.bin")
    for number, name in ((0, "flashdescriptor"), (1, "bios"), (2, "intel_me"), (3, "gbe")):
        first, last = (V1 if version == 1 else V2)[number]
        (file,) = tmp_path.glob(f"flashregion_{number}_{name}.bin")
        assert file.read_bytes() == data[first : last + 1]
    assert all(copy.valid for copy in read_gbe((tmp_path / "flashregion_3_gbe.bin").read_bytes()))
    assert gbe("001122334455") in data


@pytest.mark.parametrize("version", [1, 2])
def test_a_region_that_ifdtool_puts_in_is_ours(
    tmp_path: Path, ifdtool: Callable[..., str], version: int
) -> None:
    data, (first, last) = bytes(image(version)), (V1 if version == 1 else V2)[2]
    (tmp_path / "x.bin").write_bytes(data)
    (tmp_path / "me.bin").write_bytes(bytes(range(256)) * ((last + 1 - first) // 256))
    ifdtool(version, "-i", "ME:me.bin", "-O", "y.bin", "x.bin")
    choice = RegionChoice("me", tmp_path / "me.bin")
    regions = ifd.parse(data, len(data)).regions
    found = imported(data, regions, [choice], load_image)
    assert found.data == (tmp_path / "y.bin").read_bytes()
    assert found.data != data


FMD = """
FLASH@0xfff00000 0x100000 {
    WP_RO@0x0 0x80000 {
        FMAP@0x0 0x800
        COREBOOT(CBFS)@0x1000 0x7f000
    }
    RW_SECTION_A@0x80000 0x40000 {
        VBLOCK_A@0x0 0x2000
        FW_MAIN_A(CBFS)@0x2000 0x3e000
    }
    RW_NVRAM@0xc0000 0x2000
    RW_LEGACY@0xd0000 0x30000
}
"""


def test_a_map_that_fmaptool_makes(tmp_path: Path) -> None:
    require(FMAPTOOL, "package coreboot-utils")
    (tmp_path / "x.fmd").write_text(FMD)
    call(tmp_path, str(FMAPTOOL), "x.fmd", "x.fmap")
    data = (tmp_path / "x.fmap").read_bytes()
    found = fmap.parse(data, 0)
    assert (found.name, found.base, found.size) == ("FLASH", 0xFFF00000, 0x100000)
    places = {item.name: (item.range.address, item.range.length) for item in found.regions}
    assert places == {
        "WP_RO": (0, 0x80000), "FMAP": (0, 0x800), "COREBOOT": (0x1000, 0x7F000),
        "RW_SECTION_A": (0x80000, 0x40000), "VBLOCK_A": (0x80000, 0x2000),
        "FW_MAIN_A": (0x82000, 0x3E000), "RW_NVRAM": (0xC0000, 0x2000),
        "RW_LEGACY": (0xD0000, 0x30000),
    }  # fmt: skip


# --- flashrom over our serprog server ---------------------------------------------------------

Serve = Callable[[bytes], Callable[..., str]]
PART, NAME = "W25Q64JV", "W25Q64JV-.Q"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    require(FLASHROM, "package flashrom")
    opened: list[ServedPart] = []

    def begin(content: bytes) -> Callable[..., str]:
        served = ServedPart(PART)
        opened.append(served)
        served.sim.die.content[:] = content
        where = f"serprog:ip=127.0.0.1:{served.serving.port}"
        return lambda *words: call(tmp_path, str(FLASHROM), "-p", where, "-c", NAME, *words)

    yield begin
    for item in opened:
        item.close()


def test_flashrom_reads_regions_by_the_descriptor(serve: Serve, tmp_path: Path) -> None:
    """--ifd, and a layout file that hwflash wrote: the same bytes for the same names."""
    data = bytes(image(1))
    flashrom = serve(data)
    found = ifd.parse(data, len(data))
    flashrom("--ifd", "-i", "gbe:gbe.bin", "-i", "me:me.bin", "-r", "all.bin")
    (tmp_path / "our.layout").write_text(textfile.dump(found.regions))
    flashrom("-l", "our.layout", "-i", "gbe:gbe2.bin", "-i", "me:me2.bin", "-r", "all2.bin")
    for region in found.regions:
        expected = data[region.range.address : region.range.end]
        for name in (f"{region.name}.bin", f"{region.name}2.bin"):
            if region.name in ("gbe", "me"):
                assert (tmp_path / name).read_bytes()[: len(expected)] == expected


def test_flashrom_reads_areas_by_the_map(serve: Serve, tmp_path: Path) -> None:
    require(FMAPTOOL, "package coreboot-utils")
    (tmp_path / "x.fmd").write_text(FMD)
    call(tmp_path, str(FMAPTOOL), "x.fmd", "x.fmap")
    table = (tmp_path / "x.fmap").read_bytes()
    content = bytearray(b"\xff" * (8 << 20))
    content[: len(table)] = table
    content[0x80000:0xC0000] = bytes(range(256)) * 0x400
    flashrom = serve(bytes(content))
    found = fmap.find(bytes(content))
    assert found is not None
    flashrom("--fmap", "-i", "VBLOCK_A:v.bin", "-i", "RW_LEGACY:l.bin", "-r", "all.bin")
    for name, file in (("VBLOCK_A", "v.bin"), ("RW_LEGACY", "l.bin")):
        (where,) = [item.range for item in found.regions if item.name == name]
        expected = bytes(content[where.address : where.end])
        assert (tmp_path / file).read_bytes()[: len(expected)] == expected
