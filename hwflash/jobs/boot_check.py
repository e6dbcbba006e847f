"""The boot check: does a board boot from what is on its chip, and what does a boot change there?

Program if asked to, read the chip, switch on, read the console until the board says what a healthy
one says, switch off, read the chip again. What differs between the two reads is the board's doing:
variables are told by name, anything outside of a variable store is a finding.

Limits: power is cut when the markers have come; what the firmware would have written later is not
seen (``stay`` waits).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hwflash.errors import HwflashError, ImageError, UsageError
from hwflash.flash.execute import differences, read_ranges
from hwflash.flash.plan import content_hash
from hwflash.jobs.remember import Facts, looked, ranges_detail, variables_set
from hwflash.jobs.rig import Rig, behind_a_change
from hwflash.jobs.session import Session
from hwflash.jobs.source import FileSource
from hwflash.jobs.uefi_read import read_stores
from hwflash.jobs.watch import Watched, watch
from hwflash.jobs.write import WriteOptions, WriteResult, write
from hwflash.layout.files import Image, Segment
from hwflash.progress import CancelToken, NullReporter, Reporter
from hwflash.uefi.check import Report, check
from hwflash.uefi.difference import Difference, compare
from hwflash.uefi.find import Found, find_stores
from hwflash.units import Range

#: What is known of a chip after an error behind the write.
WRITTEN = "the image was written and verified; the board may have run since"


@dataclass(frozen=True, slots=True)
class BootOptions:
    """How a board is checked.

    Attributes:
        until: regular expressions that must come on the console, in any order; none: those of
            the board's ``[expect]``.
        timeout: seconds of patience from power on; a simulated board's own seconds.
        stay: seconds that the board stays on after the last marker.
        write: how to write the segments, if there are any.
        state: the state directory, for the history; None records nothing.
        on_line: is given every line of the console.
    """

    until: tuple[str, ...] = ()
    timeout: float = 120.0
    stay: float = 0.0
    write: WriteOptions | None = None
    state: Path | None = None
    on_line: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class BootResult:
    """What a boot came to.

    Attributes:
        watched: the console; ``watched.missing`` is empty when the board booted.
        lost: why the console ended before its time, or "".
        written: the write before, or None.
        stores: the first variable store afterwards, looked over; None where there is none.
        variables: what the boot changed in it.
        elsewhere: what it changed outside of variable stores.
        sha256: of the whole chip afterwards.
    """

    watched: Watched | None
    lost: str
    written: WriteResult | None
    store: Report | None
    variables: Difference
    elsewhere: tuple[Range, ...]
    sha256: str

    @property
    def booted(self) -> bool:
        """Whether every marker came."""
        return self.watched is not None and not self.watched.missing

    @property
    def ok(self) -> bool:
        """The board booted, and left the chip as a healthy one does."""
        sound = self.store is None or self.store.repair != "rescue"
        return self.booted and not self.elsewhere and sound


def markers(rig: Rig, options: BootOptions) -> tuple[str, ...]:
    """What must come on the console.

    Raises:
        UsageError: neither the caller nor the board file says (``boot.no-marker``).
    """
    found = options.until or tuple(rig.board.expect.log)
    if not found:
        raise UsageError(
            f"nothing says what board {rig.board.name} prints when it has booted",
            code="boot.no-marker",
            board=rig.board.name,
        )
    return found


def check_boot(
    rig: Rig,
    targets: Sequence[Segment] | Callable[[Session], Sequence[Segment]],
    options: BootOptions,
    reporter: Reporter,
    cancel: CancelToken,
) -> BootResult:
    """Program, boot, and see; the board is off at the end, whatever happens.

    Args:
        rig: the board.
        targets: what is written first, where only the chip tells by its session; may be empty.
        options: how.
        reporter: is told how it goes.
        cancel: a request to stop.

    Raises:
        UsageError: no marker is known (``boot.no-marker``).
        HwflashError: see `Rig` and `hwflash.jobs.write.write`; a console that is lost, or markers
            that do not come, are results and not errors.
    """
    wanted = markers(rig, options)
    began = time.time()
    rig.off()  # nobody may drive the bus of a board that somebody left on
    with rig.session() as session:
        written = None
        content = targets(session) if callable(targets) else targets
        if content and options.write is not None:
            written = write(session, content, options.write, reporter, cancel)
            if options.write.dry_run:
                return BootResult(None, "", written, None, Difference(), (), written.sha256)
        with _told_of(written):
            before = _content(session, reporter, cancel)
    with _told_of(written):
        watched, lost = _boot(rig, wanted, options, reporter)
        with rig.session() as session:
            after = _content(session, reporter, cancel)
            result = _compared(rig, before, after, watched, lost, written)
            _remember(rig, session, result, before, after, options, began, reporter)
    return result


@contextmanager
def _told_of(written: WriteResult | None) -> Generator[None]:
    """A failure behind a write must not say that nothing was changed."""
    try:
        yield
    except HwflashError as exc:
        if written is None or not written.executed:
            raise
        facts = {**exc.context, "backup": str(written.backup), "chip_state": WRITTEN}
        done = "the image was written, the boot check was not finished"
        raise behind_a_change(exc, done, facts) from exc


def _boot(
    rig: Rig, wanted: Sequence[str], options: BootOptions, reporter: Reporter
) -> tuple[Watched | None, str]:
    reporter.info(f"board {rig.board.name} is switched on", power="on")
    rig.on()
    lost = ""
    watched: Watched | None = None
    try:
        watched = watch(
            rig.console, wanted, options.timeout, clock=rig.seconds, on_line=options.on_line
        )
        if options.stay and not watched.missing:
            watch(rig.console, (), options.stay, clock=rig.seconds, on_line=options.on_line)
    except HwflashError as exc:
        if exc.code != "console.lost":
            raise
        lost = exc.message
    rig.off()
    reporter.info(f"board {rig.board.name} is switched off", power="off")
    return watched, lost


def _content(session: Session, reporter: Reporter, cancel: CancelToken) -> bytes:
    whole = [Range(0, session.chip.size)]
    return read_ranges(session.flash, whole, phase="read", reporter=reporter, cancel=cancel)[0]


def stores_in(rig: Rig, content: bytes) -> tuple[Found, ...]:
    """The variable stores of a chip's whole content: where the board says, or all there are."""
    image = Image((Segment(0, content),), absolute=False, format="raw", name="chip", sha256="")
    source = FileSource(rig.board.name, image, rig.board, (Range(0, len(content)),))
    try:
        return read_stores(source, NullReporter(), CancelToken()).found
    except ImageError:  # gone from where it belongs; `find_stores` may find what is left of it
        return tuple(find_stores(content))


