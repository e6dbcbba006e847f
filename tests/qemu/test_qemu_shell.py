"""The UEFI Shell driver against a Shell that answers as AAVMF's did when it was recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.console import Console
from hwflash.errors import ReferenceFailed, UsageError
from hwflash.qemu import shell as shell_module
from hwflash.qemu.shell import (
    BOOTSERVICE_ACCESS,
    LONGEST_LINE,
    NON_VOLATILE,
    PROMPT,
    Shell,
    parse_variables,
)

GUID = UUID("11111111-2222-3333-4444-555555555555")
PROMPT_BYTES = b"\x1b[50;01H\x1b[1m\x1b[33m\x1b[40mShell> \x1b[0m\x1b[37m\x1b[40m"

#: What AAVMF 2022.11 sends for these commands, byte for byte, cut short where it says so.
RECORDED: dict[str, bytes] = {
    "dmpstore -all -sfo": (
        b'ShellCommand,"dmpstore"\r\n'
        b'VariableInfo,"Foo","11111111-2222-3333-4444-555555555555","0x7","0x3C","'
        + b"0123456789"
        * 12
        + b'"\r\nVariableInfo,"BootOrder","8BE4DF61-93CA-11D2-AA0D-00E098032B8C","0x7","0x4",'
        b'"00000100"\r\nVariableInfo,"Lang","8BE4DF61-93CA-11D2-AA0D-00E098032B8C","0x7","0x4",'
        b'"656E6700"\r\n'
    ),
    "dh -p FirmwareVolumeBlock": (
        b"Handle dump by protocol 'FirmwareVolumeBlock'\r\n"
        b"\x1b[1m\x1b[37m\x1b[40m03\x1b[0m\x1b[37m\x1b[40m: FirmwareVolume2 "
        b"DevicePath(..yMapped(0xB,0x1000,0x1FFFFF)) FirmwareVolumeBlock \r\n"
        b"\x1b[1m\x1b[37m\x1b[40m5E\x1b[0m\x1b[37m\x1b[40m: FirmwareVolumeBlock "
        b"DevicePath(..1-4D97-8161-E80ED6A409A8,00)) \r\n"
    ),
    "memmap": (
        b"Type       Start            End              # Pages          Attributes\r\n"
        b"Available  0000000040000000-0000000043FFFFFF 0000000000004000 0000000000000008\r\n"
        b"RT_Data    000000004C4C0000-000000004C67FFFF 00000000000001C0 8000000000000008\r\n"
        b"MMIO       0000000004000000-0000000007FFFFFF 0000000000004000 8000000000000002\r\n"
        b" \r\n  Reserved  :              0 Pages (0 Bytes)\r\n"
    ),
    "mm 4000000 -w 4 -n": (
        b"\x1b[1m\x1b[37m\x1b[40mMEM\x1b[0m\x1b[37m\x1b[40m  0x0000000004000000 : 0x4856465F\r\n"
    ),
    "mm 4000000 -w 4 -IO -n": (
        b"\x1b[1m\x1b[37m\x1b[40mIO\x1b[0m\x1b[37m\x1b[40m  0x0000000004000000 : 0x0001\r\n"
    ),
    "echo %lasterror%": b"0x0\r\n",
    "nosuch": (
        b"'\x1b[1m\x1b[33m\x1b[40mnosuch\x1b[0m\x1b[37m\x1b[40m' is not recognized as an internal "
        b"or external command, operable program, or script file.\r\n"
    ),
}


class FakeShell:
    """A port with a Shell behind it: echoes what is typed, runs the line on Enter.

    Args:
        answers: output by command.
        lose: tells of a character, by its number, that it never arrived.
        chunk: bytes read at once.
    """

    def __init__(
        self,
        answers: dict[str, bytes],
        lose: Callable[[int], bool] = lambda _: False,
        chunk: int = 4096,
    ) -> None:
        self.name = "fake"
        self.answers = answers
        self.lose = lose
        self.chunk = chunk
        self.output = b"\x1b[2J\x1b[01;01HUEFI Interactive Shell v2.2\r\n" + PROMPT_BYTES
        self.line = ""
        self.ran: list[str] = []
        self.hangs = False
        self._count = 0

    def read(self, limit: int, seconds: float, /) -> bytes:
        size = min(limit, self.chunk)
        data, self.output = self.output[:size], self.output[size:]
        return data

    def write(self, data: bytes, /) -> None:
        for char in data.decode("ascii"):
            self._count += 1
            if not self.lose(self._count):
                self._take(char)

    def _take(self, char: str) -> None:
        if char == "\r":
            self.ran.append(self.line)
            self.output += b"\x1b[49;30H\r\n"
            if not self.hangs:
                self.output += self.answers.get(self.line, b"") + PROMPT_BYTES
            self.line = ""
        elif char == "\x1b":
            # The line is overwritten with blanks and the cursor put back.
            blank = b" " * len(self.line)
            self.output += b"\x1b[50;08H" + blank + b"\x1b[50;08H"
            self.line = ""
        else:
            self.line += char
            self.output += b"\x1b[50;08H" + char.encode() + b"\x1b[50;09H\x1b[50;09H"

    def close(self) -> None:
        self.output = b""


class Ticks:
    """A clock that moves with every look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def opened(fake: FakeShell) -> Shell:
    console = Console(fake)
    console.expect(PROMPT, 1000, Ticks())
    return Shell(console, Ticks())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Console.settle
    monkeypatch.setattr(Console, "settle", lambda self, _q, _t: settle(self, 0.01, 1))


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_output_comes_without_echo_and_prompt(chunk: int) -> None:
    shell = opened(FakeShell(RECORDED, chunk=chunk))
    assert shell.run("memmap").startswith("Type       Start ")
    assert shell.run("cls") == ""
    assert shell.run("mm 4000000 -w 4 -n") == "MEM  0x0000000004000000 : 0x4856465F\n"


