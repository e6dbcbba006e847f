"""Check ``headers``: one field of a header is destroyed; what firmware makes of it, and hwflash.

Each of `hwflash.uefi.corruptions` is put into a store that firmware has booted with, and:

- hwflash is asked before the power is on: what `hwflash.uefi.check` finds and foretells of this
  kind of firmware, what `hwflash.uefi.recover` makes of it;
- a board is switched on with it, as it is: it keeps its variables, makes an empty store, crashes
  or hangs; and what it does to work space and spare area is told;
- `hwflash.uefi.rescue` comes first, and the board must boot with every variable.

Limits: firmware of edk2 in one of the layouts known to `hwflash.uefi.areas`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from hwflash.errors import HwflashError, ImageError
from hwflash.qemu.check import Bench, Step
from hwflash.qemu.check_recovery import in_turn
from hwflash.qemu.cut_changes import GUID, half_full
from hwflash.qemu.cut_judge import (
    Board,
    PowerOn,
    Variables,
    only_store,
    store_of,
    variables_of,
    verdict,
)
from hwflash.qemu.machine import Machine
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.check import Outlook, Report, check
from hwflash.uefi.corruptions import ELEVEN, SEALED, Corruption
from hwflash.uefi.find import assume, find_stores
from hwflash.uefi.flashops import Erase
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.outlook import ARM, PLAIN, SMM, Firmware
from hwflash.uefi.recover import recover
from hwflash.uefi.rescue import diagnose, rescue
from hwflash.uefi.volume import USUAL_HEADER
from hwflash.uefi.window import Window
from hwflash.units import Range

Fate = Literal["kept", "damaged", "emptied", "crash", "hang"]

#: Volume header and store header.
_HEAD: Final = USUAL_HEADER + STORE_HEADER.size

FATES: Final[dict[Fate, str]] = {
    "kept": "boots with everything",
    "damaged": "boots, and something is wrong",
    "emptied": "boots with an empty store",
    "crash": "crashes",
    "hang": "hangs",
}

#: Words of an outlook that foretells a fate.
_FORETOLD: Final[dict[Fate, str]] = {
    "kept": "", "damaged": "damage", "emptied": "empty", "crash": "stops with an exception",
    "hang": "hangs",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a store with a destroyed header.

    Attributes:
        corruption: which.
        told: codes of the errors and warnings of `check`.
        repair: the repair that it names.
        outlook: what it foretells of this kind of firmware.
        recovery: what a recovery makes of it: ``nothing``, ``done``, or the code it refuses with.
        fate: what became of the board that was switched on with it.
        alone: what was wrong then; "" when nothing was.
        ftw: what the firmware did to work space and spare area, in words.
        left: of how many of our variables a rescue still finds the value after that.
        ours: how many there were; the others are the firmware's own.
        choice: what a rescue before the power came on chose; "" when it was refused.
        after: what is wrong with the board that was rescued first; "" when nothing is.
    """

    corruption: Corruption
    told: tuple[str, ...]
    repair: str
    outlook: Outlook
    recovery: str
    fate: Fate
    alone: str
    ftw: str
    left: int
    ours: int
    choice: str
    after: str

    @property
    def foretold(self) -> bool:
        """Whether the check was right about this firmware, and did not miss a loss."""
        if self.fate == "kept":
            return self.outlook.severity != "error"
        words = _FORETOLD[self.fate]
        return self.outlook.severity == "error" and bool(self.told) and words in self.outlook.text


def headers(bench: Bench, sealed: bool = True) -> Generator[Step]:
    """Destroy headers, ask hwflash, switch on, repair, switch on; see the module's text.

    Args:
        bench: the machine.
        sealed: also the fields of the volume header under a right checksum.

    Raises:
        HwflashError: see `hwflash.qemu.check.run_check`.
    """
    board = Board(bench)
    chosen = (*ELEVEN, *SEALED) if sealed else ELEVEN
    for row in judged(board, bench.machine, chosen):
        name, text = row.corruption.name, row.corruption.text
        alone = f"{FATES[row.fate]}{f': {row.alone}' if row.alone else ''}; {row.ftw}"
        told = ", ".join(row.told) or "nothing is wrong"
        yield Step(
            f"{name}-foretold", row.foretold,
            f"{text}: the firmware does what the check says: {row.outlook.text}",
            f"switched on at once: {alone}; the check says: {told}",
        )  # fmt: skip
        yield Step(
            f"{name}-repaired", not row.after, f"{text}: boots with everything after a repair",
            row.after or f"boots with everything after the repair {row.choice!r}",
        )  # fmt: skip


