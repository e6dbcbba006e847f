"""Checks: real firmware in QEMU as the judge of what hwflash says and writes.

A check is a generator of `Step`s; it boots guests from a `Bench` and holds what the firmware did
against what was expected. `run_check` runs it: a guest that crashes, hangs or ends is a failed
step, a missing program or a full disk is an error.

Limits: raw images; the writable flash unit begins with the volume that has the variable store.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Final, cast
from uuid import UUID

from hwflash.errors import EnvironmentFault, HwflashError, ReferenceFailed, UsageError
from hwflash.progress import CancelToken, NullReporter, Reporter
from hwflash.qemu.boot import BOOT_SECONDS, Guest
from hwflash.qemu.boot_setup import BootOptions, make_folder, read_file, unwritable
from hwflash.qemu.machine import Family, FlashFile, Machine
from hwflash.qemu.pflash import require_startable
from hwflash.qemu.shell import Shell
from hwflash.uefi.find import Found, find_stores
from hwflash.uefi.window import Window

#: Name of the step that stands for a guest which did not get through a check.
GUEST_STEP: Final = "guest"
#: The volume of every build known lies in the first bytes of its unit; AAVMF's has 64 MiB.
_VOLUME_WITHIN: Final = 4 << 20
#: First words of the codes of errors that are the guest's doing: what it became, what it said,
#: and what it left in its store.
_OF_GUEST: Final = ("reference", "console", "uefi", "ftw", "efi", "fvb", "programmer")


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was looked at.

    Attributes:
        name: short and stable, such as ``offline-update-seen``; unique within a check.
        ok: whether it is as expected.
        expected: in words.
        found: in words.
        seconds: wall time since the step before; `run_check` fills it in.
    """

    name: str
    ok: bool
    expected: str
    found: str
    seconds: float = 0.0


def equal(name: str, expected: object, found: object) -> Step:
    """A step that is well when two values are equal; they are told as text."""
    return Step(name, expected == found, str(expected), str(found))


class CheckEnded(ReferenceFailed):
    """A check cannot go on behind a step that failed.

    Attributes:
        step: that step.
    """

    code = "reference.check"

    def __init__(self, step: Step) -> None:
        super().__init__(f"{step.name}: {step.found}")
        self.step = step


@contextmanager
def needed(name: str, expected: str) -> Generator[None]:
    """Look at something without which the check cannot go on.

    Args:
        name: of the step that has failed when the guest, or what it left, is not as needed.
        expected: in words.

    Raises:
        CheckEnded: instead of the errors that are the guest's doing.
    """
    try:
        yield
    except CheckEnded:
        raise
    except HwflashError as exc:
        if not _of_guest(exc):
            raise
        found = f"{exc.message} ({exc.code})"
        raise CheckEnded(Step(name, False, expected, found)) from exc


