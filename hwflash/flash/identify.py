"""Asking a chip what it is.

Everything is asked twice: an id that changes between two reads is an unstable bus, and
nothing else the bus says can then be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hwflash.bus.abilities import limits_of
from hwflash.bus.spi import SpiBus, Transfer, Wait
from hwflash.chip import opcodes, sfdp
from hwflash.chip.identity import (
    TBPARM,
    Resolved,
    manufacturer_name,
    mirrored,
    resolve,
    top_parameters,
)
from hwflash.chip.model import Chip
from hwflash.chip.other_kinds import refuse_other_kinds
from hwflash.errors import (
    BusUnstable,
    ChipAbsent,
    ChipError,
    ChipUnknown,
    ChipUnsupported,
    HwflashError,
    SfdpError,
)

#: Gives the catalog parts that answer with an id.
CandidateLookup = Callable[[bytes], Sequence[Chip]]

ID_LENGTH: Final = 6
#: Maker of the parts that are asked by 90h.
SST: Final = 0xBF
SIGNATURE: Final = b"SFDP"
#: Release from deep power-down takes up to 30 µs (tRES1 of common parts: 3 to 30 µs).
WAKE_SECONDS: Final = 35e-6
#: Maker and device, over and over.
ASK_90H: Final = bytes((opcodes.READ_MANUFACTURER_ID, 0, 0, 0))

_JEDEC: Final = bytes((opcodes.READ_JEDEC_ID,))


@dataclass(frozen=True, slots=True)
class Identity:
    """What a chip answered and what it was taken for.

    Attributes:
        jedec_id: the three bytes after 9Fh.
        extended_id: six bytes after 9Fh; the last three mean something on some parts only.
        resolved: chip, source and conflicts.
        sfdp: decoded tables, or None when the chip has none.
        sfdp_bytes: the raw tables, or None.
        problem: why the tables it has could not be used, or None.
        woken: it answered only after it had been woken from deep power-down (ABh).
        ruled_out: parts of this id that it cannot be: they have a third status register, and
            here it reads FF.
    """

    jedec_id: bytes
    extended_id: bytes
    resolved: Resolved
    sfdp: sfdp.Sfdp | None
    sfdp_bytes: bytes | None
    problem: HwflashError | None
    woken: bool = False
    ruled_out: tuple[str, ...] = ()

    @property
    def chip(self) -> Chip:
        """What the chip is."""
        return self.resolved.chip


def read_id(bus: SpiBus) -> bytes:
    """Read the chip's id twice; wake the chip when it does not answer.

    Raises:
        ChipAbsent: all 00 or all FF.
        BusUnstable: two reads, two ids.
        ChipError: it is busy with something begun earlier (``chip.busy``).
    """
    return _id_and_woken(bus)[0]


def silent(jedec_id: bytes) -> bool:
    """Whether an id is none: the line stays low or high."""
    return jedec_id[:3] in (b"\0\0\0", b"\xff\xff\xff")


def busy(status: int) -> bool:
    """Whether a status byte is one of a chip that is busy, and not of a line that stays high."""
    return status != 0xFF and bool(status & opcodes.STATUS_WIP)


def _id_and_woken(bus: SpiBus) -> tuple[bytes, bool]:
    command = Transfer(_JEDEC, ID_LENGTH)
    ask = Transfer(bytes((opcodes.READ_STATUS_1,)), 1)
    first, second, state = bus.execute([command, command, ask])
    slept = silent(first) and silent(second)
    # A busy chip answers its status only: the cable was pulled during an erase, and is back.
    if slept and busy(state[0]):
        raise ChipError(
            f"the chip is still busy with something begun earlier (status {state[0]:02X}h)",
            code="chip.busy",
            status=state[0],
        )
    if slept:  # in deep power-down it hears nothing but this
        wake = Transfer(bytes((opcodes.RELEASE_POWER_DOWN,)))
        _, _, first, second = bus.execute([wake, Wait(WAKE_SECONDS), command, command])
    found = _agreed((first, second))
    woken = slept and not silent(found)
    if silent(found):
        found = _id_otherwise(bus) or found
    if silent(found):
        raise ChipAbsent(
            f"no chip answers: its id reads {found[:3].hex()}", jedec_id=found[:3].hex()
        )
    return found, woken


def _agreed(answers: Sequence[bytes]) -> bytes:
    first, second = answers
    if first[:3] != second[:3]:
        raise BusUnstable(
            f"two reads of the chip's id gave {first[:3].hex()} and {second[:3].hex()}",
            first=first[:3].hex(),
            second=second[:3].hex(),
        )
    return first


def _id_otherwise(bus: SpiBus) -> bytes | None:
    """The id of a chip that does not answer 9Fh, or None.

    A part that was left in auto address increment, the cable pulled, hears no 9Fh until write
    disable; SST25 parts of the first generation know 90h only, to which they answer maker and
    device over and over.
    """
    bus.execute([Transfer(bytes((opcodes.WRITE_DISABLE,)))])
    found = _agreed(bus.execute([Transfer(_JEDEC, ID_LENGTH)] * 2))
    if not silent(found):
        return found
    found = _agreed(bus.execute([Transfer(ASK_90H, ID_LENGTH)] * 2))
    return found if is_90h_id(found) else None


def is_90h_id(answer: bytes) -> bool:
    """Whether an answer to `ASK_90H` is the id of a part that is known by it."""
    return answer[0] == SST and answer == (answer[:2] * len(answer))[: len(answer)]


def read_sfdp(bus: SpiBus) -> bytes | None:
    """The SFDP area, or None when the chip has none.

    Raises:
        BusUnstable: two reads, two answers.
        SfdpError: there is a signature, and what follows is no SFDP.
    """
    data = _sfdp_bytes(bus, 8)
    if data[:4] != SIGNATURE:
        return None
    while (needed := sfdp.length_needed(data)) > len(data):
        data = _sfdp_bytes(bus, needed)
    return data


def identify(
    bus: SpiBus,
    candidates_for: CandidateLookup,
    *,
    override: Chip | None = None,
    size: int | None = None,
) -> Identity:
    """Find out what chip is on the bus.

    Args:
        bus: the bus.
        candidates_for: gives the catalog parts for an id.
        override: the part the user insists on.
        size: the size in bytes the user insists on.

    Raises:
        ChipAbsent: nothing answers.
        BusUnstable: it does not answer twice the same.
        ChipUnknown: neither SFDP nor catalog describes it.
        ChipUnsupported: it is described, and is not a NOR flash hwflash can treat.
    """
    extended, woken = _id_and_woken(bus)
    jedec_id = extended[:3]
    candidates = candidates_for(extended)
    if not candidates:
        refuse_other_kinds(extended)
    tables: sfdp.Sfdp | None = None
    described: Chip | None = None
    problem: HwflashError | None = None
    raw: bytes | None = None
    try:
        raw = read_sfdp(bus)
        if raw is not None:
            tables = sfdp.parse(raw)
            described = _describe(bus, tables, jedec_id)
    except (SfdpError, ChipUnsupported) as exc:
        # A part named by the user, or a catalog entry, can still make sense of the chip, but
        # never of one whose own tables say that it is no ordinary NOR flash.
        if isinstance(exc, ChipUnsupported) and (
            override is None or exc.code == "chip.erased-value"
        ):
            raise
        problem = exc
    if described is None and not candidates and override is None and problem is not None:
        raise ChipUnknown(
            f"the chip answers id {jedec_id.hex()}; its SFDP cannot be used ({problem}) "
            "and it is not in the catalog",
            jedec_id=jedec_id.hex(),
            manufacturer=manufacturer_name(jedec_id),
            sfdp_error=problem.code,
        ) from problem
    remaining = candidates if override is not None else _with_their_register(bus, candidates)
    without = tuple(part.part for part in candidates if part not in remaining)
    resolved = resolve(jedec_id, described, remaining, override=override, size=size)
    if described is None or override is not None:
        resolved = _as_configured(bus, resolved)
    return Identity(jedec_id, extended, resolved, tables, raw, problem, woken, without)


def _with_their_register(bus: SpiBus, candidates: Sequence[Chip]) -> Sequence[Chip]:
    """The parts that can have answered, where only some of them have a third status register.

    Its reserved bits read 0: one that reads FF, as a line that nobody drives, is not there. Its
    WPS would otherwise count as set, and the whole chip as locked.

    Raises:
        BusUnstable: two reads of the register differ.
    """
    without = [part for part in candidates if 3 not in part.status.read]
    having = [part for part in candidates if part.status.read.get(3) == opcodes.READ_STATUS_3]
    if not without or not having:
        return candidates
    if _register(bus, opcodes.READ_STATUS_3, "third status register") != 0xFF:
        return candidates
    return [part for part in candidates if part not in having]


def _as_configured(bus: SpiBus, resolved: Resolved) -> Resolved:
    """The erase map the chip is set to, on parts whose configuration register tells.

    Raises:
        BusUnstable: two reads of the register differ.
    """
    chip = resolved.chip
    if not top_parameters(chip):
        return resolved
    value = _register(bus, chip.status.read[TBPARM.register], "configuration register")
    top = value != 0xFF and value >> TBPARM.bit & 1
    return replace(resolved, chip=mirrored(chip)) if top else resolved


def _register(bus: SpiBus, opcode: int, name: str) -> int:
    ask = Transfer(bytes((opcode,)), 1)
    first, second = bus.execute([ask, ask])
    if first != second:
        raise BusUnstable(
            f"two reads of the {name} differ",
            code="chip.unstable-register",
            first=first.hex(),
            second=second.hex(),
        )
    return first[0]


def _describe(bus: SpiBus, tables: sfdp.Sfdp, jedec_id: bytes) -> Chip:
    """The chip by its own tables; asks it which of several sector maps is in force."""
    answers = [_detect(bus, command) for command in sfdp.detection_commands(tables)]
    part = f"SFDP-{jedec_id.hex()}"
    return sfdp.to_chip(tables, jedec_id, answers, part, manufacturer_name(jedec_id))


def _detect(bus: SpiBus, command: sfdp.DetectionCommand) -> int:
    """One sector-map detection command; the answer byte, not yet masked.

    A variable address length is taken as 3 and a variable latency as 8 clocks, which is how
    the parts that use them (S25FS-S, SEMPER) leave the factory.
    """
    width = 3 if command.address_bytes is None else command.address_bytes
    clocks = 8 if command.latency is None else command.latency
    address = (command.address % (1 << 8 * width)).to_bytes(width, "big") if width else b""
    sent = bytes((command.opcode,)) + address + b"\0" * -(-clocks // 8)
    return bus.execute([Transfer(sent, 1)])[0][0]


def _sfdp_bytes(bus: SpiBus, length: int) -> bytes:
    """``length`` bytes of the SFDP area from 0 (Ref: JESD216F §5: 5Ah, 24 bits, 8 dummies).

    Read twice before anything is made of them.
    """
    step = min(length, limits_of(bus).read)
    commands = [
        Transfer(
            bytes((opcodes.READ_SFDP,)) + start.to_bytes(3, "big") + b"\0",
            min(step, length - start),
        )
        for start in range(0, length, step)
    ]
    answers = bus.execute(commands + commands)
    first, second = b"".join(answers[: len(commands)]), b"".join(answers[len(commands) :])
    if first != second:
        raise BusUnstable("two reads of the chip's SFDP tables differ", length=length)
    return first
