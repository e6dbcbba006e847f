"""What the tests of a bench did, for JUnit files and for the summary.

The names of the properties are stable; scripts may read them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hwflash.jobs.session import Session

#: Hashes that a test reports of each kind; a loop may write thousands.
HASHES: Final = 16

JEDEC_ID: Final = "hwflash.jedec_id"
PART: Final = "hwflash.part"
UNIQUE_ID: Final = "hwflash.unique_id"
PROGRAMMER: Final = "hwflash.programmer"
BOARD: Final = "hwflash.board"
WRITTEN: Final = "hwflash.written_sha256"
READ: Final = "hwflash.read_sha256"
BACKUP: Final = "hwflash.backup"
SECONDS: Final = "hwflash.seconds"
MODELLED: Final = "hwflash.modelled_seconds"
LEFT_CHANGED: Final = "hwflash.not_restored"


@dataclass(frozen=True, slots=True)
class ChipFacts:
    """Which chip it was.

    Attributes:
        jedec_id: in hex.
        part: its name.
        unique_id: in hex, or None.
        programmer: URL.
        modelled: times are modelled.
    """

    jedec_id: str
    part: str
    unique_id: str | None
    programmer: str
    modelled: bool

    @classmethod
    def of(cls, session: Session) -> ChipFacts:
        """The chip of a session; its unique id is asked for."""
        return cls(
            session.identity.jedec_id.hex(), session.chip.part, session.unique_id(),
            session.programmer.url, session.programmer.simulated,
        )  # fmt: skip


@dataclass(slots=True)
class Record:
    """What one test did.

    Attributes:
        seconds: on the programmer: real, or modelled where the programmer is.
        written: SHA-256 of what was written, in hex, in order.
        read: SHA-256 of what was read.
        backups: what was made on the way.
        left_changed: the backup that was not put back.
        used: something was done on the programmer.
    """

    seconds: float = 0.0
    written: list[str] = field(default_factory=list[str])
    read: list[str] = field(default_factory=list[str])
    backups: list[str] = field(default_factory=list[str])
    left_changed: str | None = None
    used: bool = False

    def properties(self, chip: ChipFacts | None, board: str | None) -> Iterator[tuple[str, str]]:
        """Names and values for JUnit."""
        if board is not None:
            yield BOARD, board
        if chip is None:
            return
        yield JEDEC_ID, chip.jedec_id
        yield PART, chip.part
        if chip.unique_id is not None:
            yield UNIQUE_ID, chip.unique_id
        yield PROGRAMMER, chip.programmer
        for name, values in ((WRITTEN, self.written), (READ, self.read), (BACKUP, self.backups)):
            yield from ((name, value) for value in dict.fromkeys(values[:HASHES]))
        yield (MODELLED if chip.modelled else SECONDS), f"{self.seconds:.6f}"
        if self.left_changed is not None:
            yield LEFT_CHANGED, self.left_changed
