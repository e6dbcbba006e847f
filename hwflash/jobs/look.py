"""A first look at a programmer: what chip is on it, which boards that may be, and whether a
write to it stopped half way. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwflash.boards import BoardEntry, list_boards, load_board
from hwflash.bus.discovery import FoundProgrammer, find_all
from hwflash.errors import HwflashError
from hwflash.flash import journal as journals
from hwflash.flash.journal import JobRecord
from hwflash.jobs.session import Session, answers_as, board_ids

__all__ = [
    "ChipFacts",
    "FoundProgrammer",
    "attached",
    "chip_facts",
    "half_written",
    "likely_boards",
]


@dataclass(frozen=True, slots=True)
class ChipFacts:
    """What a chip is, for people.

    Attributes:
        part: its name.
        manufacturer: who made it.
        jedec_id: three bytes in hex.
        size: bytes.
        unique_id: in hex, or None.
        protection: what is locked, in words.
        locked: some of it is locked.
        frequency: SCK in hertz.
        simulated: it is not real.
    """

    part: str
    manufacturer: str
    jedec_id: str
    size: int
    unique_id: str | None
    protection: str
    locked: bool
    frequency: float
    simulated: bool


def chip_facts(session: Session) -> ChipFacts:
    """What a session knows of its chip.

    Raises:
        HwflashError: the chip does not answer any more.
    """
    chip, state = session.chip, session.protection()
    return ChipFacts(
        part=chip.part,
        manufacturer=chip.manufacturer,
        jedec_id=session.identity.jedec_id.hex(),
        size=chip.size,
        unique_id=session.unique_id(),
        protection=state.summary,
        locked=bool(state.ranges),
        frequency=session.programmer.bus.frequency,
        simulated=session.programmer.simulated,
    )


def likely_boards(session: Session, environ: Mapping[str, str]) -> list[BoardEntry]:
    """Boards that the chip may be on: those that name its id, then those of its size that name
    none.
    """
    found = session.identity.extended_id
    named: list[BoardEntry] = []
    sized: list[BoardEntry] = []
    for entry in list_boards(environ):
        if entry.faults:
            continue
        try:
            board = load_board(entry.name, environ)
            expected = board_ids(board)
        except HwflashError:  # it names a part that nobody knows; `hwflash boards check` tells
            continue
        if board.flash.size != session.chip.size:
            continue
        if expected and answers_as(found, expected):
            named.append(entry)
        elif not expected:
            sized.append(entry)
    return named + sized


def half_written(session: Session, state: Path) -> JobRecord | None:
    """The latest write to this very chip that stopped half way.

    A chip without a unique id counts as the same when it is on the same programmer.
    """
    chip, unique_id = session.chip, session.unique_id()
    for record in reversed(journals.unfinished_jobs(state / "jobs")):
        same = (record.jedec_id[:6], record.unique_id, record.plan.size) == (
            chip.jedec_id.hex()[:6], unique_id, chip.size,
        )  # fmt: skip
        if same and (unique_id is not None or record.programmer == session.programmer.url):
            return record
    return None


def attached(known: list[FoundProgrammer]) -> list[FoundProgrammer]:
    """The programmers that are plugged in now.

    Args:
        known: those that were before; they are not spoken to again.

    Raises:
        EnvironmentFault: libusb is missing, or does not list the devices.
    """
    return find_all(known=known)
