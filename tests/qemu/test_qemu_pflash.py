from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import ImageError
from hwflash.layout.ovmf import OVMF_2M, OVMF_4M
from hwflash.qemu.machine import FlashFile, Machine, make_machine
from hwflash.qemu.pflash import (
    FOUR_GIB,
    PROPERTIES,
    concerns,
    isa_window,
    refusal,
    require_startable,
    seen_size,
    units_of,
)
from hwflash.units import MIB, Range

VARS, CODE = 0x84000, 0x37C000


def test_a_split_image_lies_as_the_whole_one_would():
    for build in (OVMF_2M, OVMF_4M):
        code, store = units_of("q35", [build.code_size, build.vars_size])
        [whole] = units_of("q35", [build.size])
        assert (code.range.address, store.range.address) == (build.code_base, build.base)
        assert whole.range == Range(build.base, build.size)
        assert (code.name, store.name) == ("system.flash0", "system.flash1")


@given(st.lists(st.integers(1, 1024).map(lambda blocks: blocks * 4096), min_size=1, max_size=2))
def test_pc_units_are_stacked_from_4_gib_down(sizes):
    end = FOUR_GIB
    for unit, size in zip(units_of("i440fx", sizes), sizes, strict=True):
        assert unit.range.end == end
        assert unit.blocks * unit.sector == size == unit.range.length
        end = unit.range.address


def test_virt_units():
    units = units_of("virt", [64 * MIB, 64 * MIB])
    assert [unit.range for unit in units] == [Range(0, 64 * MIB), Range(64 * MIB, 64 * MIB)]
    assert [unit.name for unit in units] == ["virt.flash0", "virt.flash1"]
    assert units[0].blocks == 256


def test_the_window_below_1_mib():
    assert isa_window("q35", CODE) == Range(0xE0000, 0x20000)
    assert isa_window("q35", 0x10000) == Range(0xF0000, 0x10000)
    assert isa_window("virt", 64 * MIB) is None


def test_every_property_has_a_value():
    [unit] = units_of("q35", [CODE])
    found = unit.properties("q35", secure=True)
    assert found == {
        "num-blocks": 892, "sector-length": 4096, "width": 1, "device-width": 0,
        "max-device-width": 0, "big-endian": False, "secure": True, "id0": 0, "id1": 0, "id2": 0,
        "id3": 0, "name": "system.flash0", "old-multiple-chip-handling": False,
    }  # fmt: skip
    assert set(found) == {item.name for item in PROPERTIES} - {"drive"}
    [virt] = units_of("virt", [64 * MIB])
    assert virt.properties("virt")["id0"] == 0x89


@pytest.mark.parametrize(("size", "seen"), [(0, 0), (1, 512), (512, 512), (513, 1024)])
def test_qemu_pads_a_file(size, seen):
    assert seen_size(size) == seen


@pytest.mark.parametrize("sizes", [(CODE, VARS), (4 * MIB,), (8 * MIB,), (CODE - 100,), (4096, 1)])
def test_the_sizes_rule(sizes):
    found = refusal("q35", sizes)
    startable = all(seen_size(size) % 4096 == 0 for size in sizes)
    assert (found is None) == startable


@pytest.mark.parametrize(
    ("family", "sizes", "limit", "code", "unit", "message"),
    [
        ("q35", (0,), None, "size", 0,
         "system firmware block device pflash0 has invalid size 0"),
        ("i440fx", (CODE, 5000), None, "size", 1,
         "system firmware block device pflash1 has invalid size 5120"),
        ("q35", (CODE, 8 * MIB), None, "total", 1,
         "combined size of system firmware exceeds 8388608 bytes"),
        ("q35", (CODE,), 3 * MIB, "total", 0,
         "combined size of system firmware exceeds 3145728 bytes"),
        ("q35", (CODE,), 32 * MIB, "limit", None,
         "User specified max allowed firmware size 33554432 is greater than 16MiB"),
        ("q35", (CODE, VARS, VARS), None, "unit", 2,
         "machine type does not support if=pflash,bus=0,unit=2"),
        (None, (CODE,), None, "unit", 0, "machine type does not support if=pflash,bus=0,unit=0"),
        ("virt", (64 * MIB, VARS), None, "size", 1,
         "device requires 67108864 bytes, block backend provides 540672 bytes"),
    ],
)  # fmt: skip
def test_refusals(family, sizes, limit, code, unit, message):
    found = refusal(family, sizes, limit=limit)
    assert (found.code, found.unit, found.message) == (f"qemu.pflash-{code}", unit, message)


def test_more_room_by_max_fw_size():
    assert refusal("q35", (CODE, 8 * MIB), limit=16 * MIB) is None
    assert refusal("q35", (None, VARS)) is None, "what is not known is not refused"


# --- with files -----------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path):
    for name, size in (("code", CODE), ("template", VARS)):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(size)
    return make_machine(*(str(tmp_path / name) for name in ("code", "template", "own")))


def test_a_copy_that_is_still_to_be_made_is_looked_at_in_its_template(machine, tmp_path):
    units = require_startable(machine)
    assert [unit.range.address for unit in units] == [0xFFC84000, 0xFFC00000]
    (tmp_path / "own").write_bytes(b"x" * 5000)
    with pytest.raises(ImageError) as caught:
        require_startable(machine)
    assert caught.value.code == "qemu.pflash-size"
    assert caught.value.context["file"] == str(tmp_path / "own")
    assert "invalid size 5120" in str(caught.value.context["qemu"])


def test_a_file_that_is_not_there(machine, tmp_path):
    (tmp_path / "code").unlink()
    with pytest.raises(ImageError) as caught:
        require_startable(machine)
    assert caught.value.code == "qemu.pflash-missing"
    assert caught.value.context["unit"] == 0


def test_the_size_of_a_qcow2_image_is_not_known_from_its_file(machine, tmp_path):
    (tmp_path / "own.qcow2").write_bytes(b"QFI\xfb")
    own = FlashFile(str(tmp_path / "own.qcow2"), "qcow2")
    assert [unit.number for unit in require_startable(replace(machine, vars=own))] == [0]


def test_a_machine_without_flash(machine):
    with pytest.raises(ImageError, match="unit=0"):
        require_startable(replace(machine, machine="microvm"))


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"vars": FlashFile("/c")}, ["qemu.same-file"]),
        ({"code": FlashFile("/c")}, ["qemu.code-writable"]),
        ({"vars": FlashFile("/v", readonly=True)}, ["qemu.vars-readonly"]),
        ({"vars": None, "template": None}, ["qemu.no-vars"]),
        ({"secure": True, "smm": False}, ["qemu.secure-without-smm"]),
        ({"secure": True, "machine": "pc"}, ["qemu.secure-machine"]),
        ({"vars": FlashFile("/t")}, ["qemu.template-writable"]),
    ],
)
def test_what_qemu_takes_without_a_word(change, codes):
    template = FlashFile("/t", readonly=True)
    usual = Machine(FlashFile("/c", readonly=True), FlashFile("/v"), template)
    assert [item.code for item in concerns(replace(usual, **change))] == codes
