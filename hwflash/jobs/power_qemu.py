"""A simulated board: OVMF in QEMU, on the content of the simulated chip.

The chip's image file is the flash that QEMU's firmware writes to, and each write is in the file
at once. So there is no moment at which chip and board disagree: when the board is switched off,
or hwflash dies and QEMU with it, what the firmware had written is on the chip, as on a real one.

The firmware's code runs from a copy that is taken when the board is switched on.

Limits: QEMU's flash carries out any program, a NOR chip only clears bits: what a chip could not
have done is told when the board is switched off. Erases by the firmware are not counted as wear.
Registers and protection of the simulated chip do not bind the firmware.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hwflash.bus.url import ProgrammerUrl, parse_url
from hwflash.chip import catalog
from hwflash.errors import ChipError, ImageError, UsageError
from hwflash.jobs.opening import Request, programmer_text
from hwflash.progress import CancelToken, Reporter
from hwflash.qemu import trace
from hwflash.qemu.boot import Guest
from hwflash.qemu.boot_setup import BootOptions, make_folder, read_file, unwritable
from hwflash.qemu.machine import FlashFile, Machine, usual_architecture
from hwflash.uefi.flashops import Erase, Program
from hwflash.uefi.window import Window
from hwflash.units import Range

if TYPE_CHECKING:
    from hwflash.boards import Board, Simulated
    from hwflash.chip.strict import SetBits
    from hwflash.console import Console


class QemuSwitch:
    """QEMU as the supply of a board.

    Args:
        request: board and programmer; that must be a simulated one with an image file.
        board: the board.
        reporter: is told what the firmware did that a chip could not.
        cancel: a request to stop ends every wait on the console.
        log: file for the console's lines, written anew each time the board is switched on.

    Attributes:
        image: the chip's content.
        guest: the machine while the board is on.
        before: what the firmware could write to, when the board was last switched on.
        operations: what it did to that, in order; filled in when the board is switched off.
        impossible: those of them that a chip could not have carried out.

    Raises:
        UsageError: another programmer, or one that keeps nothing (``power.not-simulated``).
        ChipError: the simulated chip is not as large as the board's (``board.other-size``).
    """

    lasting = False
    shares_lock = False

    def __init__(
        self,
        request: Request,
        board: Board,
        reporter: Reporter,
        cancel: CancelToken,
        log: Path | None = None,
    ) -> None:
        assert board.simulated is not None  # noqa: S101 - a rule of board files
        self._table: Simulated = board.simulated
        url = _simulated_url(request, board)
        self.image = Path(url.options["image"]).resolve()
        self._size = catalog.load().by_name(url.target).chip.size
        if self._size != board.flash.size:
            raise ChipError(
                f"board {board.name} has a chip of {board.flash.size} bytes, "
                f"{url.target} has {self._size}",
                code="board.other-size",
                board=board.name,
                expected=board.flash.size,
                found=self._size,
            )
        self._reporter = reporter
        self._cancel = cancel
        self._log = log
        self.name = f"QEMU on {self.image}"
        self.guest: Guest | None = None
        self.before = b""
        self.operations: tuple[Program | Erase, ...] = ()
        self.impossible: tuple[SetBits, ...] = ()

    @property
    def writable(self) -> Range:
        """What of the chip the firmware writes to."""
        return Range(self._table.variables.start, self._table.variables.length)

    @property
    def console(self) -> Console | None:
        """The serial port of the machine while it runs."""
        return self.guest.console if self.guest is not None else None

    def seconds(self) -> float:
        """The clock by which patience with the firmware is counted."""
        return self.guest.process.guest_seconds() if self.guest is not None else 0.0

    def pull(self) -> None:
        """Cut the power now, from any thread; `switch` off does what is left to do."""
        if self.guest is not None:
            with suppress(ProcessLookupError):
                os.kill(self.guest.process.pid, signal.SIGKILL)

    def switch(self, on: bool, /) -> None:
        """See `hwflash.jobs.power.Switch`.

        Raises:
            ImageError: the chip's image is not there, or of another size (``power.no-image``).
            EnvironmentFault: no QEMU here, or no place for a copy of the code.
            ReferenceFailed: QEMU does not start.
        """
        if on:
            self.guest = self._started()
        elif self.guest is not None:
            try:
                self.guest.cut()
                self._account(self.guest)
            finally:
                self.close()

    def close(self) -> None:
        """End QEMU, if it still runs."""
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.close()

    def _started(self) -> Guest:
        content = self._content()
        table = self._table
        self.before = content[table.variables.start :][: table.variables.length]
        self.operations = self.impossible = ()
        folder = make_folder()
        try:
            code = folder / "code"
            try:
                code.write_bytes(content[table.code.start :][: table.code.length])
            except OSError as exc:
                raise unwritable(code, exc) from exc
            machine = Machine(
                FlashFile(str(code), "raw", readonly=True),
                FlashFile(str(self.image), "raw", part=self.writable),
                machine=table.machine,
                architecture=usual_architecture(table.machine),
            )
            options = BootOptions(
                memory=table.memory, log=self._log, operations=True, in_place=True
            )
            return Guest(machine, options, self._cancel)
        finally:
            # QEMU has the file open: whatever becomes of us, it is not left behind.
            shutil.rmtree(folder, ignore_errors=True)

    def _content(self) -> bytes:
        content = read_file(self.image) if self.image.exists() else b""
        if len(content) != self._size:
            what = f"has {len(content):,} bytes, not {self._size:,}" if content else "is empty"
            raise ImageError(
                f"the simulated chip {self.image} {what}: there is no firmware to run",
                code="power.no-image",
                path=str(self.image),
            )
        return content

    def _account(self, guest: Guest) -> None:
        self.operations = guest.operations().operations
        self.impossible = tuple(trace.impossible_programs(Window(self.before), self.operations))
        if self.impossible:
            self._reporter.warning(
                f"the firmware programmed {len(self.impossible)} times what a chip could not have: "
                f"{self.impossible[0]}",
                code="power.impossible",
                count=len(self.impossible),
            )


def _simulated_url(request: Request, board: Board) -> ProgrammerUrl:
    text = programmer_text(request)
    url = parse_url(text) if text is not None else None
    if url is None or url.scheme != "sim" or not url.options.get("image"):
        raise UsageError(
            f"board {board.name} is simulated: it runs on the content of a simulated chip, "
            f"not of {text or 'nothing'}",
            code="power.not-simulated",
            board=board.name,
            programmer=text,
        )
    return url
