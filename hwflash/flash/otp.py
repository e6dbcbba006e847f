"""Security registers: small areas beside the memory that can be locked for ever.

Ref: W25Q128JV Rev. F §8.2.35-37 and GD25Q128E (44h erase, 42h program, 48h read with one dummy
byte, LB bits in the second status register); Macronix AN0218 (B1h, C1h, 2Fh, security register);
N25Q256A Rev. W table 18 and figure 26 of N25Q128A (4Bh, 42h, OTP control byte); S25FL128S Rev. M
§7.4 and §8.1 (4Bh, 42h, lock bytes).
Limits: 4Bh with eight dummy clocks, as Micron parts are delivered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hwflash.bus.spi import Transfer
from hwflash.chip import opcodes
from hwflash.chip.model import Duration, OtpAccess, OtpArea
from hwflash.errors import BusUnstable, ChipProtected
from hwflash.flash.nor import ERASE_POLL, NorFlash
from hwflash.flash.pipeline import StatusPoller

PAGE: Final = 256
#: Erasing one takes about as long as the smallest block.
_ERASE: Final = Duration(0.05, 0.5)
_PATIENCE: Final = 0.5
#: Secured OTP indicator and LDSO in the security register of Macronix parts.
_MACRONIX_LOCKS: Final = 0x03
#: Where the lock bytes of Spansion parts begin: a bit for each region, 0 when it is locked.
_SPANSION_LOCKS: Final = 0x10
_SPANSION_REGION: Final = 32

_ENABLE: Final = Transfer(bytes((opcodes.WRITE_ENABLE,)))


class SecurityAccess:
    """The security registers of one chip.

    Args:
        flash: the chip on its bus.
    """

    def __init__(self, flash: NorFlash) -> None:
        self._flash = flash
        self._bus = flash.bus
        self._access = flash.chip.otp_access
        self._poller = StatusPoller(flash.bus, flash.chip)

    @property
    def erasable(self) -> bool:
        """Whether bits that were cleared can be set again."""
        return self._access is OtpAccess.SECURITY

    def read(self, area: OtpArea) -> bytes:
        """All of an area, read twice.

        Raises:
            BusUnstable: the two differ (``chip.unstable-read``).
        """
        return self._read(area.address, area.size)

    def locked(self, area: OtpArea, registers: Mapping[int, int]) -> bool:
        """Whether an area is locked for ever.

        Args:
            area: the area.
            registers: the chip's status registers, as just read.

        Raises:
            BusUnstable: two reads differ.
        """
        match self._access:
            case OtpAccess.SECURITY:
                bit = area.lock
                return bit is not None and bool(registers[bit.register] >> bit.bit & 1)
            case OtpAccess.MACRONIX:
                return bool(self._security() & _MACRONIX_LOCKS)
            case OtpAccess.MICRON:
                return not self._read(area.address + area.size, 1)[0] & 1
            case OtpAccess.SPANSION:
                place, mask = _lock_bit(area)
                return not self._read(place, 1)[0] & mask

    def erase(self, area: OtpArea) -> None:
        """Set an area to FF; only for those that are `erasable`.

        Raises:
            ChipProtected: the chip did not take the write enable.
            ChipTimeout: it did not get ready.
        """
        kinds = self._flash.chip.erase_types
        time = kinds[0].time if kinds else _ERASE
        command = self._command(opcodes.ERASE_SECURITY, area.address)
        self._send(command, time.maximum, "security register erase", area.address)

    def program(self, area: OtpArea, data: bytes) -> None:
        """Clear bits in an area; pages that are all FF are not sent.

        Args:
            area: the area.
            data: as long as the area; FF where nothing is to be cleared.
        """
        for start in range(0, area.size, PAGE):
            page = data[start : start + PAGE]
            if page.strip(b"\xff"):
                self._program(area.address + start, page)

    def lock(self, area: OtpArea) -> None:
        """Lock an area for ever, where that is no bit of a status register.

        Raises:
            ChipProtected: the chip did not take the write enable.
            ChipTimeout: it did not get ready.
        """
        match self._access:
            case OtpAccess.MACRONIX:
                command = bytes((opcodes.LOCK_OTP,))
                self._send(command, _PATIENCE, "lock of the secured area", area.address)
            case OtpAccess.MICRON:
                self._program(area.address + area.size, b"\xfe")
            case OtpAccess.SPANSION:
                place, mask = _lock_bit(area)
                self._program(place, bytes((0xFF & ~mask,)))
            case OtpAccess.SECURITY:
                raise AssertionError("locked by a bit of a status register")

    # --- inside -------------------------------------------------------------------------

    def _read(self, address: int, length: int) -> bytes:
        match self._access:
            case OtpAccess.SECURITY:
                command = self._command(opcodes.READ_SECURITY, address) + b"\0"
            case OtpAccess.MACRONIX:
                command = self._command(opcodes.READ, address)
            case OtpAccess.MICRON | OtpAccess.SPANSION:
                command = self._command(opcodes.READ_OTP, address) + b"\0"
        ask = Transfer(command, length)
        if self._access is OtpAccess.MACRONIX:
            enter, leave = _mode()
            _, first, second, _ = self._bus.execute([enter, ask, ask, leave])
        else:
            first, second = self._bus.execute([ask, ask])
        if first != second:
            raise BusUnstable(
                f"two reads of the security register at 0x{address:X} differ",
                code="chip.unstable-read",
                address=address,
            )
        return first

    def _security(self) -> int:
        ask = Transfer(bytes((opcodes.READ_SECURITY_STATUS,)), 1)
        first, second = self._bus.execute([ask, ask])
        if first != second:
            raise BusUnstable(
                "two reads of the security register (2Bh) differ", code="chip.unstable-read"
            )
        return first[0]

    def _program(self, address: int, data: bytes) -> None:
        what = "security register program"
        maximum = self._flash.chip.page_program.maximum
        if self._access is not OtpAccess.MACRONIX:
            command = self._command(opcodes.PROGRAM_SECURITY, address) + data
            self._send(command, maximum, what, address)
            return
        enter, leave = _mode()
        self._bus.execute([enter])
        try:
            command = self._command(opcodes.PAGE_PROGRAM, address) + data
            self._send(command, maximum, what, address)
        finally:
            self._bus.execute([leave])

    def _send(self, command: bytes, maximum: float, what: str, address: int) -> None:
        status = Transfer(bytes((opcodes.READ_STATUS_1,)), 1)
        _, answer, _ = self._bus.execute([_ENABLE, status, Transfer(command)])
        if not answer[0] & opcodes.STATUS_WEL:
            raise ChipProtected(
                f"the chip did not take write enable before the {what}",
                code="chip.write-enable",
                address=address,
            )
        self._poller.wait_ready(max(maximum, _PATIENCE), ERASE_POLL, what, address)

    def _command(self, opcode: int, address: int) -> bytes:
        width = 4 if self._flash.in_four_byte_mode else 3
        return bytes((opcode,)) + address.to_bytes(width, "big")


def _mode() -> tuple[Transfer, Transfer]:
    """Into the secured area and back to the memory (Macronix)."""
    return Transfer(bytes((opcodes.ENTER_OTP,))), Transfer(bytes((opcodes.EXIT_OTP,)))


def _lock_bit(area: OtpArea) -> tuple[int, int]:
    """Address and mask of the bit that locks a region (Spansion)."""
    region = area.address // _SPANSION_REGION
    return _SPANSION_LOCKS + region // 8, 1 << region % 8
