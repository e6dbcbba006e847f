"""A board without QEMU: commands switch it, a pseudo terminal is its console.

What a firmware would do to the chip while it runs, the command that switches on does to the
simulated chip's file.
"""

from __future__ import annotations

import os
import pty
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hwflash.boards import Board, load_board
from hwflash.jobs.opening import Request
from hwflash.uefi.areas import KNOWN
from hwflash.uefi.ftw import make_work_space
from hwflash.uefi.guids import GLOBAL_VARIABLE
from hwflash.uefi.records import Record, make_record
from hwflash.uefi.store import make_store
from hwflash.uefi.volume import USUAL_HEADER, make_volume

PART = "p25q21h"
SIZE = 256 * 1024
OVMF_2M = KNOWN[0]


def variable(name: str, data: bytes) -> Record:
    return make_record(name, GLOBAL_VARIABLE, 7, data)


def store_volume(*records: Record) -> bytes:
    """A sound volume of OVMF's 2M layout."""
    image = bytearray(b"\xff" * OVMF_2M.length)
    image[:USUAL_HEADER] = make_volume(OVMF_2M.length, 0x1000).build()
    store = make_store(records, OVMF_2M.variables - USUAL_HEADER, base=USUAL_HEADER)
    image[USUAL_HEADER : OVMF_2M.variables] = store.build()
    work = OVMF_2M.work
    image[work.address : work.end] = make_work_space(work.length, base=work.address).build()
    return bytes(image)


SOUND = store_volume(variable("Setting0", b"zero"), variable("Setting1", b"one"))


class FakeBoard:
    """A board file, the chip's file, and both ends of a console."""

    def __init__(
        self, folder: Path, firmware: str = "", *, power: str = "", more: str = ""
    ) -> None:
        self.folder = folder
        self.log = folder / "power.log"
        self.chip = folder / "chip.bin"
        self.chip.write_bytes(SOUND + b"\x55" * (SIZE - OVMF_2M.length))
        self.master, slave = pty.openpty()
        self.port = os.ttyname(slave)
        self._slave = slave
        script = folder / "switch.py"
        script.write_text(
            f"import os, sys, time\nCHIP = {str(self.chip)!r}\nPORT = {self.port!r}\n"
            f"def on():\n    pass\n{firmware}\n"
            f"open({str(self.log)!r}, 'a').write(sys.argv[1] + '\\n')\n"
            "if sys.argv[1] == 'on':\n    on()\n"
        )
        command = f'["{sys.executable}", "{script}", '
        self.file = folder / "fake.toml"
        self.file.write_text(
            'name = "fake"\ndescription = "a board of the tests"\n'
            f'[flash]\nsize = "{SIZE // 1024}K"\n'
            f'[programmer]\nurl = "sim://{PART}?image={self.chip}"\n'
            + (
                power
                or f'[power]\nmethod = "command"\non = {command}"on"]\noff = {command}"off"]\n'
            )
            + ("discharge = 0\n")
            + f'[console]\nport = "{self.port}"\n'
            + more
        )

    @property
    def board(self) -> Board:
        return load_board(self.file)

    def request(self) -> Request:
        environ = {**os.environ, "HWFLASH_STATE_DIR": str(self.folder / "state")}
        return Request(board=self.board, environ=environ)

    @property
    def switched(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def say(self, text: str) -> None:
        os.write(self.master, text.encode())

    @contextmanager
    def saying(self, text: str) -> Iterator[None]:
        """Say it again and again: whoever opens a port throws away what was there before."""
        over = threading.Event()

        def run() -> None:
            while not over.wait(0.05):
                with suppress(OSError):  # nobody reads, or it is pulled
                    self.say(text)

        os.set_blocking(self.master, False)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        for descriptor in (self.master, self._slave):
            with suppress(OSError):
                os.close(descriptor)