def judged(board: Board, machine: Machine, corruptions: Sequence[Corruption]) -> Generator[Judged]:
    """Try corruptions on a board, two guests at a time, in the order given.

    Raises:
        HwflashError: QEMU cannot be started; the firmware does not boot from its template.
    """
    image = half_full(board.warm(), board.layout)
    found = only_store(image)
    wanted = variables_of(store_of(image))
    kind = firmware_of(machine)

    def try_out(corruption: Corruption) -> Judged:
        bad = corruption.of(found)
        report = _looked_at(bad, board.layout)
        choice, repaired = _rescued(bad, board.layout)
        alone = board.switch_on(bad)
        wrong = verdict(_healed(alone, bad, image), [wanted])
        after = repaired
        if isinstance(repaired, bytes):
            after = verdict(board.switch_on(repaired), [wanted])
        return Judged(
            corruption,
            tuple(item.code for item in report.problems if item.severity != "note"),
            report.repair,
            next(item for item in report.outlook if item.firmware == kind),
            _recovered(bad, board.layout),
            _fate(alone, wrong),
            wrong if alone.outcome == "shell" else "",
            _ftw(alone, board.layout),
            _left(alone.image, wanted, board.layout),
            sum(key[1] == GUID for key in wanted),
            choice,
            str(after),
        )

    yield from in_turn(try_out, corruptions)


def firmware_of(machine: Machine) -> Firmware:
    """The kind of firmware that a machine runs, as outlooks know it."""
    if machine.family == "virt":
        return ARM
    return SMM if machine.secure else PLAIN


def _nvram(image: bytes, layout: KnownLayout) -> Nvram:
    """The store of a volume as a command finds it; where it finds none, where it must be."""
    found = find_stores(image)
    return Nvram(Window(image), found[0] if found else assume(image, layout))


def _looked_at(image: bytes, layout: KnownLayout) -> Report:
    return check(_nvram(image, layout).found)


def _recovered(image: bytes, layout: KnownLayout) -> str:
    try:
        return "done" if recover(_nvram(image, layout)).changed else "nothing"
    except ImageError as exc:
        return exc.code


def _rescued(image: bytes, layout: KnownLayout) -> tuple[str, bytes | str]:
    """What a rescue chose, and the volume afterwards; or why it was refused."""
    nvram = _nvram(image, layout)
    try:
        choice = rescue(nvram).choice
    except HwflashError as exc:
        return "", f"the rescue is refused: {exc.message} ({exc.code})"
    return choice, nvram.flash.window().data


def _healed(after: PowerOn, bad: bytes, good: bytes) -> PowerOn:
    """The same with the headers as they were before, if the firmware left them as they are."""
    if after.image[:_HEAD] != bad[:_HEAD]:
        return after
    return replace(after, image=good[:_HEAD] + after.image[_HEAD:])


def _fate(after: PowerOn, wrong: str) -> Fate:
    if after.outcome != "shell":
        return after.outcome
    if not wrong:
        return "kept"
    found = find_stores(after.image)
    store = found[0].store if found else None
    ours = store is not None and any(item.guid == GUID for item in store.live)
    return "damaged" if ours else "emptied"


def _ftw(after: PowerOn, layout: KnownLayout) -> str:
    """What was done to work space and spare area."""
    told: list[str] = []
    for name, part in (("work space", layout.work), ("spare area", layout.spare)):
        steps = [step for step in after.operations if _inside(step.range, part)]
        erases = sum(isinstance(step, Erase) for step in steps)
        if not steps:
            told.append(f"{name} untouched")
        elif erases == len(steps):
            told.append(f"{name} erased")
        else:
            told.append(f"{name} {'erased and ' if erases else ''}written")
    return ", ".join(told)


def _inside(step: Range, part: Range) -> bool:
    return step.address < part.end and part.address < step.end


def _left(image: bytes, wanted: Variables, layout: KnownLayout) -> int:
    """Of how many of our variables a rescue would find the value."""
    kept = diagnose(_nvram(image, layout)).variables
    there = {item.key: (item.attributes, item.data) for item in kept}
    ours = {key: value for key, value in wanted.items() if key[1] == GUID}
    return sum(there.get(key) == value for key, value in ours.items())
