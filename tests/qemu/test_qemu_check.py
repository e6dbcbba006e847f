"""Checks and what runs them, with a stand-in for guests: checks must notice what goes wrong."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli.harness import validator
from click.testing import CliRunner
from fake_guest import AAVMF, CODE, LAYOUT, PLAIN, Fake
from firmware_images import store_image
from uefi.keys import OWNER, T1, hash_list, make_key

from hwflash.cli import qemu_check
from hwflash.errors import (
    EnvironmentFault,
    ImageError,
    Interrupted,
    ReferenceFailed,
    UsageError,
)
from hwflash.progress import CancelToken
from hwflash.qemu import check as module
from hwflash.qemu.check import CHECKS, Bench, Check, Step, equal, find_check, run_check, store_of
from hwflash.qemu.check_pflash import drivers_in
from hwflash.qemu.descriptors import Folder
from hwflash.qemu.machine import make_machine
from hwflash.uefi.enrolment import enrol_certificate, enrol_hash
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.secureboot import KeyStore
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A machine with plain firmware; every guest that was started must have ended."""
    monkeypatch.setattr(Fake, "running", 0)
    monkeypatch.setattr(Fake, "fault", "")
    code, template = tmp_path / "code.fd", tmp_path / "template.fd"
    with code.open("wb") as file:
        file.truncate(CODE)
    template.write_bytes(store_image(LAYOUT))
    machine = make_machine(str(code), str(template), str(tmp_path / "none"))
    return Bench(machine, start=Fake)


