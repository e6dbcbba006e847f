"""What an FT232H finds out about wires with its own pins, before a chip is asked anything.

Lines are watched before anything is driven. Then one line after the other is pulled low while the
others are inputs with weak pull-ups: what follows is shorted to it, what does not move is shorted
to a rail. Only then are transfers made.

Never writes: a chip takes a write enable only from a window of exactly eight clocks. Pulling makes
two edges on a line at most; every transfer here has 32 clocks or more and sends 9Fh or 55h and AAh.

Limits: an open wire looks to the programmer as a good one does. A touch counts when both lines pull
each other, so a line that rises slowly after it was pulled is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, Final

from hwflash.bus.pin_access import SPI, PinAccess, Setting
from hwflash.bus.spi import Clock
from hwflash.chip import opcodes

#: How often, and how many seconds apart, lines are watched for edges, and looks each time.
WATCHES: Final = 10
WATCH_PAUSE: Final = 2e-3
LOOKS: Final = 100
#: Looks, of a microsecond each, in which a line that was pulled low may rise again.
RISE: Final = 9
#: A pattern that is no command of any chip, however its bits are shifted.
PATTERN: Final = bytes((0x55, 0xAA)) * 4
ASK: Final = bytes((opcodes.READ_JEDEC_ID, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Lines:
    """What watching and pulling showed; lines by the names of `PinAccess.lines`.

    Attributes:
        moving: lines with edges although nothing is driven, the reset pin at most.
        moving_free: the same while the board's processor is not held in reset; empty without a
            reset pin.
        high: lines that stay high when they are pulled low: shorted to the supply.
        low: lines that stay low when they are driven high: shorted to ground.
        weak: lines that rest low, but can be driven high.
        shorts: pairs of lines that touch.
    """

    moving: tuple[str, ...] = ()
    moving_free: tuple[str, ...] = ()
    high: tuple[str, ...] = ()
    low: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    shorts: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {
            "moving": list(self.moving),
            "moving_free": list(self.moving_free),
            "stuck_high": list(self.high),
            "stuck_low": list(self.low),
            "pulled_low": list(self.weak),
            "shorts": [list(pair) for pair in self.shorts],
        }


def moving(pins: PinAccess, clock: Clock, *, held: bool) -> tuple[str, ...]:
    """Lines of the four that move while nothing is driven but supply and reset.

    The first that moves ends it: a board that was just switched on runs no longer than it must.

    Args:
        pins: of a programmer that has let go of the chip.
        clock: the bus's time.
        held: the board's processor is held in reset, if a pin does.
    """
    reset = pins.lines.get("reset", 0) if held else 0
    setting: Setting = (pins.supply, pins.supply | reset)
    for _ in range(WATCHES):
        first, *others = pins.levels([setting] * LOOKS)
        changed = 0
        for level in others:
            changed |= level ^ first
        found = tuple(name for name in SPI if changed & pins.lines[name])
        if found:
            return found
        clock.sleep(WATCH_PAUSE)
    return ()


def pull(pins: PinAccess) -> Lines:
    """Pull one line after the other, while nobody else drives them.

    Args:
        pins: as for `moving`, with the processor held.
    """
    lines = {name: mask for name, mask in pins.lines.items() if name != "reset"}
    held = pins.supply | pins.lines.get("reset", 0)
    idle: Setting = (pins.supply, held)
    settings = [idle]
    for mask in lines.values():
        settings += [(pins.supply, held | mask)] + [idle] * RISE
    resting, *looks = pins.levels(settings)
    pulled = dict(zip(lines, looks[:: 1 + RISE], strict=True))
    low_at_rest = [name for name, mask in lines.items() if not resting & mask]
    driven = pins.levels([(pins.supply | lines[name], held | lines[name]) for name in low_at_rest])
    hard = [
        name for name, level in zip(low_at_rest, driven, strict=True) if not level & lines[name]
    ]
    shorts = tuple(
        (one, other)
        for one, other in combinations(lines, 2)
        if resting & lines[one]
        and resting & lines[other]
        and not pulled[one] & lines[other]
        and not pulled[other] & lines[one]
    )
    return Lines(
        high=tuple(name for name, mask in lines.items() if pulled[name] & mask),
        low=tuple(hard),
        weak=tuple(name for name in low_at_rest if name not in hard),
        shorts=shorts,
    )


def plausible(jedec_id: bytes) -> bool:
    """Whether an id may be one: not all bits equal, and a maker's code of odd parity (JEP106)."""
    return jedec_id[:3] not in (bytes(3), b"\xff" * 3) and jedec_id[0].bit_count() % 2 == 1


