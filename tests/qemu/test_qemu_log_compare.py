from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from debug_logs import BLANK, BOOT, NAMES, REPLAY, log, raw

from hwflash.cli.qemu_log import command
from hwflash.qemu.debuglog import parse, parse_lines
from hwflash.qemu.log_compare import compare

FTW = "Loading driver FE5CEA76-4F72-49E8-986F-2CD899DFFE5D"
FTW_AT = "Loading driver at 0x0000ECDD000 EntryPoint=0x0000ECE0D90 FaultTolerantWriteDxe.efi"
VARIABLE = "Loading driver CBD2E4D5-7068-4FF5-B462-9822B4AD8D60"
VARIABLE_AT = "Loading driver at 0x0000F6C0000 EntryPoint=0x0000F6C9200 VariableRuntimeDxe.efi"


def steps(left, right):
    return {step.name: step for step in compare(left.events, right.events)}


def differing(left, right):
    return [step.name for step in compare(left.events, right.events) if not step.ok]


def changed(name, *changes):
    """A recorded log with changes to its text; each must change something."""
    text = raw(name).decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse([text.encode()])


def texts(step, side):
    return [item.text for item in step.differences if item.side == side]


@pytest.mark.parametrize("name", NAMES)
def test_a_log_is_like_itself(name):
    assert differing(log(name), log(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_addresses_are_no_difference(name):
    def moved(match):
        return f"{int(match[1], 16) + 0x1000:0{len(match[1])}X}"

    text = raw(name).decode()
    # Addresses in RAM and flash, as the log writes them; not offsets in files, nor GUIDs.
    for pattern in (
        r"(?<= at 0x)([0-9A-F]{9,})", r"(?<=EntryPoint=0x)([0-9A-F]+)",
        r"(?<=Image at )([0-9A-F]+)", r"(?<=Address=0x)([0-9A-F]+)", r"(?<=:= 0x)([0-9A-F]+)",
        r"(?<=Buffer=)([0-9A-F]+)", r"(?<=detection at )([0-9A-F]+)",
        r"(?<=ExecuteBootScript - )([0-9A-F]+)", r"(?<=MemoryWrite - 0x)([0-9A-F]+)",
        r"(?<=MemPoll - 0x)([0-9A-F]+)", r"(?<=DmaAccess@0x)([0-9A-F]+)",
        r"(?<=is 0x )([0-9A-F]{7})", r"(?<=AcpiFacsTable = )([0-9A-F]+)",
        r"(?<=work space size - )([0-9A-F]+)",
    ):  # fmt: skip
        text = re.sub(pattern, moved, text)
    text = re.sub(r"(?m)^(InstallProtocolInterface: \S+) [0-9A-F]+$", r"\1 DEAD0", text)
    text = re.sub(r"ASSERT edk2-2022.11/(\S+)\(228\)", r"ASSERT /home/me/b/\1(999)", text)
    other = parse([b"\n\n" + text.encode()])
    assert text != raw(name).decode()
    assert other.damaged == 0
    assert differing(other, log(name)) == []


def test_the_replay_against_a_good_boot():
    found = steps(log(REPLAY), log(BOOT))
    assert [name for name, step in found.items() if not step.ok] == [
        "boots", "protocols", "fault-tolerant writes", "ACPI loader", "S3", "S3 boot script",
    ]  # fmt: skip
    assert texts(found["fault-tolerant writes"], "log") == [
        "FTW: target written from the spare",
        "FTW write replayed from the spare: Success",
        "FTW work space: reclaim begins",
        "FTW work space: reclaimed",
    ]
    assert texts(found["fault-tolerant writes"], "reference") == []
    assert [item.line for item in found["fault-tolerant writes"].differences] == [
        577, 578, 580, 581,
    ]  # fmt: skip
    # Loader commands: 24 of the script and two files freed.
    assert len(texts(found["ACPI loader"], "reference")) == 38
    assert len(texts(found["S3 boot script"], "reference")) == 8
    assert texts(found["boots"], "both") == [
        "1 start, 0 resumes from S3, reference: 1 start, 1 resume from S3"
    ]


def test_a_blank_store_against_a_good_boot():
    found = steps(log(BLANK), log(BOOT))
    assert len(texts(found["drivers"], "reference")) == 60
    assert texts(found["drivers"], "log") == []
    assert (found["drivers"].found, found["drivers"].expected) == ("31 drivers", "91 drivers")
    (text,) = texts(found["asserts and exceptions"], "log")
    assert text == (
        "ASSERT in MdeModulePkg/Universal/Variable/RuntimeDxe/VariableNonVolatile.c:228: "
        "VariableStore->Size == VariableStoreLength"
    )
    assert len(texts(found["flash"], "log")) == 1
    assert not found["order of the store's drivers"].ok


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ([("FaultTolerantWriteDxe.efi", "FtwDxe.efi")],
         {"drivers", "order of the store's drivers"}),
        ([("FD behaves as FLASH", "FD behaves as ROM")], {"flash"}),
        ([("SpareBlockSize - 0x1000", "SpareBlockSize - 0x10000")], {"fault-tolerant writes"}),
        ([("common space: 0x3FF9C", "common space: 0xDF9C")], {"variable driver"}),
        ([("start failed: Aborted", "start failed: Device Error")],
         {"drivers that do not start"}),
        ([("6441F818-6362-4E44-B570-7DBA31DD2453", "6441F818-6362-4E44-B570-7DBA31DD2454")],
         {"protocols"}),
        ([("PointeeOffset=0x28", "PointeeOffset=0x0")], {"ACPI loader"}),
        ([("PointerOffset=0x2362 ", "PointerOffset=0x2361 ")], {"ACPI loader"}),
        ([("[0x00000000+8]", "[0x00000000+4]")], {"S3"}),
        ([("BootScriptInformation: DE AD BE EF", "BootScriptInformation: DE AD BE EE")],
         {"S3 boot script"}),
        ([("BootScriptExecuteIoWrite - 0x00000514", "BootScriptExecuteIoWrite - 0x00000510")],
         {"S3 boot script"}),
        ([("S3BootScriptDone - Success", "S3BootScriptDone - Device Error")], {"S3"}),
        ([(":Foo) returning Success", ":Foo) returning Write Protected")], {"variables refused"}),
        ([("[Bds]Booting EFI Internal Shell", "[Bds]Booting UEFI Misc")], {"boot options"}),
        ([("SEC: S3 resume\n", "")], {"boots"}),
    ],
)  # fmt: skip
def test_each_step_sees_its_difference(changes, wanted):
    other = changed(BOOT, *changes)
    assert set(differing(other, log(BOOT))) == wanted
    assert set(differing(log(BOOT), other)) == wanted