@pytest.fixture
def enrolled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one firmware descriptor here: it has a template with keys."""
    image = store_image(LAYOUT)
    nvram = Nvram(Window(image), store_of(image))
    services = VariableServices(nvram)
    der = make_key("Platform").der
    changes = [enrol_hash(KeyStore.of(nvram.store), "db", bytes(32), OWNER, T1)]
    changes += [enrol_certificate(KeyStore.of(nvram.store), name, der, OWNER, T1)
                for name in ("KEK", "PK")]  # fmt: skip
    for item in changes:
        services.set_variable(
            item.name, item.guid, item.attributes, item.data, timestamp=item.timestamp, force=True
        )
    assert hash_list(bytes(32)) == nvram.store.find("db", changes[0].guid).data
    template = tmp_path / "enrolled.fd"
    template.write_bytes(nvram.flash.window().data)
    folder = tmp_path / "descriptors"
    folder.mkdir()
    described = {
        "description": "keys", "interface-types": ["uefi"], "tags": [],
        "mapping": {
            "device": "flash",
            "executable": {"filename": str(template), "format": "raw"},
            "nvram-template": {"filename": str(template), "format": "raw"},
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": ["enrolled-keys", "secure-boot", "requires-smm"],
    }  # fmt: skip
    (folder / "40.json").write_text(json.dumps(described))
    monkeypatch.setattr(
        "hwflash.qemu.descriptors.usual_folders", lambda: (Folder("system", folder),)
    )
    return template


def failing(name: str, bench: Bench) -> list[str]:
    found = list(run_check(CHECKS[name], bench))
    assert Fake.running == 0
    names = [step.name for step in found]
    assert len(set(names)) == len(names)
    assert all(step.seconds >= 0 and step.expected and step.found for step in found)
    return [step.name for step in found if not step.ok]


# --- the checks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fault", "expected"),
    [
        ("variables", "", []),
        ("variables", "no-count", ["boot-counted", "second-boot-counted"]),
        ("variables", "crash", ["guest"]),
        ("variables", "deaf", ["offline-update-seen", "all-agree", "second-kept",
                               "second-all-agree"]),
        ("variables", "vendor", ["offline-set-seen"]),
        ("variables", "attributes", ["offline-boot-only-seen", "all-agree", "second-all-agree"]),
        ("variables", "unsaved", ["shell-set-stored", "shell-boot-only-stored",
                                  "shell-update-stored", "shell-delete-stored", "guest"]),
        ("variables", "damages", ["store-healthy", "second-store-healthy"]),
        ("pflash", "", []),
        ("pflash", "moved", ["fvb-address"]),
        ("pflash", "shifted", ["mapped"]),
        ("pflash", "two-volumes", ["fvb-instances", "fvb-address", "emulated-in-memory"]),
        ("pflash", "elsewhere", ["units-foretold", "address-fvb", "address-layout",
                                 "fvb-address", "mapped"]),
        ("pflash", "no-emulation", ["emulated-in-memory", "emulated-driver"]),
        ("pflash", "no-ftw", ["driver-order"]),
        ("pflash", "emulated", ["fvb-address", "not-emulated"]),
        ("before-after", "", []),
        ("before-after", "no-count", ["usual-records", "usual-boot-counted"]),
        ("before-after", "sets-bits", ["first-bits-set", "first-regions", "usual-bits-set",
                                       "usual-regions"]),
        ("before-after", "spare", ["first-regions", "usual-regions"]),
        ("before-after", "forgets", ["first-log-complete", "usual-log-complete"]),
        ("before-after", "loses", ["first-variables"]),
        ("before-after", "changes", ["usual-values"]),
        ("before-after", "adds", ["usual-values"]),
    ],
)  # fmt: skip
def test_a_check_notices(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, fault: str, expected: list[str]
) -> None:
    monkeypatch.setattr(Fake, "fault", fault)
    assert failing(name, bench) == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", []),
        ("open", ["outside-program", "outside-erase", "guest"]),
        ("lax", ["enrolled-refuses", "written-keys-refuse", "secure-boot-enabled"]),
        ("unsaved", ["inside-written"]),
    ],
)
def test_secure_notices(
    bench: Bench,
    enrolled: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    expected: list[str],
) -> None:
    monkeypatch.setattr(Fake, "fault", fault)
    assert (
        failing("secure", replace(bench, machine=replace(bench.machine, secure=True))) == expected
    )


def test_secure_with_a_template_that_has_keys(bench: Bench, enrolled: Path) -> None:
    machine = make_machine(bench.machine.code.path, str(enrolled), "/nonexistent/v", secure=True)
    found = list(run_check(CHECKS["secure"], replace(bench, machine=machine)))
    assert [step.name for step in found if step.ok] == [
        "outside-program", "outside-erase", "control-program", "control-erase", "template-refuses"
    ]  # fmt: skip
    assert all(step.ok for step in found)


def test_pflash_on_a_build_with_smm(bench: Bench) -> None:
    found = list(run_check(CHECKS["pflash"], replace(
        bench, machine=replace(bench.machine, secure=True)
    )))  # fmt: skip
    assert all(step.ok for step in found)
    assert "emulated-driver" not in [step.name for step in found]
    assert next(step.found for step in found if step.name == "driver-order") == (
        "FvbServicesSmm 0x52, VariableSmm 0x53, SmmFaultTolerantWriteDxe 0x55"
    )


def test_a_build_with_smm_shows_no_volume_of_variables(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fake, "fault", "two-volumes")
    guarded = replace(bench, machine=replace(bench.machine, secure=True))
    assert failing("pflash", guarded) == ["fvb-instances"]


@pytest.mark.parametrize("name", ["variables", "pflash"])
def test_a_blank_template_is_formatted_first(bench: Bench, name: str) -> None:
    Path(bench.machine.template.path).write_bytes(bytes(LAYOUT.length))
    found = list(run_check(CHECKS[name], bench))
    assert (found[0].name, found[0].found) == ("blank-formatted", "healthy")
    assert all(step.ok for step in found)


def test_before_and_after_from_a_blank_template(bench: Bench) -> None:
    Path(bench.machine.template.path).write_bytes(bytes(LAYOUT.length))
    names = [step.name for step in run_check(CHECKS["before-after"], bench)]
    assert "first-variables" not in names, "there were none before"
    assert "usual-variables" in names


def test_the_order_of_drivers() -> None:
    assert [str(item) for item in drivers_in(PLAIN)] == [
        "FvbServicesRuntimeDxe 0x0A", "VariableRuntimeDxe 0x2E", "FaultTolerantWriteDxe 0x42"
    ]  # fmt: skip
    assert [str(item) for item in drivers_in(AAVMF)] == [
        "VirtNorFlashDxe 0x5E", "FaultTolerantWriteDxe 0x5F", "VariableRuntimeDxe 0x66"
    ]  # fmt: skip
    assert drivers_in("nothing") == []


# --- what runs them -----------------------------------------------------------------------------


def checked(function: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    monkeypatch.setattr(module, "_tried", function, raising=False)
    return run_check(Check("tried", "a check", "hwflash.qemu.check:_tried", **more), bench)


def test_steps_come_with_their_time_as_soon_as_they_are_known(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def function(bench: Bench) -> Any:
        with bench.shell():
            yield equal("one", 1, 1)
            yield Step("two", False, "this", "that")

    steps = checked(function, bench, monkeypatch)
    first = next(steps)
    assert (first.name, first.ok, first.expected, first.found) == ("one", True, "1", "1")
    assert Fake.running == 1, "in the middle"
    steps.close()
    assert Fake.running == 0, "whoever stops looking ends the guest"


@pytest.mark.parametrize(
    ("error", "guests"),
    [
        (ReferenceFailed("stuck", code="reference.boot-timeout"), True),
        (ImageError("torn", code="uefi.unhealthy"), True),
        (ImageError("no file", code="image.unreadable"), False),
        (EnvironmentFault("no QEMU", code="environment.qemu-missing"), False),
        (EnvironmentFault("the log", code="console.log"), False),
        (Interrupted(), False),
    ],
)
def test_what_is_the_guests_fault_and_what_is_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, guests: bool
) -> None:
    def function(bench: Bench) -> Any:
        with bench.boot():
            yield equal("one", 1, 1)
            raise error

    steps = checked(function, bench, monkeypatch)
    assert next(steps).ok
    if not guests:
        with pytest.raises(type(error)) as caught:
            list(steps)
        assert caught.value is error
    else:
        (last,) = steps
        assert (last.name, last.ok) == ("guest", False)
        assert last.found == f"{error} ({error.code})"
        assert last.seconds > 0
    assert Fake.running == 0


def test_a_check_that_looks_at_nothing_has_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (step,) = checked(lambda bench: (item for item in ()), bench, monkeypatch)
    assert not step.ok


def test_what_is_refused_before_anything_boots(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def function(bench: Bench) -> Any:
        yield equal("size", LAYOUT.length, len(bench.template()))

    assert next(checked(function, bench, monkeypatch)).ok
    with pytest.raises(UsageError, match="from SMM only"):
        list(checked(function, bench, monkeypatch, secure=True))
    nothing = replace(bench, machine=replace(bench.machine, vars=None, template=None))
    with pytest.raises(UsageError, match="keeps nothing"):
        list(checked(function, nothing, monkeypatch))
    gone = make_machine(str(tmp_path / "gone"), None, None)
    with pytest.raises(ImageError) as caught:
        list(checked(function, replace(bench, machine=gone), monkeypatch))
    assert caught.value.code == "qemu.pflash-missing"
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Interrupted):
        list(checked(function, replace(bench, cancel=cancel), monkeypatch))


def test_a_guest_gets_a_copy_of_the_image(bench: Bench, tmp_path: Path) -> None:
    image = store_image(LAYOUT).replace(b"value", b"other")
    with bench.boot(image) as guest:
        assert guest.image() == image
        assert not Path(guest.machine.vars.path).exists()
    assert bench.template() == store_image(LAYOUT)
    with pytest.raises(ReferenceFailed, match="no variable store"):
        store_of(b"\xff" * 0x20000)
    with pytest.raises(ReferenceFailed, match="no variable store"):
        store_of(b"\xff" * 0x1000 + image)


@pytest.mark.parametrize("name", list(CHECKS))
def test_every_check_is_there(name: str) -> None:
    check = find_check(name)
    assert callable(check.load())
    assert check.name == name
    assert check.help.endswith(".")
    assert len(check.help) < 90


# --- the command --------------------------------------------------------------------------------


def run(*words: str) -> Any:
    return CliRunner().invoke(qemu_check.command, words, catch_exceptions=False)


@pytest.fixture
def command(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that name the bench's machine; guests are stand-ins."""
    monkeypatch.setattr(module, "Bench", partial(Bench, start=Fake))
    template = bench.machine.template
    return ["--code", bench.machine.code.path, "--template", template.path]


