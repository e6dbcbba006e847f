"""``hwflash qemu fwcfg`` with a stand-in for the guest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cli.harness import validator
from click.testing import CliRunner
from fake_platform import FakePlatform
from platform_data import GUID_ADDRESS, content

from hwflash.cli.qemu_fwcfg import command as fwcfg


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that name the machine; guests are stand-ins."""
    monkeypatch.setattr("hwflash.qemu.boot.Guest", FakePlatform)
    monkeypatch.setattr("hwflash.qemu.guest_memory._LINE_BYTES", 1 << 30)
    monkeypatch.setattr(FakePlatform, "running", 0)
    monkeypatch.setattr(FakePlatform, "wrong", "")
    code = tmp_path / "code.fd"
    code.write_bytes(bytes(0x1000))
    return ["--code", str(code), "--template", str(code)]


def run(*words: str) -> Any:
    answer = CliRunner().invoke(fwcfg, words, catch_exceptions=False)
    assert "Traceback" not in answer.stderr
    assert FakePlatform.running == 0
    return answer


def result(*words: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in run(*words, "--json").stdout.splitlines()]
    for line in lines:
        validator().validate(line)
    return lines[-1]


def test_list(words: list[str]) -> None:
    answer = run("list", *words)
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert "0x0023   131,072  etc/acpi/tables" in lines
    assert lines[-1] == "15 files; read by port and dma"
    assert len(result("list", *words, "--guid", "auto")["files"]) == 17


def test_read(words: list[str], tmp_path: Path) -> None:
    answer = run("read", "etc/system-states", *words)
    assert answer.stdout.split()[:7] == ["0000", "80", "00", "00", "81", "82", "80"]
    script = content("etc/table-loader")
    for way in ((), ("--by", "port"), ("--by", "dma")):
        target = tmp_path / "script"
        found = result("read", "etc/table-loader", str(target), *way, *words)
        assert target.read_bytes() == script == bytes.fromhex(found["data"])
        assert (found["select"], found["size"]) == (0x2C, 4096)
        assert found["sha256"] == hashlib.sha256(script).hexdigest()
    assert result("read", "0x2b", *words)["name"] == "etc/system-states"
    item = result("read", "0", *words)
    assert (item["name"], bytes.fromhex(item["data"])[:5]) == ("item 0x0000", b"QEMU\0")
    assert run("read", "etc/table-loader", "-", *words).stdout_bytes == script


def test_loader(words: list[str]) -> None:
    answer = run("loader", "--guid", "auto", "--boot", *words)
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert f"etc/vmgenid_addr[0x0] = 0x{GUID_ADDRESS:X}" in lines
    assert f"etc/vmgenid_guid at 0x{GUID_ADDRESS - 0x28:X}" in lines
    assert "SSDT VMGENID: 202 bytes, checksum right" in lines
    assert lines[-1] == "24 commands, 8 entries skipped, 9 tables"
    found = result("loader", "--guid", "auto", "--boot", *words)
    assert [item["told"] for item in found["files"]] == [False, True, False]
    assert found["written"] == [{"name": "etc/vmgenid_addr", "offset": 0, "value": GUID_ADDRESS}]
    assert all(item["ok"] for item in found["tables"])


@pytest.mark.parametrize(
    ("line", "wrong", "code", "status"),
    [
        ("read etc/nosuch", "", "reference.fwcfg-file", 8),
        ("read 0x99999", "", "usage.fwcfg-item", 2),
        ("read 0x99", "absent", "reference.fwcfg", 8),
        ("list", "absent", "reference.fwcfg", 8),
        ("list --guid nonsense", "", "usage.vm-guid", 2),
        ("list --boot", "hangs", "reference.boot-timeout", 8),
        ("read etc/e820 --by dma", "dma-error", "reference.fwcfg-dma", 8),
        ("read etc/e820 /nonexistent/folder/file", "", "environment.unwritable", 3),
        ("read etc/e820 -", "", "usage.selection", 2),
        ("loader --guid auto", "script-torn", "reference.loader", 8),
        ("loader --guid auto", "no-files", "reference.loader-run", 8),
    ],
)
def test_what_goes_wrong(
    words: list[str], monkeypatch: pytest.MonkeyPatch, line: str, wrong: str, code: str, status: int
) -> None:
    monkeypatch.setattr(FakePlatform, "wrong", wrong)
    found = result(*line.split(), *words)
    assert (found["error"]["code"], found["exit_code"]) == (code, status)
    assert found["error"]["hint"]


@pytest.mark.parametrize("name", ["1e", "12x", "0x", "etc/\x1b[31m", ""])
def test_names_that_are_no_number(words: list[str], name: str) -> None:
    answer = run("read", name, *words)
    assert answer.exit_code == 8
    assert "\x1b" not in answer.stderr
