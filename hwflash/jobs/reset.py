"""Bringing a chip that does not listen back to where it wakes up: ``hwflash reset``.

A chip may be in deep power-down, where it hears ABh only; in a continuous read or QPI mode, where
what comes is no command until FFh; or in modes that a software reset ends: 66h then 99h (JESD216F
BFPT dword 16), F0h on Spansion parts that have no 66h.

A reset tears a program or erase that is going on, so a busy chip is left alone unless that is asked
for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hwflash.bus.spi import Op, SpiBus, Transfer, Wait
from hwflash.chip import catalog, opcodes
from hwflash.chip.model import Chip, FailFlags
from hwflash.errors import ChipAbsent, ChipError, ChipUnknown, ChipUnsupported
from hwflash.flash.identify import ID_LENGTH, WAKE_SECONDS, busy, identify, silent
from hwflash.jobs.opening import Request, open_programmer
from hwflash.jobs.session import require_board_voltage
from hwflash.progress import Reporter

_LEGACY_RESET: Final = 0xF0
#: tRST of common parts is 30 µs when they are ready, up to 40 ms when an erase is torn.
_READY_SECONDS: Final = 1e-3
_TORN_SECONDS: Final = 0.05
_LEAVE: Final = 0xFF
#: What brings a chip back that does not answer, in order, each with what it leaves. On four lines
#: the others are pulled high, so that FFh on one of them is FFh.
_WAYS: Final[tuple[tuple[str, tuple[Op, ...]], ...]] = (
    (
        "ABh (deep power-down)",
        (Transfer(bytes((opcodes.RELEASE_POWER_DOWN,))), Wait(WAKE_SECONDS)),
    ),
    (
        "FFh (continuous read or QPI mode)",
        tuple(Transfer(bytes((_LEAVE,)) * count) for count in (1, 2, 4)),
    ),
    (
        "ABh (deep power-down, slow to wake)",
        (Transfer(bytes((opcodes.RELEASE_POWER_DOWN,))), Wait(1e-3)),
    ),
)


@dataclass(frozen=True, slots=True)
class Reset:
    """What a reset did.

    Attributes:
        jedec_id: what 9Fh answers now, six bytes in hex.
        part: name of the chip, or None when nobody knows it.
        woken_by: what made it answer, or None when it answered from the start.
        reset_by: the commands of the software reset, or None when the part has none.
        torn: a program or erase was going on.
        status: its first status register now.
    """

    jedec_id: str
    part: str | None
    woken_by: str | None
    reset_by: str | None
    torn: bool
    status: int


def reset_chip(request: Request, reporter: Reporter, *, force: bool = False) -> Reset:
    """Make a chip listen, and reset it.

    Args:
        request: which programmer.
        reporter: is told what helped.
        force: also while a program or erase is going on, whose block is then undefined.

    Raises:
        ChipAbsent: nothing answers, whatever is sent.
        ChipError: it is busy (``chip.busy``).
        ProgrammerError: no programmer.
    """
    require_board_voltage(request)
    programmer = open_programmer(request)
    try:
        bus = programmer.bus
        jedec_id, status = _look(bus)
        torn = busy(status)
        if torn and not force:
            raise ChipError(
                f"the chip is busy with a program or erase (status {status:02X}h), which a reset "
                "would tear",
                code="chip.busy-reset",
                status=status,
            )
        woken_by = None if torn or not silent(jedec_id) else _wake(bus, jedec_id, reporter)
        # A busy chip does not say what it is: whoever insists is taken at their word.
        chip = None if torn else _identify(bus)
        reset_by = _reset(bus, chip, torn=torn)
        jedec_id, status = _look(bus)
        if silent(jedec_id):
            raise ChipAbsent(
                f"the chip does not answer after {reset_by}", jedec_id=jedec_id[:3].hex()
            )
        chip = chip or _identify(bus)
        part = chip.part if chip is not None else None
        return Reset(jedec_id.hex(), part, woken_by, reset_by, torn, status)
    finally:
        programmer.release()


def _look(bus: SpiBus) -> tuple[bytes, int]:
    jedec_id, status = bus.execute(
        [
            Transfer(bytes((opcodes.READ_JEDEC_ID,)), ID_LENGTH),
            Transfer(bytes((opcodes.READ_STATUS_1,)), 1),
        ]
    )
    return jedec_id, status[0]


def _wake(bus: SpiBus, jedec_id: bytes, reporter: Reporter) -> str:
    for name, ops in _WAYS:
        bus.execute(ops)
        if not silent(_look(bus)[0]):
            reporter.info(f"the chip answers after {name}")
            return name
    tried = ", ".join(dict.fromkeys(name.partition(" ")[0] for name, _ in _WAYS))
    raise ChipAbsent(
        f"no chip answers: its id reads {jedec_id[:3].hex()}, also after {tried}",
        jedec_id=jedec_id[:3].hex(),
    )


def _identify(bus: SpiBus) -> Chip | None:
    library = catalog.load()
    try:
        return identify(bus, lambda found: [part.chip for part in library.by_jedec_id(found)]).chip
    except (ChipUnknown, ChipUnsupported):
        return None


def _reset(bus: SpiBus, chip: Chip | None, *, torn: bool) -> str | None:
    commands = (opcodes.ENABLE_RESET, opcodes.RESET)
    if chip is not None and not chip.soft_reset:
        if chip.fail_flags is not FailFlags.SPANSION_SR1:
            return None
        commands = (_LEGACY_RESET,)
    wait = Wait(_TORN_SECONDS if torn else _READY_SECONDS)
    bus.execute([*(Transfer(bytes((opcode,))) for opcode in commands), wait])
    return " ".join(f"{opcode:02X}h" for opcode in commands)
