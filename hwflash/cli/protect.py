"""``hwflash protect``: what of the chip is locked, by what, and how to change it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from hwflash.cli import params, runner
from hwflash.cli.asking import agrees, for_ever, nobody_is_there
from hwflash.cli.results import range_keys
from hwflash.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hwflash.jobs.protect_change import Proposal, Protected, ProtectOptions
    from hwflash.jobs.protect_status import Status
    from hwflash.jobs.session import Session
    from hwflash.units import Range


@click.group("protect")
def command() -> None:
    """Show and change what the chip itself protects against writing."""


def _change_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_CHANGE):
        function = option(function)
    return params.programmer_options(function)


def _end_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed([item for item in _CHANGE if item is not _VOLATILE]):
        function = option(function)
    return params.programmer_options(function)


_VOLATILE: Final[Callable[[Any], Any]] = click.option(
    "--volatile", is_flag=True, help="Until the supply goes away only (50h)."
)
_CHANGE: Final[list[Callable[[Any], Any]]] = [
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option("-n", "--dry-run", is_flag=True, help="Show what would be set, change nothing."),
    _VOLATILE,
    click.option(
        "--confirm", metavar="PART", default=None,
        help="For what cannot be undone: the name of the chip, instead of typing it.",
    ),
]  # fmt: skip
_RANGES: Final[list[Callable[[Any], Any]]] = [
    click.argument("ranges", metavar="[START:LENGTH]...", type=params.RANGE, nargs=-1),
    click.option("--region", "regions", metavar="NAME", multiple=True,
                 help="A region of the board or the chip, instead of a range; repeatable."),
    click.option(
        "--nearest", is_flag=True,
        help="Where the chip cannot do just this: set locks more rather than less, clear less "
        "rather than more.",
    ),
    click.option(
        "--one-time", is_flag=True, help="Allow a bit that can be set once and never cleared (TB)."
    ),
]  # fmt: skip


def _range_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_RANGES):
        function = option(function)
    return function


_STATES: Final = {
    "as-wanted": "as was wanted:",
    "as-before": "as it was before:",
    "between": "in between:",
}


@command.command("status")
@params.programmer_options
@click.option("--list", "list_", is_flag=True, help="List every range the chip could lock.")
@runner.command("protect status")
def status(run: runner.Run, list_: bool, **options: Any) -> runner.Outcome:
    """Say which bytes are locked, by what, and how the lock can be lifted."""
    from hwflash.jobs.describe import protection_keys
    from hwflash.jobs.protect_status import changes_keys
    from hwflash.jobs.protect_status import status as read_status
    from hwflash.jobs.session import open_session
    from hwflash.state import state_dir

    with open_session(params.request(options), run.console) as session:
        found = read_status(session, state_dir(os.environ))
        part, chip = session.chip.part, session.chip
    told = {
        **protection_keys(found.state),
        "by": found.by,
        "lift": found.lift,
        "sources": [
            {"by": item.by, "locked": range_keys(item.ranges), "lift": item.lift}
            for item in found.sources
        ],
        "read_locked": range_keys(found.state.read_locked),
    }
    keys: dict[str, Any] = {
        "part": part,
        "registers": {str(n): value for n, value in sorted(found.locks.registers.items())},
        "protection": told,
        "volatile": found.volatile,
        "possible": [range_keys(places) for places in found.possible] if list_ else None,
        "unfinished": list(found.unfinished),
        "changes": changes_keys(chip, found),
    }
    lines = [f"{part}", *(f"  {sentence}" for sentence in _sentences(found))]
    if found.volatile:
        lines.append("  Settings can be made that last until the supply goes away (--volatile).")
    lines += [
        f"  {name} lifted the protection and did not put it back: `hwflash write --resume {name}` "
        "does."
        for name in found.unfinished
    ]
    for change in keys["changes"]:
        lines += [
            f"  `{change['command']}` ({change['name']}) stopped half way; the chip is "
            + _STATES[change["state"]],
            *(f"    {key:<6}  {change[key]}" for key in ("holds", "wanted", "before")),
            f"  `hwflash protect resume {change['name']}` finishes it,",
            f"  `hwflash protect restore {change['name']}` takes it back.",
        ]
    if list_:
        lines += ["", *(f"  {_text(places)}" for places in found.possible)]
    return runner.Outcome(keys, lines)


def _sentences(found: Status) -> list[str]:
    words = {
        "command": "It can be lifted by command: `hwflash protect clear`.",
        "wp-pin": "It can be lifted by command while WP# is high.",
        "power-cycle": "It can be lifted after the supply was off.",
        "never": "It can never be lifted, or, on parts whose one-time lock needs a command flow "
        "of its own, after the supply was off.",
        "password": "It can be lifted by somebody who knows the password, with another tool.",
        "unknown": "How it can be lifted is not known.",
        "none": "",
    }
    lines = [found.state.summary]
    if found.by:
        lines.append(f"Told by {found.by}.")
    if len(found.sources) > 1 or (found.sources and found.locks.sectors is not None):
        lines += [f"{item.by}: {_text(item.ranges)}. {words[item.lift]}" for item in found.sources]
        return lines
    return [*lines, *([words[found.lift]] if words[found.lift] else [])]


@command.command("set")
@_range_options
@_change_options
@runner.command("protect set")
def set_(
    run: runner.Run, ranges: Sequence[Range], regions: Sequence[str], **options: Any
) -> runner.Outcome:
    """Lock START:LENGTH, and nothing else."""
    if not ranges and not regions:
        raise UsageError("say what is to be locked: START:LENGTH", code="usage.selection")

    def change(session: Session, how: ProtectOptions) -> Protected:
        from hwflash.jobs.protect import set_protection

        wanted = [*ranges, *_regions(session, regions)]
        return set_protection(session, wanted, how, run.console)

    return _change(run, options, "protect set", change)


@command.command("clear")
@_range_options
@_change_options
@runner.command("protect clear")
def clear(
    run: runner.Run, ranges: Sequence[Range], regions: Sequence[str], **options: Any
) -> runner.Outcome:
    """Unlock START:LENGTH, or everything."""

    def change(session: Session, how: ProtectOptions) -> Protected:
        from hwflash.jobs.protect import clear_protection

        freed = [*ranges, *_regions(session, regions)] if ranges or regions else None
        return clear_protection(session, freed, how, run.console)

    return _change(run, options, "protect clear", change)


@command.command("lock")
@click.argument("mode", type=click.Choice(["none", "wp-pin", "power-cycle", "permanent"]))
@_change_options
@runner.command("protect lock")
def lock(run: runner.Run, mode: str, **options: Any) -> runner.Outcome:
    """Keep the protection from being changed: while WP# is low, until power-off, or for ever.

    none lets it be changed again, where the chip lets it.
    """

    def change(session: Session, how: ProtectOptions) -> Protected:
        from hwflash.jobs.protect import LockMode, lock_registers

        return lock_registers(session, LockMode(mode), how, run.console)

    return _change(run, {"nearest": False, "one_time": False, **options}, "protect lock", change)


def _end(
    run: runner.Run, name: str | None, options: dict[str, Any], kind: str, *, back: bool
) -> runner.Outcome:
    def change(session: Session, how: ProtectOptions) -> Protected:
        from hwflash.jobs.protect_resume import end_change

        return end_change(session, name, how, run.console, back=back)

    more = {"volatile": False, "nearest": False, "one_time": False}
    return _change(run, {**more, **options}, kind, change)


@command.command("resume")
@click.argument("change", required=False)
@_end_options
@runner.command("protect resume")
def resume(run: runner.Run, change: str | None, **options: Any) -> runner.Outcome:
    """Finish a set, clear or lock that stopped half way; `protect status` names it."""
    return _end(run, change, options, "protect resume", back=False)


@command.command("restore")
@click.argument("change", required=False)
@_end_options
@runner.command("protect restore")
def restore(run: runner.Run, change: str | None, **options: Any) -> runner.Outcome:
    """Take back a set, clear or lock that stopped half way: the chip is as it was before."""
    return _end(run, change, options, "protect restore", back=True)


# --- shared ---------------------------------------------------------------------------------


def _regions(session: Session, names: Sequence[str]) -> list[Range]:
    return [session.region(name) for name in names]


def _change(
    run: runner.Run,
    options: dict[str, Any],
    kind: str,
    change: Callable[[Session, ProtectOptions], Protected],
) -> runner.Outcome:
    from hwflash.jobs.protect_change import ProtectOptions
    from hwflash.jobs.session import open_session
    from hwflash.state import state_dir

    yes, dry_run, typed = options.pop("yes"), options.pop("dry_run"), options.pop("confirm")
    if nobody_is_there(run) and not (yes or dry_run or typed):
        raise UsageError("nobody is there to confirm the change", code="usage.confirm")
    how = ProtectOptions(
        state=state_dir(os.environ),
        volatile=options.pop("volatile"),
        nearest=options.pop("nearest"),
        one_time=options.pop("one_time"),
        dry_run=dry_run,
        confirm=_asker(run, yes=yes, typed=typed),
        kind=kind,
    )
    with open_session(params.request(options), run.console) as session:
        return _outcome(session, change(session, how), how)


def _asker(run: runner.Run, *, yes: bool, typed: str | None) -> Callable[[Proposal], bool]:
    """Asks; for what cannot be undone the name of the chip has to be typed, yes is not enough."""

    def ask(proposal: Proposal) -> bool:
        run.console.talk(proposal.words)
        if proposal.for_ever:
            return for_ever(run, proposal.part, typed, ask=not yes)
        return yes or typed is not None or agrees(run, f"Change {proposal.part} now?")

    return ask


def _outcome(session: Session, done: Protected, how: ProtectOptions) -> runner.Outcome:
    from hwflash.jobs.protect_status import told_by

    proposal, chip = done.proposal, session.chip
    keys = {
        "part": proposal.part,
        "before": told_by(chip, proposal.before),
        "after": told_by(chip, proposal.after),
        "locked_before": range_keys(proposal.locked_before),
        "locked": range_keys(proposal.locked_after),
        "exact": proposal.exact,
        "volatile": done.volatile,
        "executed": done.executed,
        "dry_run": how.dry_run,
        "history": done.entry,
    }
    changed = f"{keys['before']} -> {keys['after']}"
    if how.dry_run:
        return runner.Outcome(keys, [proposal.words, changed, "dry run: nothing was changed"])
    if not done.executed:
        return runner.Outcome(keys, ["nothing to do: the chip is set so already"])
    lines = [f"locked: {_text(proposal.locked_after)}", changed]
    if not proposal.exact:
        lines.append("this is the nearest the chip can do")
    return runner.Outcome(keys, lines)


def _text(places: Sequence[Range]) -> str:
    return ", ".join(map(str, places)) or "nothing"