@dataclass(frozen=True, slots=True)
class Bench:
    """What a check works with.

    Attributes:
        machine: the machine under check. Its files are only read: every guest has a copy.
        reporter: hears what is being done.
        cancel: a request to stop ends every wait.
        patience: seconds of the guest's clock for a boot, see `GuestProcess.guest_seconds`.
        program: the QEMU program; None: that of the machine.
        start: makes a guest; a test has its own.
        guid: VM Generation ID of the machine; None: one of the check's own.
        fault: what is broken on purpose, one of the check's `Check.faults`; "": nothing.
    """

    machine: Machine
    reporter: Reporter = field(default_factory=NullReporter)
    cancel: CancelToken = field(default_factory=CancelToken)
    patience: float = BOOT_SECONDS
    program: str | None = None
    start: Callable[..., Guest] = Guest
    guid: UUID | None = None
    fault: str = ""

    def template(self) -> bytes:
        """Content of the unit that guests write to, as a new guest finds it.

        Raises:
            UsageError: the machine keeps nothing (``usage.qemu-check``), or in a file that is
                not raw.
            ImageError: it cannot be read (``image.unreadable``).
        """
        machine = self.machine
        own = machine.vars or (None if machine.code.readonly else machine.code)
        if own is None or own.format != "raw":
            what = "keeps nothing" if own is None else f"keeps its variables in {own.format}"
            raise UsageError(
                f"the machine {what}; a check needs a raw image of its own for the guest",
                code="usage.qemu-check",
            )
        path = Path(own.path)
        if machine.template is not None and not path.exists():
            path = Path(machine.template.path)
        return read_file(path)

    @contextmanager
    def boot(
        self,
        image: bytes | None = None,
        options: BootOptions | None = None,
        machine: Machine | None = None,
    ) -> Generator[Guest]:
        """A guest that has just been switched on; it ends with the ``with`` statement.

        Args:
            image: content of its own flash unit; None: that of its template.
            options: see `BootOptions`.
            machine: another machine than the bench's.

        Raises:
            HwflashError: as `hwflash.qemu.boot.Guest` does.
        """
        chosen = machine or self.machine
        self.cancel.check()
        if image is None:
            with self.start(chosen, options, self.cancel, self.program) as guest:
                yield guest
            return
        with ExitStack() as stack:
            folder = make_folder()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            own = folder / "image"
            try:
                own.write_bytes(image)
            except OSError as exc:
                raise unwritable(own, exc) from exc
            started = self.start(_with_own(chosen, own), options, self.cancel, self.program)
            guest = stack.enter_context(started)
            # The guest has its copy: whatever becomes of us now, nothing is left behind.
            shutil.rmtree(folder, ignore_errors=True)
            yield guest

    @contextmanager
    def shell(
        self,
        image: bytes | None = None,
        options: BootOptions | None = None,
        machine: Machine | None = None,
    ) -> Generator[tuple[Guest, Shell]]:
        """The same, once it shows the Shell's prompt; see `boot`.

        Raises:
            ReferenceFailed: the firmware crashed or does not get there.
        """
        with self.boot(image, options, machine) as guest:
            yield guest, guest.wait_for_shell(self.patience)


def _with_own(machine: Machine, own: Path) -> Machine:
    file = FlashFile(str(own))
    return replace(machine, vars=file) if machine.vars else replace(machine, code=file)


def store_of(image: bytes) -> Found:
    """The variable store at the beginning of a guest's flash unit, healthy or not.

    Raises:
        ReferenceFailed: there is none (``reference.no-store``).
    """
    found = find_stores(Window(image[:_VOLUME_WITHIN]))
    if not found or found[0].base != 0:
        raise ReferenceFailed(
            "there is no variable store at the start of the guest's flash",
            code="reference.no-store",
        )
    return found[0]


# --- running ------------------------------------------------------------------------------------

Function = Callable[[Bench], Generator[Step]]


@dataclass(frozen=True, slots=True)
class Check:
    """A check by name.

    Attributes:
        name: as people type it.
        help: what it is about, in one line.
        place: ``module:function``, loaded when it runs.
        secure: it is about firmware that guards its flash by SMM; else any firmware will do.
        faults: what can be broken on purpose, to see that it is noticed.
        families: the machines it is about; none: all. On others it fails.
    """

    name: str
    help: str
    place: str
    secure: bool = False
    faults: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()

    def load(self) -> Function:
        """Its function."""
        module, _, name = self.place.partition(":")
        return cast("Function", getattr(import_module(module), name))