def test_the_command_prints_a_line_for_each_step(command: list[str]) -> None:
    answer = run("pflash", *command)
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert "ok      pflash: fvb-address: 0xFFE00000-0xFFE1FFFF" in lines
    assert lines[-1] == f"{len(lines) - 1} steps, 0 failed"


def test_a_failed_check(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "fault", "moved")
    answer = run("pflash", "before-after", *command)
    assert answer.exit_code == 8
    place = answer.stdout.index("FAILED  pflash: fvb-address\n")
    assert answer.stdout[place:].splitlines()[1:3] == [
        "        expected: 0xFFE00000-0xFFE1FFFF", "        found:    0xFFE01000-0xFFE20000"
    ]  # fmt: skip
    assert answer.stdout.splitlines()[-1].endswith(" steps, 1 failed: pflash")
    answer = run("pflash", *command, "--json")
    result = json.loads(answer.stdout.splitlines()[-1])
    assert (answer.exit_code, result["exit_code"], result["ok"]) == (8, 8, False)
    (step,) = [item for item in result["steps"] if not item["ok"]]
    assert set(step) == {"name", "ok", "expected", "found", "seconds", "check"}
    assert [(item["name"], item["ok"]) for item in result["checks"]] == [("pflash", False)]


def test_the_list_and_bad_command_lines(bench: Bench) -> None:
    listed = run("--list")
    assert listed.exit_code == 0
    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(CHECKS)]] == list(CHECKS)
    assert lines[len(CHECKS)].split(":")[0].split() == [
        "all", "pflash,", "variables,", "recovery,", "secure,", "vmgenid,", "s3"
    ]  # fmt: skip
    assert lines[-1] == "faults of s3: no-s3, no-wake, script-byte"
    code = bench.machine.code.path
    for words, text in (
        (["nosuch"], "no check 'nosuch'"),
        (["secure", "--code", code, "--template", code], "from SMM only"),
        (["pflash", "--template", code], "--template goes with --code"),
        (["pflash", "--code", code, "--fault", "no-wake"], "no fault 'no-wake'"),
        (["s3", "--code", code, "--fault", "x"], "there are no-s3, no-wake, script-byte"),
        (["all", "--code", code, "--fault", "x"], "no check is left: pflash: it has no fault x"),
        (["vmgenid", "--guid", "1234"], "'1234' is not a GUID"),
        (["pflash", "--report", "same.xml", "--report", "./same.xml"], "cannot go to one file"),
        (["pflash", "--report", "page.html"], "a report is a file .txt, .json, .xml"),
    ):
        answer = run(*words)
        assert answer.exit_code == 2
        assert text in answer.stderr