def _compared(
    rig: Rig,
    before: bytes,
    after: bytes,
    watched: Watched | None,
    lost: str,
    written: WriteResult | None,
) -> BootResult:
    old, new = stores_in(rig, before), stores_in(rig, after)
    reports, left = [check(item) for item in new], [check(item) for item in old]
    spans = [Range(item.base, item.length) for item in (*old, *new)]
    elsewhere = [
        place
        for place in differences(0, after, before)
        if not any(span.contains(place) for span in spans)
    ]
    variables = compare(
        left[0].diagnosis.variables if left else (), reports[0].diagnosis.variables if new else ()
    )
    return BootResult(
        watched, lost, written, reports[0] if reports else None, variables, tuple(elsewhere),
        content_hash([after]),
    )  # fmt: skip


def _remember(
    rig: Rig,
    session: Session,
    result: BootResult,
    before: bytes,
    after: bytes,
    options: BootOptions,
    began: float,
    reporter: Reporter,
) -> None:
    watched = result.watched
    details = {
        "booted": result.booted,
        "missing": list(watched.missing) if watched is not None else [],
        "tail": list(watched.tail[-5:]) if watched is not None else [],
        "lost": result.lost or None,
        "boot_seconds": watched.heard[-1].seconds if watched and watched.heard else None,
        **ranges_detail(result.elsewhere),
    }
    old, new = stores_in(rig, before), stores_in(rig, after)
    if old and new:
        details["variables"] = variables_set(old[0], new[0])
    facts = Facts("boot", len(after), result.sha256, details=details)
    looked(options.state, session, facts, "ok" if result.ok else "differs", began, reporter)
