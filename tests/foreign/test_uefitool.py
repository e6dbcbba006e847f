"""UEFIExtract (UEFITool, BSD, package uefitool-cli) judges what is read of stores of other vendors.

The stores are built from the published layouts by `uefi.other_stores`. What UEFIExtract says of
each entry, its place, size, kind, GUID, name, value and checksum, is held against what we say.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import require
from uefi import other_stores as o

from hwflash.uefi.find_others import find_others
from hwflash.uefi.others import OtherVariable
from hwflash.uefi.window import Window

pytestmark = pytest.mark.foreign

UEFIEXTRACT = shutil.which("UEFIExtract")
#: What it calls an entry, and what we do. It has no words for values that were written over in
#: EVSA, nor for a variable that counts because its successor was never finished.
STATES = {
    "Full": {"added"}, "Data": {"added", "superseded"}, "Link": {"superseded"},
    "Standard": {"added"}, "Auth": {"added"}, "Apple": {"added"}, "Intel": {"added"},
    "Normal": {"added"}, "Invalid": {"deleted", "in-deleted-transition"},
    "Invalid link": {"orphaned"},
}  # fmt: skip
IMAGES = {
    "nvar": o.nvar_image(),
    "nvar orphans": o.nvar_image(
        o.nvar_store(
            [
                o.nvar_entry("A", b"1", bits=o.ASCII, following=14),
                o.nvar_entry(data=b"2", bits=o.VALID | o.DATA_ONLY),
                o.nvar_entry("B", b"3", guid=o.SETUP),
            ],
            [o.GLOBAL],
            0x400,
        )
    ),
    "vss": o.vss_image(o.vss_sample()),
    "vss legacy": o.vss_image(
        o.vss_store([o.vss_legacy("Lang", b"eng"), o.vss_legacy("Old", b"x", state=0xF8)], 0x400)
    ),
    "apple": o.vss_image(
        o.vss_store([o.vss_apple("Boot", b"data"), o.vss_apple("Bad", b"data", crc=1)], 0x400)
        + o.fsys_sample()
    ),
    "evsa": o.vss_image(o.evsa_sample()),
}


def theirs(folder: Path, image: bytes) -> dict[int, tuple[dict[str, str], bytes]]:
    """Entries by image offset: what is said of each, and its value."""
    require(UEFIEXTRACT, "package uefitool-cli")
    (folder / "x.rom").write_bytes(image)
    command = [str(UEFIEXTRACT), "x.rom", "all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[int, tuple[dict[str, str], bytes]] = {}
    for path in (folder / "x.rom.dump").rglob("info.txt"):
        lines = re.findall(r"^([^:\n]+): (.*)$", path.read_text(), re.MULTILINE)
        said = dict(reversed(lines))  # an EVSA entry has a second "Type"
        if not re.fullmatch(r"(NVAR|VSS|EVSA|Fsys) entry", said["Type"]):
            continue
        if said["Subtype"] in ("GUID", "Name") or path.parent.name.endswith(" EOF"):
            continue
        body = path.parent / "body.bin"
        said["folder"] = path.parent.name.partition(" ")[2]
        found[int(said["Base"][:-1], 16)] = said, body.read_bytes() if body.exists() else b""
    return found


def faults(entry: OtherVariable, image: bytes) -> set[str]:
    stores = find_others(Window(image))
    return {
        item.code for store in stores for item in store.anomalies if item.offset == entry.offset
    }


@pytest.mark.parametrize("name", IMAGES)
def test_uefiextract_reads_what_we_read(tmp_path: Path, name: str):
    image = IMAGES[name]
    judged = theirs(tmp_path, image)
    ours = {item.offset: item for store in find_others(Window(image)) for item in store.records}
    assert judged.keys() == ours.keys()
    for offset, (said, value) in judged.items():
        entry = ours[offset]
        where = f"{name} {offset:#x} {said}"
        assert entry.state_name in STATES[said["Subtype"]], where
        assert int(said["Full size"].partition("h")[0], 16) == entry.size, where
        if said["Subtype"].startswith("Invalid"):
            continue  # it does not look into what does not count
        assert value == entry.data, where
        assert said.get("Name", said.get("Text", said["folder"])) == entry.name, where
        guid = said.get("Variable GUID", said.get("GUID"))
        if guid:
            assert guid.lower() == str(entry.guid), where
        wrong = any(", invalid" in text for text in said.values())
        assert wrong == any(code.endswith(("checksum", "crc")) for code in faults(entry, image)), (
            where
        )