#: Every check, in the order in which they run.
CHECKS: Final[dict[str, Check]] = {
    check.name: check
    for check in (
        Check(
            "variables",
            "Variables cross over between hwflash and the firmware, both ways.",
            "hwflash.qemu.check_variables:variables",
        ),
        Check(
            "pflash",
            "Where the firmware sees its flash, and which drivers came up in which order.",
            "hwflash.qemu.check_pflash:pflash",
        ),
        Check(
            "secure",
            "Only SMM writes to the flash; enrolled keys refuse what is not signed.",
            "hwflash.qemu.check_secure:secure",
            secure=True,
        ),
        Check(
            "before-after",
            "What boots change in the flash, and that a chip could have done it.",
            "hwflash.qemu.check_before_after:before_after",
        ),
        Check(
            "recovery",
            "Power cuts in the firmware's own reclaim, switched on at once and recovered first.",
            "hwflash.qemu.check_recovery:recovery",
        ),
        Check(
            "rewrite",
            "Power cuts in what hwflash writes: old variables or new ones, never a mixture.",
            "hwflash.qemu.check_recovery:rewrite",
        ),
        Check(
            "rescue",
            "Stores that firmware cannot use, switched on as they are and rescued first.",
            "hwflash.qemu.check_rescue:rescues",
        ),
        Check(
            "headers",
            "Destroyed header fields: what the firmware does, what hwflash said, what it repairs.",
            "hwflash.qemu.check_headers:headers",
        ),
        Check(
            "vmgenid",
            "fw_cfg, ACPI linker/loader and VM Generation ID, from QEMU to the guest's memory.",
            "hwflash.qemu.check_vmgenid:vmgenid",
            faults=("no-device", "no-dma", "other-guid", "memory-byte", "table-byte"),
            families=("q35", "i440fx"),
        ),
        Check(
            "s3",
            "Suspend and resume: what is cleared, and what the boot script puts back.",
            "hwflash.qemu.check_s3:s3",
            faults=("no-s3", "no-wake", "script-byte"),
            families=("q35", "i440fx"),
        ),
    )
}

#: What certifies a reference: the checks that ``all`` stands for, in this order.
ALL: Final = ("pflash", "variables", "recovery", "secure", "vmgenid", "s3")


def find_check(name: str) -> Check:
    """A check by name.

    Raises:
        UsageError: there is none of this name (``usage.qemu-check``).
    """
    check = CHECKS.get(name)
    if check is None:
        raise UsageError(
            f"there is no check {name!r}; there are {', '.join(CHECKS)}",
            code="usage.qemu-check",
            known=list(CHECKS),
        )
    return check


def run_check(check: Check, bench: Bench) -> Generator[Step]:
    """Run a check; every step comes as soon as it is known.

    A guest that crashes, hangs, ends, or leaves a store that cannot be worked with ends the
    check with a failed step `GUEST_STEP`, as does a check that looked at nothing.

    Args:
        check: which.
        bench: what it works with.

    Raises:
        UsageError: the check is not for this machine (``usage.qemu-check``).
        EnvironmentFault: QEMU is missing, a disk is full, and the like.
        ImageError: a file of the machine is not there, or QEMU would refuse it.
        Interrupted: a stop was asked for.
    """
    if check.secure and not bench.machine.secure:
        raise UsageError(
            f"the check {check.name} is for machines whose flash takes writes from SMM only",
            code="usage.qemu-check",
        )
    if bench.fault and bench.fault not in check.faults:
        raise UsageError(
            f"the check {check.name} has no fault {bench.fault!r}; "
            f"there are {', '.join(check.faults) or 'none'}",
            code="usage.qemu-check",
            known=list(check.faults),
        )
    require_startable(bench.machine)
    steps, count = check.load()(bench), 0
    try:
        while True:
            bench.cancel.check()
            began = time.monotonic()
            try:
                step = next(steps, None)
            except HwflashError as exc:
                if not _of_guest(exc):
                    raise
                text = f"{exc.message} ({exc.code})"
                step = Step(GUEST_STEP, False, "the guest gets through the check", text)
                if isinstance(exc, CheckEnded):
                    step = exc.step
                yield replace(step, seconds=time.monotonic() - began)
                return
            if step is None:
                break
            count += 1
            yield replace(step, seconds=time.monotonic() - began)
        if not count:
            yield Step(GUEST_STEP, False, "the check looks at something", "nothing was looked at")
    finally:
        steps.close()  # and with it whatever guest is running


def _of_guest(exc: HwflashError) -> bool:
    kind = exc.code.partition(".")[0]
    return kind in _OF_GUEST and not isinstance(exc, (EnvironmentFault, UsageError))
