"""QEMU itself judges our command lines, addresses, refusals and properties."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import OVMF, require, require_qemu_arm

from hwflash.boards import load_board
from hwflash.errors import ImageError
from hwflash.qemu.args import DIALECTS, from_args, to_args, to_shell
from hwflash.qemu.autoselect import choose, machine_for, make_wish, match, wish_of
from hwflash.qemu.codeimage import expectations
from hwflash.qemu.descriptors import read_folders, usual_folders
from hwflash.qemu.imagemap import map_image
from hwflash.qemu.libvirt import from_xml, to_auto_xml, to_xml
from hwflash.qemu.machine import FlashFile, Machine, from_board, make_machine, prepare_copy
from hwflash.qemu.pairing import judge_pair
from hwflash.qemu.pflash import (
    PROPERTIES,
    isa_window,
    refusal,
    require_startable,
    seen_size,
    units_of,
)
from hwflash.units import MIB, Range

pytestmark = pytest.mark.foreign

#: A machine that never runs an instruction.
STILL = ["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-S", "-m", "64",
         "-nic", "none", "-monitor", "stdio"]  # fmt: skip
DEBIAN = Path("/usr/share/qemu/firmware")


def ask(words: list[str], *commands: str, cwd: Path | None = None) -> tuple[str, str]:
    """Start QEMU, give its monitor commands, end it: what it printed and complained of."""
    done = subprocess.run(
        [*words, *STILL],
        input="".join(f"{command}\n" for command in (*commands, "quit")),
        capture_output=True, text=True, timeout=60, check=False, cwd=cwd,
    )  # fmt: skip
    return done.stdout, done.stderr


def flash_map(words: list[str], cwd: Path | None = None) -> dict[str, Range]:
    """The flash in the guest's memory, by name."""
    said, complained = ask(words, "info mtree -f", cwd=cwd)
    assert "(qemu)" in said, complained
    found: dict[str, Range] = {}
    for first, last, name in re.findall(
        r"^ +([0-9a-f]{16})-([0-9a-f]{16}) \(prio \d+, rom\w*\): (\S*flash\d|isa-bios)",
        said, re.MULTILINE,
    ):  # fmt: skip
        found[name] = Range(int(first, 16), int(last, 16) - int(first, 16) + 1)
    return found


@pytest.fixture
def four_meg(tmp_path: Path, ovmf: tuple[Path, Path], qemu: str) -> Machine:
    store, code = ovmf
    machine = make_machine(str(code), str(store), str(tmp_path / "own.fd"))
    assert prepare_copy(machine)
    return machine


@pytest.mark.parametrize("change", [{}, {"secure": True, "smm": True}, {"machine": "pc"},
                                    {"s3": False}, {"max_firmware_size": 16 * MIB}])  # fmt: skip
def test_every_form_gives_the_memory_map_we_compute(four_meg, change):
    machine = replace(four_meg, **change)
    code, store = require_startable(machine)
    window = isa_window("q35", code.range.length)
    expected = {"system.flash0": code.range, "system.flash1": store.range, "isa-bios": window}
    assert expected["system.flash1"].address == 0xFFC00000
    for dialect in DIALECTS:
        assert flash_map(to_args(machine, dialect)) == expected, dialect


def test_the_template_is_as_it_was(four_meg):
    template = Path(four_meg.template.path)
    before = (template.read_bytes(), template.stat().st_mtime_ns)
    flash_map(to_args(four_meg, "blockdev"))
    assert (template.read_bytes(), template.stat().st_mtime_ns) == before


def test_a_whole_image_and_one_that_keeps_nothing(tmp_path, qemu, ovmf):
    store, code = (path.read_bytes() for path in ovmf)
    (tmp_path / "all.fd").write_bytes(store + code)
    own = make_machine(str(tmp_path / "all.fd"), None, str(tmp_path / "own.fd"))
    prepare_copy(own)
    assert flash_map(to_args(own))["system.flash0"] == Range(0xFFC00000, 4 * MIB)
    nothing = make_machine(str(ovmf[1]), None, None)
    assert flash_map(to_args(nothing, "blockdev"))["system.flash0"].address == 0xFFC84000


@pytest.mark.parametrize("dialect", DIALECTS)
def test_awkward_file_names(tmp_path, qemu, ovmf, dialect):
    names = ["a,b:c d.fd", "nbd:x", "./file:y", "-o'\"$x=#", "json:{}", ",,", "é;&"]
    for name in names:
        (tmp_path / name).write_bytes(b"\xff" * 0x10000)
        found = flash_map(to_args(Machine(FlashFile(name), FlashFile(name)), dialect), tmp_path)
        assert found["system.flash1"] == Range(0xFFFE0000, 0x10000), name


