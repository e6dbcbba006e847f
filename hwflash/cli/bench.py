"""``hwflash bench``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwflash.cli import params, runner
from hwflash.errors import EnvironmentFault
from hwflash.units import format_seconds, format_size

if TYPE_CHECKING:
    from hwflash.jobs.bench import Row


#: Measured with ``--gang`` unless others are named: eight large chips take minutes of CPU.
GANG_PARTS = ("W25Q80DV",)


@click.command("bench")
@click.option(
    "-c",
    "--chip",
    "parts",
    type=params.PartName(),
    multiple=True,
    default=("W25Q128JV", "MX25L12835F", "SST26VF064B"),
    show_default=True,
    help="Part to simulate; repeatable.",
)
@click.option("-f", "--frequency", type=params.FREQUENCY, default="30M", show_default=True)
@click.option(
    "--timing",
    type=click.Choice(["typical", "max", "datasheet"]),
    default="datasheet",
    show_default=True,
    help="How long the simulated chip takes.",
)
@click.option(
    "--gang", "gang", type=click.IntRange(2, 128), metavar="N",
    help="Instead: N programmers at once beside one alone, writing random over random.",
)  # fmt: skip
@click.option("--peer/--no-peer", default=True, help="Measure pyspiflash in the same run.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw time against size into this .svg or .png (needs matplotlib).",
)
@params.json_option
@runner.command("bench")
def command(
    run: runner.Run,
    parts: tuple[str, ...],
    frequency: float,
    timing: str,
    gang: int | None,
    peer: bool,
    plot: Path | None,
) -> runner.Outcome:
    """Measure jobs on a simulated programmer: modelled time, its limit, USB transfers.

    The times are those of the wire, the USB and the chip, the same on every computer.
    """
    from hwflash.jobs.bench import FLASHROM, Bench, draw

    if gang is not None:
        return _gang(run, parts, gang, frequency, timing)
    if plot is not None:
        require_matplotlib()
    rows: list[Row] = []
    for part in parts:
        bench = Bench(part, frequency, timing)
        for row in bench.rows():
            run.cancel.check()
            run.console.info(f"{part}: {row.job}: {format_seconds(row.seconds)}")
            rows.append(row)
        if peer:
            rows += _peer(run, part, frequency)
    if plot is not None:
        draw(rows, plot)
        run.console.info(f"drawn: {plot}", plot=str(plot))
    keys = {
        "rows": [row.as_dict() for row in rows],
        "flashrom": [asdict(item) for item in FLASHROM],
        "frequency": frequency,
        "timing": timing,
    }
    return runner.Outcome(keys, _table(rows))


def _gang(
    run: runner.Run, parts: tuple[str, ...], count: int, frequency: float, timing: str
) -> runner.Outcome:
    from hwflash.jobs.bench_gang import measure

    given = click.get_current_context().get_parameter_source("parts")
    if given is click.core.ParameterSource.DEFAULT:
        parts = GANG_PARTS
    found = [measure(part, count, frequency, timing, run.cancel) for part in parts]
    keys = {
        "rows": [],
        "flashrom": [],
        "frequency": frequency,
        "timing": timing,
        "gang": [item.as_dict() for item in found],
    }
    lines: list[str] = []
    for item in found:
        here = f"{item.wall:7.2f} s here, {item.cpu:.2f} s of CPU on {item.cores} cores"
        spread = f"{item.fastest:.3f} to {item.slowest:.3f} s"
        lines += [
            f"{item.part}, {format_size(item.bytes)}, random over random, timing {timing}",
            f"  one alone    {item.alone:9.3f} s modelled  {item.wall_alone:7.2f} s here",
            f"  {item.count:<3} at once  {item.slowest:9.3f} s modelled  {here}",
            f"  ratio        {item.ratio:9.4f}  (all {item.count}: {spread})",
        ]
    return runner.Outcome(keys, lines)


def _peer(run: runner.Run, part: str, frequency: float) -> list[Row]:
    from hwflash.jobs.bench_peer import peer_rows

    try:
        return peer_rows(part, frequency)
    except EnvironmentFault as exc:
        run.console.warning(f"no peer is measured: {exc}", code=exc.code)
        return []


def require_matplotlib() -> None:
    """Fail before anything is measured."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise EnvironmentFault(
            "--plot needs matplotlib", code="bench.no-matplotlib", package="matplotlib"
        )


def _table(rows: list[Row]) -> list[str]:
    from hwflash.jobs.bench import FLASHROM

    names = ("who", "part", "job", "size", "seconds", "limit", "ratio", "USB", "erases",
             "retries", "CPU")  # fmt: skip
    cells = [names] + [
        (row.who, row.part, row.job, format_size(row.bytes), f"{row.seconds:.2f}",
         f"{row.limit:.2f}", f"{row.ratio:.2f}", str(row.usb), str(row.erases),
         str(row.retries), f"{row.cpu:.2f}")
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    for ours in rows:
        for theirs in rows:
            if theirs.who != "hwflash" and ours.who == "hwflash" and (
                (ours.part, ours.job) == (theirs.part, theirs.job)
            ):  # fmt: skip
                gain = (ours.bytes / ours.seconds) / (theirs.bytes / theirs.seconds)
                lines.append(f"{ours.part} {ours.job}: {gain:.2f} times as fast as {theirs.who}")
    lines += [
        f"flashrom 1.3.0, 16 MiB, {item.job}: {item.usb} USB transfers, "
        f"{item.least:g} to {item.most:g} s (counted and computed, not run here)"
        for item in FLASHROM
    ]
    return lines
