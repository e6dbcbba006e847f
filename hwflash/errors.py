"""Every error hwflash raises, in one tree.

::

    HwflashError                       code, message, context        exit
    ├── UsageError                     the caller asked for nonsense    2
    ├── ProgrammerError                programmer or environment        3
    │   ├── ProgrammerAbsent           nothing there
    │   ├── ProgrammerInaccessible     there, but not for this user
    │   ├── ProgrammerBusy             there, but held by somebody else
    │   └── ProgrammerLost             was there; cable pulled, power gone
    ├── EnvironmentFault               folder, disk, missing program    3
    ├── ChipError                      no chip, or an unstable bus      4
    │   ├── ChipAbsent                 id all 00 or all FF
    │   ├── ChipUnknown                it answers, nobody knows it
    │   ├── ChipUnsupported            known, and not to be touched
    │   ├── BusUnstable                two reads, two answers
    │   └── ChipTimeout                never got ready
    ├── ChipProtected                  the chip refuses                 5
    ├── ChipStateUnknown               a write stopped half way         6
    ├── ImageError                     bad image, layout, board file    7
    │   ├── SfdpError                  bytes that are no SFDP table
    │   └── BoardError                 a board file with faults
    ├── ReferenceFailed                the simulated reference          8
    └── Interrupted                    stopped, nothing changed       130

An error carries facts, never advice: `hwflash.diagnostics` turns a ``code`` into a hint.
Codes are stable; scripts may match them.
"""

from __future__ import annotations

from collections.abc import Mapping


class HwflashError(Exception):
    """Base of all errors.

    Attributes:
        code: stable, dotted name such as ``chip.timeout``.
        exit_code: the process exit code it leads to.
        context: the facts: addresses, sizes, device names, file names.
    """

    code: str = "error"
    exit_code: int = 70

    def __init__(self, message: str, /, *, code: str | None = None, **context: object) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.context: Mapping[str, object] = context


class UsageError(HwflashError):
    """The caller asked for something that makes no sense."""

    code = "usage"
    exit_code = 2


class ProgrammerError(HwflashError):
    """The programmer, or the way to it, failed."""

    code = "programmer"
    exit_code = 3


class ProgrammerAbsent(ProgrammerError):
    """No such programmer is attached."""

    code = "programmer.absent"


class ProgrammerInaccessible(ProgrammerError):
    """The programmer is attached, but this user may not open it."""

    code = "programmer.inaccessible"


class ProgrammerBusy(ProgrammerError):
    """The programmer is attached, but a driver or another process holds it."""

    code = "programmer.busy"


class ProgrammerLost(ProgrammerError):
    """The programmer stopped answering after it had been opened."""

    code = "programmer.lost"


class EnvironmentFault(HwflashError):
    """A folder, disk or program on this computer is not as needed."""

    code = "environment"
    exit_code = 3


class ChipError(HwflashError):
    """The chip does not answer as a flash chip should."""

    code = "chip"
    exit_code = 4


class ChipAbsent(ChipError):
    """The id reads all 00 or all FF: wiring, power or HOLD#."""

    code = "chip.absent"


class ChipUnknown(ChipError):
    """The chip answers with an id, but neither SFDP nor the catalog describes it."""

    code = "chip.unknown"


class ChipUnsupported(ChipError):
    """The chip is known and must not be treated as an ordinary NOR flash."""

    code = "chip.unsupported"


class BusUnstable(ChipError):
    """The same question got different answers."""

    code = "chip.unstable"


class ChipTimeout(ChipError):
    """An operation took longer than the chip's own maximum."""

    code = "chip.timeout"


class ChipProtected(HwflashError):
    """The chip's protection covers bytes that were to be changed."""

    code = "chip.protected"
    exit_code = 5


class ChipStateUnknown(HwflashError):
    """A write stopped after the chip had been touched; ``__cause__`` says why."""

    code = "chip.state-unknown"
    exit_code = 6


class ImageError(HwflashError):
    """An image, layout or file of the user is not usable."""

    code = "image"
    exit_code = 7


class SfdpError(ImageError):
    """Bytes that are not a usable SFDP table."""

    code = "sfdp"


class BoardError(ImageError):
    """A board file with faults; ``context["faults"]`` lists (path, message) pairs."""

    code = "board"


class ReferenceFailed(HwflashError):
    """The simulated reference did not do its part."""

    code = "reference"
    exit_code = 8


class Interrupted(HwflashError):
    """Stopped on request before anything was changed."""

    code = "interrupted"
    exit_code = 130

    def __init__(
        self,
        message: str = "stopped on request",
        /,
        *,
        code: str | None = None,
        **context: object,
    ) -> None:
        super().__init__(message, code=code, **context)