def test_a_shell_starts_it(tmp_path, qemu, ovmf):
    (tmp_path / "a 'b' $c,d.fd").write_bytes(b"\xff" * 0x10000)
    line = to_shell(to_args(Machine(FlashFile("a 'b' $c,d.fd")), "blockdev"))
    found = flash_map(["sh", "-c", f'{line} "$@"', "sh"], tmp_path)
    assert found["system.flash0"] == Range(0xFFFF0000, 0x10000)


def test_arm_units(tmp_path):
    require_qemu_arm()
    code = Path("/usr/share/AAVMF/AAVMF_CODE.fd")
    require(code.exists(), "package qemu-efi-aarch64")
    template = code.with_name("AAVMF_VARS.fd")
    machine = make_machine(str(code), str(template), str(tmp_path / "own.fd"), machine="virt")
    first, second = require_startable(machine)
    prepare_copy(machine)
    for dialect in DIALECTS:
        found = flash_map(to_args(machine, dialect))
        assert found == {"virt.flash0": first.range, "virt.flash1": second.range}
    short = replace(machine, vars=FlashFile(str(OVMF / "OVMF_VARS_4M.fd")))
    _, complained = ask(to_args(short, "named"))
    with pytest.raises(ImageError) as caught:
        require_startable(short)
    assert str(caught.value.context["qemu"]) in complained
    assert judge_pair(code.read_bytes(), template.read_bytes()).answer == "pair"


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "limit"),
    [
        ([0], None), ([4096, 5000], None), ([4096, 4097], None), ([0, 5000], None),
        ([8 * MIB, 4096], None), ([8 * MIB, 5000], None), ([9 * MIB], None),
        ([4096], 2048), ([4096], 32 * MIB), ([4096, 4096, 4096], None), ([8000], None),
        ([8 * MIB], None), ([16 * MIB], 16 * MIB), ([3585], None),
    ],
)  # fmt: skip
def test_we_refuse_what_qemu_refuses_in_its_words(tmp_path, qemu, sizes, limit):
    words = [qemu, "-machine", "q35" + (f",max-fw-size={limit}" if limit else "")]
    for unit, size in enumerate(sizes):
        with (tmp_path / f"{unit}.fd").open("wb") as stream:
            stream.truncate(size)
        words += ["-drive", f"if=pflash,unit={unit},format=raw,file={tmp_path}/{unit}.fd"]
    said, complained = ask(words, "info mtree -f")
    expected = refusal("q35", sizes, limit=limit)
    if expected is None:
        assert not complained
        assert all(unit.name in said for unit in units_of("q35", [seen_size(s) for s in sizes]))
    else:
        assert expected.message in complained


def test_machines_without_flash(tmp_path, qemu, ovmf):
    words = [
        qemu,
        "-machine",
        "microvm",
        "-drive",
        f"if=pflash,format=raw,readonly=on,file={ovmf[1]}",
    ]
    _, complained = ask(words)
    assert refusal(None, [4096]).message in complained
    _, complained = ask(
        [qemu, "-machine", "q35", "-drive", words[-1].replace("format", "unit=1,format")]
    )
    assert "pflash1 requires pflash0" in complained


def test_a_node_has_no_name_in_a_refusal(tmp_path, qemu):
    (tmp_path / "short.fd").write_bytes(b"x" * 5000)
    _, complained = ask(to_args(Machine(FlashFile(str(tmp_path / "short.fd"))), "blockdev"))
    assert refusal("q35", [5000], names=["", ""]).message in complained


# --- properties -----------------------------------------------------------------------------


def test_the_property_table_is_that_of_the_device(qemu):
    said = subprocess.run(
        [qemu, "-device", "cfi.pflash01,help"],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    found = dict(re.findall(r"^  ([\w-]+)=<(\w+)>", said, re.MULTILINE))
    defaults = dict(re.findall(r"^  ([\w-]+)=.*\(default: (\w+)\)", said, re.MULTILINE))
    assert {item.name: item.kind for item in PROPERTIES} == found
    ours = {item.name: item.default for item in PROPERTIES if item.default is not None}
    assert {name: json.loads(value) for name, value in defaults.items()} == ours


@pytest.mark.parametrize("secure", [False, True])
def test_what_the_board_code_sets(four_meg, secure):
    machine = replace(four_meg, secure=secure)
    for unit in require_startable(machine):
        expected = unit.properties("q35", secure=secure)
        asked = [f"qom-get /machine/{unit.name} {name}" for name in expected]
        said, _ = ask(to_args(machine), *asked)
        plain = re.sub(r"\x1b\[\w|\r", "", said)
        values = [
            json.loads(line) for line in plain.splitlines() if re.match(r'[\d"]|true|false', line)
        ]
        assert values == list(expected.values())


# --- Debian's files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "base"),
    [
        ("OVMF/OVMF_CODE.fd", "OVMF 2M, code", 0xFFE20000),
        ("OVMF/OVMF_VARS.ms.fd", "OVMF 2M, vars", 0xFFE00000),
        ("OVMF/OVMF_CODE_4M.secboot.fd", "OVMF 4M, code", 0xFFC84000),
        ("OVMF/OVMF_VARS_4M.ms.fd", "OVMF 4M, vars", 0xFFC00000),
        ("ovmf/OVMF.fd", "OVMF 2M, unified", 0xFFE00000),
        ("AAVMF/AAVMF_CODE.fd", "AAVMF, code", 0),
        ("AAVMF/AAVMF_VARS.ms.fd", "AAVMF, vars", 0x04000000),
    ],
)
def test_maps(name, kind, base):
    file = Path("/usr/share") / name
    require(file.exists(), "packages ovmf and qemu-efi-aarch64")
    found = map_image(file.read_bytes())
    assert (found.kind, found.base) == (kind, base)
    assert not any(volume.anomalies for volume in found.volumes)
    assert [note for note in found.notes if "1M" not in note] == []
    if "AAVMF" not in kind:
        covered = sum(volume.range.length for volume in found.volumes)
        assert covered == found.size


