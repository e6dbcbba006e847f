from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from descriptions import AWKWARD, machines
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import UsageError
from hwflash.qemu import optstring
from hwflash.qemu.args import DIALECTS, from_args, parse_shell, to_args, to_shell
from hwflash.qemu.machine import FlashFile, Machine, make_machine

SPLIT = make_machine("/fw/code.fd", "/fw/vars.fd", "/guest/vars.fd")
CLOSED = "auto-read-only=off"
SECURE = make_machine("/fw/code.fd", "/fw/vars.fd", "/guest/vars.fd", secure=True)


def test_drives():
    assert to_args(SPLIT) == [
        "qemu-system-x86_64", "-machine", "q35",
        "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/fw/code.fd",
        "-drive", "if=pflash,unit=1,format=raw,file=/guest/vars.fd",
    ]  # fmt: skip


def test_secure_drives():
    assert to_args(SECURE)[1:5] == [
        "-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on",
    ]  # fmt: skip


def test_blockdev_nodes():
    assert to_args(SPLIT, "blockdev")[1:] == [
        "-machine", "q35,pflash0=pflash0,pflash1=pflash1",
        "-blockdev",
        f"driver=file,node-name=pflash0-storage,filename=/fw/code.fd,read-only=on,{CLOSED}",
        "-blockdev", "driver=raw,node-name=pflash0,file=pflash0-storage,read-only=on",
        "-blockdev", f"driver=file,node-name=pflash1-storage,filename=/guest/vars.fd,{CLOSED}",
        "-blockdev", "driver=raw,node-name=pflash1,file=pflash1-storage",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "s3", "word"),
    [("q35", False, "ICH9-LPC.disable_s3=1"), ("pc-i440fx-2.12", True, "PIIX4_PM.disable_s3=0")],
)
def test_s3(machine, s3, word):
    words = to_args(Machine(FlashFile("/c"), machine=machine, s3=s3))
    assert words[words.index("-global") + 1] == word


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("machine", [SPLIT, SECURE])
def test_the_template_is_not_on_the_command_line(machine, dialect):
    assert not any("/fw/vars.fd" in word for word in to_args(machine, dialect))


@given(machine=machines(), dialect=st.sampled_from(DIALECTS))
def test_every_form_is_read_back(machine, dialect):
    parsed = from_args(to_args(machine, dialect))
    assert parsed.machine == machine.for_guest()
    assert (parsed.rest, parsed.notes) == ((), ())


@given(machine=machines(), dialect=st.sampled_from(DIALECTS))
def test_every_form_is_read_back_from_a_shell(machine, dialect):
    text = to_shell(to_args(machine, dialect))
    assert parse_shell(text).machine == machine.for_guest()


def test_a_shell_reads_the_same_words():
    """What is printed is typed: the shell itself is the judge."""
    for name in AWKWARD:
        words = to_args(Machine(FlashFile(name), FlashFile(f"/{name}")))
        text = to_shell(words).replace("qemu-system-x86_64", "printf '%s\\0'", 1)
        got = subprocess.run(["sh", "-c", text], capture_output=True, check=True).stdout
        assert got.decode().split("\0")[:-1] == words[1:]


def test_an_option_stands_on_a_line_with_its_argument():
    lines = to_shell(to_args(SPLIT)).split(" \\\n")
    assert lines[0] == "qemu-system-x86_64"
    assert [shlex.split(line)[0] for line in lines[1:]] == ["-machine", "-drive", "-drive"]


# --- command lines of others ----------------------------------------------------------------


LIBVIRT = [
    "/usr/bin/qemu-system-x86_64", "-name", "guest=x,debug-threads=on", "-S",
    "-blockdev", json.dumps({"driver": "file", "filename": "/fw/code.fd", "discard": "unmap",
                             "node-name": "libvirt-pflash0-storage", "auto-read-only": True}),
    "-blockdev", json.dumps({"node-name": "libvirt-pflash0-format", "read-only": True,
                             "driver": "raw", "file": "libvirt-pflash0-storage"}),
    "-blockdev", json.dumps({"driver": "file", "filename": "/guest/vars.fd",
                             "node-name": "libvirt-pflash1-storage"}),
    "-blockdev", json.dumps({"node-name": "libvirt-pflash1-format", "read-only": False,
                             "driver": "raw", "file": "libvirt-pflash1-storage"}),
    "-machine", "q35,usb=off,smm=on,pflash0=libvirt-pflash0-format,pflash1=libvirt-pflash1-format",
    "-global", "driver=cfi.pflash01,property=secure,value=on", "-m", "256", "-no-user-config",
]  # fmt: skip


def test_a_line_of_libvirt():
    parsed = from_args(LIBVIRT)
    assert parsed.machine == SECURE.for_guest()
    assert parsed.rest == ("-name", "guest=x,debug-threads=on", "-S", "-m", "256",
                           "-no-user-config")  # fmt: skip


