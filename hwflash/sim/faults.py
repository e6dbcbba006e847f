"""Faults of wiring, chip and link, as a user asks for them.

A fault list is text: names and values, separated by commas.

============================  ===================================================================
``flip=P``, ``flip=P@HZ``     every bit of MISO is inverted with probability P (above HZ only)
``stuck=LINE-high|LINE-low``  that line is shorted to the supply or to ground
``open=LINE``                 that wire has no contact; the chip's pin rests at its pull
``open=miso-coupled``         the same, and the loose wire picks up what MOSI does
``swap=LINE-LINE``            the two wires are swapped at the chip; ``swap=clk-mosi+mosi-cs``
                              swaps two, then two
``short=LINE-LINE``           two of the four SPI wires touch
``cs=floating|low``           CS# is not connected (the chip is never selected), or the chip's own
                              pin is tied low and the wire leads nowhere
``hold=low``                  HOLD# reads low as long as the programmer does not drive it
``reset=low``                 the chip's RESET# is held low by something else
``supply=off``                the supply rail is at ground; the chip clamps its lines to it
``sag=N``, ``sag=N@HZ``       the supply breaks down after N bytes in one go (above HZ only), and is
                              back when CS# is high
``slip=late``, ``…@HZ``       MISO comes one clock late (above HZ only): long wires, a slow chip
``ring=P``, ``ring=P@HZ``     a rising edge of CLK counts twice with probability P (above HZ only)
``second=PART``               a second chip hangs on the same four lines
``master=on|PIN``             another master drives CLK, MOSI and CS#; not while PIN (``ACBUS1``) is
                              driven low, which holds it in reset; ``PIN-still`` holds the lines
                              at rest and does not move them
``engine=deaf``               the programmer's own input reads zeros, its loopback included
``disconnect=N``              the USB device vanishes after N transfers, control transfers included
``slow=P``                    this share of the page programs takes nearly the maximum time
``never_ready=N``             the chip stays busy for ever after its N-th primitive
``fail=N``                    the N-th primitive fails; chips that have a fail flag show it
``volatile=ignored``          the chip does not take 50h, whatever its data sheet says
``chip=asleep|busy|reading``  the chip is found in deep power-down, erasing its first block, or
                              in a continuous read, which FFh ends
``access=denied|busy``        the USB device cannot be opened, or another program holds it
============================  ===================================================================

LINE is ``clk``, ``mosi``, ``miso``, ``cs``, ``wp`` or ``hold``. A primitive is a page program, an
erase, or a non-volatile status write, counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hwflash.errors import UsageError
from hwflash.units import parse_frequency


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a simulated programmer; the module lists the names.

    Attributes:
        flip: probability that a MISO bit is inverted.
        flip_above: SCK in hertz above which ``flip`` counts, 0 for always.
        stuck: line and level, such as ``miso-high``, or "".
        open: the line without contact, ``miso-coupled``, or "".
        swap: two lines, such as ``mosi-miso``, several joined by ``+``, or "".
        short: two lines, or "".
        cs: ``floating``, ``low`` or "".
        hold: ``low`` or "".
        reset: ``low`` or "".
        supply: ``off`` or "".
        sag: bytes in one window until the supply breaks down, or None.
        sag_above: SCK in hertz above which ``sag`` counts.
        slip: ``late`` or "".
        slip_above: SCK in hertz above which ``slip`` counts.
        ring: probability that a rising edge of CLK counts twice.
        ring_above: SCK in hertz above which ``ring`` counts.
        second: name of the part that hangs on the same lines, or "".
        master: ``on``, the pin that holds the other master in reset, or "".
        engine: ``deaf`` or "".
        disconnect: USB transfers until the device vanishes, or None.
        slow: share of page programs that take nearly the maximum time.
        never_ready: number of the primitive that never ends, or None.
        fail: number of the primitive that fails, or None.
        volatile: ``ignored`` or "".
        chip: ``asleep``, ``busy``, ``reading`` or "".
        access: ``denied``, ``busy`` or "".
    """

    flip: float = 0.0
    flip_above: float = 0.0
    stuck: str = ""
    open: str = ""
    swap: str = ""
    short: str = ""
    cs: str = ""
    hold: str = ""
    reset: str = ""
    supply: str = ""
    sag: int | None = None
    sag_above: float = 0.0
    slip: str = ""
    slip_above: float = 0.0
    ring: float = 0.0
    ring_above: float = 0.0
    second: str = ""
    master: str = ""
    engine: str = ""
    disconnect: int | None = None
    slow: float = 0.0
    never_ready: int | None = None
    fail: int | None = None
    volatile: str = ""
    chip: str = ""
    access: str = ""

    @classmethod
    def parse(cls, text: str) -> Faults:
        """Read a fault list such as ``slow=0.2,flip=1e-6@20M,stuck=miso-high``.

        Raises:
            UsageError: code ``usage.faults``: an unknown name, a bad value, a name twice.
        """
        found: dict[str, object] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (part.strip() for part in item.partition("="))
            reader = _READERS.get(name)
            if reader is None:
                raise _bad(item, f"there is no fault named {name!r}")
            if name in found:
                raise _bad(item, f"{name!r} is given twice")
            above = ""
            if name in _CLOCKED:
                value, _, above = value.partition("@")
            try:
                found[name] = reader(value)
                if above:
                    found[f"{name}_above"] = parse_frequency(above)
            except (ValueError, UsageError) as error:
                raise _bad(item, str(error)) from None
        return cls(**found)  # pyright: ignore[reportArgumentType]


def _bad(item: str, reason: str) -> UsageError:
    return UsageError(f"{item!r} is not a fault: {reason}", code="usage.faults", text=item)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{text} is not between 0 and 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(f"{text} is not 1 or more")
    return value


def _word(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def _pair(*lines: str) -> Callable[[str], str]:
    return _word(*(f"{one}-{other}" for one in lines for other in lines if one != other))


def _pairs(*lines: str) -> Callable[[str], str]:
    one = _pair(*lines)

    def read(text: str) -> str:
        return "+".join(one(pair) for pair in text.split("+"))

    return read


def _name(text: str) -> str:
    if not text:
        raise ValueError("a name is missing")
    return text


#: The four SPI lines, and all that can be broken.
_SPI: Final = ("clk", "mosi", "miso", "cs")
_LINES: Final = (*_SPI, "wp", "hold")
#: Faults that may begin at some clock.
_CLOCKED: Final = ("flip", "sag", "slip", "ring")

_READERS: Final[dict[str, Callable[[str], object]]] = {
    "flip": _share,
    "stuck": _word(*(f"{line}-{level}" for line in _LINES for level in ("high", "low"))),
    "open": _word(*_LINES, "miso-coupled"),
    "swap": _pairs(*_LINES),
    "short": _pair(*_SPI),
    "cs": _word("floating", "low"),
    "hold": _word("low"),
    "reset": _word("low"),
    "supply": _word("off"),
    "sag": _count,
    "slip": _word("late"),
    "ring": _share,
    "second": _name,
    "master": _word(
        "on", *(f"ACBUS{number}{way}" for number in range(8) for way in ("", "-still"))
    ),
    "engine": _word("deaf"),
    "disconnect": _count,
    "slow": _share,
    "never_ready": _count,
    "fail": _count,
    "volatile": _word("ignored"),
    "chip": _word("asleep", "busy", "reading"),
    "access": _word("denied", "busy"),
}

NO_FAULTS: Final = Faults()
"""Nothing is wrong."""
