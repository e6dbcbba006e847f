"""A guest's memory from outside, read and written page by page while its processor stands still.

Ref: QEMU 7.2 softmmu/qtest.c (``b64read``, ``b64write``); QMP ``pmemsave``.
Limits: RAM below the hole for devices. Nothing else is read: a device's registers may change by
being looked at.
"""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import Final, Protocol

from hwflash.bus.qtest import QtestClient
from hwflash.errors import EnvironmentFault, ReferenceFailed
from hwflash.qemu.machine import Family
from hwflash.qemu.qmp import QmpClient
from hwflash.units import Range

#: More than this is quicker through a file.
_LINE_BYTES: Final = 1 << 16
#: Where RAM begins, and how much of it there is at most before the hole for devices, in bytes.
_LOW: Final[dict[Family, Range]] = {
    "q35": Range(0, 2 << 30),
    "i440fx": Range(0, 3 << 30),
    "virt": Range(1 << 30, 255 << 30),
}


class Memory(Protocol):
    """Something that is read by physical address."""

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes from an address.

        Raises:
            ReferenceFailed: not all of it is RAM (``reference.memory-range``).
        """
        ...


class GuestMemory:
    """The RAM of a guest.

    Args:
        qtest: its qtest server.
        qmp: its monitor.
        folder: where QEMU may leave a file for a moment.
        family: of its machine.
        size: of its RAM, in bytes.

    Attributes:
        ram: what of its addresses is RAM, as far as it is used here.
    """

    def __init__(
        self, qtest: QtestClient, qmp: QmpClient, folder: Path, family: Family, size: int
    ) -> None:
        self._qtest = qtest
        self._qmp = qmp
        self._file = folder / "memory"
        low = _LOW[family]
        self.ram = Range(low.address, min(size, low.length))

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes from a physical address.

        Raises:
            ReferenceFailed: not all of it is RAM (``reference.memory-range``), or QEMU gives
                something else (``reference.memory``).
            EnvironmentFault: a large piece cannot be handed over (``environment.unwritable``).
            ProgrammerError: see `QtestClient.execute`.
        """
        self._require(address, size)
        if size == 0:
            return b""
        if size > _LINE_BYTES:
            return self._saved(address, size)
        (answer,) = self._qtest.execute([b"b64read 0x%x 0x%x" % (address, size)])
        try:
            data = binascii.a2b_base64(answer, strict_mode=True)
        except binascii.Error:
            data = b""
        return self._whole(data, address, size)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at a physical address.

        Raises:
            ReferenceFailed: as `read`.
            ProgrammerError: see `QtestClient.execute`.
        """
        self._require(address, len(data))
        for start in range(0, len(data), _LINE_BYTES // 2):
            piece = data[start : start + _LINE_BYTES // 2]
            text = binascii.b2a_base64(piece, newline=False)
            self._qtest.execute([b"b64write 0x%x 0x%x %s" % (address + start, len(piece), text)])

    def _saved(self, address: int, size: int) -> bytes:
        try:
            self._qmp.execute("pmemsave", val=address, size=size, filename=str(self._file))
            data = self._file.read_bytes()
            self._file.unlink()
        except OSError as exc:
            raise EnvironmentFault(
                f"{self._file} cannot be used: {exc.strerror or exc}",
                code="environment.unwritable",
                path=str(self._file),
            ) from exc
        return self._whole(data, address, size)

    def _require(self, address: int, size: int) -> None:
        if not self.ram.address <= address <= address + size <= self.ram.end:
            raise ReferenceFailed(
                f"0x{address:X} and {size:,} bytes on are not in the guest's RAM",
                code="reference.memory-range",
                address=address,
                size=size,
            )

    @staticmethod
    def _whole(data: bytes, address: int, size: int) -> bytes:
        if len(data) != size:
            raise ReferenceFailed(
                f"QEMU gives {len(data):,} of the {size:,} bytes at 0x{address:X}",
                code="reference.memory",
                address=address,
                size=size,
            )
        return data
