"""The same random commands to our simulated die and to QEMU's model of the same chip.

Whoever wrote QEMU's models read the data sheets too, and has not seen ours. What the models do
unlike hardware is left out by the table in `qemu_differences`, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import pytest
from conftest import require_qemu_arm
from qemu_differences import TESTED, differs

from hwflash.bus.qemu_spi import QemuSpiBus
from hwflash.bus.spi import Transfer
from hwflash.chip import catalog
from hwflash.chip.model import Chip, EnterFourByte, FailFlags, Programming
from hwflash.sim.clock import VirtualClock
from hwflash.sim.die import NorDie
from hwflash.sim.die_array import Change, FlashArray
from hwflash.sim.die_registers import Registers

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

#: QEMU's name and the catalog's part; the number of commands.
PAIRS = {
    "w25q64": ("W25Q64JV", 3000),
    "w25q256": ("W25Q256JV", 4000),
    "n25q256a": ("N25Q256A", 4000),
    "mx25l25635f": ("MX25L25635F", 4000),
    "is25lp128": ("IS25LP128", 3000),
    "mt25ql512ab": ("MT25QL512ABB", 2000),
    "sst25vf016b": ("SST25VF016B", 2000),
}
BATCH = 250
SFDP_AREA = 256
#: Longer than any operation but a chip erase takes; the die is never asked while it is busy.
PATIENCE = 1000.0


@dataclass(frozen=True)
class Step:
    """A command, and which bits of the answer both must agree on."""

    write: bytes
    read: int = 0
    mask: int = 0xFF

    def __str__(self) -> str:
        return f"{self.write[:12].hex()}{'...' if len(self.write) > 12 else ''} +{self.read}"


class Sequence:
    """Draws commands that a chip and its model both know."""

    def __init__(self, model: str, chip: Chip, sfdp: bool, seed: int) -> None:
        self.chip = chip
        self.random = Random(f"{model}-{seed}")
        self.differs = partial(differs, model=model)
        self.wide = False
        self.protected = False
        enter = chip.addressing.enter
        self.modes = enter in (EnterFourByte.B7, EnterFourByte.WREN_B7)
        # Everything interesting happens in a few places, so that commands meet each other.
        edges = (0, 0x10000, 1 << 24, chip.size // 2, chip.size)
        near = (edge + self.random.randrange(-0x3000, 0x3000) for edge in edges * 2)
        self.places = [0, *(place % chip.size for place in near)]
        self.kinds: list[tuple[Callable[[], list[Step]], int]] = [
            (self.read, 30), (self.program, 30), (self.erase, 6), (self.chip_erase, 1),
            (self.enable, 6), (self.status, 8), (self.identity, 2), (self.cut_off, 3),
            (self.without_enable, 4), (self.zero_status, 2), (self.reset, 1),
        ]  # fmt: skip
        if self.modes:
            self.kinds.append((self.mode, 6))
        if self.modes and chip.size > 1 << 24:
            self.kinds.append((self.segment, 6))
        if sfdp:
            self.kinds.append((self.sfdp, 3))
        if chip.fail_flags is FailFlags.MICRON_FSR:
            self.kinds.append((self.flags, 3))
        if model == "n25q256a":  # block sizes of the others are not QEMU's
            self.kinds.append((self.protect, 2))

    def __iter__(self) -> Iterator[Step]:
        kinds, weights = zip(*self.kinds, strict=True)
        while True:
            yield from self.random.choices(kinds, weights)[0]()

    # --- the commands -----------------------------------------------------------------------

    def place(self) -> int:
        chance = self.random.random()
        if chance < 0.02:
            return self.random.randrange(self.chip.size)
        if chance < 0.05:  # reads go on at 0
            return self.chip.size - self.random.randrange(1, 300)
        return (self.random.choice(self.places) + self.random.randrange(0x600)) % self.chip.size

    def addressed(self, opcode: int, address: int, *, four: int | None = None) -> bytes:
        """The opcode that follows the mode, or now and then the one that always takes four."""
        if four is not None and self.chip.addressing.opcodes and self.random.random() < 0.4:
            return bytes((four,)) + address.to_bytes(4, "big")
        width = 4 if self.wide else 3
        return bytes((opcode,)) + (address % (1 << 8 * width)).to_bytes(width, "big")

    def read(self) -> list[Step]:
        length = self.random.choice((1, 2, 16, 256, 700))
        if self.random.random() < 0.3 and not self.differs("fast-read-shifted"):
            return [Step(self.addressed(0x0B, self.place(), four=0x0C) + b"\0", length)]
        return [Step(self.addressed(0x03, self.place(), four=0x13), length)]

    def program(self) -> list[Step]:
        address = self.place()
        room = self.chip.page_size - address % self.chip.page_size
        length = min(room, self.random.choice((1, 2, 16, self.chip.page_size)))
        data = self.random.randbytes(length)
        if self.random.random() < 0.5:  # few zeroes, so that bits are left for the next
            data = bytes(a | b for a, b in zip(data, self.random.randbytes(length), strict=True))
        command = self.addressed(0x02, address, four=0x12)
        again = Step(bytes((0x03 if command[0] == 0x02 else 0x13,)) + command[1:], length)
        return [Step(b"\x06"), Step(b"\x05", 1), Step(command + data), *self.settle(), again]

    def erase(self) -> list[Step]:
        if self.protected:
            assert self.differs("erase-ignores-protection")
            return []
        kind = self.random.choice(self.chip.erase_types)
        assert self.differs("erase-not-aligned")
        address = self.place() // kind.size * kind.size
        command = self.addressed(kind.opcode, address, four=kind.opcode_4byte)
        return [Step(b"\x06"), Step(command), *self.settle()]

    def chip_erase(self) -> list[Step]:
        if self.protected or self.chip.chip_erase is None or self.random.random() > 0.1:
            return []
        return [Step(b"\x06"), Step(bytes((self.random.choice((0xC7, 0x60)),))), *self.settle()]

    def settle(self) -> list[Step]:
        """The latch is cleared at the end of an operation, which QEMU leaves to the host."""
        return [Step(b"\x04")] if self.differs("wel-kept") else []

    def enable(self) -> list[Step]:
        return [Step(self.random.choice((b"\x06", b"\x04"))), self.status()[0]]

    def status(self) -> list[Step]:
        return [Step(b"\x05", self.random.choice((1, 3)))]

    def identity(self) -> list[Step]:
        return [Step(b"\x9f", 3)]

    def cut_off(self) -> list[Step]:
        """Commands that end before they are complete do nothing."""
        command = self.random.choice((0x02, 0x20, 0xD8, 0x03))
        short = self.addressed(command, self.place())[: self.random.randrange(1, 4)]
        return [Step(b"\x06"), Step(short), Step(b"\x04")]

    def without_enable(self) -> list[Step]:
        address = self.place()
        page = self.addressed(0x02, address) + b"\0"
        sector = self.addressed(0x20, address // 0x1000 * 0x1000)
        return [Step(b"\x04"), Step(self.random.choice((page, sector))), *self.read()]

    def zero_status(self) -> list[Step]:
        self.protected = False
        return [Step(b"\x06"), Step(b"\x01\0"), *self.status()]

    def protect(self) -> list[Step]:
        value = self.random.randrange(0x20) << 2
        self.protected = bool(value & 0x5C)
        return [Step(b"\x06"), Step(bytes((0x01, value))), *self.status()]

    def mode(self) -> list[Step]:
        self.wide = self.random.random() < 0.5
        command = Step(b"\xb7" if self.wide else b"\xe9")
        if self.chip.addressing.enter is EnterFourByte.WREN_B7:
            assert self.differs("b7-without-write-enable")
            return [Step(b"\x06"), command, Step(b"\x04")]
        return [command]

    def segment(self) -> list[Step]:
        value = self.random.randrange(self.chip.size >> 24)
        assert self.differs("registers-answer-once")
        return [Step(b"\x06"), Step(bytes((0xC5, value))), Step(b"\x04"), Step(b"\xc8", 1)]

    def reset(self) -> list[Step]:
        if not self.chip.soft_reset:
            return []
        self.wide = False
        clear = [Step(b"\x06"), Step(b"\xc5\0"), Step(b"\x04")]
        survives = self.modes and self.differs("reset-clears-address-register")
        broken = [Step(b"\x66"), Step(b"\x9f", 3), Step(b"\x99")]  # not one after the other
        return [*(clear if survives else []), *broken, *self.status(), Step(b"\x66"), Step(b"\x99")]

    def sfdp(self) -> list[Step]:
        address = self.random.randrange(SFDP_AREA)
        length = self.random.randrange(1, SFDP_AREA + 1 - address)
        return [Step(b"\x5a" + address.to_bytes(3, "big") + b"\0", length)]

    def flags(self) -> list[Step]:
        assert self.differs("no-fail-flags")
        return [Step(b"\x70", 1, 0x81)]


class WordSequence(Sequence):
    """The same for a part of bytes and words: auto address increment, well formed and not."""

    def __init__(self, model: str, chip: Chip, sfdp: bool, seed: int) -> None:
        super().__init__(model, chip, sfdp, seed)
        self.kinds = [
            (self.read, 20), (self.byte, 10), (self.words, 20), (self.erase, 6),
            (self.chip_erase, 1), (self.identity, 2), (self.no_words, 3),
        ]  # fmt: skip

    def byte(self) -> list[Step]:
        address = self.place()
        command = self.addressed(0x02, address) + self.random.randbytes(1)
        again = Step(self.addressed(0x03, address), 1)
        return [Step(b"\x06"), Step(b"\x05", 1), Step(command), *self.settle(), again]

    def words(self) -> list[Step]:
        """Data, the status, and what is no command in between; to the end of the chip at times."""
        address, deaf = self.place() & ~1, [b"\x9f", b"\x03", b"\x06", b"\x20"]
        if self.random.random() < 0.2:
            # Write enable behind the end would let QEMU take half a command for a new beginning.
            address, deaf = self.chip.size - 2 * self.random.randrange(1, 6), [b"\x9f"]
        steps = [Step(b"\x06"), Step(self.addressed(0xAD, address) + self.random.randbytes(2))]
        for _ in range(self.random.randrange(8)):
            chance = self.random.random()
            if chance < 0.6:
                steps.append(Step(b"\xad" + self.random.randbytes(2)))
            elif chance < 0.8:
                steps.append(Step(b"\x05", 1))
            else:
                steps.append(Step(self.random.choice(deaf)))
        again = Step(self.addressed(0x03, address), 24)
        return [*steps, Step(b"\x05", 1), Step(b"\x04"), Step(b"\x05", 1), again]

    def no_words(self) -> list[Step]:
        """Without write enable nothing begins."""
        return [Step(b"\xad\0\0\0\0\0"), Step(b"\x05", 1), Step(b"\x03\0\0\0", 4)]


# --- the two chips --------------------------------------------------------------------------


class Mismatch(AssertionError):
    """The two do not agree."""


class Pair:
    """Our die and QEMU's model, erased."""

    def __init__(self, model: str, part: str) -> None:
        self.model = model
        self.chip = catalog.load().by_name(part).chip
        self.bus = QemuSpiBus(model)
        area = self.bus.execute([Transfer(b"\x5a\0\0\0\0", SFDP_AREA)])[0]
        self.has_sfdp = area.startswith(b"SFDP")
        self.clock = VirtualClock()
        self.die = NorDie(self.chip, area if self.has_sfdp else None, self.clock)
        if differs("unlocked-at-power-up", model):
            self.die.status.live[1] = 0

    def run(self, count: int, seed: int = 0) -> int:
        """Carry out at least ``count`` commands and compare.

        Raises:
            Mismatch: the first difference, with what led to it.
        """
        paged = self.chip.programming is Programming.PAGE
        kind = Sequence if paged else WordSequence
        steps = iter(kind(self.model, self.chip, self.has_sfdp, seed))
        done: list[Step] = []
        while len(done) < count:
            batch = [next(steps) for _ in range(BATCH)]
            found = self.bus.execute([Transfer(step.write, step.read) for step in batch])
            for step, theirs in zip(batch, found, strict=True):
                done.append(step)
                self._compare(step, self._ask_die(step), theirs, done)
        self._compare_content()
        return len(done)

    def _ask_die(self, step: Step) -> bytes:
        self.die.select()
        answer = self.die.exchange(step.write + bytes(step.read))
        self.die.deselect()
        self.clock.advance(PATIENCE)
        self.die.busy()
        return answer[len(step.write) :]

    def _compare(self, step: Step, ours: bytes, theirs: bytes, done: list[Step]) -> None:
        if all((a ^ b) & step.mask == 0 for a, b in zip(ours, theirs, strict=True)):
            return
        place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        raise Mismatch(
            f"{self.model}, command {len(done)}: {step}: byte {place} of the die is "
            f"{ours[place]:02x}, of QEMU {theirs[place]:02x}; before it: "
            + ", ".join(map(str, done[-12:-1]))
        )

    def _compare_content(self) -> None:
        """All of the memory, in QEMU's 4-byte mode."""
        theirs = self.bus.execute([Transfer(b"\xb7"), Transfer(b"\x03\0\0\0\0", self.chip.size)])
        if theirs[1] != self.die.content:
            pairs = enumerate(zip(theirs[1], self.die.content, strict=True))
            raise Mismatch(f"{self.model}: content at {next(i for i, (a, b) in pairs if a != b):x}")


