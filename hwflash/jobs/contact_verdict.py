"""From what the contact test saw to one sentence: what is wrong, and what to change.

The first cause that explains everything is taken, the surest kind of evidence first: levels of
lines, then who answers when, then bits. What cannot be told apart is said.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hwflash.chip import sfdp
from hwflash.errors import SfdpError
from hwflash.jobs.contact_reads import Burst, Contact
from hwflash.jobs.contact_wires import Answers, Lines, plausible
from hwflash.units import format_hz, format_size

#: Names of lines as data sheets have them, and as sentences call them.
SIGNALS: Final = {
    "clk": "CLK", "mosi": "DI", "miso": "DO", "cs": "CS#", "wp": "WP#", "hold": "HOLD#",
}  # fmt: skip
_SAID: Final = {**SIGNALS, "mosi": "MOSI (DI)", "miso": "MISO (DO)"}
#: What a silent chip may be; nothing that a programmer sees tells these apart.
SILENT: Final = (
    "open CLK", "open MOSI", "open MISO", "open CS#", "no supply or ground",
    "HOLD# or RESET# low at the chip",
)  # fmt: skip

#: Third bytes of an id that are the logarithm of the size, with makers that do so.
_SIZE_CODES: Final = range(0x10, 0x1B)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a contact test.

    Attributes:
        good: nothing is wrong up to the highest clock that was tried.
        finding: a stable word for it; docs/contact.md lists them.
        text: one sentence: what it is, and what to change.
        suspects: signals whose contact should be looked at, the likeliest first.
        alike: faults that look the same to this programmer.
    """

    good: bool
    finding: str
    text: str
    suspects: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {
            "good": self.good,
            "finding": self.finding,
            "text": self.text,
            "suspects": list(self.suspects),
            "alike": list(self.alike),
        }


def of_lines(lines: Lines) -> Verdict | None:
    """What is wrong with the lines themselves, or None."""
    if lines.moving:
        moving = _names(lines.moving)
        return _bad(
            "other-master",
            f"{moving} {_verb(lines.moving, 'moves', 'move')} although hwflash drives nothing: "
            "another master has the bus; switch the board off, or name the pin that holds its "
            "processor in reset (reset = in the board file)",
        )
    resting_low = {*lines.weak, *lines.low}
    if resting_low >= {"clk", "mosi", "miso", "cs"}:
        return _bad(
            "no-supply",
            "all lines rest low: the chip has no supply and holds them down; connect VCC and "
            "switch it on",
            "VCC", "GND",
        )  # fmt: skip
    if lines.shorts:
        one, other = lines.shorts[0]
        return _bad(
            "short",
            f"{_SAID[one]} and {_SAID[other]} touch: look for a bridge between them, or seat the "
            "clip again",
            SIGNALS[one], SIGNALS[other],
        )  # fmt: skip
    for finding, where, rail, names in (
        ("stuck-high", "the supply", "VCC", lines.high),
        ("stuck-low", "ground", "GND", lines.low),
    ):
        if names:
            return _bad(
                finding,
                f"{_names(names)} {_verb(names, 'is', 'are')} shorted to {where}: look for a "
                f"bridge to {rail}, or seat the clip again",
                *(SIGNALS[name] for name in names), rail,
            )  # fmt: skip
    return None


def of_answers(answers: Answers) -> Verdict | None:
    """What is wrong by when the chip answers, or None."""
    if not answers.loopback:
        return _bad(
            "programmer",
            "the programmer does not read what it sends to itself: the fault is in the programmer, "
            "not in the wires; use another one",
        )
    if answers.follows:
        return _bad(
            "loose-miso",
            "MISO shows what MOSI sends: the MISO (DO) wire has no contact and picks up its "
            "neighbour; connect it to DO of the chip",
            "DO",
            alike=("a resistor between MOSI and MISO",),
        )
    if answers.without_select:
        return _bad(
            "cs-ignored",
            "the chip answers although CS# is high: its CS# is tied low or hangs on another line; "
            "connect it to CS# of the programmer",
            "CS#",
        )
    wrong = [(pin, line) for pin, line in answers.roles if pin != line]
    if wrong:
        names = [pin for pin, _ in wrong]
        if len(wrong) == 1:  # with one that is none of the four
            names.append(wrong[0][1])
        if len(names) == 2:
            text = f"{_names(names)} are swapped: taken so, the chip answers {answers.jedec_id}"
            return _bad("swapped", f"{text}; swap the wires", *(SIGNALS[name] for name in names))
        where = ", ".join(f"{_SAID[pin]} on {_SAID[line]}" for pin, line in wrong)
        return _bad(
            "swapped",
            f"the wires are in a wrong order: the chip answers {answers.jedec_id} with {where}; "
            "wire them anew",
            *(SIGNALS[name] for name in names),
        )
    if answers.roles:
        return _bad(
            "edges",
            f"the chip answers {answers.jedec_id} only when every clock is made by hand: CLK rings "
            "or MISO comes too late; shorten the wires, put 33 to 100 ohms into CLK",
            "CLK", "GND", "DO",
        )  # fmt: skip
    return None


def of_free_id(answers: Answers, jedec_id: str) -> Verdict | None:
    """What the board's processor does to the bus while it is not held in reset, or None."""
    if answers.free_id in (None, jedec_id):
        return None
    return _bad(
        "other-master",
        f"the id is {jedec_id} with the board's processor in reset and {answers.free_id} without: "
        "it drives the bus; work with the board off or its processor in reset, as now",
    )


