"""fw_cfg, ACPI, VM Generation ID and S3, judged by QEMU and by the firmware they are about."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from conftest import OVMF, require

from hwflash.errors import ReferenceFailed
from hwflash.qemu import fwcfg, loader, vmgenid
from hwflash.qemu.boot import Guest
from hwflash.qemu.boot_setup import BootOptions
from hwflash.qemu.check import CHECKS, Bench, Step, run_check
from hwflash.qemu.inspector import Inspector
from hwflash.qemu.machine import Machine, make_machine

pytestmark = pytest.mark.foreign

NOWHERE = "/nonexistent/vars.fd"
GUID = UUID("8badf00d-dead-4bee-8f00-0123456789ab")


@pytest.fixture
def plain(ovmf: tuple[Path, Path], qemu: str) -> Machine:
    template, code = ovmf
    return make_machine(str(code), str(template), NOWHERE)


@pytest.fixture
def guarded(ovmf: tuple[Path, Path], qemu: str) -> Machine:
    code = OVMF / "OVMF_CODE_4M.secboot.fd"
    require(code.exists(), "package ovmf")
    return make_machine(str(code), str(ovmf[0]), NOWHERE, secure=True)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def steps_of(name: str, bench: Bench) -> dict[str, Step]:
    found = {step.name: step for step in run_check(CHECKS[name], bench)}
    assert list(Path(tempfile.gettempdir()).iterdir()) == [], "a guest has left something"
    return found


def failed(steps: dict[str, Step]) -> list[str]:
    return [step.name for step in steps.values() if not step.ok]


# --- without a boot -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["q35", "pc", "virt"])
def test_fw_cfg_at_power_on(plain: Machine, kind: str) -> None:
    """The same bytes by both ways, from ports and from registers in memory."""
    machine = replace(plain, machine=kind)
    if kind == "virt":
        code, template = (Path("/usr/share/AAVMF") / f"AAVMF_{name}.fd"
                          for name in ("CODE", "VARS"))  # fmt: skip
        require(code.exists() and template.exists(), "package qemu-efi-aarch64")
        machine = make_machine(str(code), str(template), NOWHERE, machine="virt")
    with Guest(machine, BootOptions(qtest=True, paused=True)) as guest:
        view = Inspector(guest)
        assert guest.qmp.execute("query-status")["status"] == "prelaunch"
        device = view.fw_cfg
        assert (device.signature(), device.dma_signature()) == (b"QEMU", b"QEMU CFG")
        assert device.features() == fwcfg.TRADITIONAL | fwcfg.DMA
        files = device.files()
        assert [item.select for item in files] == list(range(0x20, 0x20 + len(files)))
        before = view.memory.read(view.memory.ram.address + 0x20000, 0x100)
        for name in ("etc/table-loader", "etc/smbios/smbios-anchor"):
            file = device.file(name)
            data = device.read_port(file.select, file.size)
            assert data == device.read_dma(file.select, file.size)
            assert any(data)
        assert view.memory.read(view.memory.ram.address + 0x20000, 0x100) == before
        script = loader.parse_script(device.content(device.file(loader.SCRIPT)))
        assert not any(isinstance(item, loader.Unknown) and item.number for item in script)
        with pytest.raises(ReferenceFailed, match="has no file"):
            device.file("etc/nosuch")


def test_guest_memory_is_what_qemu_has(plain: Machine) -> None:
    with Guest(plain, BootOptions(qtest=True, paused=True)) as guest:
        memory = Inspector(guest).memory
        data = bytes(range(256)) * 1025  # more than goes on one line
        memory.write(0x12345, data)
        assert memory.read(0x12345, len(data)) == data
        assert memory.read(0x12345 + 77, 5) == data[77:82]
        told = guest.qmp.monitor("xp /4xb 0x12346")
        assert "0x01 0x02 0x03 0x04" in told


@pytest.mark.parametrize("fault", ["no-device", "no-dma"])
def test_a_machine_without_the_device_or_without_dma(plain: Machine, fault: str) -> None:
    (step,) = steps_of("vmgenid", Bench(plain, fault=fault)).values()
    assert (step.name, step.ok) == ("device", False)
    said = {"no-device": "device not found", "no-dma": "requires DMA write support"}
    assert said[fault] in step.found


# --- with one -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_vmgenid_on_a_plain_build(plain: Machine) -> None:
    steps = steps_of("vmgenid", Bench(plain, guid=GUID))
    assert failed(steps) == []
    assert steps["memory-guid"].found.startswith(f"0d f0 ad 8b ad de ee 4b 8f 00 01 23 45 67 89 ab "
                                                 f"({GUID}) at 0x")  # fmt: skip
    assert steps["loader-script"].found.startswith("24 commands, 0 unknown")
    assert steps["acpi-root"].found.startswith("revision 0 at ")


@pytest.mark.slow
def test_a_table_byte_that_is_changed_in_memory(guarded: Machine) -> None:
    steps = steps_of("vmgenid", Bench(guarded, fault="table-byte"))
    assert failed(steps) == ["acpi-tables", "loader-result", "event-method"]
    assert steps["acpi-tables"].found == "not of SSDT VMGENID"


@pytest.mark.slow
def test_s3_on_a_build_with_smm(guarded: Machine) -> None:
    steps = steps_of("s3", Bench(guarded))
    assert failed(steps) == []
    assert "etc/smi/requested-features" in steps["boot-script-write"].found
    assert steps["resumed"].found == "the code at 0x9000 has run once, and suspended again"


@pytest.mark.slow
def test_the_boot_script_that_is_decoded_is_the_one_that_runs(plain: Machine) -> None:
    """A byte changed in the script arrives in fw_cfg after the resume."""
    steps = steps_of("s3", Bench(plain, fault="script-byte"))
    assert failed(steps) == ["boot-script-write", "address-restored"]
    wanted = int(steps["address-restored"].expected.rpartition("0x")[2], 16)
    found = int(steps["address-restored"].found.rpartition("0x")[2], 16)
    assert found == wanted | 0xFF << 56
    assert steps["address-cleared"].found == f"{vmgenid.ADDRESS_FILE} is 0x0"
