"""The checks vmgenid and s3, with a stand-in for guests: they must notice what goes wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from fake_platform import FakePlatform
from firmware_images import store_image
from platform_data import GUID_ADDRESS

from hwflash.errors import ReferenceFailed, UsageError
from hwflash.qemu.boot_setup import BootOptions
from hwflash.qemu.check import CHECKS, Bench, Step, run_check
from hwflash.qemu.inspector import Inspector
from hwflash.qemu.machine import make_machine
from hwflash.uefi.areas import KNOWN

WANTED = UUID("00112233-4455-6677-8899-aabbccddeeff")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A machine with plain firmware; every guest that was started must have ended."""
    monkeypatch.setattr(FakePlatform, "running", 0)
    monkeypatch.setattr(FakePlatform, "wrong", "")
    # The guest has no file to leave memory in, and the firmware's own memory is small here.
    monkeypatch.setattr("hwflash.qemu.guest_memory._LINE_BYTES", 1 << 30)
    monkeypatch.setattr("hwflash.qemu.inspector._OF_FIRMWARE", 0x98000)
    code, template = tmp_path / "code.fd", tmp_path / "template.fd"
    with code.open("wb") as file:
        file.truncate((2 << 20) - KNOWN[0].length)
    template.write_bytes(store_image(KNOWN[0]))
    machine = make_machine(str(code), str(template), str(tmp_path / "none"))
    return Bench(machine, start=FakePlatform)


def steps_of(name: str, bench: Bench) -> dict[str, Step]:
    found = list(run_check(CHECKS[name], bench))
    assert FakePlatform.running == 0
    assert len({step.name for step in found}) == len(found)
    assert all(step.expected and step.found for step in found)
    return {step.name: step for step in found}


def failing(name: str, bench: Bench) -> list[str]:
    return [step.name for step in steps_of(name, bench).values() if not step.ok]


def test_a_machine_as_it_should_be(bench: Bench) -> None:
    steps = steps_of("vmgenid", bench)
    assert all(step.ok for step in steps.values())
    assert list(steps) == [
        "device", "auto", "malformed", "boots", "qmp-guid", "monitor-guid", "fw-cfg",
        "fw-cfg-files", "fw-cfg-ways", "loader-script", "guid-file", "address-written",
        "acpi-root", "acpi-tables", "loader-result", "ssdt", "device-names", "addr-method",
        "event-method", "memory-type", "memory-guid", "restarted-qmp-guid",
        "restarted-memory-guid", "restarted-event",
    ]  # fmt: skip
    assert steps["memory-guid"].found == (
        "33 22 11 00 55 44 77 66 88 99 aa bb cc dd ee ff "
        f"({WANTED}) at 0x{GUID_ADDRESS:X}"
    )  # fmt: skip
    steps = steps_of("s3", bench)
    assert all(step.ok for step in steps.values())
    assert list(steps) == [
        "boots", "offered", "address-written", "boot-script", "boot-script-write",
        "sleep-register", "suspended", "address-kept", "woken", "address-cleared", "resumed",
        "address-restored", "guid-kept",
    ]  # fmt: skip
    assert "INFORMATION de ad be ef; TERMINATE" in steps["boot-script"].found