def test_no_firmware_names_the_package(enrolled: Path) -> None:
    answer = run("pflash", "--json")
    error = json.loads(answer.stdout.splitlines()[-1])["error"]
    assert (answer.exit_code, error["code"]) == (3, "environment.firmware-missing")
    assert "ovmf" in error["message"]


# --- all of them, and reports -------------------------------------------------------------------


def _as(name: str) -> Any:
    """A check that looks at one thing, which is well."""

    def function(bench: Bench) -> Any:
        yield equal("firmware", name, name)

    return function


@pytest.fixture
def quick(command: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name, check in CHECKS.items():
        monkeypatch.setattr(module, f"_{name}", _as(name), raising=False)
        place = f"hwflash.qemu.check:_{name}"
        monkeypatch.setitem(CHECKS, name, replace(check, place=place))
    return command


@pytest.mark.slow
def test_all_certifies_and_leaves_out_what_is_for_others(quick: list[str], tmp_path: Path) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("txt", "json", "xml")}
    words = [word for path in files.values() for word in ("--report", str(path))]
    answer = run("all", *quick, *words, "--json")
    result = json.loads(answer.stdout.splitlines()[-1])
    validator().validate(result)
    assert answer.exit_code == 0
    assert [item["name"] for item in result["checks"]] == [
        "pflash", "variables", "recovery", "vmgenid", "s3"
    ]  # fmt: skip
    assert result["left_out"] == [
        {"name": "secure", "reason": "the flash takes writes from everywhere"}
    ]
    assert result["reports"] == [str(path) for path in files.values()]
    assert files["txt"].read_text().endswith("PASSED\n")
    assert json.loads(files["json"].read_text())["passed"] is True
    suites = ET.parse(files["xml"]).getroot()  # noqa: S314
    assert suites.attrib | {"time": ""} == {
        "name": "hwflash qemu check", "tests": "6", "failures": "0", "errors": "0",
        "skipped": "1", "time": "",
    }  # fmt: skip


