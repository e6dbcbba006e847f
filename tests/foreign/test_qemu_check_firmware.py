"""The checks, judged by the firmware they are about: OVMF and AAVMF in QEMU."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from conftest import OVMF, require

from hwflash.qemu.check import CHECKS, Bench, Step, run_check
from hwflash.qemu.machine import Machine, make_machine

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

AAVMF = Path("/usr/share/AAVMF")
#: A file that cannot exist: guests have copies of the template.
NOWHERE = "/nonexistent/vars.fd"


@pytest.fixture(scope="module")
def aavmf() -> Machine:
    require(shutil.which("qemu-system-aarch64"), "package qemu-system-arm")
    code, template = AAVMF / "AAVMF_CODE.fd", AAVMF / "AAVMF_VARS.fd"
    require(code.exists() and template.exists(), "package qemu-efi-aarch64")
    return make_machine(str(code), str(template), NOWHERE, machine="virt")


def steps_of(
    name: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Step]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = {step.name: step for step in run_check(CHECKS[name], Bench(machine))}
    assert list(tmp_path.iterdir()) == [], "a guest has left something"
    return found


def failed(steps: dict[str, Step]) -> list[Step]:
    return [step for step in steps.values() if not step.ok]


def test_variables_cross_over(
    aavmf: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of("variables", aavmf, tmp_path, monkeypatch)
    assert failed(steps) == []
    assert steps["blank-formatted"].found == "healthy"
    assert (steps["boot-counted"].found, steps["second-boot-counted"].found) == ("MTC 2", "MTC 3")
    assert {"offline-update-seen", "shell-delete-stored", "second-all-agree"} <= set(steps)


def test_where_a_plain_build_sees_its_flash(
    ovmf: tuple[Path, Path], qemu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, code = ovmf
    steps = steps_of("pflash", make_machine(str(code), str(template), NOWHERE), tmp_path,
                     monkeypatch)  # fmt: skip
    assert failed(steps) == []
    assert steps["fvb-address"].found == "0xFFC00000-0xFFC83FFF"
    # The variable driver is up before the one that would finish a fault-tolerant write.
    names = [item.split()[0] for item in steps["driver-order"].found.split(", ")]
    assert names == ["FvbServicesRuntimeDxe", "VariableRuntimeDxe", "FaultTolerantWriteDxe"]
    assert "EmuVariableFvbRuntimeDxe" in steps["emulated-driver"].found


def test_a_store_of_another_build_is_noticed(
    ovmf: tuple[Path, Path], qemu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = OVMF / "OVMF_VARS.fd"
    require(small.exists(), "package ovmf")
    machine = make_machine(str(ovmf[1]), str(small), NOWHERE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names: list[str] = []
    steps = run_check(CHECKS["pflash"], Bench(machine))
    for step in steps:
        names += [] if step.ok else [step.name]
        if step.name == "not-emulated":
            break
    assert list(tmp_path.iterdir()), "the guest is running"
    steps.close()
    assert list(tmp_path.iterdir()) == [], "and ends with whoever watched it"
    assert names == ["address-layout", "fvb-address", "not-emulated"]


def test_only_smm_writes_and_keys_refuse(
    qemu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, template = OVMF / "OVMF_CODE_4M.secboot.fd", OVMF / "OVMF_VARS_4M.fd"
    require(code.exists() and template.exists(), "package ovmf")
    machine = make_machine(str(code), str(template), NOWHERE, secure=True)
    steps = steps_of("secure", machine, tmp_path, monkeypatch)
    assert failed(steps) == []
    assert "Security Violation" in steps["written-keys-refuse"].found
    assert steps["control-erase"].found == "block 0 erased"


def test_what_a_boot_changes(
    aavmf: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of("before-after", aavmf, tmp_path, monkeypatch)
    assert failed(steps) == []
    assert steps["usual-values"].found == "MTC"
    assert steps["usual-bits-set"].found == "none"