def test_variables() -> None:
    found = opened(FakeShell(RECORDED)).variables()
    assert [item.name for item in found] == ["Foo", "BootOrder", "Lang"]
    assert found[0].guid == GUID
    assert found[0].attributes == 7
    assert found[0].data == bytes.fromhex("0123456789" * 12)
    assert found[2].data == b"eng\0"


def test_setvar_types_the_line_and_looks_at_the_status() -> None:
    fake = FakeShell(RECORDED)
    shell = opened(fake)
    shell.setvar("Foo", b"\x01\xab", GUID)
    shell.setvar("Bar", b"", GUID, NON_VOLATILE | BOOTSERVICE_ACCESS)
    assert fake.ran == [
        f"setvar Foo -guid {GUID} -nv -bs -rt =H01AB",
        "echo %lasterror%",
        f"setvar Bar -guid {GUID} -nv -bs =",
        "echo %lasterror%",
    ]


def test_a_long_line_starts_on_an_empty_screen() -> None:
    fake = FakeShell(RECORDED)
    opened(fake).setvar("Foo", bytes(100), GUID)
    assert fake.ran[0] == "cls"
    assert fake.ran[1].endswith("=H" + "00" * 100)


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "ä", "a=b", "100%", "a\nreset", "#x"])
def test_a_name_the_line_cannot_carry_is_refused(name: str) -> None:
    fake = FakeShell(RECORDED)
    with pytest.raises(UsageError) as caught:
        opened(fake).setvar(name, b"x", GUID)
    assert caught.value.code == "usage.shell-line"
    assert fake.ran == []


def test_lines_that_cannot_be_typed_are_refused() -> None:
    fake = FakeShell(RECORDED)
    shell = opened(fake)
    for line in ("reset\rreset", "é", "x" * (LONGEST_LINE + 1)):
        with pytest.raises(UsageError):
            shell.run(line)
    with pytest.raises(UsageError):
        shell.setvar("Auth", b"x", GUID, 0x27)
    with pytest.raises(UsageError):
        shell.peek(0, width=3)
    assert fake.ran == []