@pytest.mark.parametrize(
    ("code", "sources"),
    [
        ("OVMF_CODE.fd", ["TDX metadata", "addresses in the code"]),
        ("OVMF_CODE.secboot.fd", ["TDX metadata", "addresses in the code"]),
        ("OVMF_CODE_4M.fd", ["addresses in the code"]),
        ("OVMF_CODE_4M.secboot.fd", ["addresses in the code"]),
    ],
)
def test_pairs(ovmf, code, sources):
    image = (OVMF / code).read_bytes()
    assert [item.source for item in expectations(image)] == sources
    four = "_4M" in code
    for store in ("OVMF_VARS.fd", "OVMF_VARS.ms.fd", "OVMF_VARS_4M.fd", "OVMF_VARS_4M.ms.fd"):
        found = judge_pair(image, (OVMF / store).read_bytes())
        assert found.answer == ("pair" if four == ("_4M" in store) else "no-pair")


def debian_entries():
    require(DEBIAN.is_dir(), "package ovmf")
    return read_folders(usual_folders({"HOME": "/nonexistent"}))


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ({}, "40-edk2-x86_64-secure-enrolled.json"),
        ({"wanted": ["secure-boot"], "unwanted": ["enrolled-keys"]}, "50-edk2-x86_64-secure.json"),
        ({"unwanted": ["secure-boot"]}, "60-edk2-x86_64.json"),
        ({"machine": "pc"}, "60-edk2-x86_64.json"),
        ({"smm": False}, "60-edk2-x86_64.json"),
        ({"machine": "virt", "architecture": "aarch64"}, "40-edk2-aarch64-secure-enrolled.json"),
        ({"machine": "microvm"}, None),
        ({"architecture": "i386"}, None),
    ],
)
def test_debians_descriptors(wish, name):
    verdicts = match(debian_entries(), make_wish(**wish))
    assert [item.entry.name for item in verdicts if item.chosen] == ([name] if name else [])


def test_a_descriptor_of_debian_points_to_a_file_that_is_not_there():
    entries = debian_entries()
    reasons = {
        item.entry.name: item.reasons
        for item in match(entries, make_wish("aarch64", "virt", unwanted=["enrolled-keys"]))
    }
    gone = [reason for reason in reasons["50-edk2-aarch64-secure.json"] if "exist" in reason]
    [entry] = [entry for entry in entries if entry.name == "50-edk2-aarch64-secure.json"]
    assert len(gone) == sum(not Path(file).exists() for file in entry.descriptor.files)
    assert gone, "Debian mended it: this test has done its work"


@pytest.mark.parametrize("wish", [
    {}, {"wanted": ["secure-boot"], "unwanted": ["enrolled-keys"]}, {"unwanted": ["secure-boot"]},
])  # fmt: skip
def test_round_trip_through_every_dialect(tmp_path, qemu, wish):
    """Descriptor to machine, to each dialect, back, and to the same descriptor."""
    entries = debian_entries()
    entry, described = choose(entries, make_wish(**wish))
    machine = machine_for(described, make_wish(**wish), str(tmp_path / "own.fd"))
    for dialect in DIALECTS:
        assert from_args(to_args(machine, dialect)).machine == machine.for_guest()
    assert from_xml(to_xml(machine)) == machine
    again, _ = choose(entries, from_xml(to_auto_xml(wish_of(machine, entries))))
    assert again == entry
    prepare_copy(machine)
    assert flash_map(to_args(machine, "blockdev"))["system.flash1"].address == 0xFFC00000


@pytest.mark.parametrize("board", ["qemu-q35-ovmf-2m", "qemu-q35-ovmf-4m"])
def test_the_reference_of_a_board_starts(tmp_path, qemu, ovmf, board):
    loaded = load_board(board)
    machine = from_board(loaded, str(tmp_path / "own.fd"))
    prepare_copy(machine)
    found = flash_map(to_args(machine))
    assert found["system.flash1"].address + loaded.flash.size == 1 << 32
