"""Running a job: unit after unit, each with numbers of its own.

A unit is one plan of steps: identify the chip, take its numbers, write image, regions and bytes
in one write, set the variables in the store that is then on the chip, release the programmer,
run the after-steps, record the outcome. Its numbers are on the disk before anything is written
to it, and that it will be changed is on the disk before the first byte is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from hwflash.errors import ChipStateUnknown, HwflashError
from hwflash.flash.plan import Plan
from hwflash.jobs.after_steps import AfterFailed, run_after
from hwflash.jobs.job_batch import Batch
from hwflash.jobs.job_result import UnitResult, VariableResult, Wrote
from hwflash.jobs.jobfile_trial import set_variables
from hwflash.jobs.opening import Request
from hwflash.jobs.placeholders import UnitValues
from hwflash.jobs.serial_units import Claim, Wish
from hwflash.jobs.serials import SerialStore
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.source import ChipSource
from hwflash.jobs.uefi_edit import EditOptions, edit
from hwflash.jobs.unit_entry import new_batch, remember_unit, unit_details
from hwflash.jobs.write import WriteOptions, write
from hwflash.progress import CancelToken, Reporter
from hwflash.units import Range

#: With these it makes no sense to go on with another unit, whatever the job says.
FATAL: Final = ("serial.", "job.image-changed", "interrupted", "state.", "usage.")
Ended = Literal["unchanged", "failed", "burned"]


@dataclass(frozen=True, slots=True)
class Run:
    """What the units of a run share.

    Attributes:
        batch: the job.
        request: makes what is known of the programmer of a unit, numbered from 1.
        store: of the numbers; None when the job needs none.
        state: the state directory.
        reporter: is told how it goes.
        cancel: a request to stop.
        backup_folder: where backups go; None is a folder of the state directory.
        changing: is told the number of a unit before its first byte changes.
        identified: is given the session of each unit, once its chip is known.
        name: of this run, in the history.
    """

    batch: Batch
    request: Callable[[int], Request]
    store: SerialStore | None
    state: Path
    reporter: Reporter
    cancel: CancelToken
    backup_folder: Path | None = None
    changing: Callable[[int], None] | None = None
    identified: Callable[[Session], None] | None = None
    name: str = field(default="")

    def __post_init__(self) -> None:
        if not self.name:  # the class is frozen
            object.__setattr__(self, "name", new_batch(self.batch.form.job.name))


def run_batch(
    run: Run, units: int, connect: Callable[[int], None] | None = None
) -> Generator[UnitResult]:
    """Run units one after the other on one programmer; a result for each, as it ends.

    It stops at a failed unit unless the job says to go on, and in any case at one that no other
    unit would be spared.

    Args:
        run: what they share.
        units: how many.
        connect: is called before each, with its number; waits until the unit is connected.

    Raises:
        Interrupted: a stop was asked for between two units.
    """
    for unit in range(1, units + 1):
        run.cancel.check()
        if connect is not None:
            connect(unit)
        result = run_unit(run, unit)
        yield result
        if result.error is None:
            continue
        fatal = result.error.code.startswith(FATAL) or run.cancel.cancelled
        if fatal or run.batch.form.job.on_failure == "stop":
            return


def run_unit(run: Run, unit: int) -> UnitResult:
    """Run one unit. What goes wrong is in the result and not raised, save faults of ours."""
    work = _Work(run, unit)
    error: HwflashError | None = None
    try:
        work.carry_out()
    except AfterFailed as exc:
        error = exc
    except HwflashError as exc:
        error = work.judged(exc)
    except BaseException:
        work.end("failed", "internal error")  # nobody knows how far it came
        raise
    if error is not None:
        fate: Ended = "failed" if work.reached else "burned" if work.useless else "unchanged"
        trouble = work.end(fate, f"{error.code}: {error.message}")
        if trouble is not None:
            text = f"its numbers could not be recorded as {fate}: {trouble}"
            run.reporter.warning(text, code=trouble.code)
    return work.remembered(work.result(error))


class _Work:
    """One unit on its way."""

    def __init__(self, run: Run, unit: int) -> None:
        self._run = run
        self._batch = run.batch
        self._unit = unit
        self._claim: Claim | None = None
        self._ended = False
        self._values = UnitValues(unit=unit)
        self._chip: dict[str, Any] | None = None
        self._wrote: list[Wrote] = []
        self._variables: list[VariableResult] = []
        self._after: list[dict[str, Any]] = []
        self._seconds = 0.0
        self._began = time.time()
        self.changed = False
        #: The chip may hold the numbers: something was written, or it was found there.
        self.reached = False
        self.useless = False

    def carry_out(self) -> None:
        self._batch.require_unchanged()
        with open_session(self._run.request(self._unit), self._run.reporter) as session:
            self._chip = {
                "part": session.chip.part,
                "jedec_id": session.chip.jedec_id.hex(),
                "unique_id": session.unique_id(),
                "programmer": session.programmer.url,
                "simulated": session.programmer.simulated,
                "board": session.board.name if session.board is not None else None,
            }
            if self._run.identified is not None:
                self._run.identified(session)
            # A chip of another size, or without a region of the job, must not cost a number.
            self._batch.image_content(session.chip.size, session.region)
            for choice, _ in self._batch.region_choices():
                session.region(choice.name)
            self._take(session)
            self._write(session)
            self._set_variables(session)
            self._seconds = session.seconds
        # The programmer is free: a step may look at the unit with a program of its own.
        run_after(
            self._batch, self._values, self._run.reporter, self._run.cancel, self._after.append
        )
        self._record_done()

    def judged(self, error: HwflashError) -> HwflashError:
        """The failure, which must not say that nothing was changed when something was."""
        if isinstance(error, ChipStateUnknown):
            self.changed = self.reached = True
            return error
        if not self.changed:
            return error
        facts = {key: value for key, value in error.context.items() if key != "code"}
        done = " and ".join(item.step for item in self._wrote if item.executed) or "a part"
        return ChipStateUnknown(
            f"the unit is half done, {done} was written: {error.message}",
            cause=error.code,
            facts=facts,
            unit=self._unit,
            history=error.context.get("history"),
        )

    def end(self, fate: Ended, note: str) -> HwflashError | None:
        """Record a failure; what kept it from being recorded."""
        if self._claim is None or self._run.store is None or self._ended:
            return None
        try:
            self._run.store.end(self._claim, fate, note)
        except HwflashError as error:
            return error
        return None

    def result(self, error: HwflashError | None) -> UnitResult:
        """What became of it."""
        return UnitResult(
            unit=self._unit,
            error=error,
            origin=self._claim.origin if self._claim is not None else None,
            values=self._values,
            chip=self._chip,
            changed=self.changed,
            wrote=tuple(self._wrote),
            variables=tuple(self._variables),
            after=tuple(self._after),
            seconds=self._seconds,
        )

    def remembered(self, result: UnitResult) -> UnitResult:
        """The same, recorded in the history."""
        entry = remember_unit(
            self._run.state, self._details(), result, self._began, self._run.reporter
        )
        return replace(result, history=entry)

    def _details(self) -> dict[str, Any]:
        origin = self._claim.origin if self._claim is not None else None
        return unit_details(self._batch, self._run.name, self._values, origin)

    # --- steps ----------------------------------------------------------------------------

    def _take(self, session: Session) -> None:
        supply, store = self._batch.supply, self._run.store
        chip = f"{session.chip.jedec_id.hex()}:{uid}" if (uid := session.unique_id()) else None
        self._values = UnitValues(unit=self._unit, chip=chip or "")
        if not supply.series or store is None:
            return
        form = self._batch.form
        wish = Wish(
            form.job.name, chip, frozenset(supply.series.items()), form.policy, form.job.again
        )
        # A command is asked only when no number of a failed unit may be used again.
        said: dict[str, str] = {}
        if supply.asks and not store.would_reuse(wish):
            said = supply.ask(self._unit, chip, self._run.cancel)
        self._claim = store.take(wish, supply.choose(said))
        try:
            self._values = supply.values(self._claim.numbers, self._unit, chip)
        except HwflashError:
            self.useless = True
            raise

    def _write(self, session: Session) -> None:
        form = self._batch.form
        if form.image is None and not form.region and not form.bytes:
            return
        try:
            content = self._batch.content(session.chip.size, self._values, session.region)
        except HwflashError:
            self.useless = True  # the same numbers would fail again
            raise
        done = write(session, content, self._options(), self._run.reporter, self._run.cancel)
        self.reached = True
        self.changed = done.executed
        self._wrote.append(
            Wrote(
                "image", done.executed, done.bytes, done.changed, done.backup, done.seconds,
                done.sha256, done.entry,
            )
        )  # fmt: skip

    def _set_variables(self, session: Session) -> None:
        if not self._batch.form.variable:
            return
        span = Range(0, session.chip.size)
        source = ChipSource(session.programmer.name, session, session.board, (span,))
        edited = edit(
            source,
            EditOptions(self._options()),
            lambda nvram: set_variables(nvram, self._batch, self._values),
            self._run.reporter,
            self._run.cancel,
        )
        self.reached = True
        self.changed = self.changed or edited.executed
        self._variables = [
            VariableResult(name, str(item.guid), item.change) for name, item in edited.value
        ]
        places = tuple(edited.plan.changed) if edited.executed else ()
        total = sum(place.length for place in places)
        self._wrote.append(
            Wrote(
                "variables", edited.executed, total, places, edited.backup, edited.seconds,
                edited.plan.sha256, edited.entry,
            )
        )  # fmt: skip

    def _options(self) -> WriteOptions:
        return WriteOptions(
            state=self._run.state,
            backup_folder=self._run.backup_folder,
            verify_full=self._batch.form.job.verify == "full",
            confirm=self._about_to_change,
            named_regions=self._batch.named,
            accept_other_board=self._batch.form.job.accept_other_board,
            kind="job",
            details=self._details(),
        )

    def _about_to_change(self, _plan: Plan) -> bool:
        """The last moment at which the unit is surely as it was."""
        self._run.cancel.check()
        if self._claim is not None and self._run.store is not None:
            self._run.store.writing(self._claim)
        if self._run.changing is not None:
            self._run.changing(self._unit)
        return True

    def _record_done(self) -> None:
        if self._claim is None or self._run.store is None:
            return
        try:
            self._run.store.end(self._claim, "done")
        except HwflashError as error:
            raise ChipStateUnknown(
                "the unit is written and verified, but its numbers could not be recorded as "
                f"done: {error.message}",
                code="serial.unrecorded",
                cause=error.code,
                unit=self._unit,
            ) from error
        finally:
            self._ended = True
