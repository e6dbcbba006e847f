"""Contact test: are the wires good?

With pins (an FT232H): the lines are watched and pulled (`hwflash.jobs.contact_wires`), then the
chip is asked. With every programmer: id and SFDP again and again at rising clocks
(`hwflash.jobs.contact_reads`), then long reads. The first thing that is wrong ends the test: what
comes after it would mean nothing. `hwflash.jobs.contact_verdict` says it in a sentence.

Nothing is written: see docs/contact.md for what reaches a chip over wires that are swapped.

Limits: WP# cannot be seen by reading; an open wire cannot be told from a chip without supply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile
from math import inf
from typing import Any, Final

from hwflash.bus.ftdi import Ft232hBus
from hwflash.bus.pin_access import PinAccess, pin_access
from hwflash.bus.url import parse_url
from hwflash.chip import catalog
from hwflash.errors import ChipError, EnvironmentFault
from hwflash.jobs import clocks, contact_verdict, contact_wires
from hwflash.jobs.contact_reads import ID_BYTES, Burst, Contact, ask, burst, is_busy, judge
from hwflash.jobs.contact_verdict import Verdict
from hwflash.jobs.contact_wires import Answers, Lines
from hwflash.jobs.lock import require_off
from hwflash.jobs.opening import (
    Request,
    board_key,
    clock_key,
    locks,
    open_programmer,
    programmer_text,
)
from hwflash.jobs.programmer import Programmer
from hwflash.jobs.session import open_session
from hwflash.jobs.voltage import require_board_voltage, require_chip_voltage
from hwflash.progress import CancelToken, NullReporter, Progress, Reporter

#: SCK in hertz, rising; the last ones only as far as programmer and request allow.
CLOCKS: Final = (400e3, 1e6, 5e6, 10e6, 15e6, 30e6)
ROUNDS: Final = 24
#: Reads at one clock that end the test when the chip says nothing in any of them.
FIRST_LOOK: Final = 4
#: Seconds between two looks whether a chip has contact.
CONTACT_PAUSE: Final = 0.5


@dataclass(frozen=True, slots=True)
class ContactReport:
    """All that a contact test found.

    Attributes:
        verdict: what it means.
        contacts: each clock that was tried.
        lines: what the pins showed; None where the programmer gives no access to them.
        answers: when the chip answers; None as well.
        bursts: what long reads showed.
        limit: the highest clock that is to be used from now on, in hertz; None when nothing
            limits it, or nothing is good.
        notes: what was not tried and why, and what is odd but not wrong.
    """

    verdict: Verdict
    contacts: tuple[Contact, ...]
    lines: Lines | None
    answers: Answers | None
    bursts: tuple[Burst, ...]
    limit: float | None
    notes: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return self.verdict.good

    @property
    def usable(self) -> bool:
        """The chip can be worked with, at `limit` at most."""
        return self.good or self.verdict.finding.startswith("clock-")

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {
            **self.verdict.as_dict(),
            "clocks": [item.as_dict() for item in self.contacts],
            "lines": self.lines.as_dict() if self.lines is not None else None,
            "answers": self.answers.as_dict() if self.answers is not None else None,
            "bursts": [item.as_dict() for item in self.bursts],
            "limit": self.limit,
            "notes": list(self.notes),
        }


class _Test:
    """A contact test that goes on."""

    def __init__(
        self, programmer: Programmer, request: Request, reporter: Reporter, cancel: CancelToken
    ) -> None:
        self.bus = programmer.bus
        self.limit = programmer.bus.frequency
        self.contacts: list[Contact] = []
        self.bursts: list[Burst] = []
        self.lines: Lines | None = None
        self.answers: Answers | None = None
        self.notes: list[str] = []
        self._request = request
        self._reporter = reporter
        self._cancel = cancel

    def run(self, found: Callable[[Contact], None]) -> Verdict:
        """Every step until something is wrong."""
        bus = self.bus
        pins = pin_access(bus)
        bus.set_frequency(min(CLOCKS[0], self.limit))
        if pins is None or not isinstance(bus, Ft232hBus):
            self.notes.append(
                "this programmer carries whole transfers only: shorts, swapped wires, CS# and "
                "other masters were not looked for"
            )
            return self._first_look(None, found) or self._at_rising_clocks(found)
        wrong = self._look_at_lines(pins, bus) or self._first_look(pins, found)
        return wrong or self._look_at_answers(pins, bus) or self._at_rising_clocks(found)

    def _look_at_lines(self, pins: PinAccess, bus: Ft232hBus) -> Verdict | None:
        self.lines = self._watch_and_pull(pins, bus)
        if (wrong := contact_verdict.of_lines(self.lines)) is not None:
            bus.let_go(supply=False)
            return wrong
        for name in self.lines.weak:
            self.notes.append(
                f"{contact_verdict.SIGNALS[name]} rests low: something pulls it down, weakly"
            )
        board = self._request.board
        if self.lines.moving_free:
            self.notes.append(
                "another master uses this bus while the board's processor is not in reset"
            )
        elif "reset" not in pins.lines and board is not None:
            self.notes.append("no pin holds the board's processor in reset: not tried without it")
        bus.drive(True)
        if bus.switches_supply and board is not None:
            bus.clock.sleep(board.power.settle)
        self.answers = contact_wires.deselected(pins)
        return contact_verdict.of_answers(self.answers)

    def _watch_and_pull(self, pins: PinAccess, bus: Ft232hBus) -> Lines:
        free: tuple[str, ...] = ()
        if self._may_run(pins, bus):
            free = contact_wires.moving(pins, bus.clock, held=False)
        bus.let_go(supply=True, reset=True)
        held = contact_wires.moving(pins, bus.clock, held=True)
        self._cancel.check()
        lines = Lines() if held else contact_wires.pull(pins)
        return replace(lines, moving=held, moving_free=free)

    def _may_run(self, pins: PinAccess, bus: Ft232hBus) -> bool:
        """Whether the board's processor may be let out of reset for a moment.

        Not one that starts only because of this test: firmware that boots writes its variables.
        """
        return "reset" in pins.lines and not bus.switches_supply

    def _first_look(
        self, pins: PinAccess | None, found: Callable[[Contact], None]
    ) -> Verdict | None:
        """A chip that says nothing, or nothing twice, at the slowest clock."""
        looked = judge([ask(self.bus) for _ in range(FIRST_LOOK)], self.bus.frequency)
        silent = looked.finding in ("all-ff", "all-00")
        if silent and is_busy(self.bus):
            self._add(looked, found)
            return Verdict(
                False, "busy", "the chip is busy with something begun earlier: wait, and test again"
            )
        if pins is not None and (silent or looked.ok):
            searched = contact_wires.search(pins)
            if searched.jedec_id not in ("", looked.jedec_id):
                self.answers = searched
                self._add(looked, found)
                return contact_verdict.of_answers(searched)
        if not silent:
            self._require_voltage(bytes.fromhex(looked.jedec_id))
            return None
        self._add(looked, found)
        return contact_verdict.of_silence(looked, pins is not None)

    def _require_voltage(self, jedec_id: bytes) -> None:
        """Of several parts with this id the one that takes most counts: any may be fitted."""
        chips = [part.chip for part in catalog.load().by_jedec_id(jedec_id)]
        if chips:
            require_chip_voltage(
                self._request, max(chips, key=lambda chip: chip.voltage[1] if chip.voltage else inf)
            )

    def _look_at_answers(self, pins: PinAccess, bus: Ft232hBus) -> Verdict | None:
        jedec_id = ask(bus)[:ID_BYTES]
        answers = Answers(hold=contact_wires.hold_works(pins, jedec_id))
        if answers.hold is False:
            self.notes.append(
                "HOLD# low does not stop the chip: no contact, or its QE bit makes it a data line"
            )
        quiet = self.lines is not None and not self.lines.moving_free
        if quiet and self._may_run(pins, bus):
            bus.let_go(supply=True)
            started = contact_wires.moving(pins, bus.clock, held=False)
            bus.drive(True)
            if not started:
                answers = replace(answers, free_id=contact_wires.free_id(pins))
        self.answers = answers
        return contact_verdict.of_free_id(answers, jedec_id.hex())

    def _at_rising_clocks(self, found: Callable[[Contact], None]) -> Verdict:
        tried = [clock for clock in CLOCKS if clock <= self.limit] or [self.limit]
        right: bytes | None = None
        for number, clock in enumerate(tried):
            self.bus.set_frequency(clock)
            answers: list[bytes] = []
            for turn in range(ROUNDS):
                self._cancel.check()
                answers.append(ask(self.bus))
                done = number * ROUNDS + turn + 1
                self._reporter.progress(Progress("contact", done, len(tried) * ROUNDS))
            result = judge(answers, self.bus.frequency, right)
            if right is None and result.ok:
                right = answers[0]
            self._add(result, found)
        self._long_reads()
        verdict = contact_verdict.of_clocks(self.contacts, self.bursts)
        strange = self._strange(right) if verdict.good and right is not None else None
        return strange or verdict

    def _strange(self, answer: bytes) -> Verdict | None:
        if self._request.chip is not None or self._request.chip_file is not None:
            return None  # the user knows better
        jedec_id = answer[:ID_BYTES]
        sizes = {part.chip.size for part in catalog.load().by_jedec_id(jedec_id)}
        return contact_verdict.of_identity(jedec_id, answer[ID_BYTES:], sizes)

    def _long_reads(self) -> None:
        """At each good clock, up to the first at which they are not."""
        for clock in self.good:
            self._cancel.check()
            self.bus.set_frequency(clock)
            self.bursts.append(burst(self.bus))
            if not self.bursts[-1].ok:
                break

    @property
    def good(self) -> list[float]:
        """The clocks that are good, up to the first that is not."""
        short = [item.frequency for item in takewhile(lambda item: item.ok, self.contacts)]
        bad = [item.frequency for item in self.bursts if not item.ok]
        return [clock for clock in short if not bad or clock < bad[0]]

    def _add(self, contact: Contact, found: Callable[[Contact], None]) -> None:
        self.contacts.append(contact)
        found(contact)


def contact_test(
    request: Request,
    reporter: Reporter,
    cancel: CancelToken,
    found: Callable[[Contact], None] = lambda _contact: None,
) -> ContactReport:
    """Test the contact, and remember the clock to use.

    Args:
        request: programmer and board; its frequency, if given, is the highest clock.
        reporter: is told how far it is.
        cancel: a request to stop.
        found: told of each clock as it is over.

    Raises:
        ProgrammerError: no programmer, or it was lost; or the board is switched on.
        ChipUnsupported: the chip takes less than the programmer drives (``chip.voltage``).
        Interrupted: stopped; nothing is ever changed.
    """
    require_board_voltage(request)
    if request.board is not None:
        require_off(locks(request), board_key(request.board))
    request = replace(request, any_clock=True)
    programmer = open_programmer(request, idle=_has_pins(request))
    try:
        test = _Test(programmer, request, reporter, cancel)
        verdict = test.run(found)
    finally:
        programmer.release()
    return ContactReport(
        verdict=verdict,
        contacts=tuple(test.contacts),
        lines=test.lines,
        answers=test.answers,
        bursts=tuple(test.bursts),
        limit=_remembered(request, test, reporter) if verdict.finding != "strange-id" else None,
        notes=tuple(test.notes),
    )


def forget_clock(request: Request) -> float | None:
    """Forget the clock of a board on a programmer.

    Returns:
        What was remembered, in hertz.

    Raises:
        ProgrammerError: no programmer, or several.
        EnvironmentFault: it cannot be written.
    """
    key = clock_key(request)
    found = clocks.remembered(request.environ, key)
    clocks.remember(request.environ, key, None)
    return found


def _has_pins(request: Request) -> bool:
    """Whether the programmer is one whose pins can be left alone; the only one attached is."""
    text = programmer_text(request)
    return text is None or parse_url(text).scheme in ("ftdi", "sim")


def _remembered(request: Request, test: _Test, reporter: Reporter) -> float | None:
    """Remember the clock to use: a bad one caps it, a good one lifts the cap.

    Returns:
        The cap from now on; None as well when it could not be remembered, with a warning.
    """
    key = clock_key(request)
    good = test.good
    if not good:
        return None
    before = clocks.remembered(request.environ, key)
    if len(good) < len(test.contacts):  # a clock above the last one is bad
        limit: float | None = good[-1]
    elif request.frequency is None:
        limit = None
    else:  # it was not tried any higher
        limit = max(before, good[-1]) if before is not None else None
    try:
        clocks.remember(request.environ, key, limit)
    except EnvironmentFault as error:
        reporter.warning(f"the clock is not remembered: {error}", code=error.code)
        return None
    return limit


def wait_for_chip(
    request: Request, cancel: CancelToken, done: str | None = None, pause: float = CONTACT_PAUSE
) -> None:
    """Wait until a chip has contact: two looks, some time apart, at the same sound id.

    A chip that was just worked on does not count until it was taken off; one with another unique
    id is another chip.

    Args:
        request: programmer and board.
        cancel: a request to stop.
        done: unique id of the chip that was just worked on; "" when it has none; None when there
            was none.
        pause: seconds between two looks.

    Raises:
        ProgrammerError: no programmer, or it was lost.
        Interrupted: a stop was asked for.
    """
    gone = done is None
    before: str | None = None
    while True:
        cancel.check()
        here = _who(request)
        if here is None or (done and here not in (done, "")):
            gone = True
        if gone and here is not None and here == before:
            return
        before = here if gone else None
        cancel.wait(pause)


def _who(request: Request) -> str | None:
    """The unique id of the chip that has contact, "" when it has none; None without contact."""
    try:
        with open_session(request, NullReporter()) as session:
            return session.unique_id() or ""
    except ChipError:
        return None
