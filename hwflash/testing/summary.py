"""The section that pytest prints at the end: which chips were tested, and what was left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwflash.testing import record
from hwflash.units import format_seconds


def summary_lines(tests: Sequence[Mapping[str, object]]) -> list[str]:
    """A line for each chip, and one for each that was not put back.

    Args:
        tests: the properties of each test that reported any.
    """
    found: dict[tuple[object, ...], tuple[int, float]] = {}
    left: list[str] = []
    for test in tests:
        if record.PART not in test:
            continue
        modelled = record.MODELLED in test
        key = (
            test[record.PART], test.get(record.JEDEC_ID), test.get(record.UNIQUE_ID),
            test.get(record.PROGRAMMER), modelled,
        )  # fmt: skip
        count, seconds = found.get(key, (0, 0.0))
        spent = float(str(test.get(record.MODELLED if modelled else record.SECONDS, 0)))
        found[key] = (count + 1, seconds + spent)
        if backup := test.get(record.LEFT_CHANGED):
            left.append(
                f"NOT PUT BACK: {test[record.PART]} on {test.get(record.PROGRAMMER)}; "
                f"`hwflash write -p URL --restore {backup}` does it"
            )
    lines: list[str] = []
    for (part, jedec_id, unique_id, programmer, modelled), (count, seconds) in found.items():
        unique = f", unique id {unique_id}" if unique_id else ""
        how = "modelled" if modelled else "on the bus"
        lines.append(
            f"{part} ({jedec_id}{unique}) on {programmer}: "
            f"{count} test{'s' * (count != 1)}, {format_seconds(seconds)} {how}"
        )
    return lines + left