def test_the_order_of_the_store_drivers():
    left = parse_lines([VARIABLE, VARIABLE_AT, FTW, FTW_AT])
    right = parse_lines([FTW, FTW_AT, VARIABLE, VARIABLE_AT])
    assert differing(left, right) == ["order of the store's drivers"]
    (difference,) = steps(left, right)["order of the store's drivers"].differences
    assert difference.text == (
        "VariableRuntimeDxe (variable), FaultTolerantWriteDxe (FTW); "
        "reference: FaultTolerantWriteDxe (FTW), VariableRuntimeDxe (variable)"
    )
    assert (difference.side, difference.line) == ("both", 2)


def test_drivers_are_matched_by_guid_or_name():
    whole = parse_lines([FTW, FTW_AT])
    assert differing(parse_lines([FTW_AT]), whole) == []
    nameless = parse_lines([FTW, FTW_AT.removesuffix("FaultTolerantWriteDxe.efi")])
    assert differing(nameless, whole) == []
    other = parse_lines([FTW.replace("FE5C", "0000"), FTW_AT])
    (text,) = texts(steps(other, whole)["drivers"], "both")
    assert text == (
        "FaultTolerantWriteDxe has GUID 0000ea76-4f72-49e8-986f-2cd899dffe5d, "
        "reference: fe5cea76-4f72-49e8-986f-2cd899dffe5d"
    )
    smm = parse_lines([FTW_AT.replace("driver", "SMM driver")])
    assert texts(steps(smm, whole)["drivers"], "both") == [
        "FaultTolerantWriteDxe is loaded by SMM, reference: DXE"
    ]
    unnamed = parse_lines(["Loading driver at 0x1000 EntryPoint=0x1001 "])
    assert steps(unnamed, unnamed)["drivers"].found == "0 drivers"


def test_loads_and_installs_that_come_again_are_no_difference():
    once = [FTW, FTW_AT, "InstallProtocolInterface: 09576E91-6D3F-11D2-8E39-00A0C969723B 1"]
    assert differing(parse_lines(once), parse_lines(once * 3)) == []


def test_the_history_of_a_store_is_no_difference():
    quiet = changed(BOOT, ("Ftw: Remaining work space size - FE0\n", ""))
    assert differing(quiet, log(BOOT)) == []
    other = changed(BOOT, ("InstallQemuFwCfgTables: unknown loader command: 0x0\n", ""))
    assert differing(other, log(BOOT)) == []


