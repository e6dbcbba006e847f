"""What a resume put back, by the firmware's own log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.harness import validator
from click.testing import CliRunner
from debug_logs import BOOT, log, raw

from hwflash.cli.qemu_log import command
from hwflash.qemu.boot_script import FwCfgTransfer
from hwflash.qemu.debuglog import parse, parse_lines
from hwflash.qemu.debuglog_resume import resumes

KEPT = FwCfgTransfer("write", 0x2E, 0, 8, (0xF7FD028).to_bytes(8, "little"))
#: As a build without PointeeOffset prints it; units of other widths, one access for all.
OLDER = """
ProcessCmdWritePointer: PointerFile="etc/vmgenid_addr" PointeeFile="etc/vmgenid_guid" \
PointerOffset=0x0 PointerSize=8
SaveCondensedWritePointerToS3Context: 0x002F/[0x00000000+8] := 0x7FECF000 (0)
SEC: S3 resume
EFI_BOOT_SCRIPT_MEM_WRITE_OPCODE
S3BootScriptWidthUint32 - 0x7FE6D018 (0x18002F00)
S3BootScriptWidthUint32 - 0x7FE6D01C (0x08000000)
EFI_BOOT_SCRIPT_MEM_WRITE_OPCODE
S3BootScriptWidthUint64 - 0x7FE6D020 (0x28D0E67F00000000)
S3BootScriptWidthUint64 - 0x7FE6D028 (0x000000007FECF000)
"""


def test_the_recorded_resume() -> None:
    (found,) = resumes(log(BOOT).events)
    assert found.kept == found.moved == (KEPT,)
    assert found.missing == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0x0F76B028 (0x28)", b"0x0F76B028 (0x29)"),  # another address
        (b"0x0F76B019 (0x2E)", b"0x0F76B019 (0x2F)"),  # another file
        (b"0x0F76B01F (0x08)", b"0x0F76B01F (0x04)"),  # fewer bytes
        (b"0x00000518 (0x18B0760F)", b"0x00000518 (0x19B0760F)"),  # started elsewhere
        (b"EFI_BOOT_SCRIPT_MEM_POLL_OPCODE", b"EFI_BOOT_SCRIPT_STALL_OPCODE"),  # not waited for
        (b":= 0xF7FD028 (0)", b":= 0xF7FE028 (0)"),
    ],
)
def test_a_resume_that_puts_back_something_else(old: bytes, new: bytes) -> None:
    text = raw(BOOT)
    assert old in text
    (found,) = resumes(parse([text.replace(old, new)]).events)
    assert len(found.missing) == 1


def test_a_boot_without_a_resume() -> None:
    text = raw(BOOT)
    assert resumes(parse([text[: text.index(b"SEC: S3 resume")]]).events) == []


def test_each_boot_has_pointers_of_its_own() -> None:
    found = resumes(parse([raw(BOOT) * 2]).events)
    assert [(item.kept, item.missing) for item in found] == [((KEPT,), ())] * 2
    assert found[0].line < found[1].line


def test_units_of_several_bytes() -> None:
    (found,) = resumes(parse_lines(OLDER.splitlines()).events)
    assert found.kept == (
        FwCfgTransfer("write", 0x2F, 0, 8, (0x7FECF000).to_bytes(8, "little")),
    )  # fmt: skip
    assert found.missing == found.kept, "nothing starts the access"
    started = [
        *OLDER.splitlines(), "EFI_BOOT_SCRIPT_IO_WRITE_OPCODE",
        "BootScriptExecuteIoWrite - 0x00000514, 0x00000002, 0x00000002",
        "S3BootScriptWidthUint32 - 0x00000514 (0x00000000)",
        "S3BootScriptWidthUint32 - 0x00000518 (0x18D0E67F)", "EFI_BOOT_SCRIPT_MEM_POLL_OPCODE",
        "BootScriptExecuteMemPoll - 0x7FE6D018, 0x00000000FFFFFFFF, 0x0000000000000000",
    ]  # fmt: skip
    (found,) = resumes(parse_lines(started).events)
    assert found.moved == found.kept


@pytest.mark.parametrize("size", ["0", "9", "99", "1"])
def test_a_pointer_that_cannot_be(size: str) -> None:
    line = f"SaveCondensedWritePointerToS3Context: 0x002F/[0x0+{size}] := 0x7FECF000 (0)"
    lines = [line, "SEC: S3 resume", "EFI_BOOT_SCRIPT_STALL_OPCODE"]
    (found,) = resumes(parse_lines(lines).events)
    assert (found.kept, found.moved) == ((), ())


@pytest.mark.slow
def test_the_command_says_so(tmp_path: Path) -> None:
    file = tmp_path / "log"
    for old, code in ((b"none of it", 0), (b"0x0F76B028 (0x28)", 1)):
        file.write_bytes(raw(BOOT).replace(old, b"0x0F76B028 (0x29)"))
        answer = CliRunner().invoke(command, [str(file), "--json"], catch_exceptions=False)
        result = json.loads(answer.stdout.splitlines()[-1])
        validator().validate(result)
        assert (answer.exit_code, result["exit_code"]) == (code, code)
        step = result["steps"][1]
        assert (step["name"], step["ok"]) == ("resume 1 writes to fw_cfg what was kept", not code)
        assert step["expected"] == KEPT.told()
        text = CliRunner().invoke(command, [str(file)]).stdout
        assert ("kept for S3 and not written again" in text) == bool(code)
