"""The reader of AML, judged by ACPICA: Intel's compiler, disassembler and interpreter."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import require
from qemu.platform_data import GUID_ADDRESS, tables

from hwflash.qemu.acpi import Table, make_table, one
from hwflash.qemu.aml import parse_table
from hwflash.qemu.aml_run import call

pytestmark = pytest.mark.foreign

#: Expressions of which each has its method.
EXPRESSIONS = (
    "0", "Ones", "0xFE", "0x1234", "0x12345678", "0x123456789ABCDEF0", "Add (2, 3)",
    "Add (Ones, 1)", "Subtract (0, 1)", "And (0xC, 6)", "Or (0xC, 6)", "ShiftLeft (1, 4)",
    "ShiftLeft (1, 63)", "ShiftRight (0x100, 4)", "LEqual (1, 1)", "LEqual (1, 2)", "LNot (1)",
    "LNot (0)", "BASE", "Add (BASE, 0x28)", "\\SCOP.DEV0.INNR", "Add (Add (1, 2), Add (3, 4))",
)  # fmt: skip
ASL = """
DefinitionBlock ("", "SSDT", 2, "HWFLSH", "TEST", 1)
{
    Name (BASE, 0x0F7FC000)
    Scope (\\) { Device (SCOP) { Device (DEV0) {
        Name (INNR, 0x77)
        Name (PACK, Package (3) { 1, "two", 0x33 })
        Method (ARGS, 2) { Return (Arg1) }
        Method (CALL, 0) { Return (ARGS (1, 2)) }
        OperationRegion (REGN, SystemIO, 0x604, 4)
        Field (REGN, ByteAcc, NoLock, Preserve) { FLD0, 8, FLD1, 3 }
    } } }
    Method (PACK, 0, NotSerialized)
    {
        Local0 = Package (0x02) {}
        Local0 [0] = (BASE + 0x28)
        Local0 [1] = 0
        If (LEqual (BASE, 0)) { Return (1) } Else { Local1 = 5 }
        Notify (\\SCOP.DEV0, 0x80)
        Return (Local0)
    }
"""


@pytest.fixture(scope="module", autouse=True)
def acpica() -> None:
    for program in ("iasl", "acpiexec"):
        require(shutil.which(program), "package acpica-tools")


def run(*words: str, folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def saved(table: Table, folder: Path) -> Path:
    file = folder / "table.aml"
    file.write_bytes(table.data)
    return file


def evaluated(file: Path, *paths: str) -> str:
    """What the interpreter says of each method, one after the other."""
    commands = ";".join(f"evaluate {path}" for path in paths)
    return run("acpiexec", "-b", commands, file.name, folder=file.parent)


def integers(text: str) -> list[int]:
    return [int(item, 16) for item in re.findall(r"\[Integer\] = ([0-9A-F]{16})", text)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asl")
    methods = [f"    Method (E{number:03}, 0) {{ Return ({text}) }}\n"
               for number, text in enumerate(EXPRESSIONS)]  # fmt: skip
    (folder / "test.asl").write_text(f"{ASL}{''.join(methods)}}}\n")
    # Nothing is computed by the compiler: the operators stay in the code.
    said = run("iasl", "-oa", "test.asl", folder=folder)
    assert (folder / "test.aml").exists(), said
    return folder / "test.aml"


def test_the_device_of_vmgenid(tmp_path: Path) -> None:
    table = one(tables(), "SSDT", "VMGENID")
    text = evaluated(saved(table, tmp_path), "\\_SB.VGEN.ADDR", "\\_SB.VGEN._STA", "\\_GPE._E05")
    found = parse_table(table)
    address = call(found.method("ADDR"), found).value
    assert [*address, call(found.method("_STA"), found).value] == integers(text)
    assert integers(text) == [GUID_ADDRESS, 0, 0x0F]
    (notification,) = call(found.method("_E05"), found).notifications
    (told,) = re.findall(r"Device Notify on \[(\w+)\] \S+ Value 0x(\w+)", text)
    assert (notification.device[-4:], notification.value) == (told[0], int(told[1], 16))


def test_what_expressions_are_worth(compiled: Path) -> None:
    table = make_table(compiled.read_bytes())
    assert table.ok
    found = parse_table(table)
    names = [f"E{number:03}" for number in range(len(EXPRESSIONS))]
    ours = [call(found.method(name), found).value for name in names]
    theirs = integers(evaluated(compiled, *(f"\\{name}" for name in names)))
    assert ours == theirs
    assert len(theirs) == len(EXPRESSIONS)


def test_a_method_with_a_package(compiled: Path) -> None:
    found = parse_table(make_table(compiled.read_bytes()))
    text = evaluated(compiled, "\\PACK")
    result = call(found.methods["\\PACK"], found)
    assert result.value == integers(text) == [GUID_ADDRESS, 0]
    assert [item.device for item in result.notifications] == ["\\SCOP.DEV0"]
    assert "Device Notify on [DEV0]" in text
    assert found.devices == ["\\SCOP", "\\SCOP.DEV0"]


@pytest.mark.parametrize("signature", ["DSDT", "SSDT"])
def test_what_a_table_declares(tmp_path: Path, signature: str) -> None:
    table = one(tables(), signature)
    run("iasl", "-d", saved(table, tmp_path).name, folder=tmp_path)
    text = (tmp_path / "table.dsl").read_text()
    found = parse_table(table)
    devices = re.findall(r"^\s*Device \((\S+)\)", text, re.MULTILINE)
    assert [_last(path) for path in found.devices] == [_last(name) for name in devices]
    methods = re.findall(r"^\s*Method \((\S+), (\d), ", text, re.MULTILINE)
    ours = [(item.path, item.arguments) for item in found.methods.values()]
    assert len(ours) == len(methods) > 0
    for (path, arguments), (name, count) in zip(ours, methods, strict=True):
        assert (_last(path), arguments) == (_last(name), int(count))


def _last(path: str) -> str:
    """The last segment of a name; the disassembler leaves the padding out."""
    return re.split(r"[\\.]", path)[-1].rstrip("_")