def of_silence(contact: Contact, pins: bool) -> Verdict:
    """A chip that says nothing but ones, or nothing but zeros.

    Args:
        contact: what was read.
        pins: lines were pulled, and are sound.
    """
    if contact.finding == "all-00":
        return _bad(
            "silent-low",
            "only zeros: MISO is shorted to ground, or the chip has no supply; look for a bridge, "
            "then measure VCC at the chip",
            "DO", "VCC", "GND",
        )  # fmt: skip
    if not pins:
        return _bad(
            "silent",
            "only ones: no supply, or CS#, MISO or HOLD# has no contact; measure VCC at the chip, "
            "then follow each wire",
            "VCC", "GND", "CS#", "DO", "HOLD#", "CLK", "DI",
            alike=(*SILENT, "MISO shorted to the supply", "swapped wires"),
        )  # fmt: skip
    return _bad(
        "silent",
        "only ones, and no line is shorted: nobody drives MISO; measure VCC at the chip, then "
        "HOLD#, then follow CS#, CLK, MOSI and MISO to its pins",
        "VCC", "GND", "CS#", "DO", "HOLD#", "CLK", "DI",
        alike=SILENT,
    )  # fmt: skip


def of_identity(jedec_id: bytes, tables: bytes, sizes: Collection[int]) -> Verdict | None:
    """What is wrong with an id that is read steadily, or None.

    Two chips on the same lines pull low together: what is read is the AND of what they say.

    Args:
        jedec_id: three bytes.
        tables: the beginning of the SFDP area.
        sizes: of the parts of the catalog with this id, in bytes.
    """
    doubt = None
    if not plausible(jedec_id):
        doubt = "which no maker has"
    else:
        try:
            size = sfdp.parse(tables).size
        except SfdpError:
            longer = tables[:4] == b"SFDP" and sfdp.length_needed(tables) > len(tables)
            if not sizes and not longer:
                doubt = "which no part of the catalog has, and has no SFDP tables that can be read"
        else:
            coded = [1 << jedec_id[2]] if jedec_id[2] in _SIZE_CODES else [size]
            if size not in (sizes or coded):
                doubt = f"and its SFDP tables tell {format_size(size)}, which does not go together"
    if doubt is None:
        return None
    return _bad(
        "strange-id",
        f"the chip answers {jedec_id.hex()} steadily, {doubt}: probably two chips answer at once; "
        "take the other one off the bus, or name the part (--chip)",
        "DO", "CS#",
        alike=("a part that hwflash does not know", "a MISO that is held during the same bit"),
    )  # fmt: skip


def of_clocks(contacts: Sequence[Contact], bursts: Sequence[Burst]) -> Verdict:
    """What the clocks showed, where the chip answers and the lines are sound."""
    first = next((item for item in contacts if not item.ok), None)
    sagging = next((item for item in bursts if not item.ok), None)
    if sagging is not None:
        return _supply(sagging, bursts[bursts.index(sagging) - 1] if bursts[0].ok else None)
    if first is None:
        highest = format_hz(contacts[-1].frequency)
        return Verdict(
            True, "good", f"the contact is good at every clock up to {highest}",
            alike=("two equal chips on the same lines", "WP# of the chip low or open"),
        )  # fmt: skip
    advice, names = _ADVICE[first.finding]
    place = contacts.index(first)
    if place == 0:
        return _bad(f"bits-{first.finding}", f"{first.text}: {advice}", *names)
    best = format_hz(contacts[place - 1].frequency)
    return _bad(
        f"clock-{first.finding}",
        f"good up to {best}; above that {first.text}: work at {best}, or {advice}",
        *names,
        alike=("a supply that is weak at high clocks",),
    )


_ADVICE: Final = {
    "all-ff": ("shorten the wires", ("CLK", "DO", "GND")),
    "all-00": ("shorten the wires", ("CLK", "DO", "GND")),
    "late": ("shorten the wires, MISO first", ("DO", "GND", "CLK")),
    "early": ("put 33 to 100 ohms into CLK, which rings: an edge counts twice", ("CLK", "GND")),
    "flipping": ("shorten the wires, and give each its ground", ("CLK", "DO", "GND")),
}


def _supply(item: Burst, good: Burst | None) -> Verdict:
    first = min(at for at in (item.status, item.data) if at is not None)
    where = format_hz((good or item).frequency)
    head = f"good up to {where}; above that short" if good else f"short reads are good at {where}"
    verb = "reads are good and long ones go wrong" if good else "and long ones go wrong"
    work = f"work at {where}, or " if good else ""
    return _bad(
        "clock-supply" if good else "supply",
        f"{head} {verb} after {first} bytes: probably the supply sags or GND has bad contact; "
        f"{work}put 100 nF at the chip and shorten VCC and GND",
        "VCC", "GND",
        alike=("a chip that is disturbed at random, but seldom",),
    )  # fmt: skip


def _bad(finding: str, text: str, *suspects: str, alike: tuple[str, ...] = ()) -> Verdict:
    return Verdict(False, finding, text, suspects, alike)


def _names(lines: Sequence[str]) -> str:
    said = [_SAID[name] for name in lines]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _verb(lines: Sequence[str], one: str, several: str) -> str:
    return one if len(lines) == 1 else several
