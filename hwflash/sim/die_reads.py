"""Commands of the simulated die that answer something: memory, SFDP, identity, registers.

Ref: W25Q128JV Rev. F and W25Q256JV Rev. G chapter 8; N25Q256A Rev. U (70h, 50h);
MX25L25645G Rev. 1.4 (2Bh); S25FL128S Rev. M (30h).
Limits: the device id of 90h and ABh is the third id byte less one, as on Winbond parts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from hwflash.chip import opcodes as op
from hwflash.chip.model import Chip, OtpAccess
from hwflash.sim.die_command import MODE, Command, cycle, padded
from hwflash.sim.die_core import DieCore, Stream
from hwflash.sim.die_map import READ_ANY

_UNIQUE_ID_LENGTH: Final = {0xEF: 8, 0xC8: 16}  # Winbond, GigaDevice
_WAKE_UP: Final = 3e-6  # tRES1


class ReadCommands:
    """Reading and identity.

    Attributes:
        table: command by opcode.
    """

    def __init__(
        self, die: DieCore, sfdp: bytes | None, unique_id: bytes | None, seed: int
    ) -> None:
        self._die = die
        self._chip: Chip = die.chip
        self.table: dict[int, Command] = {}
        self._add_reads(sfdp)
        self._add_identity(unique_id, seed)

    # --- reading ---------------------------------------------------------------------------

    def _add_reads(self, sfdp: bytes | None) -> None:
        read, table = self._read, self.table
        table[op.READ] = Command(read, address=MODE, slow=True)
        table[op.FAST_READ] = Command(read, address=MODE, dummy=1)
        if self._chip.addressing.opcodes or self._chip.addressing.read_opcodes:
            table[op.READ_4BYTE] = Command(read, address=4, slow=True)
            table[op.FAST_READ_4BYTE] = Command(read, address=4, dummy=1)
        if sfdp is not None:
            stream = partial(padded, sfdp)
            table[op.READ_SFDP] = Command(stream, address=3, dummy=1, memory=False)
        if self._chip.otp and self._die.otp.access is OtpAccess.SECURITY:
            stream = self._read_otp
            table[op.READ_SECURITY] = Command(stream, address=MODE, dummy=1, memory=False)

        registers = self._die.configuration.any_registers
        if registers:
            table[READ_ANY] = Command(
                lambda address: cycle(bytes((registers.get(address, 0),))),
                address=MODE, dummy=1, memory=False,
            )  # fmt: skip

    def _read(self, address: int) -> Stream:
        die, position = self._die, address
        size = self._chip.die_size
        base = address - address % size

        def stream(length: int) -> bytes:
            nonlocal position
            data = die.array.read(position, length)
            if die.locks.has_bpr and die.locks.hides(position, length):
                data = self._hide(position, data)
            position = base + (position - base + length) % size
            return data

        return stream

    def _hide(self, address: int, data: bytes) -> bytes:
        """Read-locked blocks of an SST26 answer 00."""
        unit = 4096
        shown = bytearray(data)
        place = 0
        while place < len(data):
            step = min(unit - (address + place) % unit, len(data) - place)
            if self._die.locks.hides((address + place) % self._chip.size, 1):
                shown[place : place + step] = bytes(step)
            place += step
        return bytes(shown)

    def _read_otp(self, address: int) -> Stream:
        position = 0

        def stream(length: int) -> bytes:
            nonlocal position
            data = self._die.otp.read(address, position, length)
            position += length
            return data

        return stream

    # --- identity --------------------------------------------------------------------------

    def _add_identity(self, unique_id: bytes | None, seed: int) -> None:
        jedec = self._chip.jedec_id
        device = jedec[2] - 1 & 0xFF
        pair = bytes((jedec[0], device))
        table = self.table
        if self._chip.id_command == op.READ_JEDEC_ID:
            table[op.READ_JEDEC_ID] = Command(lambda _: cycle(jedec))
        else:
            pair = jedec[:2]
        table[op.READ_MANUFACTURER_ID] = Command(
            lambda address: cycle(pair[::-1] if address & 1 else pair), address=3
        )
        if unique_id is None and jedec[0] in _UNIQUE_ID_LENGTH:
            unique_id = Random(f"uid-{seed}").randbytes(_UNIQUE_ID_LENGTH[jedec[0]])
        if unique_id is not None:
            answer = unique_id
            # Four dummy bytes, five in the 4-byte mode: an address and one more.
            stream: Callable[[int], Stream] = lambda _: cycle(answer)  # noqa: E731
            table[op.READ_UNIQUE_ID] = Command(stream, address=MODE, dummy=1)
        if self._chip.deep_power_down:
            table[op.RELEASE_POWER_DOWN] = Command(
                lambda _: cycle(bytes((device,))), self._wake, dummy=3, most=None, wakes=True
            )

    def _wake(self, _address: int, _data: bytes) -> None:
        if self._die.deep:
            self._die.deep = False
            self._die.pause(_WAKE_UP)
