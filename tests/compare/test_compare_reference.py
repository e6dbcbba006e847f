"""``ovmf:`` and what ``boot:`` boots, with descriptors of a folder of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compare.firmware_sides import changed, firmware, module
from uefi.volumes import variable

from hwflash.compare.report import compare
from hwflash.errors import HwflashError, ImageError, ReferenceFailed, UsageError
from hwflash.jobs.compare import make_side
from hwflash.jobs.compare_reference import of_image, reference
from hwflash.layout.ovmf import VIRT_UNIT
from hwflash.qemu.descriptors import Folder

WHOLE = firmware([variable("Mine")], [module(1, "One", b"code" * 10)])
STORE, CODE = WHOLE[:0x84000], WHOLE[0x84000:]
SECURE = changed(CODE, 0x1000)


@pytest.fixture
def folders(tmp_path: Path) -> list[Folder]:
    (tmp_path / "code.fd").write_bytes(CODE)
    (tmp_path / "secure.fd").write_bytes(SECURE)
    (tmp_path / "vars.fd").write_bytes(STORE)
    (tmp_path / "arm.fd").write_bytes(b"\0" * 0x1000 + CODE)
    with (tmp_path / "arm-vars.fd").open("wb") as file:
        file.truncate(VIRT_UNIT)

    def describe(name: str, code: str, store: str, arch: str = "x86_64", features=(), **more):
        machine = "virt-*" if arch == "aarch64" else "pc-q35-*"
        mapping = {
            "device": "flash",
            "executable": {"filename": str(tmp_path / code), "format": "raw"},
            "nvram-template": {"filename": str(tmp_path / store), "format": "raw"},
        }
        content = {
            "description": "", "interface-types": ["uefi"], "mapping": mapping | more,
            "targets": [{"architecture": arch, "machines": [machine]}], "features": list(features),
        }  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(content))

    describe("10-secure", "secure.fd", "vars.fd", features=["secure-boot", "requires-smm"])
    describe("20-plain", "code.fd", "vars.fd")
    describe("30-arm", "arm.fd", "arm-vars.fd", "aarch64")
    describe("40-gone", "none.fd", "vars.fd")
    describe("50-whole", "code.fd", "vars.fd", mode="combined")
    qcow2 = {"filename": str(tmp_path / "code.fd"), "format": "qcow2"}
    describe("60-qcow2", "code.fd", "vars.fd", executable=qcow2)
    describe("70-memory", "code.fd", "vars.fd", device="memory", filename="/x")
    (tmp_path / "80-broken.json").write_text("{")
    return [Folder("system", tmp_path)]


def test_a_descriptor_by_its_name(folders):
    for text in ("20-plain", "20-plain.json", str(folders[0].path / "20-plain.json")):
        found = reference(text, folders)
        assert found.parts() == [(0, STORE + CODE)]
        assert found.machine.smm is None
    found = reference("10-secure", folders)
    assert (found.machine.secure, found.machine.smm) == (True, True)


def test_a_descriptor_by_a_wish(folders):
    assert reference("", folders).code == SECURE
    assert reference("x86_64,-secure-boot", folders).code == CODE
    assert reference("q35,secure-boot", folders).code == SECURE


@pytest.mark.slow
def test_arm_has_its_code_first(folders):
    found = reference("aarch64", folders)
    (at, code), (behind, store) = found.parts()
    assert (at, behind) == (0, VIRT_UNIT)
    assert len(code) == VIRT_UNIT
    assert code[0x1000 : 0x1000 + len(CODE)] == CODE
    assert len(store) == VIRT_UNIT
    made = make_side("ovmf:aarch64", found.parts())
    assert made.range.length == 2 * VIRT_UNIT
    places = {region.name: region.range.address for region in made.regions}
    assert places["code"] == 0
    assert places["vars"] == VIRT_UNIT


def test_a_combined_image_is_taken_as_it_is(folders):
    assert reference("50-whole", folders).parts() == [(0, CODE)]


@pytest.mark.parametrize(
    ("text", "error", "code"),
    [
        ("nothing", ReferenceFailed, "qemu.no-firmware"),
        ("riscv64", ReferenceFailed, "qemu.no-firmware"),
        ("aarch64,secure-boot", ReferenceFailed, "qemu.no-firmware"),
        ("q35,pc", UsageError, "usage.qemu-feature"),
        ("-such", UsageError, "usage.qemu-feature"),
        ("40-gone", ImageError, "image.unreadable"),
        ("/no/such.json", ImageError, "image.unreadable"),
        ("60-qcow2", ImageError, "image.format"),
        ("70-memory", ReferenceFailed, "qemu.no-descriptor"),
        ("80-broken", ReferenceFailed, "qemu.no-descriptor"),
    ],
)
def test_what_is_no_reference(folders, text: str, error: type[HwflashError], code: str):
    with pytest.raises(error) as caught:
        reference(text, folders)
    assert caught.value.code == code


def test_a_vars_file_is_booted_with_the_firmware_that_needs_least(folders):
    own = changed(STORE, 0x3F000)
    found = of_image("mine.fd", own, folders)
    assert found.store == own
    assert found.code == CODE
    assert found.machine.smm is None


def test_a_code_file_is_booted_on_its_own_machine(folders):
    found = of_image("secure.fd", SECURE, folders)
    assert (found.code, found.store) == (SECURE, STORE)
    assert (found.machine.secure, found.machine.smm) == (True, True)
    built = changed(CODE, 0x2000)
    found = of_image("own.fd", built, folders)
    assert found.code == built
    assert found.machine.smm is None


def test_a_whole_image_is_booted_as_one(folders):
    found = of_image("whole.fd", WHOLE, folders)
    assert (found.code, found.store) == (WHOLE, None)
    assert found.machine.vars is None
    assert not found.machine.code.readonly


def test_what_cannot_be_booted(folders, tmp_path: Path):
    with pytest.raises(ImageError) as caught:
        of_image("dump.fd", b"\xff" * (1 << 20) + WHOLE, folders)
    assert caught.value.code == "image.boot"
    with pytest.raises(ReferenceFailed) as failed:
        of_image("vars.fd", STORE, [Folder("system", tmp_path / "none")])
    assert failed.value.code == "qemu.no-firmware"


def test_a_part_is_held_against_the_reference(folders):
    found = reference("20-plain", folders)
    report = compare(make_side("vars", [(0, STORE)]), make_side("ref", found.parts()))
    assert report.equal
    assert report.alignment.compared == 0x84000