@pytest.fixture
def pair() -> Iterator[Callable[[str], Pair]]:
    require_qemu_arm()
    made: list[Pair] = []

    def make(model: str) -> Pair:
        made.append(Pair(model, PAIRS[model][0]))
        return made[-1]

    yield make
    for item in made:
        item.bus.close()


def test_models_are_in_the_table() -> None:
    assert set(PAIRS) <= TESTED
    assert sum(count for _, count in PAIRS.values()) >= 10_000


@pytest.mark.parametrize("model", PAIRS)
def test_die_and_model_agree(model: str, pair: Callable[[str], Pair]) -> None:
    both = pair(model)
    count = PAIRS[model][1]
    assert both.run(count) >= count
    # Something must have happened: memory that was never written is equal in any two chips.
    assert both.die.primitives > count / 20
    assert both.die.content.count(0xFF) < len(both.die.content)
    assert max(both.die.wear) > 0


# --- it finds faults -------------------------------------------------------------------------


def _sets_bits(self: FlashArray, address: int, data: bytes) -> Change:
    old = bytes(self.content[address : address + len(data)])
    return Change(self.content, address, old, bytes(data), erase=False)


def _erases_short(self: FlashArray, address: int, length: int) -> Change:
    old = bytes(self.content[address : address + length - 1])
    return Change(self.content, address, old, b"\xff" * (length - 1), erase=True)


def _stops_at_the_end(self: FlashArray, address: int, length: int) -> bytes:
    return bytes(self.content[address : address + length]).ljust(length, b"\xff")


def _keeps_status(self: Registers, number: int) -> int:
    return 0x00


def _never_wide(self: NorDie) -> int:
    return 3


FAULTS = {
    "program sets bits": ("w25q64", FlashArray, "program", _sets_bits),
    "erase leaves a byte": ("mx25l25635f", FlashArray, "erase", _erases_short),
    "read stops at the end": ("w25q64", FlashArray, "read", _stops_at_the_end),
    "4-byte mode ignored": ("n25q256a", NorDie, "address_bytes", _never_wide),
    "protection bits lost": ("n25q256a", Registers, "_writable", _keeps_status),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_die_is_found(
    fault: str, pair: Callable[[str], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, owner, name, wrong = FAULTS[fault]
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(Mismatch):
        pair(model).run(PAIRS[model][1])


def test_a_latch_that_is_never_cleared_is_found(pair: Callable[[str], Pair]) -> None:
    both = pair("w25q64")
    table = both.die._table  # the fault is planted in this one die
    table[0x04] = replace(table[0x04], act=None)
    with pytest.raises(Mismatch, match="05 "):
        both.run(500)
