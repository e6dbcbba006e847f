"""Security registers of the simulated die.

Ref: W25Q128JV Rev. F §8.2.35-37 (44h erase, 42h program, 48h read; lock bits LB1 to LB3);
Macronix AN0218 (B1h, C1h, 2Fh); N25Q128A figure 26 (control byte behind the 64); S25FL128S Rev. M
§7.4 (lock bytes at 10h, a bit for each of 32 regions).
"""

from __future__ import annotations

from hwflash.chip.model import Chip, OtpAccess, OtpArea
from hwflash.sim.die_array import Change, and_change
from hwflash.sim.die_registers import Registers

_REGIONS = 32  # Spansion: of as many bytes
_LOCK_BYTES = 0x10


class SecurityRegisters:
    """The security registers of one chip.

    Attributes:
        access: how they are reached.
        cells: content by the address of the register; what is not `OtpAccess.SECURITY` has one.
        entered: Macronix: reads and programs go there, not to the memory.
        locked_down: Macronix: 2Fh was sent.
    """

    def __init__(self, chip: Chip) -> None:
        self.access = chip.otp_access
        self.areas = chip.otp
        if self.access is OtpAccess.MICRON and chip.otp:
            self.areas = (OtpArea(0, chip.otp[0].size + 1),)
        elif self.access is OtpAccess.SPANSION and chip.otp:
            self.areas = (OtpArea(0, _REGIONS * _REGIONS),)
        self.cells = {area.address: bytearray(b"\xff") * area.size for area in self.areas}
        self.entered = False
        self.locked_down = False

    def find(self, address: int) -> OtpArea | None:
        """The register an address lies in, or None."""
        for area in self.areas:
            if area.address <= address < area.address + area.size:
                return area
        return None

    def refuses(self, address: int, data: bytes, registers: Registers) -> bool:
        """Whether a program of some bytes, or an erase (no bytes), is refused."""
        area = self.find(address)
        if area is None:
            return True
        cells = self.cells[area.address]
        match self.access:
            case OtpAccess.SECURITY:
                return registers.bit(area.lock)
            case OtpAccess.MACRONIX:
                return self.locked_down
            case OtpAccess.MICRON:
                return not cells[-1] & 1
            case OtpAccess.SPANSION:
                regions = {place // _REGIONS for place in range(address, address + len(data))}
                locked = int.from_bytes(cells[_LOCK_BYTES : _LOCK_BYTES + 4], "little")
                return any(not locked >> region & 1 for region in regions)

    def read(self, address: int, position: int, size: int) -> bytes:
        """``size`` bytes; the address wraps inside the register."""
        area = self.find(address)
        if area is None:
            return b"\xff" * size
        start = (address - area.address + position) % area.size
        cells = bytes(self.cells[area.address])
        return (cells * (2 + size // area.size))[start : start + size]

    def program(self, area: OtpArea, address: int, data: bytes) -> Change:
        """A program inside one register: wraps at its end, the last bytes count."""
        buffer = bytearray(b"\xff") * area.size
        start = address - area.address
        kept = data[-area.size :]
        start += len(data) - len(kept)
        for place, value in enumerate(kept):
            buffer[(start + place) % area.size] = value
        return and_change(self.cells[area.address], 0, bytes(buffer))

    def erase(self, area: OtpArea) -> Change:
        """An erase of one register."""
        cells = self.cells[area.address]
        return Change(cells, 0, bytes(cells), b"\xff" * area.size, erase=True)
