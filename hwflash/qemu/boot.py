"""Boot a machine headless on copies of its files, and talk to its firmware.

QEMU is started stopped, the console is opened, then the machine runs: not a byte is lost. What
the guest writes goes to copies in a folder of its own that is removed at the end; the files
that were named are only read. Nothing of a `Guest` outlives it, see `hwflash.qemu.process`.

Patience is counted by the guest's own CPU time (`GuestProcess.guest_seconds`).

Limits: raw and qcow2 images; a qcow2 image must not have a backing file with a relative name.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from hwflash.console import Console, Found
from hwflash.console_port import open_port
from hwflash.errors import (
    EnvironmentFault,
    HwflashError,
    ImageError,
    ProgrammerLost,
    ReferenceFailed,
)
from hwflash.progress import CancelToken
from hwflash.qemu import trace
from hwflash.qemu.args import to_args
from hwflash.qemu.boot_setup import (
    BootOptions,
    chardev,
    console_of,
    copy_file,
    make_folder,
    plain_machine,
    read_file,
    unwritable,
)
from hwflash.qemu.machine import FlashFile, Machine
from hwflash.qemu.process import FIRST_PASSED, GuestProcess, find_qemu
from hwflash.qemu.qmp import QmpClient
from hwflash.qemu.shell import PROMPT, QEMU_PIECE, Shell
from hwflash.uefi.window import Window, printable

if TYPE_CHECKING:
    from collections.abc import Generator

    from hwflash.bus.qtest import QtestClient

#: Patience with a boot, in seconds of the guest's clock. AAVMF takes 1, OVMF 4; a reclaim of a
#: 4 MiB layout 32.
BOOT_SECONDS: Final = 90.0
#: A guest that was switched off ends QEMU at once; QEMU itself when it is told to.
_OFF_SECONDS: Final = 20.0
_QUIT_SECONDS: Final = 20.0
#: Wall seconds between two looks at the guest, and two key presses of a guest in a hurry.
_LOOK_EVERY: Final = 0.5
_LAST_PROMPT: Final = 0.15

_COUNTDOWN: Final = re.compile(r"Press ESC in \d+ seconds? to skip startup\.nsh")
#: What firmware prints when it will never come to a prompt.
_CRASH: Final = re.compile(
    r"^!{4} [A-Z0-9]+ Exception Type.*|^\w* ?Synchronous Exception at .*|^ASSERT(?:_\w+)? .*",
    re.MULTILINE,
)


class Guest:
    """A running machine. Use it in a ``with`` statement.

    Args:
        machine: its description. The guest's own image is copied; where that does not exist,
            its template is.
        options: how to boot.
        cancel: a request to stop ends every wait on the console.
        program: the QEMU program; default: that of the machine.

    Attributes:
        machine: the description with the copy in it.
        options: as given.
        process: QEMU.
        qmp: its monitor.
        console: its serial port.
        qtest: memory and ports from outside, if asked for; stop the CPU (``qmp.execute("stop")``)
            while it is used on what the firmware uses too.
        own: the copy the guest writes to, or None when it keeps nothing, or writes in place.
        before: the content of ``own`` at power-on, or None.

    Raises:
        EnvironmentFault: QEMU is missing (``environment.qemu-missing``) or too old
            (``environment.qemu-version``), a port or file is in use, or the disk is full.
        ImageError: a file cannot be read (``image.unreadable``).
        ReferenceFailed: QEMU does not start (``reference.qemu-start``); ``context["output"]`` is
            what it said.
    """

    def __init__(
        self,
        machine: Machine,
        options: BootOptions | None = None,
        cancel: CancelToken | None = None,
        program: str | None = None,
    ) -> None:
        options = options or BootOptions()
        self.options = options
        self.own: Path | None = None
        self.before: bytes | None = None
        self.qtest: QtestClient | None = None
        path = find_qemu(program or machine.program)
        with ExitStack() as undo:
            folder = make_folder()
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            self._folder = folder
            self.machine = machine if options.in_place else self._copied(machine, folder)
            self.process = self._started(path, options, undo)
            undo.callback(self.process.close)
            with self._explained("start"):
                self._connect(options, cancel, undo)
            self._undo = undo.pop_all()

    # --- talking ------------------------------------------------------------------------

    def wait_for(
        self,
        patterns: str | re.Pattern[str] | Sequence[str | re.Pattern[str]],
        patience: float = BOOT_SECONDS,
        *,
        nudge: str = "",
    ) -> Found:
        """Wait for something on the console; see `hwflash.console.Console.expect`.

        Args:
            patterns: as there.
            patience: seconds of the guest's clock, see `GuestProcess.guest_seconds`.
            nudge: keys to press now and then until it comes.

        Raises:
            ReferenceFailed: it did not come (``reference.boot-timeout``), the firmware crashed
                (``reference.guest-crash``), or QEMU ended (``reference.qemu-ended``).
            Interrupted: a stop was asked for.
        """
        many = [patterns] if isinstance(patterns, (str, re.Pattern)) else list(patterns)
        cpu = self.process.cpu_seconds()
        limit = self.process.guest_seconds() + patience
        with self._explained("boot"):
            while True:
                try:
                    found = self.console.expect([*many, _CRASH], _LOOK_EVERY)
                    break
                except EnvironmentFault as exc:
                    if exc.code != "console.timeout":
                        raise
                    if self.process.guest_seconds() >= limit:
                        raise self._stuck(self.process.cpu_seconds() - cpu, exc) from exc
                if nudge:
                    self.console.send(nudge)
        if found.index == len(many):
            raise ReferenceFailed(
                f"the firmware crashed: {printable(found.match[0])[:200]}",
                code="reference.guest-crash",
                text=found.before[-2000:] + found.match[0],
            )
        return found

    def wait_for_shell(self, patience: float = BOOT_SECONDS, *, hurry: bool = True) -> Shell:
        """Wait for the Shell's prompt, and press a key where it counts down.

        Args:
            patience: seconds of the guest's clock.
            hurry: press Enter now and then, which ends the firmware's wait for a hot key
                (5 seconds with AAVMF's template). Where no boot option works it also chooses
                from the setup menu.

        Raises:
            ReferenceFailed: see `wait_for`.
        """
        nudge = "\r" if hurry else ""
        if self.wait_for([_COUNTDOWN, PROMPT], patience, nudge=nudge).index == 0:
            # Any key but ESC, which would wait for the rest of an escape sequence.
            self.console.send("\r")
            self.wait_for(PROMPT, patience)
        # Each Enter that was too many brings one more prompt. One that comes later than this
        # is noticed in front of the echo of the first command, which is then typed again.
        self.console.settle(_LAST_PROMPT, _LOOK_EVERY)
        return Shell(self.console, self.process.guest_seconds, QEMU_PIECE)

    # --- looking ------------------------------------------------------------------------

    def image(self) -> bytes:
        """The guest's own image as it is on the disk now; each change is there at once.

        Raises:
            ImageError: the machine keeps nothing, or the file cannot be read.
        """
        if self.own is None:
            raise ImageError("the machine has no flash of its own", code="image.unreadable")
        return read_file(self.own)

    def keep(self, target: Path) -> None:
        """Copy the guest's own image to ``target``, as a whole or not at all.

        Raises:
            ImageError: the machine keeps nothing.
            EnvironmentFault: it cannot be written (``environment.unwritable``).
        """
        data = self.image()
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            try:
                part.write_bytes(data)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        except OSError as exc:
            raise unwritable(target, exc) from exc

    def operations(self) -> trace.OperationLog:
        """What was done to the guest's own flash; ends QEMU first, as only then it is whole.

        Raises:
            ReferenceFailed: there is no such log (``reference.trace``).
        """
        self.stop()
        unit = "flash1" if self.machine.vars is not None else "flash0"
        logs = trace.read_log(self._folder / "operations.log")
        for name, log in logs.items():
            if name.endswith(f".{unit}"):
                return log
        return trace.OperationLog(unit, ())

    def content_before(self) -> Window:
        """The guest's own flash at power-on, for `hwflash.qemu.trace.impossible_programs`."""
        return Window(self.before or b"")

    # --- its end ------------------------------------------------------------------------

    def power_off(self, shell: Shell) -> int:
        """Switch the machine off from its Shell; QEMU's exit status.

        Raises:
            ReferenceFailed: QEMU still runs afterwards (``reference.qemu-ended``).
        """
        with suppress(ProgrammerLost):  # the console goes with QEMU
            shell.reset("shutdown")
        status = self.process.wait(_OFF_SECONDS)
        if status is None:
            raise self.process.failure("power-off")
        return status

    def stop(self) -> None:
        """End QEMU as by pulling the plug, its files written. The guest's files stay."""
        if self.process.poll() is None:
            with suppress(HwflashError):
                self.qmp.execute("quit")
            if self.process.wait(_QUIT_SECONDS) is None:
                self.process.terminate()
                self.process.wait(_QUIT_SECONDS)

    def cut(self) -> None:
        """Cut the power: QEMU ends at once, between two accesses to the flash. Files stay.

        What was written is in the files, and the operation log is whole: QEMU hands both to the
        kernel access by access, line by line.
        """
        self.process.kill()

    def close(self) -> None:
        """End everything: no process, no folder is left. May be called twice."""
        self._undo.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- inside -------------------------------------------------------------------------

    @staticmethod
    def _stuck(used: float, exc: EnvironmentFault) -> ReferenceFailed:
        tail = str(exc.context.get("text", ""))
        last = printable(tail.strip().rpartition("\n")[2][-200:])
        return ReferenceFailed(
            f"the guest does not get on: {used:.1f} s of CPU time used, last on its console: "
            f"{last or 'nothing'}",
            code="reference.boot-timeout",
            text=tail,
            cpu_seconds=round(used, 3),
        )

    def _copied(self, machine: Machine, folder: Path) -> Machine:
        """The machine with a copy of what the guest writes to."""
        original = machine.vars or (None if machine.code.readonly else machine.code)
        if original is None:
            return machine
        source = Path(original.path)
        if machine.template is not None and not source.exists():
            source = Path(machine.template.path)
        self.own = folder / ("vars" if machine.vars is not None else "flash")
        copy_file(source, self.own)
        self.before = read_file(self.own)
        copy = FlashFile(str(self.own), original.format, original.readonly)
        if machine.vars is not None:
            return replace(machine, vars=copy)
        return replace(machine, code=copy)

    def _started(self, path: str, options: BootOptions, undo: ExitStack) -> GuestProcess:
        _, *flash = to_args(self.machine, options.dialect)
        self._monitor, theirs = socket.socketpair()
        undo.callback(self._monitor.close)
        passed = [theirs]
        words = [*flash, *plain_machine(self.machine, options), *chardev("qmp", FIRST_PASSED)]
        words += ["-mon", "chardev=qmp,mode=control"]
        if options.qtest:
            self._qtest_socket, theirs = socket.socketpair()
            undo.callback(self._qtest_socket.close)
            passed.append(theirs)
            words += [*chardev("qtest", FIRST_PASSED + 1), "-qtest", "chardev:qtest"]
            words += ["-qtest-log", "/dev/null"]
        if options.operations:
            words += trace.arguments(self._folder / "operations.log")
        return GuestProcess([path, *words, *options.extra], self._folder, passed)

    def _connect(self, options: BootOptions, cancel: CancelToken | None, undo: ExitStack) -> None:
        self.qmp = QmpClient(self._monitor)
        if options.qtest:
            from hwflash.bus.qtest import QtestClient

            self.qtest = QtestClient(self._qtest_socket)
        port = open_port(console_of(self.qmp))
        undo.callback(port.close)
        self.console = Console(port, options.log, cancel)
        undo.callback(self.console.close)
        if not options.paused:
            self.qmp.execute("cont")

    @contextmanager
    def _explained(self, doing: str) -> Generator[None]:
        """Say what became of QEMU where all that is seen is a connection that closed."""
        try:
            yield
        except HwflashError as exc:
            lost = exc.code in ("console.lost", "reference.qmp-lost", "programmer.qemu-lost")
            if lost and self.process.wait(1.0) is not None:
                raise self.process.failure(doing) from exc
            raise
