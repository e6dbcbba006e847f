"""The simulated reference of a run: OVMF or AAVMF in QEMU."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.compare.sides import Side
    from hwflash.console import Console
    from hwflash.jobs.compare_reference import Reference
    from hwflash.qemu.boot import Guest
    from hwflash.qemu.shell import Shell


class RunningReference:
    """Firmware that runs in QEMU, on copies of its files.

    Args:
        name: how messages call it.
        found: machine and flash content.
        log: file for the lines of its console.

    Attributes:
        name: as given.
        guest: the machine.

    Raises:
        EnvironmentFault: QEMU is missing (``environment.qemu-missing``), or there is no place.
        ReferenceFailed: QEMU does not start (``reference.qemu-start``).
    """

    def __init__(self, name: str, found: Reference, log: Path | None = None) -> None:
        from hwflash.jobs.compare_reference import with_files
        from hwflash.qemu.boot import Guest
        from hwflash.qemu.boot_setup import BootOptions, unwritable

        self.name = name
        self._found = found
        self._shell: Shell | None = None
        # QEMU copies what the guest writes to; the code has to stay as long as it runs.
        self._folder = tempfile.TemporaryDirectory(prefix="hwflash-reference-")
        try:
            machine = with_files(found, Path(self._folder.name))
            self.guest: Guest = Guest(machine, BootOptions(log=log))
        except BaseException as error:
            self._folder.cleanup()
            if isinstance(error, OSError):
                raise unwritable(Path(self._folder.name), error) from error
            raise

    @property
    def console(self) -> Console:
        """Its serial port."""
        return self.guest.console

    @property
    def shell(self) -> Shell:
        """The Shell; the first use waits for its prompt.

        Raises:
            ReferenceFailed: it does not come (``reference.boot-timeout``).
        """
        if self._shell is None:
            self._shell = self.guest.wait_for_shell()
        return self._shell

    def content(self) -> list[tuple[int, bytes]]:
        """The flash as the machine shows it: offsets and bytes. Ends the machine.

        What was not yet asked for its Shell is first given the time to boot.
        """
        from hwflash.jobs.compare_reference import DONE, after_boot

        if self.guest.process.poll() is None:
            if self._shell is None:
                self.guest.wait_for(DONE)
            self.guest.stop()
        return after_boot(self._found, self.guest).parts()

    def side(self) -> Side:
        """What it holds after its boot, for a comparison. Ends the machine."""
        from hwflash.jobs.compare import make_side

        return make_side(self.name, self.content())

    def close(self) -> None:
        """End everything. May be called twice."""
        self.guest.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def find_reference(text: str | None, board: Board | None) -> tuple[str, Reference]:
    """The reference that is meant, and its name.

    Args:
        text: as after ``ovmf:`` of ``hwflash compare``, or None for the board's.
        board: the board; without a ``[reference]`` of its own, x86_64 of this computer.

    Raises:
        ReferenceFailed: no such firmware here (``qemu.no-firmware``).
        ImageError: a file of it cannot be read (``image.unreadable``).
    """
    from hwflash.jobs.compare_reference import Reference, reference
    from hwflash.qemu.boot_setup import read_file

    if text is None and board is not None and board.reference is not None:
        from hwflash.qemu.machine import from_board

        machine = from_board(board, None)
        template = board.reference.vars
        store = read_file(Path(template)) if template is not None else None
        return f"reference of {board.name}", Reference(
            machine, read_file(Path(machine.code.path)), store
        )
    return f"ovmf:{text or ''}", reference(text or "")
