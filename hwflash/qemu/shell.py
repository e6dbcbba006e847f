"""The UEFI Shell on a console: commands typed, their output read back and parsed.

Every line that is typed is compared with its echo before Enter is pressed, so that a character
lost on a real board's UART is typed again and never runs another command.

Ref: the Shell 2.2 of edk2 2022.11 (ShellPkg), as it behaves in OVMF and AAVMF.
Limits: firmware takes one character per timer tick, about 100 a second. The Shell draws a long
line again and again at the end of the screen; a line is `LONGEST_LINE` characters at most. The
console must show the Shell's own output only: debug
messages in the middle of a line of output are noticed where it is parsed, not taken out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from hwflash.console import Console
from hwflash.errors import EnvironmentFault, ReferenceFailed, UsageError
from hwflash.uefi.guids import GLOBAL_VARIABLE, parse_guid
from hwflash.uefi.window import printable

#: At the end of what came: ``Shell> `` or the current drive, such as ``FS0:\\> ``.
PROMPT: Final = re.compile(r"^(Shell|[A-Za-z]+\d*:[^\n>]*)> \Z", re.MULTILINE)
LONGEST_LINE: Final = 1000
#: Characters typed at once. edk2's terminal driver keeps 256 that nobody has read yet; a 16550
#: without flow control keeps 16. QEMU's serial ports wait until they are read.
UART_PIECE: Final = 16
QEMU_PIECE: Final = 128
#: A line that is longer than this starts on an empty screen, where the echo is quick.
_CLEAR_ABOVE: Final = 160
#: Patience for one piece's echo, and for a command.
ECHO_SECONDS: Final = 4.0
COMMAND_SECONDS: Final = 30.0

NON_VOLATILE: Final = 1
BOOTSERVICE_ACCESS: Final = 2
RUNTIME_ACCESS: Final = 4
_SUCCESS: Final = 0
_ANYTHING: Final = re.compile(r"(?s).+")
#: Firmware waits so long for the rest of an escape sequence.
_ESCAPE_SECONDS: Final = 3.0

_VARIABLE: Final = re.compile(
    r'VariableInfo,"(?P<name>.*)","(?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})",'
    r'"0x(?P<attributes>[0-9A-Fa-f]+)","0x(?P<size>[0-9A-Fa-f]+)","(?P<data>[0-9A-Fa-f]*)"'
)
_HANDLE: Final = re.compile(r"\s*([0-9A-Fa-f]{1,4}): (.*)")
_MEMORY: Final = re.compile(
    r"(\S+)\s+([0-9A-Fa-f]{16})-([0-9A-Fa-f]{16})\s+([0-9A-Fa-f]{16})\s+([0-9A-Fa-f]{16})\s*"
)
_VALUE: Final = re.compile(r"0x[0-9A-Fa-f]+ : 0x([0-9A-Fa-f]+)")

MemorySpace = Literal["memory", "mmio", "io", "pci", "pcie"]


@dataclass(frozen=True, slots=True)
class ShellVariable:
    """A variable as the firmware's own variable service gives it.

    Attributes:
        name: its name.
        guid: vendor GUID.
        attributes: UEFI's attribute bits.
        data: content.
    """

    name: str
    guid: UUID
    attributes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Handle:
    """A handle of the firmware's protocol database: its number and what ``dh`` says of it."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """A line of ``memmap``.

    Attributes:
        kind: such as ``BS_Data``, ``ACPI_NVS``.
        start: first address.
        end: last address.
        attributes: UEFI's memory attribute bits.
    """

    kind: str
    start: int
    end: int
    attributes: int


class Shell:
    """A Shell that shows its prompt.

    Args:
        console: its console; not closed here.
        clock: what patience is counted by; see `hwflash.console.Console.expect`.
        piece: characters typed before their echo is waited for.
    """

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        piece: int = UART_PIECE,
    ) -> None:
        self._console = console
        self._clock = clock
        self._piece = piece

    def run(self, command: str, patience: float = COMMAND_SECONDS, *, check: bool = False) -> str:
        """Run a command and return what it prints, without echo and prompt.

        Args:
            command: one line.
            patience: seconds of the clock it may take.
            check: ask the Shell afterwards whether it succeeded.

        Raises:
            UsageError: the line is too long or has control characters (``usage.shell-line``).
            ReferenceFailed: the echo is not what was typed (``reference.shell-echo``), the
                prompt does not come back (``reference.shell-timeout``), or the command failed
                (``reference.shell-command``; ``context["output"]`` is what it printed).
            ProgrammerLost: the console is gone.
        """
        self.type(command)
        output = self._enter(command, patience)
        if check and (status := self.last_error()) != _SUCCESS:
            raise ReferenceFailed(
                f"{command[:60]!r} ends with status 0x{status:X}: "
                f"{printable(output.strip()[-200:]) or 'it prints nothing'}",
                code="reference.shell-command",
                command=command,
                status=status,
                output=output,
            )
        return output

    def last_error(self) -> int:
        """The status of the command before: 0 is success, else a SHELL_STATUS value."""
        self.type("echo %lasterror%")
        output = self._enter("echo %lasterror%", COMMAND_SECONDS)
        match = re.search(r"0x([0-9A-Fa-f]+)", output)
        if match is None:
            raise _unreadable("echo %lasterror%", output)
        return int(match[1], 16)

    # --- commands -----------------------------------------------------------------------

    def setvar(
        self,
        name: str,
        data: bytes,
        guid: UUID = GLOBAL_VARIABLE,
        attributes: int = NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS,
    ) -> None:
        """Set a variable through the firmware's variable service; no data deletes it.

        Raises:
            UsageError: a name or attributes the command cannot carry (``usage.shell-line``).
            ReferenceFailed: see `run`.
        """
        known = {NON_VOLATILE: "-nv", BOOTSERVICE_ACCESS: "-bs", RUNTIME_ACCESS: "-rt"}
        if attributes & ~sum(known):
            raise UsageError(
                f"setvar cannot set the attributes 0x{attributes:X}", code="usage.shell-line"
            )
        if not name or not name.isascii() or not name.isprintable() or set(name) & set(' "^%;#='):
            raise UsageError(
                f"the Shell's command line cannot carry the name {name!r}", code="usage.shell-line"
            )
        flags = [flag for bit, flag in known.items() if attributes & bit]
        value = f"=H{data.hex().upper()}" if data else "="
        self.run(" ".join(["setvar", name, "-guid", str(guid), *flags, value]), check=True)

    def variables(self) -> list[ShellVariable]:
        """Every variable, as ``dmpstore -all -sfo`` lists them.

        Raises:
            ReferenceFailed: a line cannot be read (``reference.shell-output``), or see `run`.
        """
        command = "dmpstore -all -sfo"
        return parse_variables(self.run(command, 4 * COMMAND_SECONDS), command)

    def handles(self, protocol: str) -> list[Handle]:
        """The handles that have a protocol, such as ``FirmwareVolumeBlock2``: ``dh -p``."""
        output = self.run(f"dh -p {protocol}")
        return [
            Handle(int(match[1], 16), match[2].strip())
            for line in output.splitlines()
            if (match := _HANDLE.fullmatch(line)) is not None
        ]

    def memory_map(self) -> list[MemoryRange]:
        """The firmware's memory map: ``memmap``.

        Raises:
            ReferenceFailed: there is none in the output (``reference.shell-output``), or see
                `run`.
        """
        output = self.run("memmap")
        found = [
            MemoryRange(match[1], int(match[2], 16), int(match[3], 16), int(match[5], 16))
            for line in output.splitlines()
            if (match := _MEMORY.fullmatch(line)) is not None
        ]
        if not found:
            raise _unreadable("memmap", output)
        return found

    def peek(self, address: int, width: int = 4, space: MemorySpace = "memory") -> int:
        """Read memory or a register: ``mm``.

        Args:
            address: where.
            width: 1, 2, 4 or 8 bytes.
            space: which address space.

        Raises:
            ReferenceFailed: see `run`.
        """
        output = self.run(_mm(f"{address:x}", width, space), check=True)
        match = _VALUE.search(output)
        if match is None:
            raise _unreadable("mm", output)
        return int(match[1], 16)

    def poke(self, address: int, value: int, width: int = 4, space: MemorySpace = "memory") -> None:
        """Write memory or a register: ``mm``; see `peek`."""
        self.run(_mm(f"{address:x} {value:x}", width, space), check=True)

    def reset(self, kind: Literal["cold", "warm", "shutdown"] = "cold") -> None:
        """Reset the machine, or switch it off. The prompt does not come back: this Shell is over.

        Raises:
            ReferenceFailed: see `run`.
        """
        self.leave({"cold": "reset -c", "warm": "reset -w", "shutdown": "reset -s"}[kind])

    def leave(self, command: str) -> None:
        """Run a command after which nobody waits for the prompt.

        Raises:
            UsageError: see `run`.
            ReferenceFailed: the echo is not what was typed (``reference.shell-echo``).
        """
        self.type(command)
        self._console.send("\r")

    def leave_by(self, address: int, value: int, width: int, space: MemorySpace) -> None:
        """Write a register, as `poke` does, that stops the machine; see `leave`."""
        self.leave(_mm(f"{address:x} {value:x}", width, space))

    # --- inside -------------------------------------------------------------------------

    def type(self, line: str) -> None:
        """Type a line, without Enter, and see that every character arrived.

        Raises:
            UsageError: the line is too long or has control characters (``usage.shell-line``).
            ReferenceFailed: the echo is another one twice (``reference.shell-echo``).
        """
        if len(line) > LONGEST_LINE or not line.isascii() or not line.isprintable():
            raise UsageError(
                f"a line of {len(line)} characters, or with control characters, cannot be typed",
                code="usage.shell-line",
                length=len(line),
                longest=LONGEST_LINE,
            )
        if len(line) > _CLEAR_ABOVE:
            self._enter("cls", COMMAND_SECONDS, typed=False)
        echo = self._echo(line)
        if echo != line:
            self._console.send("\x1b")  # empties the line
            self._console.settle(_ESCAPE_SECONDS, ECHO_SECONDS)
            echo = self._echo(line)
        if echo != line:
            raise ReferenceFailed(
                f"the Shell's echo of {line[:60]!r} is {printable(echo[-200:])!r}",
                code="reference.shell-echo",
                command=line,
                echo=echo,
            )

    def _echo(self, line: str) -> str:
        """Type a line piece by piece, each once the one before has come back.

        Returns:
            The echo, up to where it is another than the line.
        """
        self._console.settle(0.0, 0.0)  # a prompt that nobody waited for
        echo = ""
        for start in range(0, len(line), self._piece):
            sent = line[: start + self._piece]
            self._console.send(line[start : start + self._piece])
            while echo != sent:
                if not sent.startswith(echo):
                    return echo
                try:
                    found = self._console.expect(_ANYTHING, ECHO_SECONDS, self._clock)
                except EnvironmentFault:
                    return echo
                # Where the line reaches the edge of the screen, firmware may begin a new one.
                echo += found.match[0].replace("\n", "")
        return echo

    def _enter(self, command: str, patience: float, *, typed: bool = True) -> str:
        self._console.send("\r" if typed else f"{command}\r")
        try:
            found = self._console.expect(PROMPT, patience, self._clock)
        except EnvironmentFault as exc:
            raise ReferenceFailed(
                f"the Shell's prompt has not come back {patience:g} s after {command[:60]!r}",
                code="reference.shell-timeout",
                command=command,
                output=exc.context.get("text", ""),
            ) from exc
        return found.before.removeprefix("\n")


def parse_variables(output: str, command: str = "dmpstore -all -sfo") -> list[ShellVariable]:
    """The variables in the output of ``dmpstore -sfo``.

    Raises:
        ReferenceFailed: there is none, or a line is not whole (``reference.shell-output``).
    """
    found: list[ShellVariable] = []
    for line in output.splitlines():
        if not line.startswith("VariableInfo,"):
            continue
        match = _VARIABLE.fullmatch(line)
        if match is None or len(match["data"]) != 2 * int(match["size"], 16):
            raise _unreadable(command, line)
        found.append(
            ShellVariable(
                match["name"],
                parse_guid(match["guid"]),
                int(match["attributes"], 16),
                bytes.fromhex(match["data"]),
            )
        )
    if not found:
        raise _unreadable(command, output)
    return found


def _mm(what: str, width: int, space: MemorySpace) -> str:
    if width not in (1, 2, 4, 8):
        raise UsageError(f"mm has no access of {width} bytes", code="usage.shell-line")
    where = {"memory": "", "mmio": " -MMIO", "io": " -IO", "pci": " -PCI", "pcie": " -PCIE"}[space]
    return f"mm {what} -w {width}{where} -n"


def _unreadable(command: str, output: str) -> ReferenceFailed:
    return ReferenceFailed(
        f"the output of {command!r} cannot be read: {printable(output.strip()[-200:])!r}",
        code="reference.shell-output",
        command=command,
        output=output,
    )
