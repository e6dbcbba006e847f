"""``hwflash ftw``: fault-tolerant writes that are pending, finished from outside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner
from hwflash.cli.stores import (
    LAYOUT_NAMES,
    edit_outcome,
    edit_store,
    read,
    repair_options,
    source_options,
)

if TYPE_CHECKING:
    from hwflash.jobs.uefi_edit import EditOptions
    from hwflash.uefi.find import Found
    from hwflash.uefi.nvram import Nvram
    from hwflash.uefi.recover import Recovery
    from hwflash.uefi.rescue import Rescue


@click.group("ftw")
def command() -> None:
    """Look at fault-tolerant writes in SOURCE, finish what is pending, rescue what firmware loses.

    A board whose power was cut in the middle of a reclaim may lose its variables by being
    switched on. Read its chip first.
    """


@command.command("status")
@source_options
@runner.command("ftw status")
def status(
    run: runner.Run, source: str, store: int | None, full: bool, **options: Any
) -> runner.Outcome:
    """Show the work space, its queue, the spare area, and what firmware would do with them."""
    from hwflash.jobs.uefi_edit import one_store
    from hwflash.jobs.uefi_ftw import ftw_keys

    reading, chip = read(run, source, options, full)
    found = one_store(reading, store)
    keys = ftw_keys(found)
    return runner.Outcome(keys | chip, _status_lines(found, keys))


def _status_lines(found: Found, keys: dict[str, Any]) -> list[str]:
    work, spare = keys["work_space"], keys["spare"]
    lines = [f"volume at 0x{found.base:06X}, layout {found.areas.layout}"]
    if work is None:
        lines.append("  work space  none is known")
    else:
        lines.append(f"  work space  0x{work['base']:06X}, {work['size']:,} bytes: {work['state']}")
        for number, write in enumerate(work["writes"], 1):
            lines.append(f"  write {number:<5} {write['text']}")
        if work["valid"] and not work["writes"]:
            lines.append("  queue       empty")
    if spare is not None:
        lines.append(
            f"  spare       0x{spare['base']:06X}, {spare['size']:,} bytes: {spare['text']}"
        )
    lines.append(f"  verdict     {keys['text']}")
    lines += [f"  {item['firmware']}: {item['text']}" for item in keys["outlook"]]
    return lines


@command.command("recover")
@repair_options
@runner.command("ftw recover")
def recover(run: runner.Run, source: str, **options: Any) -> runner.Outcome:
    """Finish or drop the write that is pending, as firmware should at the next boot.

    The queue is read before the volume's header is judged, so that a board whose first block
    was erased keeps its variables; OVMF would wipe them. Exit 1 when the store is not sound
    afterwards: it needs `ftw rescue` before the board is switched on.
    """
    from hwflash.jobs.uefi_ftw import ftw_keys
    from hwflash.uefi.check import check

    def change(nvram: Nvram, _how: EditOptions) -> Recovery:
        from hwflash.uefi.recover import recover as finish

        return finish(nvram)

    edited, keys = edit_store(run, source, options, change)
    done = edited.value
    keys |= {"actions": list(done.actions), "ftw": ftw_keys(edited.after)}
    outcome = edit_outcome(edited, keys, "recovered", done.actions)
    report = check(edited.after)
    if report.repair != "rescue":
        return outcome
    faults = [str(item) for item in report.problems if item.severity == "error"]
    run.console.warning(
        f"the store is not sound: {'; '.join(faults)}. Do not switch the board on before "
        "`hwflash ftw rescue`"
    )
    return replace(outcome, exit_code=1)


@command.command("rescue")
@repair_options
@click.option("--fresh", is_flag=True, help="Build an empty store where nothing can be saved.")
@click.option(
    "--layout",
    type=click.Choice(LAYOUT_NAMES),
    help="The build whose store belongs there, where no header tells any more.",
)
@click.option("--at", type=params.SIZE, help="With --layout: where its volume begins. Default: 0.")
@runner.command("ftw rescue")
def rescue(run: runner.Run, source: str, fresh: bool, **options: Any) -> runner.Outcome:
    """Repair what firmware would not: save what is left of a store, and say what is lost.

    With --dry-run nothing is written; look at it first.
    """
    from hwflash.jobs.uefi_ftw import ftw_keys
    from hwflash.uefi.check import check
    from hwflash.uefi.rescue import rescue as save
    from hwflash.uefi.window import printable

    def change(nvram: Nvram, _how: EditOptions) -> Rescue:
        done = save(nvram, fresh=fresh)
        for text in done.lost:
            run.console.warning(f"lost: {text}")
        return done

    edited, keys = edit_store(run, source, options, change)
    done = edited.value
    if check(edited.after).repair == "reclaim":
        run.console.info("nothing can be appended to the store before `hwflash vars reclaim`")
    keys |= {
        "actions": list(done.actions),
        "choice": done.choice,
        "kept": len(done.kept),
        "variables": [record.name for record in done.kept],
        "lost": list(done.lost),
        "ftw": ftw_keys(edited.after),
    }
    names = ", ".join(printable(record.name) for record in done.kept)
    notes = (*done.actions, f"kept: {names}") if names else done.actions
    return edit_outcome(edited, keys, f"{len(done.kept)} variables kept", notes)