def test_order_and_number_count_where_they_matter():
    command = 'ProcessCmdAddChecksum: File="f" ResultOffset=0x{} Start=0x0 Length=0x8'
    lines = [command.format(number) for number in (1, 2, 3)]
    swapped = [lines[0], lines[2], lines[1]]
    (difference,) = steps(parse_lines(swapped), parse_lines(lines))["ACPI loader"].differences
    assert difference.text == (
        "checksum of f[0x0+0x8] at 0x3 comes before checksum of f[0x0+0x8] at 0x2"
    )
    twice = steps(parse_lines([*lines, lines[0]]), parse_lines(lines))["ACPI loader"]
    assert texts(twice, "log") == ["checksum of f[0x0+0x8] at 0x1"]


def test_nothing_against_nothing():
    assert all(step.ok for step in compare((), ()))
    assert differing(parse_lines([]), parse_lines([FTW, FTW_AT])) == [
        "drivers", "order of the store's drivers",
    ]  # fmt: skip


# --- the command ----------------------------------------------------------------------------


class Desk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in NAMES:
            (folder / f"{name}.log").write_bytes(raw(name))

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.log")

    def run(self, *words: str) -> Any:
        answer = CliRunner().invoke(command, words, catch_exceptions=False)
        assert "Traceback" not in answer.stderr
        return answer

    def json(self, *words: str) -> dict[str, Any]:
        lines = [json.loads(line) for line in self.run(*words, "--json").stdout.splitlines()]
        assert lines[-1]["type"] == "result"
        return lines[-1]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_one_log_in_words(desk):
    answer = desk.run(desk.path(REPLAY))
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert "line 578: FTW write replayed from the spare: Success" in answer.stdout
    assert "no problems" in answer.stdout
    answer = desk.run(desk.path(BLANK))
    assert answer.exit_code == 1
    assert "problems: 2\n" in answer.stdout


def test_one_log_for_scripts(desk):
    result = desk.json(desk.path(BLANK))
    assert (result["command"], result["ok"], result["exit_code"]) == ("qemu check log", False, 1)
    assert (result["lines"], result["boots"], result["damaged"]) == (427, 1, 0)
    assert result["problems"] == 2
    (step,) = result["steps"]
    assert not step["ok"]
    assert step["found"].endswith("VariableStore->Size == VariableStoreLength")
    assert step["seconds"] >= 0
    assert len(result["events"]) == 159
    assert result["events"][-1] == {
        "kind": "assert",
        "line": 427,
        "text": step["found"].split("; ")[1],
        "file": "MdeModulePkg/Universal/Variable/RuntimeDxe/VariableNonVolatile.c",
        "expression": "VariableStore->Size == VariableStoreLength",
        "source_line": 228,
        "problem": True,
    }
    assert desk.json(desk.path(BOOT))["verdicts"] == [
        "variables are in flash", "no unfinished write was found",
    ]  # fmt: skip


def test_two_logs(desk):
    answer = desk.run(desk.path(REPLAY), desk.path(BOOT))
    assert answer.exit_code == 1
    assert "  + line 578: FTW write replayed from the spare: Success\n" in answer.stdout
    assert "  and 18 more; --json lists all\n" in answer.stdout
    assert "drivers: 91 drivers\n" in answer.stdout
    assert desk.run(desk.path(BOOT), desk.path(BOOT)).exit_code == 0
    result = desk.json(desk.path(REPLAY), desk.path(BOOT))
    assert (result["equal"], result["ok"]) == (False, False)
    assert len(result["events"]) == 565
    assert len(result["reference"]["events"]) == 757
    assert result["reference"]["file"] == desk.path(BOOT)
    by_name = {step["name"]: step for step in result["steps"]}
    assert by_name["fault-tolerant writes"]["differences"][1] == {
        "side": "log", "text": "FTW write replayed from the spare: Success", "line": 578,
    }  # fmt: skip
    assert len(by_name["ACPI loader"]["differences"]) == 38


def test_one_boot_of_many(desk):
    file = desk.folder / "many.log"
    file.write_bytes(raw(BLANK) + raw(BOOT))
    assert desk.run(str(file), desk.path(BOOT)).exit_code == 1
    assert desk.run(str(file), desk.path(BOOT), "--boot", "2").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["missing"], "log.unreadable", 7),
        (["empty"], "log.no-events", 7),
        ([BLANK, "missing"], "log.unreadable", 7),
        ([BLANK, "empty"], "log.no-events", 7),
        ([BLANK, "--boot", "2"], "log.no-boot", 7),
    ],
)
def test_errors(desk, words, code, exit_code):
    (desk.folder / "empty.log").write_bytes(b"")
    words = [word if word[0] == "-" or word.isdigit() else desk.path(word) for word in words]
    result = desk.json(*words)
    assert (result["error"]["code"], result["exit_code"]) == (code, exit_code)


def test_a_log_that_is_too_long_is_said_to_be(desk, monkeypatch):
    monkeypatch.setattr("hwflash.qemu.debuglog.EVENTS", 100)
    answer = desk.run(desk.path(BOOT))
    assert "only the first 100 events are used" in answer.stderr
