"""The part of the contact test that every programmer can do: the same reads again and again.

Limits: bits that are always wrong are right for this test, unless a slower clock has shown better.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Literal

from hwflash.bus.abilities import limits_of
from hwflash.bus.spi import SpiBus, Transfer, Wait
from hwflash.chip import opcodes
from hwflash.flash.identify import ASK_90H, WAKE_SECONDS, is_90h_id

ID_BYTES: Final = 3
SFDP_BYTES: Final = 256
#: Bytes of a read that tells a sagging supply.
BURST: Final = 4096
#: Bits that must fit before an answer counts as shifted.
_SPAN: Final = 64
_LEAST_SPAN: Final = 12
_LEAST_EDGES: Final = 4

Finding = Literal["good", "all-ff", "all-00", "late", "early", "flipping"]


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
        rate: wrong bits for one bit that was read.
        place: the bit of the byte (7 is the first on the wire) when it is always the same one.
        text: the finding in words.
    """

    frequency: float
    rounds: int
    good: int
    finding: Finding
    jedec_id: str
    bits: int
    rate: float
    place: int | None
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
            "wrong_rate": self.rate,
            "wrong_place": self.place,
            "text": self.text,
        }


def ask(bus: SpiBus) -> bytes:
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
    size = 8 * len(expected)
    wrong = total = 0
    for answer in answers:
        bits = int.from_bytes(answer) ^ int.from_bytes(expected)
        wrong |= bits
        total += bits.bit_count()
    finding = _finding(answers, good, expected)
    places = {place & 7 for place in range(size) if wrong >> place & 1}
    silent = finding in ("all-ff", "all-00")
    return Contact(
        frequency=frequency,
        rounds=len(answers),
        good=0 if silent else good,
        finding=finding,
        jedec_id=usual[:ID_BYTES].hex(),
        bits=wrong.bit_count(),
        rate=total / (size * len(answers)),
        place=places.pop() if len(places) == 1 else None,
        text=_text(finding, good, len(answers), wrong, total / (size * len(answers))),
    )


def _finding(answers: list[bytes], good: int, expected: bytes) -> Finding:
    ids = {answer[:ID_BYTES] for answer in answers}
    if ids == {b"\xff" * ID_BYTES}:
        return "all-ff"
    if ids == {bytes(ID_BYTES)}:
        return "all-00"
    usable = expected[:ID_BYTES] not in (bytes(ID_BYTES), b"\xff" * ID_BYTES)
    if usable and good == len(answers):
        return "good"
    shifts = Counter(
        max(shift(answer[:ID_BYTES], expected[:ID_BYTES]),
            shift(answer[ID_BYTES:], expected[ID_BYTES:]), key=abs)
        for answer in answers if answer != expected
    )  # fmt: skip
    way, count = shifts.most_common(1)[0] if shifts else (0, 0)
    if way and 2 * count > len(answers) - good:
        return "late" if way > 0 else "early"
    return "flipping"


def shift(answer: bytes, right: bytes) -> int:
    """By how many clocks an answer is behind the right one from some bit on; negative is ahead.

    0 when it is not, or when too few bits are left to tell.
    """
    size = 8 * len(right)
    one, other = f"{int.from_bytes(answer):0{size}b}", f"{int.from_bytes(right):0{size}b}"
    first = next((at for at in range(size) if one[at] != other[at]), size)
    for way in (1, 2):
        span = min(_SPAN, size - first - way)
        if span < _LEAST_SPAN:
            return 0
        here, ahead = other[first : first + span], other[first + way : first + way + span]
        if sum(one != other for one, other in zip(here, ahead, strict=True)) < _LEAST_EDGES:
            continue  # a run of equal bits looks the same when it is shifted
        if one[first + way : first + way + span] == here:
            return way
        if one[first : first + span] == ahead:
            return -way
    return 0


def _text(finding: Finding, good: int, rounds: int, wrong: int, rate: float) -> str:
    match finding:
        case "good":
            return f"all {rounds} reads agree"
        case "all-ff":
            return "only ones"
        case "all-00":
            return "only zeros"
        case "late":
            return f"{rounds - good} of {rounds} reads come a clock late"
        case "early":
            return f"in {rounds - good} of {rounds} reads the chip is a clock ahead"
        case _:
            bits = "one bit flips" if wrong.bit_count() == 1 else f"{wrong.bit_count()} bits flip"
            return f"{rounds - good} of {rounds} reads differ: {bits}, one in {1 / rate:,.0f}"


@dataclass(frozen=True, slots=True)
class Burst:
    """What long reads showed at a clock at which short ones are good.

    Attributes:
        frequency: SCK in hertz.
        length: bytes read in one go.
        status: the first byte of a long read of the status register that is another one than the
            first of all; None when all are the same.
        data: the first byte at which two long reads of the memory differ, or None.
    """

    frequency: float
    length: int
    status: int | None
    data: int | None

    @property
    def ok(self) -> bool:
        """Long reads are as good as short ones."""
        return self.status is None and self.data is None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {
            "frequency": self.frequency,
            "length": self.length,
            "status_wrong_at": self.status,
            "data_wrong_at": self.data,
        }


def burst(bus: SpiBus) -> Burst:
    """Read the status register and the memory in one go each, as long as the bus can.

    The status register is sent again and again for as long as there are clocks. Memory is read
    with 0Bh: one lost clock makes 06h, a write enable, of 03h, and no command of 0Bh.
    """
    length = min(BURST, limits_of(bus).read)
    status = Transfer(bytes((opcodes.READ_STATUS_1,)), length)
    data = Transfer(bytes((opcodes.FAST_READ, 0, 0, 0, 0)), length)
    register, first, second = bus.execute([status, data, data])
    return Burst(
        bus.frequency,
        length,
        next((at for at, value in enumerate(register) if value != register[0]), None),
        next((at for at in range(length) if first[at] != second[at]), None),
    )


def is_busy(bus: SpiBus) -> bool:
    """Whether a chip that does not answer its id is busy with something begun earlier."""
    first, *others = bus.execute([Transfer(bytes((opcodes.READ_STATUS_1,)), 3)])[0]
    steady = others == [first] * len(others) and first not in (0x00, 0xFF)
    return steady and bool(first & opcodes.STATUS_WIP)
