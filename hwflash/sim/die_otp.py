"""Security registers of the simulated die.

Ref: W25Q128JV Rev. F §8.2.35-37 (44h erase, 42h program, 48h read; lock bits LB1 to LB3).
Limits: OTP areas that are entered by B1h or read by 4Bh are not modelled.
"""

from __future__ import annotations

from hwflash.chip.model import Chip, OtpArea
from hwflash.sim.die_array import Change, and_change


class SecurityRegisters:
    """The security registers of one chip.

    Attributes:
        cells: content by the address of the register.
    """

    def __init__(self, chip: Chip) -> None:
        self.areas = chip.otp
        self.cells = {area.address: bytearray(b"\xff") * area.size for area in chip.otp}

    def find(self, address: int) -> OtpArea | None:
        """The register an address lies in, or None."""
        for area in self.areas:
            if area.address <= address < area.address + area.size:
                return area
        return None

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
