"""Faults of wiring, chip and link, as a user asks for them.

A fault list is text: names and values, separated by commas.

============================  ===================================================================
``flip=P``, ``flip=P@HZ``     every bit of MISO is inverted with probability P (above HZ only)
``stuck=miso-high|miso-low``  the MISO wire is shorted
``cs=floating|low``           CS# is not connected (the chip is never selected), or is shorted low
``hold=low``                  HOLD# reads low as long as the programmer does not drive it
``disconnect=N``              the USB device vanishes after N transfers, control transfers included
``slow=P``                    this share of the page programs takes nearly the maximum time
``never_ready=N``             the chip stays busy for ever after its N-th primitive
``fail=N``                    the N-th primitive fails; chips that have a fail flag show it
``volatile=ignored``          the chip does not take 50h, whatever its data sheet says
``chip=asleep|busy|reading``  the chip is found in deep power-down, erasing its first block, or
                              in a continuous read, which FFh ends
``access=denied|busy``        the USB device cannot be opened, or another program holds it
============================  ===================================================================

A primitive is a page program, an erase, or a non-volatile status write, counted from 1.
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
        stuck: ``miso-high``, ``miso-low`` or "".
        cs: ``floating``, ``low`` or "".
        hold: ``low`` or "".
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
    cs: str = ""
    hold: str = ""
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
            if name == "flip":
                value, _, above = value.partition("@")
            try:
                found[name] = reader(value)
                if above:
                    found["flip_above"] = parse_frequency(above)
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


_READERS: Final[dict[str, Callable[[str], object]]] = {
    "flip": _share,
    "stuck": _word("miso-high", "miso-low"),
    "cs": _word("floating", "low"),
    "hold": _word("low"),
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