def test_another_guid_is_looked_for_when_it_is_given(bench: Bench) -> None:
    guid = UUID("deadbeef-0000-4000-8000-000000000001")
    steps = steps_of("vmgenid", replace(bench, guid=guid))
    assert all(step.ok for step in steps.values())
    assert str(guid) in steps["memory-guid"].found


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("same-auto", ["auto"]),
        ("takes-all", ["malformed"]),
        ("crashes", ["guest"]),
        ("hangs", ["boots"]),
        ("monitor", ["monitor-guid"]),
        ("absent", ["fw-cfg", "fw-cfg-files"]),
        ("no-dma-bit", ["fw-cfg"]),
        ("dma-error", ["fw-cfg-files"]),
        ("no-files", ["fw-cfg-files"]),
        ("script-torn", ["loader-script"]),
        ("no-write-pointer", ["loader-script", "loader-result"]),
        ("file-guid", ["guid-file"]),
        ("not-written", ["address-written", "loader-result", "ssdt"]),
        ("no-rsdp", ["acpi-root"]),
        ("no-table", ["acpi-root"]),
        ("checksum", ["acpi-tables", "loader-result"]),
        ("aml", ["acpi-tables", "loader-result", "ssdt"]),
        ("memory-type", ["memory-type"]),
        ("page-empty", ["restarted-memory-guid"]),
        ("no-migration", ["guest"]),
        ("old-guid", ["restarted-memory-guid"]),
        ("quiet", ["restarted-event"]),
    ],
)
def test_vmgenid_notices(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, wrong: str, expected: list[str]
) -> None:
    monkeypatch.setattr(FakePlatform, "wrong", wrong)
    assert failing("vmgenid", bench) == expected


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("hangs", ["boots"]),
        ("not-offered", ["offered"]),
        ("not-written", ["address-written", "boot-script-write", "address-restored", "guid-kept"]),
        ("no-script", ["boot-script"]),
        ("no-copy", []),
        ("two-scripts", ["boot-script"]),
        ("no-rsdp", ["sleep-register"]),
        ("no-suspend", ["suspended"]),
        ("changed-address", ["address-kept"]),
        ("no-wakeup", ["woken"]),
        ("not-cleared", ["address-cleared"]),
        ("no-resume", ["resumed"]),
        ("twice", ["resumed"]),
        ("not-restored", ["address-restored"]),
        ("guid-lost", ["guid-kept"]),
    ],
)  # fmt: skip
def test_s3_notices(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, wrong: str, expected: list[str]
) -> None:
    monkeypatch.setattr(FakePlatform, "wrong", wrong)
    assert failing("s3", bench) == expected


@pytest.mark.parametrize(
    ("name", "fault", "expected"),
    [
        ("vmgenid", "no-device", ["device"]),
        ("vmgenid", "no-dma", ["device"]),
        ("vmgenid", "other-guid", ["device", "qmp-guid", "monitor-guid", "guid-file",
                                   "memory-guid"]),
        ("vmgenid", "memory-byte", ["memory-guid"]),
        ("vmgenid", "table-byte", ["acpi-tables", "loader-result", "event-method"]),
        ("s3", "no-s3", ["offered"]),
        ("s3", "no-wake", ["woken"]),
        ("s3", "script-byte", ["boot-script-write", "address-restored"]),
    ],
)  # fmt: skip
def test_what_is_broken_on_purpose_is_noticed(
    bench: Bench, name: str, fault: str, expected: list[str]
) -> None:
    assert fault in CHECKS[name].faults
    assert failing(name, replace(bench, fault=fault)) == expected


def test_every_fault_is_tried_here() -> None:
    tried = {mark.args[1][place][1]
             for mark in test_what_is_broken_on_purpose_is_noticed.pytestmark  # type: ignore[attr-defined]
             for place in range(len(mark.args[1]))}  # fmt: skip
    assert tried == {fault for check in CHECKS.values() for fault in check.faults}


def test_a_fault_that_a_check_does_not_have(bench: Bench) -> None:
    for name in ("pflash", "s3"):
        with pytest.raises(UsageError, match="no fault 'table-byte'"):
            list(run_check(CHECKS[name], replace(bench, fault="table-byte")))


def test_a_machine_without_s3(bench: Bench) -> None:
    machine = replace(bench.machine, machine="virt", architecture="aarch64")
    for item in (machine.code, machine.template):
        with Path(item.path).open("r+b") as file:
            file.truncate(64 << 20)  # as QEMU wants it there
    step = steps_of("s3", replace(bench, machine=machine))
    assert [(item.name, item.ok, item.found) for item in step.values()] == [
        ("offered", False, "virt has none")
    ]


def test_a_guest_without_qtest(bench: Bench) -> None:
    with bench.boot(options=BootOptions()) as guest:
        guest.qtest = None
        with pytest.raises(ReferenceFailed) as caught:
            Inspector(guest)
    assert caught.value.code == "reference.qtest"