def test_handles_memory_and_registers() -> None:
    shell = opened(FakeShell(RECORDED))
    assert [(item.number, item.text) for item in shell.handles("FirmwareVolumeBlock")] == [
        (
            3,
            "FirmwareVolume2 DevicePath(..yMapped(0xB,0x1000,0x1FFFFF)) FirmwareVolumeBlock",
        ),
        (0x5E, "FirmwareVolumeBlock DevicePath(..1-4D97-8161-E80ED6A409A8,00))"),
    ]
    ranges = shell.memory_map()
    assert [item.kind for item in ranges] == ["Available", "RT_Data", "MMIO"]
    assert (ranges[1].start, ranges[1].end) == (0x4C4C0000, 0x4C67FFFF)
    assert ranges[1].attributes == 0x8000000000000008
    assert shell.peek(0x4000000) == 0x4856465F
    assert shell.peek(0x4000000, space="io") == 1


def test_a_failed_command_is_an_error_with_its_output() -> None:
    answers = RECORDED | {"echo %lasterror%": b"0xE\r\n"}
    with pytest.raises(ReferenceFailed, match="status 0xE: 'nosuch' is not recognized") as caught:
        opened(FakeShell(answers)).run("nosuch", check=True)
    assert caught.value.code == "reference.shell-command"
    assert caught.value.context["status"] == 0xE


def test_a_character_that_is_lost_is_typed_again() -> None:
    fake = FakeShell(RECORDED, lose=lambda number: number == 3)
    assert "Available" in opened(fake).run("memmap")
    assert fake.ran == ["memmap"], "never the mutilated line"


def test_a_line_that_loses_too_much_is_never_run() -> None:
    fake = FakeShell(RECORDED, lose=lambda number: number % 4 == 3)
    with pytest.raises(ReferenceFailed, match="echo of 'memmap'") as caught:
        opened(fake).run("memmap")
    assert caught.value.code == "reference.shell-echo"
    assert fake.ran == []


def test_a_prompt_that_came_late_does_not_end_the_next_command() -> None:
    fake = FakeShell(RECORDED)
    shell = opened(fake)
    fake.output += b"\r\n" + PROMPT_BYTES
    assert shell.run("memmap").startswith("Type ")


def test_a_command_that_never_ends() -> None:
    fake = FakeShell(RECORDED)
    shell = opened(fake)
    fake.hangs = True
    with pytest.raises(ReferenceFailed, match="has not come back 2 s after 'memmap'") as caught:
        shell.run("memmap", patience=2)
    assert caught.value.code == "reference.shell-timeout"


def test_reset_does_not_wait() -> None:
    fake = FakeShell(RECORDED)
    fake.hangs = True
    opened(fake).reset("shutdown")
    assert fake.ran == ["reset -s"]


def test_a_register_that_stops_the_machine() -> None:
    fake = FakeShell(RECORDED)
    fake.hangs = True
    opened(fake).leave_by(0x604, 0x2400, 2, "io")
    assert fake.ran == ["mm 604 2400 -w 2 -IO -n"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dmpstore: No matching variables found.\n",
        'VariableInfo,"Foo","11111111-2222-3333-4444-555555555555","0x7","0x3","0102"\n',
        'VariableInfo,"Foo","11111111-2222-3333-4444-555555555555","0x7","0x2","01',
        'VariableInfo,"Foo","11111111-2222-3333-4444-55555555555-","0x7","0x0",""\n',
    ],
)
def test_output_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ReferenceFailed):
        parse_variables(text)


def test_odd_names_are_read() -> None:
    line = 'VariableInfo,"a","b,c","11111111-2222-3333-4444-555555555555","0x7","0x0",""\n'
    assert parse_variables(line)[0].name == 'a","b,c'


@given(st.text(alphabet='VariableInfo,"0x7-\n 1234', max_size=200))
def test_any_output_is_read_or_refused(text: str) -> None:
    with suppress(ReferenceFailed):
        parse_variables('VariableInfo,"' + text)


def test_prompts() -> None:
    for text in ("\nShell> ", "x\nFS0:\\> ", "FS12:\\EFI\\BOOT\\> "):
        assert PROMPT.search(text), text
    for text in ("\nShell> x", "Shell>", "\nnot a Shell> ", "\n> ", "\nShell> \n"):
        assert not PROMPT.search(text), text
    assert shell_module.UART_PIECE <= 16