def test_a_machine_of_another_kind(quick: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "require_startable", lambda machine: ())
    answer = run("all", *quick, "--machine", "virt")
    assert answer.exit_code == 0
    assert "vmgenid: left out, it is about q35 and i440fx" in answer.stderr
    assert "ok      s3: firmware: s3" in run("s3", *quick, "--machine", "virt").stdout


def test_a_run_that_is_stopped_says_so_in_its_reports(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(bench: Bench) -> Any:
        assert "NOT PASSED" in (tmp_path / "report.txt").read_text(), "it is there from the begin"
        yield equal("one", 1, 1)
        raise EnvironmentFault("no QEMU", code="environment.qemu-missing")

    monkeypatch.setattr(module, "_variables", stops)
    answer = run("all", *quick, "--report", str(tmp_path / "report.txt"))
    assert answer.exit_code == 3
    lines = (tmp_path / "report.txt").read_text().splitlines()
    assert "  ERROR   no QEMU [environment.qemu-missing]" in lines
    assert lines[-1] == "NOT PASSED"
    assert not any(line.startswith("recovery") for line in lines)


def test_a_fault_of_our_own_certifies_nothing(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_recovery", lambda bench: (1 / item for item in [0]))
    answer = run("all", *quick, "--report", str(tmp_path / "report.json"))
    assert answer.exit_code == 70
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["passed"], found["complete"]) == (False, False)
    assert [item["name"] for item in found["checks"]] == ["pflash", "variables", "recovery"]


def test_a_wrong_word_leaves_no_report_of_yesterday(quick: list[str], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text('{"passed": true}')
    assert run("nosuch", *quick, "--report", str(file)).exit_code == 2
    assert json.loads(file.read_text())["passed"] is False


def test_a_report_that_cannot_be_written_is_told_at_once(quick: list[str]) -> None:
    answer = run("all", *quick, "--report", "/nonexistent/report.xml")
    assert (answer.exit_code, answer.stdout) == (3, "")


def test_a_failed_step_in_all(quick: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "_recovery", lambda bench: (equal("cut-1", "a", item) for item in "b")
    )
    answer = run("all", *quick)
    assert answer.exit_code == 8
    assert answer.stdout.splitlines()[-1] == "5 steps, 1 failed: recovery"
