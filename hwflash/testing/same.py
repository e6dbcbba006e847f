"""Assertions whose failure message is the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from hwflash.compare.report import Report
    from hwflash.compare.sides import Side
    from hwflash.compare.variables import VariableDifference

#: How an author of a test gets to see what the text leaves out.
_WORDS: Final = ("`hwflash compare --json` lists all", "everything=True lists them")


class HasSide(Protocol):
    """A fixture that has flash content."""

    def side(self) -> Side:
        """Its content, and what is where in it."""
        ...


def assert_same(
    left: Any,
    right: Any,
    *,
    ignore: str | Sequence[str] = (),
    regions: str | Sequence[str] = (),
    ignore_regions: str | Sequence[str] = (),
    everything: bool = False,
) -> Report:
    """Fail unless two flash contents are the same in all that matters.

    Each side is the ``board``, ``flash`` or ``ovmf`` fixture, bytes, an image file, or text as
    ``hwflash compare`` takes it: ``board:NAME``, ``ovmf:DESCRIPTOR``, ``boot:IMAGE``, a programmer
    URL. Variables are compared by what they say and not by where they lie; those that change at
    every boot (boot counter, random seed) do not count.

    Args:
        left: one side; ``-`` in the message.
        right: the other; ``+``.
        ignore: variables that do not count: ``NAME``, ``NAME:GUID``, ``*:GUID``; ``*`` is any.
        regions: only these regions.
        ignore_regions: all regions but these.
        everything: variables that change at every boot count too.

    Returns:
        The comparison, also of what does not matter.

    Raises:
        AssertionError: they differ; the text is the comparison as ``hwflash compare`` prints it.
        UsageError: no such region (``usage.region``), a bad pattern (``usage.guid``), both
            ``regions`` and ``ignore_regions``, or a side that is none (``usage.compare-side``).
    """
    __tracebackhide__ = True
    from hwflash.compare.report import Options, compare
    from hwflash.compare.text import Words, report_lines

    one, other = _side(left), _side(right)
    wanted = _words(regions) or _all_but(one, other, _words(ignore_regions))
    if regions and ignore_regions:
        from hwflash.errors import UsageError

        raise UsageError("regions and ignore_regions contradict", code="usage.selection")
    report = compare(one, other, Options(_words(ignore), wanted, everything))
    if not report.equal:
        raise AssertionError("\n".join(report_lines(report, Words(*_WORDS))))
    return report


def assert_same_variables(
    left: Any, right: Any, *, ignore: str | Sequence[str] = (), everything: bool = False
) -> VariableDifference:
    """Fail unless two sides have the same UEFI variables, whatever else they are.

    The firmware may be another build, of another size: only what the variables say counts.

    Args:
        left: one side, as for `assert_same`; ``-`` in the message.
        right: the other; ``+``.
        ignore: variables that do not count, as for `assert_same`.
        everything: variables that change at every boot count too.

    Returns:
        The comparison.

    Raises:
        AssertionError: they differ, or a side has no store; the text says in what.
        UsageError: a bad pattern (``usage.guid``), or a side that is none.
    """
    __tracebackhide__ = True
    from hwflash.compare.sides import align
    from hwflash.compare.text import Words, variable_lines
    from hwflash.compare.variables import compare_variables

    one, other = _side(left), _side(right)
    found = compare_variables(one, other, align(one, other), _words(ignore))
    equal = found.stores and found.difference.equal and not (everything and found.volatile)
    if not equal:
        lines = variable_lines(one, other, found, Words(*_WORDS), everything=everything)
        if not found.stores:
            lines += ["", "  not both have a variable store"]
        raise AssertionError("\n".join(lines))
    return found


def _words(text: str | Sequence[str]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def _side(given: Any) -> Side:
    from hwflash.errors import ImageError, UsageError
    from hwflash.jobs.compare import make_side

    if hasattr(given, "side"):
        fixture: HasSide = given
        return fixture.side()
    if isinstance(given, (bytes, bytearray)):
        if not given:
            raise ImageError("a side has no bytes", code="image.empty")
        return make_side("bytes", [(0, bytes(given))])
    if isinstance(given, (str, Path)):
        return _opened(str(given))
    from hwflash.layout.files import Image

    if isinstance(given, Image):
        return make_side(given.name, [(given.range.address, given.flat())])
    raise UsageError(
        "a side is a fixture, bytes, an image file or text as hwflash compare takes it, not "
        f"{type(given).__name__}",
        code="usage.compare-side",
    )


def _opened(text: str) -> Side:
    from hwflash.jobs.compare import Opening, open_side
    from hwflash.jobs.opening import Request
    from hwflash.layout.files import load_image
    from hwflash.progress import NullReporter

    return open_side(text, Opening(None, Request, load_image, NullReporter())).side


def _all_but(left: Side, right: Side, names: Sequence[str]) -> tuple[str, ...]:
    """Every region that both sides have something of, but these."""
    if not names:
        return ()
    from hwflash.compare.regions import compare_regions
    from hwflash.compare.sides import align
    from hwflash.errors import UsageError

    known = [item.name for item in compare_regions(left, right, align(left, right), ())]
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no region {name!r}; there are {', '.join(known) or 'none'}",
                code="usage.region", name=name, known=known, near=[],
            )  # fmt: skip
    return tuple(name for name in known if name not in names)