@dataclass(frozen=True, slots=True)
class Answers:
    """What the chip answers in ways that a sound wiring does not need.

    Attributes:
        loopback: the programmer hears itself.
        follows: MISO shows what MOSI does, with the chip deselected.
        without_select: MISO is driven although CS# is high.
        roles: which line is wired to what, where the chip answers only so: the chip's pin, and
            the line of the programmer it hangs on.
        jedec_id: what it answers then, in hex.
        hold: whether HOLD# low silences the chip; None where no pin is wired to it, or it is
            silent anyway.
        free_id: the id while the board's processor is not held in reset; None where that was not
            tried.
    """

    loopback: bool = True
    follows: bool = False
    without_select: bool = False
    roles: tuple[tuple[str, str], ...] = ()
    jedec_id: str = ""
    hold: bool | None = None
    free_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {
            "loopback": self.loopback,
            "follows": self.follows,
            "without_select": self.without_select,
            "roles": dict(self.roles),
            "roles_id": self.jedec_id or None,
            "hold_works": self.hold,
            "free_id": self.free_id,
        }


def deselected(pins: PinAccess) -> Answers:
    """Ask with CS# high: nobody may answer, and the programmer must hear itself."""
    found = pins.exchange(ASK)  # first: a chip that is always selected takes one command only
    if pins.exchange(PATTERN, loopback=True) != PATTERN:
        return Answers(loopback=False)
    echo = pins.exchange(PATTERN)
    if echo == PATTERN:
        return Answers(follows=True)
    driven = any(piece not in (bytes(len(piece)), b"\xff" * len(piece)) for piece in (found, echo))
    return Answers(without_select=driven)


def hold_works(pins: PinAccess, jedec_id: bytes) -> bool | None:
    """Whether HOLD# low silences a chip that answers; None without a pin for it."""
    hold = pins.lines.get("hold", 0)
    if not hold:
        return None
    value, direction = pins.selected
    return pins.exchange(ASK, (value & ~hold, direction))[1:] != jedec_id


def free_id(pins: PinAccess) -> str:
    """The id while the board's processor is not held in reset, in hex; it must be quiet."""
    value, direction = pins.selected
    return pins.exchange(ASK, (value, direction & ~pins.lines["reset"]))[1:].hex()


def search(pins: PinAccess) -> Answers:
    """Ask for the id by hand with the lines in other roles, until a chip answers twice the same."""
    for roles in _assignments(pins.lines):
        masks = {name: pins.lines[line] for name, line in roles.items()}
        found = pins.by_hand(masks, ASK[:1], 3)
        if plausible(found) and pins.by_hand(masks, ASK[:1], 3) == found:
            other = tuple((name, line) for name, line in roles.items())
            return Answers(roles=other, jedec_id=found.hex())
    return Answers()


def _assignments(lines: Mapping[str, int]) -> Iterator[dict[str, str]]:
    """As it should be, then two lines swapped, then the rest of the four."""
    straight: dict[str, str] = {name: name for name in SPI}
    yield straight
    extra = [name for name in ("wp", "hold") if 0 < lines.get(name, 0) < 0x100]
    swapped = [_swap(straight, one, other) for one, other in combinations(SPI, 2)]
    yield from swapped
    for line in extra:
        for one in SPI:
            yield {**straight, one: line}
    for order in permutations(SPI):
        roles: dict[str, str] = dict(zip(SPI, order, strict=True))
        if roles != straight and roles not in swapped:
            yield roles


def _swap(roles: Mapping[str, str], one: str, other: str) -> dict[str, str]:
    return {**roles, one: roles[other], other: roles[one]}
