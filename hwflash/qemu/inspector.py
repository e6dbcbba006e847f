"""A guest looked at from outside: fw_cfg, memory, ACPI tables, I/O ports.

Nothing of it needs an operating system in the guest, or a debugger.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hwflash.errors import ReferenceFailed
from hwflash.qemu import acpi
from hwflash.qemu.boot import Guest
from hwflash.qemu.fwcfg import FwCfg
from hwflash.qemu.guest_memory import GuestMemory
from hwflash.qemu.shell import MemoryRange
from hwflash.units import MIB

#: Writing a guest's state takes a second; a disk that hangs may need longer.
_SAVE_SECONDS: Final = 120.0
_LOOK_EVERY: Final = 0.02
#: The memory that firmware keeps for ACPI, as the Shell's memory map names it.
_OF_ACPI: Final = ("ACPI_Recl", "ACPI_NVS")
#: Firmware's own data lies below the end of its memory for ACPI.
_OF_FIRMWARE: Final = 16 * MIB


class Inspector:
    """A guest from outside.

    Args:
        guest: one that was started with qtest.

    Attributes:
        guest: as given.
        memory: its RAM.
        fw_cfg: its fw_cfg device.

    Raises:
        ReferenceFailed: it has no qtest server, or its machine is not known
            (``reference.qtest``).
    """

    def __init__(self, guest: Guest) -> None:
        family = guest.machine.family
        if guest.qtest is None or family is None:
            raise ReferenceFailed(
                f"the guest ({guest.machine.machine}) cannot be looked at from outside",
                code="reference.qtest",
            )
        self.guest = guest
        self._qtest = guest.qtest
        size = guest.options.memory * MIB
        self.memory = GuestMemory(
            guest.qtest, guest.qmp, guest.process.folder, family, size
        )  # fmt: skip
        self.fw_cfg = FwCfg(guest.qtest, self.memory, family)

    @contextmanager
    def halted(self) -> Generator[None]:
        """Stop the processor for as long as the ``with`` statement lasts."""
        self.guest.qmp.execute("stop")
        try:
            yield
        finally:
            self.guest.qmp.execute("cont")

    def port(self, port: int) -> int:
        """The byte that an I/O port reads as."""
        (answer,) = self._qtest.execute([b"inb 0x%x" % port])
        return int(answer, 16) & 0xFF

    def flip(self, address: int) -> None:
        """Change every bit of a byte of memory: something is to be broken on purpose."""
        (byte,) = self.memory.read(address, 1)
        self.memory.write(address, bytes([byte ^ 0xFF]))

    def rsdps(self, ranges: Iterable[MemoryRange]) -> list[acpi.Rsdp]:
        """The ACPI root pointers in the memory that firmware keeps for ACPI."""
        found: list[acpi.Rsdp] = []
        for item in self._acpi(ranges):
            piece = self.memory.read(item.start, item.end + 1 - item.start)
            found += acpi.find_rsdps(piece, item.start)
        return found

    def firmware_memory(self, ranges: Iterable[MemoryRange]) -> tuple[int, bytes]:
        """Address and content of the memory where firmware keeps what is its own.

        Raises:
            ReferenceFailed: the firmware keeps no memory for ACPI (``reference.acpi-missing``).
        """
        ends = [item.end + 1 for item in self._acpi(ranges)]
        if not ends:
            raise ReferenceFailed(
                "the firmware keeps no memory for ACPI", code="reference.acpi-missing"
            )
        start = max(max(ends) - _OF_FIRMWARE, self.memory.ram.address)
        return start, self.memory.read(start, max(ends) - start)

    def _acpi(self, ranges: Iterable[MemoryRange]) -> list[MemoryRange]:
        return [
            item for item in ranges
            if item.kind in _OF_ACPI and item.end < self.memory.ram.end and item.start <= item.end
        ]  # fmt: skip

    def save(self, file: Path) -> None:
        """Write the state of the stopped guest to a file, as for a snapshot.

        Raises:
            ReferenceFailed: QEMU cannot (``reference.migrate``).
        """
        self.guest.qmp.execute("migrate", uri=f"exec:cat > {shlex.quote(str(file))}")
        self._migrated("write")

    def loaded(self) -> None:
        """Wait until a guest has the state that `incoming` has named.

        Raises:
            ReferenceFailed: it does not take it (``reference.migrate``).
        """
        self._migrated("take")

    def _migrated(self, doing: str) -> None:
        limit = time.monotonic() + _SAVE_SECONDS
        while time.monotonic() < limit:
            found = self.guest.qmp.execute("query-migrate")
            status = found.get("status")
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                raise ReferenceFailed(
                    f"QEMU cannot {doing} a guest's state: {found.get('error-desc', status)}",
                    code="reference.migrate",
                )
            time.sleep(_LOOK_EVERY)
        raise ReferenceFailed(
            f"QEMU does not {doing} a guest's state in {_SAVE_SECONDS:g} s",
            code="reference.migrate",
        )


def incoming(file: Path) -> tuple[str, ...]:
    """Words for QEMU to start with the state that `Inspector.save` has written."""
    return ("-incoming", f"exec:cat {shlex.quote(str(file))}")
