"""A chip that is put back as it was, whatever the test did to it.

The backup is on the disk before anything else happens, and beside it a note that the chip is to
be put back. The note goes when it was. A run that was killed leaves it, so that the next one does
not take what it finds for what it should be.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from hwflash.errors import EnvironmentFault, HwflashError
from hwflash.testing.interrupts import terminated_like_ctrl_c
from hwflash.testing.programmer import BenchProgrammer

if TYPE_CHECKING:
    from hwflash.flash.backup import Backup
    from hwflash.jobs.selection import Selection
    from hwflash.jobs.session import Session
    from hwflash.progress import CancelToken

#: Folder of the state directory with the notes.
FOLDER: Final = "transactions"
#: Each byte may be written back: it is read twice.
READS: Final = 2


class Transaction:
    """A chip that is put back as it was.

    Args:
        programmer: the programmer of the run.
        selection: what is backed up.

    Attributes:
        backup: path of the backup, as ``hwflash write --restore`` takes it.
        restored: the chip is as it was.
    """

    def __init__(self, programmer: BenchProgrammer, selection: Selection) -> None:
        self.backup = Path()
        self.restored = False
        self._programmer = programmer
        self._selection = selection
        self._note: Path | None = None
        self._undo = ExitStack()

    def begin(self) -> None:
        """Back up. Called once, by `hwflash.testing.flash.BenchFlash.transaction`."""
        from hwflash.flash import backup as backups
        from hwflash.jobs.read import read
        from hwflash.jobs.selection import ranges
        from hwflash.state import state_dir

        programmer = self._programmer
        state = state_dir(programmer.settings.environ)
        with programmer.working() as (session, cancel):
            _require_finished(state / FOLDER, programmer.notes, session, cancel)
            chosen = ranges(self._selection, session.chip.size, session.region)
            places = sorted((part.range for part in chosen), key=lambda item: item.address)
            found = read(session, places, programmer.reporter, cancel, READS)
            _require_steady(found.disagreements)
            saved = backups.save(
                state / "backups",
                [(place.address, data) for place, data in found.pieces],
                jedec_id=session.chip.jedec_id.hex(), unique_id=session.unique_id(),
                part=session.chip.part, size=session.chip.size,
            )  # fmt: skip
            self.backup = saved.path
            self._note = _leave_note(state / FOLDER, saved, session.programmer.url)
            programmer.notes.add(self._note)
        programmer.record.backups.append(str(saved.path))
        self._undo.enter_context(terminated_like_ctrl_c())

    def end(self) -> None:
        """Put the chip back. Does nothing when that was done already.

        Raises:
            EnvironmentFault: it could not be (``transaction.not-restored``);
                ``context["backup"]`` and ``context["restore_command"]`` say how.
        """
        if self.restored or self._note is None:
            return
        power = self._programmer.power
        try:
            if power is not None and power.is_on:  # the chip is the board's as long as it runs
                power.off()
            with self._programmer.working(finish=True) as (session, cancel):
                self._put_back(session, cancel)
                self.restored = True
                if self._programmer.record.left_changed == str(self.backup):  # at the second try
                    self._programmer.record.left_changed = None
                self._note.unlink(missing_ok=True)
                self._programmer.notes.discard(self._note)
        except HwflashError as error:
            raise self._not_restored(error) from error
        finally:
            self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.end()
        except EnvironmentFault as failed:
            if error is None:
                raise
            # Why the test failed is not to be hidden by what became of the chip.
            error.add_note(f"{failed.message}\nrestore: {failed.context['restore_command']}")

    def _put_back(self, session: Session, cancel: CancelToken) -> None:
        from hwflash.jobs.regions import EVERY
        from hwflash.jobs.write import WriteOptions, restore_targets, write
        from hwflash.state import state_dir

        options = WriteOptions(
            state=state_dir(self._programmer.settings.environ),
            kind="restore",
            # A backup that is named names what it holds.
            named_regions=frozenset({EVERY}),
        )
        targets = restore_targets(session, self.backup)
        write(session, targets, options, self._programmer.reporter, cancel)

    def _not_restored(self, error: HwflashError) -> EnvironmentFault:
        self._programmer.record.left_changed = str(self.backup)
        url = self._programmer.url if self._programmer.chip is not None else ""
        return EnvironmentFault(
            f"the chip was not put back as it was before the test: {error.message}",
            code="transaction.not-restored",
            cause=error.code,
            backup=str(self.backup),
            programmer=url,
            restore_command=_command(url, self.backup),
            chip_state="the chip is as the test left it",
        )


def _require_steady(disagreements: Any) -> None:
    if disagreements:
        from hwflash.jobs.prepare import require_same

        require_same(disagreements)


def _command(programmer: str, backup: Path) -> str:
    words = ["hwflash", "write", *(["-p", programmer] if programmer else [])]
    return shlex.join([*words, "--restore", str(backup)])


# --- notes ------------------------------------------------------------------------------------


def _leave_note(folder: Path, backup: Backup, programmer: str) -> Path:
    from hwflash.layout.files import write_atomically

    note = {
        "v": 1, "backup": str(backup.path), "programmer": programmer, "process": os.getpid(),
        "test": os.environ.get("PYTEST_CURRENT_TEST", ""), "time": time.time(),
    }  # fmt: skip
    path = folder / f"{os.getpid()}-{time.time_ns()}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, (json.dumps(note) + "\n").encode())
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be written: {error.strerror or error}",
            code="state.unwritable", path=str(path),
        ) from error  # fmt: skip
    return path


def _require_finished(
    folder: Path, own: Collection[Path], session: Session, cancel: CancelToken
) -> None:
    """Refuse to take a chip for what it should be that another run left changed.

    Raises:
        EnvironmentFault: there is a note, and the chip is not as its backup
            (``transaction.unfinished``).
    """
    for path, note in _notes(folder):
        if path in own or note["programmer"] != session.programmer.url:
            continue
        backup = Path(note["backup"])
        why = f"{backup} has what it was"
        try:
            left = _differing(session, backup, cancel)
        except HwflashError as error:
            if error.code == "backup.other-chip":
                continue
            if not error.code.startswith("backup."):
                raise
            # One that was thrown away nobody wants back; one that is damaged tells nothing.
            left, why = backup.exists(), error.message
        if not left:
            path.unlink(missing_ok=True)
            continue
        raise EnvironmentFault(
            f"the chip was not put back after {note['test'] or 'a test'}, whose run was killed; "
            f"{why}",
            code="transaction.unfinished",
            backup=note["backup"],
            note=str(path),
            restore_command=_command(note["programmer"], backup),
            chip_state="the chip is as that run left it",
        )


def _differing(session: Session, backup: Path, cancel: CancelToken) -> bool:
    """Whether the chip is not as a backup says.

    Raises:
        ImageError: no backup, or a damaged one.
        ChipError: it is of another chip (``backup.other-chip``).
    """
    from hwflash.flash.execute import read_ranges
    from hwflash.jobs.write import restore_targets
    from hwflash.progress import NullReporter

    targets = restore_targets(session, backup)
    found = read_ranges(
        session.flash, [target.range for target in targets], phase="read",
        reporter=NullReporter(), cancel=cancel,
    )  # fmt: skip
    return any(data != target.data for data, target in zip(found, targets, strict=True))


def _notes(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The notes that can be read."""
    for path in sorted(folder.glob("*.json")):
        try:
            note: Any = json.loads(path.read_text(encoding="utf-8"))
            yield path, {
                "backup": str(note["backup"]), "programmer": str(note["programmer"]),
                "test": str(note["test"]),
            }  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            continue
