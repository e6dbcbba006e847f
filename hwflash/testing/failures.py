"""A failure of the bench as pytest shows it: the line of the test, and what the commands would say.

The frames inside hwflash say nothing to the author of a test, and there may be dozens.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from hwflash.errors import HwflashError

if TYPE_CHECKING:
    import pytest

_PACKAGE: Final = Path(__file__).parent.parent


def explain(report: pytest.TestReport, error: pytest.ExceptionInfo[BaseException]) -> None:
    """Replace the traceback of an `HwflashError` in a report; other errors stay as they are.

    Args:
        report: of a phase of a test that raised it.
        error: what was raised.
    """
    value = error.value
    if not isinstance(value, HwflashError):
        return
    from hwflash.diagnostics import as_lines

    shown: Any = error.getrepr(style="long", chain=False, tbfilter=_own_frames)
    if not _own_frames(error):
        shown.reprtraceback.extraline = None
    shown.reprcrash.message = f"{value.code}: {value.message}"
    lines = as_lines(value)[1:]
    if command := value.context.get("restore_command"):
        lines.insert(-1, f"  restore: {command}")
    shown.addsection(f"hwflash: {value.code}", "\n".join(line.removeprefix("  ") for line in lines))
    report.longrepr = shown


def _own_frames(error: pytest.ExceptionInfo[BaseException]) -> Any:
    """Frames of the test and its helpers; none when the failure is in a fixture of ours."""
    trace = cast("Any", error).traceback
    return trace.__class__(entry for entry in trace if not _is_machinery(Path(str(entry.path))))


def _is_machinery(path: Path) -> bool:
    """Whether a file is of hwflash, of Python, or of what calls tests and fixtures."""
    places = sysconfig.get_paths()
    roots = [_PACKAGE, *(Path(places[name]) for name in ("stdlib", "platstdlib", "purelib"))]
    return any(path.is_relative_to(root) for root in roots)
