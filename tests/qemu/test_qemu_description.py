from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hwflash.boards import load_board
from hwflash.errors import EnvironmentFault, ImageError, UsageError
from hwflash.qemu.machine import (
    FlashFile,
    Machine,
    family_of,
    file_sizes,
    from_board,
    make_machine,
    prepare_copy,
)

CODE = FlashFile("/fw/code.fd", readonly=True)


@pytest.mark.parametrize(
    ("machine", "architecture", "family"),
    [
        ("q35", "x86_64", "q35"), ("pc-q35-7.2", "i386", "q35"), ("pc", "x86_64", "i440fx"),
        ("pc-i440fx-2.12", "x86_64", "i440fx"), ("microvm", "x86_64", None),
        ("virt", "aarch64", "virt"), ("virt-7.2", "arm", "virt"), ("q35", "aarch64", None),
        ("virt", "x86_64", None), ("pcspecial", "x86_64", None),
    ],
)  # fmt: skip
def test_families(machine, architecture, family):
    assert family_of(machine, architecture) == family


@pytest.mark.parametrize("path", ["", "a\0b", "a\nb", "\udc80", "a\x7f", "\x1b[31m", "\ufffe"])
def test_a_file_name_that_a_dialect_cannot_carry_is_refused(path):
    with pytest.raises(UsageError) as caught:
        FlashFile(path)
    assert caught.value.code == "usage.qemu-path"
    assert caught.value.context["file"] == path


@pytest.mark.parametrize("form", ["", "RAW", "raw,readonly=off", "qcow2 "])
def test_a_format_is_a_word(form):
    with pytest.raises(UsageError, match="image format"):
        FlashFile("/x", form)


@pytest.mark.parametrize(
    "wrong",
    [
        {"machine": "q35,accel=kvm"}, {"machine": ""}, {"architecture": "riscv64"},
        {"machine": "virt", "architecture": "aarch64", "smm": True},
        {"machine": "virt", "architecture": "aarch64", "s3": False},
        {"machine": "microvm", "smm": False}, {"max_firmware_size": 0},
        {"machine": "virt", "architecture": "arm", "max_firmware_size": 1 << 20},
    ],
)  # fmt: skip
def test_a_machine_that_no_qemu_has_is_refused(wrong):
    with pytest.raises(UsageError) as caught:
        Machine(CODE, **wrong)
    assert caught.value.code == "usage.qemu-machine"


def test_the_usual_machine():
    made = make_machine("/fw/code.fd", "/fw/vars.fd", "/guest/vars.fd", secure=True)
    assert made == Machine(
        code=CODE, vars=FlashFile("/guest/vars.fd"),
        template=FlashFile("/fw/vars.fd", readonly=True), secure=True, smm=True,
    )  # fmt: skip
    assert (made.mode, made.program, len(made.units)) == ("split", "qemu-system-x86_64", 2)
    assert made.for_guest().template is None


def test_code_and_variables_in_one_image():
    made = make_machine("/fw/OVMF.fd", None, "/guest/OVMF.fd")
    assert made.mode == "combined"
    assert made.units == (FlashFile("/guest/OVMF.fd"),)
    assert made.template == FlashFile("/fw/OVMF.fd", readonly=True)


def test_a_machine_that_keeps_nothing():
    made = make_machine("/fw/code.fd", None, None, machine="virt")
    assert (made.mode, made.architecture, made.code.readonly) == ("stateless", "aarch64", True)


@pytest.mark.parametrize("copy", ["/fw/vars.fd", "/fw/code.fd"])
def test_the_template_is_never_the_guests_own(copy):
    with pytest.raises(UsageError) as caught:
        make_machine("/fw/code.fd", "/fw/vars.fd", copy)
    assert caught.value.code == "usage.qemu-template"


def test_from_a_board_file():
    board = load_board("qemu-q35-ovmf-4m")
    made = from_board(board, "/guest/vars.fd")
    assert made == make_machine(
        "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "/guest/vars.fd"
    )
    secure = SimpleNamespace(
        name="x",
        reference=SimpleNamespace(code="/c", vars="/v", machine="pc-q35-7.2", secure=True),
    )
    made = from_board(secure, "/g")
    assert (made.secure, made.smm, made.machine) == (True, True, "pc-q35-7.2")


def test_a_board_without_a_reference():
    with pytest.raises(UsageError) as caught:
        from_board(load_board("pcengines-apu2"), "/guest/vars.fd")
    assert caught.value.code == "usage.qemu-reference"


# --- the guest's own copy -------------------------------------------------------------------


def split(tmp_path: Path, content: bytes = b"template") -> Machine:
    template = tmp_path / "template.fd"
    template.write_bytes(content)
    template.chmod(0o444)
    return make_machine(str(tmp_path / "code.fd"), str(template), str(tmp_path / "own.fd"))


def test_the_copy_is_made_once_and_the_template_left_alone(tmp_path):
    machine = split(tmp_path, os.urandom(3 << 20))
    template, own = tmp_path / "template.fd", tmp_path / "own.fd"
    content, before = template.read_bytes(), template.stat()
    assert prepare_copy(machine) is True
    assert own.read_bytes() == content
    assert own.stat().st_mode & 0o200, "the template is read-only, the copy must not be"
    own.write_bytes(b"what the guest wrote")
    assert prepare_copy(machine) is False
    assert own.read_bytes() == b"what the guest wrote"
    after = template.stat()
    assert (template.read_bytes(), after.st_mtime_ns) == (content, before.st_mtime_ns)


def test_a_link_to_the_template_is_not_the_guests_own(tmp_path):
    machine = split(tmp_path)
    (tmp_path / "own.fd").symlink_to("template.fd")
    with pytest.raises(UsageError) as caught:
        prepare_copy(machine)
    assert caught.value.code == "usage.qemu-template"


def test_what_cannot_be_copied(tmp_path):
    machine = split(tmp_path)
    with pytest.raises(UsageError, match="has no template"):
        prepare_copy(machine.for_guest())
    assert machine.vars is not None
    with pytest.raises(UsageError, match="is to be qcow2"):
        prepare_copy(replace(machine, vars=replace(machine.vars, format="qcow2")))
    with pytest.raises(EnvironmentFault) as unwritable:
        prepare_copy(replace(machine, vars=FlashFile(str(tmp_path / "no" / "own.fd"))))
    assert unwritable.value.context["errno"] == errno.ENOENT
    (tmp_path / "template.fd").unlink()
    with pytest.raises(ImageError) as missing:
        prepare_copy(machine)
    assert missing.value.code == "image.unreadable"
    assert not (tmp_path / "own.fd").exists()


def test_a_copy_that_fails_half_way_leaves_nothing(tmp_path):
    machine = split(tmp_path)
    with pytest.raises(ImageError):
        prepare_copy(replace(machine, template=FlashFile(str(tmp_path / "none"), readonly=True)))
    (tmp_path / "folder").mkdir()
    with pytest.raises((ImageError, EnvironmentFault)):
        prepare_copy(replace(machine, template=FlashFile(str(tmp_path / "folder"), readonly=True)))
    assert not (tmp_path / "own.fd").exists()


def test_nothing_to_copy_for_a_machine_that_keeps_nothing():
    assert prepare_copy(make_machine("/fw/code.fd", None, None)) is False


def test_sizes(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "q").write_bytes(b"12345")
    files = [FlashFile(str(tmp_path / "a")), FlashFile(str(tmp_path / "none")),
             FlashFile(str(tmp_path / "q"), "qcow2"), FlashFile(str(tmp_path))]  # fmt: skip
    assert file_sizes(files) == (5, None, None, None)
