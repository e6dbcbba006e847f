"""Reading every status and configuration register of a chip, and saying what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hwflash.bus.spi import Transfer
from hwflash.chip.model import Chip
from hwflash.chip.register_map import Register, registers_of
from hwflash.chip.registers import live_bits
from hwflash.chip.sectors import commands_of, mode_of
from hwflash.flash.lock_bus import LockBus
from hwflash.jobs.session import Session


def register_keys(session: Session) -> list[dict[str, Any]]:
    """Every register of the chip that is known: raw, and its bits in words.

    Raises:
        BusUnstable: two reads of one differ (``chip.unstable-register``).
    """
    chip = session.chip
    known = registers_of(chip)
    live = {chip.status.read[number]: mask for number, mask in live_bits(chip).items()}
    bus = LockBus(session.flash, live)
    answers = bus.twice([Transfer(bytes((item.opcode,)), item.length) for item in known])
    found = list(zip(known, answers, strict=True))
    missing = _missing(chip, found)
    return [_keys(item, answer) for item, answer in found if item.opcode not in missing]


def _missing(chip: Chip, found: Sequence[tuple[Register, bytes]]) -> set[int]:
    """Opcodes of lock registers that a chip turns out not to have, as twins may."""
    commands = commands_of(chip)
    if commands is None:
        return set()
    told = [data for item, data in found if item.opcode == commands.mode]
    absent = any(mode_of(data) is None for data in told)
    return {commands.mode, commands.freeze} if absent else set()


def _keys(item: Register, answer: bytes) -> dict[str, Any]:
    value = item.value(answer)
    return {
        "name": item.name,
        "title": item.title,
        "opcode": item.opcode,
        "value": value,
        "hex": answer.hex(),
        "bits": [
            {
                "name": bit.name,
                "low": bit.low,
                "width": bit.width,
                "value": bit.of(value),
                "words": bit.words.get(bit.of(value)),
            }
            for bit in item.bits
        ],
    }
