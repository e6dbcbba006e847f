"""Security registers: small areas beside the memory that can be locked for ever.

Ref: W25Q128JV Rev. F §8.2.35-37 and GD25Q128E (44h erase, 42h program, 48h read with one dummy
byte, LB bits in the second status register).
Limits: parts whose security registers are reached by these commands and locked by a register bit;
OTP areas that are entered by B1h or read by 4Bh are not.
"""

from __future__ import annotations

from typing import Final

from hwflash.bus.spi import Transfer
from hwflash.chip import opcodes
from hwflash.chip.model import Duration, OtpArea
from hwflash.errors import BusUnstable, ChipProtected
from hwflash.flash.nor import ERASE_POLL, NorFlash
from hwflash.flash.pipeline import StatusPoller

PAGE: Final = 256
#: Erasing one takes about as long as the smallest block.
_ERASE: Final = Duration(0.05, 0.5)


class SecurityAccess:
    """The security registers of one chip.

    Args:
        flash: the chip on its bus.
    """

    def __init__(self, flash: NorFlash) -> None:
        self._flash = flash
        self._bus = flash.bus
        self._poller = StatusPoller(flash.bus, flash.chip)

    def read(self, area: OtpArea) -> bytes:
        """All of an area, read twice.

        Raises:
            BusUnstable: the two differ (``chip.unstable-read``).
        """
        ask = Transfer(self._command(opcodes.READ_SECURITY, area.address) + b"\0", area.size)
        first, second = self._bus.execute([ask, ask])
        if first != second:
            raise BusUnstable(
                f"two reads of the security register at 0x{area.address:X} differ",
                code="chip.unstable-read",
                address=area.address,
            )
        return first

    def erase(self, area: OtpArea) -> None:
        """Set an area to FF.

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
                at = area.address + start
                command = self._command(opcodes.PROGRAM_SECURITY, at) + page
                maximum = self._flash.chip.page_program.maximum
                self._send(command, maximum, "security register program", at)

    def _send(self, command: bytes, maximum: float, what: str, address: int) -> None:
        status = Transfer(bytes((opcodes.READ_STATUS_1,)), 1)
        enable = Transfer(bytes((opcodes.WRITE_ENABLE,)))
        _, answer, _ = self._bus.execute([enable, status, Transfer(command)])
        if not answer[0] & opcodes.STATUS_WEL:
            raise ChipProtected(
                f"the chip did not take write enable before the {what}",
                code="chip.write-enable",
                address=address,
            )
        self._poller.wait_ready(max(maximum, 0.5), ERASE_POLL, what, address)

    def _command(self, opcode: int, address: int) -> bytes:
        width = 4 if self._flash.in_four_byte_mode else 3
        return bytes((opcode,)) + address.to_bytes(width, "big")
