"""UEFIExtract (UEFITool, BSD, package uefitool-cli) judges what is read of stores of other vendors.

The stores are built from the published layouts by `uefi.other_stores`. What UEFIExtract says of
each entry, its place, size, kind, GUID, name, value and checksum, is held against what we say.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest
from conftest import require
from uefi import other_stores as o

from hwflash.uefi.find_others import find_others
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


@pytest.mark.parametrize("name", IMAGES)
def test_uefiextract_reads_what_we_read(tmp_path: Path, name: str):
    agree(tmp_path, IMAGES[name])


def test_uefiextract_agrees_on_stores_of_any_content(tmp_path: Path):
    random = Random(20)
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        make = (random_nvar, random_vss, random_evsa)[number % 3]
        agree(folder, make(random))


def word(random: Random) -> str:
    return "".join(random.choices("AbcDef0123", k=random.randint(2, 12)))


def random_nvar(random: Random) -> bytes:
    """Chains of up to four values, between one another; names, GUIDs, headers of all kinds."""
    entries: list[bytes] = []
    pending: list[int] = []  # entries that link to one that is still to come
    places: list[int] = []
    for _ in range(60):
        data = random.randbytes(random.randint(0, 40))
        extended = random.choice([None, None, b"\1", b"\0"])
        place = sum(map(len, entries))
        if pending and random.random() < 0.5:
            source = pending.pop(random.randrange(len(pending)))
            distance = (place - places[source]).to_bytes(3, "little")
            entries[source] = entries[source][:6] + distance + entries[source][9:]
            entries.append(o.nvar_entry(data=data, bits=o.VALID | o.DATA_ONLY, extended=extended))
        else:
            bits = random.choice([o.VALID, o.VALID | o.ASCII, o.ASCII]) | random.choice([0, 1])
            guid = random.choice([0, 1, 2, o.SETUP])
            entries.append(
                o.nvar_entry(word(random), data, bits=bits, guid=guid, extended=extended)
            )
        places.append(place)
        if entries[-1][9] & o.VALID and random.random() < 0.6:
            pending.append(len(entries) - 1)
    return o.nvar_image(o.nvar_store(entries, [o.GLOBAL, o.SETUP, o.SECURITY], 0x3000))


def random_vss(random: Random) -> bytes:
    records: list[bytes] = []
    for _ in range(40):
        data = random.randbytes(random.randint(1, 60))
        make = random.choice([o.vss_plain, o.vss_auth, o.vss_apple])
        records.append(make(word(random), data, state=random.choice([0x7F, 0x7F, 0x7D, 0x7C])))
    return o.vss_image(o.vss_store(records, 0x2800))


def random_evsa(random: Random) -> bytes:
    guids = [o.GLOBAL, o.SETUP, o.SECURITY]
    entries = [o.evsa_guid(number, guid) for number, guid in enumerate(guids)]
    entries += [o.evsa_name(number, word(random)) for number in range(9)]
    for _ in range(40):
        kind = random.choice([0xEF, 0xE3, 0x83])
        data = random.randbytes(random.randint(0, 40))
        entries.append(o.evsa_data(random.randrange(3), random.randrange(9), data, kind=kind))
    return o.vss_image(o.evsa_store(entries, 0x1000))


def agree(folder: Path, image: bytes) -> None:
    judged = theirs(folder, image)
    stores = find_others(Window(image))
    ours = {item.offset: item for store in stores for item in store.records}
    faulty = {
        item.offset
        for store in stores
        for item in store.anomalies
        if item.code.endswith(("checksum", "crc"))
    }
    assert judged.keys() == ours.keys()
    assert ours
    for offset, (said, value) in judged.items():
        entry = ours[offset]
        where = f"{offset:#x} {said}"
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
        assert wrong == (offset in faulty), where
