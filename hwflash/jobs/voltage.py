"""Whether a chip bears the levels that the programmer drives: an FT232H works at 3.3 V only."""

from __future__ import annotations

from typing import Final

from hwflash.chip.model import Chip
from hwflash.errors import ChipUnsupported
from hwflash.jobs.opening import Request

#: The FT232H drives its pins at 3.3 V.
ADAPTER_VOLTS: Final = 3.3
VOLTAGE_TOLERANCE: Final = 0.3


def require_board_voltage(request: Request) -> None:
    """Before anything is driven: the board file may say that 3.3 V would harm the chip.

    Raises:
        ChipUnsupported: it does, and the user does not say that levels are shifted
            (``chip.voltage``).
    """
    board = request.board
    if board is None or board.flash.voltage is None or request.allow_voltage:
        return
    if board.flash.voltage + VOLTAGE_TOLERANCE < ADAPTER_VOLTS:
        raise _voltage(" or ".join(board.flash.chip) or board.name, board.flash.voltage)


def require_chip_voltage(request: Request, chip: Chip) -> None:
    """The same by the chip that answered.

    Raises:
        ChipUnsupported: see `require_board_voltage`.
    """
    if chip.voltage is None or request.allow_voltage or chip.voltage[1] >= ADAPTER_VOLTS:
        return
    raise _voltage(chip.part, chip.voltage[1])


def _voltage(part: str, volts: float) -> ChipUnsupported:
    return ChipUnsupported(
        f"{part} takes at most {volts:g} V, the adapter drives {ADAPTER_VOLTS:g} V",
        code="chip.voltage",
        part=part,
        volts=volts,
        adapter=ADAPTER_VOLTS,
    )
