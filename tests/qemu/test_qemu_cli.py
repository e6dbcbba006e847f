from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from firmware_images import code_image

from hwflash.cli.layout import command as layout
from hwflash.cli.qemu import command as qemu
from hwflash.layout.ovmf import OVMF_2M, OVMF_4M
from hwflash.qemu.args import parse_shell
from hwflash.qemu.libvirt import from_xml
from hwflash.qemu.machine import make_machine
from hwflash.uefi.volume import make_volume


class Desk:
    """A folder with firmware, and nobody's descriptors but its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.chdir(folder)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        self.descriptors = folder / "config" / "qemu" / "firmware"
        self.descriptors.mkdir(parents=True)
        self.code = self.file("code 4M.fd", code_image(OVMF_4M, knows=OVMF_4M))
        blank = b"\xff" * 0x84000
        head = make_volume(0x84000, 0x1000).build()
        self.template = self.file("vars.fd", head + blank[len(head) :])

    def file(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def run(self, *words: str, group: Any = qemu) -> Any:
        answer = CliRunner().invoke(group, words, catch_exceptions=False)
        assert "Traceback" not in answer.stderr
        return answer

    def json(self, *words: str, group: Any = qemu) -> dict[str, Any]:
        lines = [
            json.loads(line) for line in self.run(*words, "--json", group=group).stdout.splitlines()
        ]
        assert lines[-1]["type"] == "result"
        return lines[-1]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    return Desk(tmp_path, monkeypatch)


@pytest.mark.parametrize("dialect", ["drive", "named", "blockdev"])
def test_args_are_a_command_line(desk, dialect):
    words = ["--code", desk.code, "--template", desk.template, "--vars", "own.fd"]
    answer = desk.run("args", "--as", dialect, *words)
    assert answer.exit_code == 0
    assert answer.stderr == ""
    expected = make_machine(desk.code, desk.template, "own.fd")
    assert parse_shell(answer.stdout).machine == expected.for_guest()
    assert not (desk.folder / "own.fd").exists()


def test_the_result_for_scripts(desk):
    found = desk.json(
        "args", "--code", desk.code, "--template", desk.template, "--vars", "own.fd", "--secure",
        "--make-vars",
    )  # fmt: skip
    assert (found["ok"], found["command"], found["made_vars"]) == (True, "qemu args", True)
    assert found["units"] == [
        {"unit": 0, "name": "system.flash0", "base": 0xFFC84000, "length": 0x37C000,
         "sector": 4096},
        {"unit": 1, "name": "system.flash1", "base": 0xFFC00000, "length": 0x84000,
         "sector": 4096},
    ]  # fmt: skip
    assert found["machine"]["secure"] is True
    assert found["warnings"] == []
    assert found["words"][0] == "qemu-system-x86_64"
    own = desk.folder / "own.fd"
    assert own.read_bytes() == Path(desk.template).read_bytes()


def test_what_qemu_would_refuse_is_foretold(desk):
    short = desk.file("short.fd", b"x" * 5000)
    answer = desk.run("args", "--code", desk.code, "--template", short, "--vars", "own.fd")
    assert answer.exit_code == 0
    assert "pflash1 has invalid size 5120" in answer.stderr
    found = desk.json("args", "--code", "none.fd", "--template", short, "--vars", "own.fd")
    assert [item["code"] for item in found["warnings"]] == ["qemu.pflash-missing"]


def test_images_that_do_not_belong_together(desk):
    small = desk.file("code-2M.fd", code_image(OVMF_2M, knows=OVMF_2M))
    answer = desk.run("args", "--code", small, "--template", desk.template, "--vars", "own.fd")
    assert "do not belong together: it erases blocks" in answer.stderr


def test_a_template_without_a_copy_is_refused(desk):
    answer = desk.run("args", "--code", desk.code, "--template", desk.template)
    assert answer.exit_code == 2
    assert "usage.qemu-template" in answer.stderr
    answer = desk.run(
        "args", "--code", desk.code, "--template", desk.template, "--vars", desk.template
    )
    assert answer.exit_code == 2


def test_s3(desk):
    found = desk.json("args", "-b", "qemu-q35-ovmf-4m", "--vars", "own.fd", "--no-s3")
    assert "ICH9-LPC.disable_s3=1" in found["words"]
    assert found["machine"]["s3"] is False


def test_one_source_only(desk):
    answer = desk.run("args", "--code", desk.code, "--board", "qemu-q35-ovmf-4m")
    assert (answer.exit_code, "usage.selection" in answer.stderr) == (2, True)


def test_a_board(desk):
    found = desk.json("args", "-b", "qemu-q35-ovmf-4m", "--vars", "own.fd")
    assert found["machine"]["code"]["path"] == "/usr/share/OVMF/OVMF_CODE_4M.fd"
    assert found["machine"]["vars"] == {"path": "own.fd", "format": "raw", "readonly": False}


def test_xml_and_back(desk):
    own = str(desk.folder / "own.fd")
    answer = desk.run("xml", "--code", desk.code, "--template", desk.template, "--vars", own)
    expected = make_machine(desk.code, desk.template, own)
    assert from_xml(answer.stdout) == expected
    desk.file("guest.xml", answer.stdout.encode())
    line = desk.run("args", "--from", "guest.xml").stdout
    assert parse_shell(line).machine == expected.for_guest()
    desk.file("guest.sh", line.encode())
    again = desk.run("xml", "--from", "guest.sh").stdout
    assert from_xml(again) == expected.for_guest()


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"\xff\xfe", "image.text"), (b"<os", "qemu.xml"), (b"ls -l", "usage.qemu-no-flash"),
     (b"x" * ((1 << 20) + 1), "image.too-large"), (b"", "image.empty")],
)  # fmt: skip
def test_what_cannot_be_translated(desk, content, code):
    desk.file("other", content)
    answer = desk.run("args", "--from", "other")
    assert answer.exit_code in (2, 7)
    assert f"[{code}]" in answer.stderr


def describe(desk: Desk, name: str, features: list[str], **files: str) -> None:
    content = {
        "description": "made for a test", "interface-types": ["uefi"], "features": features,
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "mapping": {
            "device": "flash",
            "executable": {"filename": files.get("code", desk.code), "format": "raw"},
            "nvram-template": {"filename": desk.template, "format": "raw"},
        },
    }  # fmt: skip
    (desk.descriptors / name).write_text(json.dumps(content))


def test_firmware_says_why_not(desk):
    describe(desk, "00-first.json", ["secure-boot", "requires-smm"])
    describe(desk, "01-gone.json", [], code="/nowhere/code.fd")
    (desk.descriptors / "02-broken.json").write_text("{")
    describe(desk, "03-second.json", ["acpi-s3"])
    found = desk.json("firmware", "--without", "secure-boot")
    own = {item["name"]: item for item in found["descriptors"] if item["origin"] == "user"}
    assert found["chosen"] == str(desk.descriptors / "03-second.json")
    assert own["00-first.json"]["reasons"] == ["it has secure-boot"]
    assert own["01-gone.json"]["reasons"] == ["/nowhere/code.fd does not exist"]
    assert own["02-broken.json"]["state"] == "broken"
    assert own["03-second.json"]["chosen"]
    answer = desk.run("firmware", "--with", "acpi-s3")
    assert "- 00-first.json" in answer.stdout
    assert "* 03-second.json" in answer.stdout
    assert "/nowhere/code.fd does not exist" in answer.stdout


def test_firmware_for_a_wish(desk):
    describe(desk, "00-first.json", ["secure-boot", "requires-smm"])
    describe(desk, "01-second.json", ["acpi-s3"])
    line = desk.run("args", "--vars", "own.fd", "--with", "secure-boot").stdout
    machine = parse_shell(line).machine
    assert (machine.code.path, machine.secure, machine.smm) == (desk.code, True, True)
    auto = desk.run("xml", "--auto", "--with", "secure-boot").stdout
    desk.file("auto.xml", auto.encode())
    again = desk.run("args", "--from", "auto.xml", "--vars", "own.fd")
    assert parse_shell(again.stdout).machine == machine
    assert "00-first.json" in again.stderr
    answer = desk.run("args", "--vars", "own.fd", "--machine", "none-1.0")
    assert (answer.exit_code, "[qemu.no-firmware]" in answer.stderr) == (8, True)
    assert "00-first.json: it is for machines pc-q35-*, not none-1.0" in answer.stderr


def test_autoselection_that_leads_to_given_files(desk):
    describe(desk, "00-first.json", ["acpi-s3"])
    own = str(desk.folder / "own.fd")
    words = ["--code", desk.code, "--template", desk.template, "--vars", own]
    found = desk.json("xml", "--auto", *words)
    assert found["wish"]["features"] == {"enrolled-keys": False, "secure-boot": False}
    other = desk.file("other.fd", Path(desk.code).read_bytes())
    words[1] = other
    assert desk.json("xml", "--auto", *words)["error"]["code"] == "qemu.no-descriptor"


# --- layout ---------------------------------------------------------------------------------


def test_layout_draws_the_map(desk):
    whole = Path(desk.template).read_bytes() + Path(desk.code).read_bytes()
    answer = desk.run(desk.file("OVMF.fd", whole), group=layout)
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert lines[0] == "OVMF.fd: OVMF 4M, unified, 4 MiB"
    assert lines[1] == "  in memory at 0xFFC00000-0xFFFFFFFF"
    [spare] = [line for line in lines if "ftw-spare" in line]
    assert spare.split()[:4] == ["0xFFC42000", "0x042000-0x083FFF", "264", "KiB"]
    [sec] = [line for line in lines if "SECFV" in line]
    assert sec.split()[0] == "0xFFFCC000"
    assert "checksum right" in sec


def test_layout_for_scripts(desk):
    found = desk.json(desk.code, group=layout)
    assert (found["build"], found["part"], found["base"]) == ("OVMF 4M", "code", 0xFFC84000)
    assert found["volumes"][1] == {
        "name": "SECFV", "name_guid": "763bed0d-de9f-48f5-81f1-3e90e1b1a015",
        "file_system": "8c8ce578-8a3d-4f1c-9935-896185c32dd3", "checksum_ok": True,
        "anomalies": [], "offset": 0x348000, "length": 0x34000, "physical": 0xFFFCC000,
    }  # fmt: skip


def test_layout_of_a_chip_and_of_a_hex_file(desk):
    whole = Path(desk.template).read_bytes() + Path(desk.code).read_bytes()
    image = desk.file("chip.bin", whole)
    found = desk.json(f"sim://w25q32jv?image={image}", group=layout)
    assert (found["build"], len(found["volumes"])) == ("OVMF 4M", 3)
    hex_ = desk.file("gaps.hex", b":0100000011EE\n:0100100022CD\n:00000001FF\n")
    found = desk.json(hex_, group=layout)
    assert (found["size"], found["build"], found["base"]) == (17, None, None)
    assert found["notes"] == ["no build of OVMF or AAVMF has 17 bytes"]


def test_layout_with_a_board_and_a_base(desk):
    found = desk.json(
        desk.file("dump.bin", b"\x11" * 4096), "-b", "pcengines-apu2", "--base", "0xFF800000",
        group=layout,
    )  # fmt: skip
    assert found["base"] == 0xFF800000
    answer = desk.run(
        desk.file("whole.fd", b"\xff" * (4 << 20)), "-b", "qemu-q35-ovmf-4m", group=layout
    )
    assert "seccode" in answer.stdout


def test_printed_lines_are_words_of_a_shell(desk):
    line = desk.run("args", "--code", desk.code, "--template", desk.template, "--vars", "o'wn.fd")
    words = shlex.split(line.stdout.replace("\\\n", " "))
    assert "if=pflash,unit=1,format=raw,file=o'wn.fd" in words
