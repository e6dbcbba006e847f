"""Comparing Debian's real firmware: modules and variables named, references booted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from foreign.conftest import OVMF, require

from hwflash.compare.report import Options, Report, compare
from hwflash.compare.unpack import available
from hwflash.errors import UsageError
from hwflash.jobs.compare import make_side
from hwflash.jobs.compare_reference import Reference, boot, of_image, reference

AAVMF = Path("/usr/share/AAVMF")


@pytest.fixture(autouse=True)
def package() -> None:
    require(available(), "the package uefi-firmware")


@pytest.fixture
def file() -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        path = (AAVMF if name.startswith("AAVMF") else OVMF) / name
        require(path.exists(), f"{path} of packages ovmf, qemu-efi-aarch64 and qemu-efi-arm")
        return path.read_bytes()

    return read


def report(left: bytes | Reference, right: bytes | Reference, **options) -> Report:
    sides = [
        make_side(name, item.parts() if isinstance(item, Reference) else [(0, item)])
        for name, item in (("left", left), ("right", right))
    ]
    return compare(sides[0], sides[1], Options(**options))


def modules(items) -> set[str]:
    return {item.label for item in items}


def variables(items) -> set[str]:
    return {item.name for item in items}


@pytest.mark.slow
def test_modules_of_the_secure_build_are_named(file):
    begin = time.monotonic()
    found = report(file("OVMF_CODE_4M.fd"), file("OVMF_CODE_4M.secboot.fd"))
    assert time.monotonic() - begin < 20
    assert found.modules.level == "modules"
    assert found.modules.notes == ()
    assert {"VariableRuntimeDxe", "FvbServicesRuntimeDxe", "FaultTolerantWriteDxe"} <= modules(
        found.modules.only_left
    )
    right = modules(found.modules.only_right)
    assert {"VariableSmm", "PiSmmCore", "SmmFaultTolerantWriteDxe", "FvbServicesSmm"} <= right
    changed = {item.left.label: item for item in found.modules.changed}
    assert changed["PlatformPei"].what == ("PE32 image",)
    assert changed["PlatformPei"].left.volume == ("FVMAIN_COMPACT", "PEIFV")
    assert changed["BdsDxe"].left.volume == ("FVMAIN_COMPACT", "DXEFV")
    assert "SecMain" in changed
    assert {item.name for item in found.regions if not item.equal} == {"fvmain-compact", "seccode"}


@pytest.mark.slow
def test_builds_of_other_sizes_are_compared_module_by_module(file):
    found = report(file("OVMF_CODE.fd"), file("OVMF_CODE_4M.fd"))
    assert found.alignment.how == "volumes"
    assert found.modules.level == "modules"
    assert {"FvbServicesRuntimeDxe", "PlatformPei"} <= {
        item.left.label for item in found.modules.changed
    }


@pytest.mark.slow
def test_arm_s_code_lies_behind_a_page(file):
    found = report(file("AAVMF_CODE.fd"), file("AAVMF32_CODE.fd"))
    assert found.modules.level == "modules"
    changed = {item.left.label: item for item in found.modules.changed}
    assert changed["DxeCore"].what == ("PE32 image",)
    assert changed["UiApp"].left.kind == "application"


def test_variables_of_the_enrolled_template_are_named(file):
    found = report(file("OVMF_VARS_4M.fd"), file("OVMF_VARS_4M.ms.fd"))
    difference = found.variables.difference
    assert (difference.only_left, difference.changed) == ((), ())
    assert {"PK", "KEK", "db", "dbx", "SecureBootEnable"} <= variables(difference.only_right)
    volatile = {item.variable.name: item.reason.name for item in found.variables.volatile}
    assert volatile["MTC"] == "boot-counter"
    assert volatile["Boot0000"] == "firmware-option"
    assert volatile["ConOut"] == "console"
    assert volatile["MemoryTypeInformation"] == "memory-hint"
    assert found.significant == 0


def test_a_template_of_another_size_has_the_same_keys(file):
    found = report(file("OVMF_VARS.ms.fd"), file("OVMF_VARS_4M.ms.fd"))
    difference = found.variables.difference
    assert not {"PK", "KEK", "db", "dbx"} & variables(difference.only_left)
    assert not {"PK", "KEK", "db", "dbx"} & variables(difference.only_right)


@pytest.mark.slow
def test_the_descriptors_firmware(file):
    plain = reference("x86_64,-secure-boot")
    assert plain.parts() == [(0, file("OVMF_VARS_4M.fd") + file("OVMF_CODE_4M.fd"))]
    assert report(file("OVMF_VARS_4M.fd"), plain).equal
    assert report(file("OVMF_CODE_4M.fd"), plain, regions=("seccode",)).equal
    with pytest.raises(UsageError):
        report(file("OVMF_CODE_4M.fd"), plain, regions=("seccod",))
    arm = reference("aarch64")
    assert arm.parts()[0] == (0, file("AAVMF_CODE.fd"))
    assert report(file("AAVMF_CODE.fd"), arm).equal


@pytest.mark.slow
@pytest.mark.foreign
def test_a_second_boot_changes_nothing_that_matters(file, qemu: str):
    first = boot(of_image("vars", file("OVMF_VARS_4M.fd")))
    assert first.store is not None
    again = boot(first)
    found = report(first, again)
    assert not found.identical
    assert found.equal
    assert {item.variable.name for item in found.variables.volatile} >= {"MTC"}
    assert not report(first, again, everything=True).equal
    assert found.modules.level == "none"


@pytest.mark.slow
@pytest.mark.foreign
def test_a_whole_image_and_the_secure_build_boot(file, qemu: str):
    whole = boot(of_image("whole", file("OVMF_VARS_4M.fd") + file("OVMF_CODE_4M.fd")))
    assert whole.code[0x84000:] == file("OVMF_CODE_4M.fd")
    secure = boot(reference("secure-boot,-enrolled-keys"))
    found = report(whole, secure)
    both = found.variables.difference
    assert "MTC" not in variables(both.only_left) | variables(both.only_right)
    assert not {"Boot0000", "BootOrder"} & {item.left.name for item in both.changed}
    assert "VariableSmm" in modules(found.modules.only_right)
