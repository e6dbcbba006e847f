"""Contact test: are the wires good? Id and SFDP are read again and again at rising clocks.

The slowest clock says what the right answer is; a wire that is open, shorted or too long shows as
an answer that is all ones or all zeros, or that is another one from time to time.

Limits: a HOLD# that is low cannot be told from an open MISO or CS#, because the chip is silent in
all three; WP# does not show at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from hwflash.bus.spi import SpiBus, Transfer, Wait
from hwflash.chip import opcodes
from hwflash.errors import ChipError
from hwflash.flash.identify import ASK_90H, WAKE_SECONDS, is_90h_id
from hwflash.jobs.opening import Request, open_programmer
from hwflash.jobs.session import open_session
from hwflash.progress import CancelToken, NullReporter, Progress, Reporter

#: SCK in hertz, rising; the last ones only as far as programmer and request allow.
CLOCKS: Final = (400e3, 1e6, 5e6, 10e6, 15e6, 30e6)
ROUNDS: Final = 24
#: Seconds between two looks whether a chip has contact.
CONTACT_PAUSE: Final = 0.5
ID_BYTES: Final = 3
SFDP_BYTES: Final = 256

Finding = Literal["good", "all-ff", "all-00", "flipping"]

#: Pins that explain a finding, by the signal's name, the likeliest first.
_SUSPECTS: Final[dict[str, tuple[str, ...]]] = {
    "all-ff": ("VCC", "GND", "CS#", "DO", "HOLD#"),
    "all-00": ("DO", "VCC", "GND"),
    "flipping": ("CLK", "DO", "GND"),
    "good": (),
}


@dataclass(frozen=True, slots=True)
class Contact:
    """What a clock showed.

    Attributes:
        frequency: SCK in hertz, as it really was.
        rounds: how often id and SFDP were read.
        good: how often they were as they should be.
        finding: what that means.
        jedec_id: the id that was read most often, in hex.
        bits: bits of the answer that were wrong at least once; the answer is id, then SFDP.
        text: the finding in words.
    """

    frequency: float
    rounds: int
    good: int
    finding: Finding
    jedec_id: str
    bits: int
    text: str

    @property
    def ok(self) -> bool:
        """Nothing is wrong at this clock."""
        return self.finding == "good"

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {
            "frequency": self.frequency,
            "rounds": self.rounds,
            "good": self.good,
            "finding": self.finding,
            "jedec_id": self.jedec_id,
            "wrong_bits": self.bits,
            "text": self.text,
        }


def contact_test(
    request: Request,
    reporter: Reporter,
    cancel: CancelToken,
    found: Callable[[Contact], None] = lambda _contact: None,
) -> list[Contact]:
    """Test the contact at every clock.

    Args:
        request: programmer and board; its frequency, if given, is the highest clock.
        reporter: is told how far it is.
        cancel: a request to stop.
        found: told of each clock as it is over.

    Raises:
        ProgrammerError: no programmer, or it was lost.
        Interrupted: stopped; nothing is ever changed.
    """
    programmer = open_programmer(request)
    try:
        bus = programmer.bus
        limit = bus.frequency
        clocks = [clock for clock in CLOCKS if clock <= limit] or [limit]
        results: list[Contact] = []
        right: bytes | None = None
        for number, clock in enumerate(clocks):
            bus.set_frequency(clock)
            answers: list[bytes] = []
            for turn in range(ROUNDS):
                cancel.check()
                answers.append(_ask(bus))
                done = number * ROUNDS + turn + 1
                reporter.progress(Progress("contact", done, len(clocks) * ROUNDS))
            result = judge(answers, bus.frequency, right)
            if right is None and result.ok:
                right = answers[0]
            results.append(result)
            found(result)
        return results
    finally:
        programmer.release()


def _ask(bus: SpiBus) -> bytes:
    """Id and the beginning of the SFDP area, in one batch."""
    wake = Transfer(bytes((opcodes.RELEASE_POWER_DOWN,)))
    identify = Transfer(bytes((opcodes.READ_JEDEC_ID,)), ID_BYTES)
    tables = Transfer(bytes((opcodes.READ_SFDP, 0, 0, 0, 0)), SFDP_BYTES)
    old = Transfer(ASK_90H, ID_BYTES)
    _, _, jedec_id, sfdp, old_id = bus.execute([wake, Wait(WAKE_SECONDS), identify, tables, old])
    if not jedec_id.strip(b"\xff") and is_90h_id(old_id):
        jedec_id = old_id
    return jedec_id + sfdp


def judge(answers: list[bytes], frequency: float, right: bytes | None = None) -> Contact:
    """What the answers at one clock mean.

    Args:
        answers: id and SFDP, as often as they were read.
        frequency: SCK in hertz.
        right: the right answer, where a slower clock has shown it.
    """
    usual, _ = Counter(answers).most_common(1)[0]
    expected = right if right is not None else usual
    good = sum(answer == expected for answer in answers)
    wrong = 0
    for answer in answers:
        wrong |= int.from_bytes(answer, "big") ^ int.from_bytes(expected, "big")
    finding = _finding(answers, good, expected)
    return Contact(
        frequency, len(answers), 0 if finding in ("all-ff", "all-00") else good, finding,
        usual[:ID_BYTES].hex(), wrong.bit_count(), _text(finding, good, len(answers), wrong),
    )  # fmt: skip


def _finding(answers: list[bytes], good: int, expected: bytes) -> Finding:
    ids = {answer[:ID_BYTES] for answer in answers}
    if ids == {b"\xff" * ID_BYTES}:
        return "all-ff"
    if ids == {bytes(ID_BYTES)}:
        return "all-00"
    usable = expected[:ID_BYTES] not in (bytes(ID_BYTES), b"\xff" * ID_BYTES)
    return "good" if usable and good == len(answers) else "flipping"


def _text(finding: Finding, good: int, rounds: int, wrong: int) -> str:
    match finding:
        case "good":
            return f"all {rounds} reads agree"
        case "all-ff":
            return "only ones: no supply, or CS#, MISO or HOLD# has no contact"
        case "all-00":
            return "only zeros: MISO is shorted to ground, or the chip has no supply"
        case _:
            bits = "one bit flips" if wrong.bit_count() == 1 else f"{wrong.bit_count()} bits flip"
            return f"{rounds - good} of {rounds} reads differ: {bits}"


def suspects(results: list[Contact]) -> tuple[str, ...]:
    """Signals whose contact should be looked at, the likeliest first."""
    bad = next((item for item in results if not item.ok), None)
    return _SUSPECTS[bad.finding] if bad is not None else ()


def verdict(results: list[Contact]) -> tuple[bool, str]:
    """Whether the contact is good, and a sentence about it."""
    good = [item for item in results if item.ok]
    if not results:
        return False, "nothing was read"
    if len(good) == len(results):
        return True, "the contact is good at every clock"
    if not good:
        return False, results[0].text
    first = next(item for item in results if not item.ok)
    if results.index(first) == 0:
        return False, first.text
    best = results[results.index(first) - 1].frequency
    return False, f"good up to {best / 1e6:g} MHz; above that {first.text}"


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