OTHER_WAYS = """
--machine type=q35 -drive file=/fw/code.fd,if=pflash,format=raw,readonly
    -drive file=/guest/vars.fd,index=1,if=pflash,format=raw

-M pc -machine q35 -drive if=pflash,format=raw,read-only=on,file=/fw/code.fd
    -drive if=pflash,format=raw,file=file:/guest/vars.fd

-machine q35 -machine pflash0=a -machine pflash1=b
    -drive if=none,id=b,file=/guest/vars.fd,format=raw
    -blockdev node-name=a,driver=raw,file.driver=file,file.filename=/fw/code.fd,read-only=on

-machine q35,smm=auto -drive if=pflash,unit=1,format=raw,file=/guest/vars.fd
    -drive if=pflash,unit=0,driver=raw,readonly=yes,file=/fw/code.fd
    -global cfi.pflash01.secure=off

-machine q35,pflash0=a -drive if=pflash,unit=1,format=raw,file=/guest/vars.fd
    -blockdev driver=file,filename=/fw/code.fd,node-name=a,read-only=on
""".strip().split("\n\n")


@pytest.mark.parametrize("line", OTHER_WAYS)
def test_other_ways_to_say_the_same(line):
    machine = parse_shell(line).machine
    assert machine == SPLIT.for_guest()


def test_what_the_description_does_not_hold_is_told():
    parsed = parse_shell("-M q35 -pflash /c -drive if=pflash,unit=1,file=/v,snapshot=on,format=raw")
    assert parsed.machine.code == FlashFile("/c")
    assert parsed.notes == (
        "flash unit 0: no format is given, QEMU guesses it",
        "flash unit 1: snapshot=on is left out",
    )


def test_drives_that_are_no_flash_are_kept():
    line = "-M q35 -drive if=pflash,format=raw,file=/c -drive if=none,id=hd,file=/a,,b.img -hda x"
    parsed = parse_shell(line)
    assert parsed.rest == ("-hda", "x", "-drive", "if=none,id=hd,file=/a,,b.img")
    assert parsed.machine.vars is None


def test_the_default_machine():
    drive = "-drive if=pflash,format=raw,file=/c"
    assert parse_shell(drive).machine.machine == "pc"
    assert parse_shell(f"qemu-system-i386 {drive}").machine.architecture == "i386"
    with pytest.raises(UsageError, match="no machine is named"):
        parse_shell(f"qemu-system-aarch64 {drive}")


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("-M q35", "no-flash", "nothing is behind flash unit 0"),
        ("", "no-flash", "nothing is behind"),
        ("-M q35 -drive if=pflash,unit=1,format=raw,file=/v", "no-flash", "pflash1 requires"),
        ("-M q35 -drive if=pflash,unit=2,file=/v -pflash /c", "args", "bus=0,unit=2"),
        ("-M q35 -drive if=pflash,file=/a,unit=0 -drive if=pflash,unit=0,file=/b", "args", "twice"),
        ("-M q35 -drive if=pflash,unit=x,file=/a", "args", "no number"),
        ("-M q35 -drive if=pflash", "args", "no file="),
        ("-M q35 -drive if=pflash,readonly=perhaps,file=/a", "args", "neither on nor off"),
        ("-M q35 -drive if=pflash,file=nbd:host:1", "args", "protocol"),
        ("-M q35,pflash0=x", "args", "there is no drive or node 'x'"),
        ("-M q35,pflash0=x -blockdev driver=raw,node-name=x,file=y", "args", "no node 'y'"),
        ("-M q35,pflash0=x -blockdev driver=null-co,node-name=x", "args", "no file behind"),
        ("-M q35,pflash0=x -blockdev driver=raw,node-name=x,file=x", "args", "no file behind"),
        ("-M q35,pflash0=x -blockdev '{\"a\": '", "args", "no JSON"),
        ("-M q35,pflash0=x -blockdev " + '\'{"a":' + '{"a":' * 5000 + "'", "args", "no JSON"),
        ("-M q35,pflash0=x -blockdev '" + '{"a":' * 9 + "1" + "}" * 9 + "'", "args", "no JSON"),
        ("-M q35 -pflash /c -global ICH9-LPC.disable_s3=2", "args", "neither 0 nor 1"),
        ("-M q35,smm=maybe -pflash /c", "args", "neither on nor off"),
        ("-M q35,max-fw-size=big -pflash /c", "size", "not a size"),
        ("-M 'unfinished", "args", "cannot be read"),
    ],
)  # fmt: skip
def test_what_qemu_would_not_take(line, code, text):
    with pytest.raises(UsageError, match=text) as caught:
        parse_shell(line)
    assert caught.value.code in (f"usage.qemu-{code}", f"usage.{code}")


@given(st.lists(st.sampled_from([
    "-drive", "-blockdev", "-machine", "-global", "-pflash", "if=pflash,file=a", "q35,pflash0=a",
    "driver=raw,node-name=a,file=b", "driver=file,node-name=b,filename=x", '{"node-name": "a"}',
    "-", "", ",", "=", "a,,b=c", "smm=on", "cfi.pflash01.secure=on", "if=none,id=a,file=b:c",
]) | st.text(max_size=6), max_size=9))  # fmt: skip
def test_any_words_are_read_or_refused(words):
    try:
        machine = from_args(words).machine
    except UsageError:
        return
    assert from_args(to_args(machine)).machine == machine


@given(st.dictionaries(st.text("abc-", min_size=1), st.text()))
def test_option_strings(pairs):
    assert optstring.split(optstring.join(pairs.items())) == pairs


def test_option_strings_as_qemu_has_them():
    assert optstring.split("q35,smm=on,flag", "type") == {"type": "q35", "smm": "on", "flag": "on"}
    assert optstring.split("a=1,,2,a=3,b=x=y") == {"a": "3", "b": "x=y"}
    assert optstring.split("a=,,,b=2") == {"a": ",", "b": "2"}
