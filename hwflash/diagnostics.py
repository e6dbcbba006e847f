"""What a user is told when something goes wrong, and with which exit code.

An error carries facts; this module turns its code into whose fault it probably is and the
command that helps, and says whether the chip was changed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from hwflash.advice import ADVICE, Advice
from hwflash.errors import ChipStateUnknown, HwflashError, Interrupted
from hwflash.units import Range

INTERNAL: Final = 70
INTERRUPTED: Final = 130
#: Exit codes that promise that nothing was changed.
UNCHANGED: Final = frozenset({2, 3, 4, 5, 7, INTERRUPTED})


def advice_for(code: str) -> Advice:
    """The advice for a code, or for the nearest group it belongs to."""
    while True:
        if code in ADVICE:
            return ADVICE[code]
        if "." not in code:
            return Advice("hwflash", "please report this, with the command and what it printed")
        code = code.rpartition(".")[0]


def chip_state(error: HwflashError) -> str:
    """What the chip is known to be after an error: one of the two, never silence.

    A board that has run by itself may have changed its chip, and a gang has several; then the error
    says so.
    """
    if told := error.context.get("chip_state"):
        return str(told)
    if error.exit_code == ChipStateUnknown.exit_code:
        return "the chip is in an unknown state"
    if error.exit_code in UNCHANGED:
        return "nothing was changed"
    return "the chip was not being written"


def commands_for(error: HwflashError) -> dict[str, str]:
    """The commands that recover, resume and restore, where there are any."""
    found: dict[str, str] = {}
    programmer = error.context.get("programmer")
    if error.context.get("change"):  # of the chip's protection
        where = ["-p", str(programmer)] if programmer else []
        return {
            name: shlex.join(["hwflash", "protect", name, str(error.context["change"]), *where])
            for name in ("resume", "restore")
        }
    if not error.context.get("resume"):
        return found
    words = ["hwflash", "write", *(["-p", str(programmer)] if programmer else [])]
    words += cast("list[str]", error.context.get("options", []))
    for name, key in (("resume", "resume"), ("restore", "backup")):
        if error.context.get(key):
            found[name] = shlex.join([*words, f"--{name}", str(error.context[key])])
    if error.context.get("store"):
        source = str(error.context["store"])
        if not source.startswith("board:"):
            # As the programmer names itself: without the faults that were asked for.
            source = str(programmer or source)
        more = [
            word
            for key in ("options", "store_options")
            for word in cast("list[str]", error.context.get(key, []))
        ]
        found["recover"] = shlex.join(["hwflash", "ftw", "recover", source, *more])
    return found


def as_dict(error: HwflashError) -> dict[str, Any]:
    """The ``error`` object of a JSON result."""
    cause = error.context.get("cause")
    advice = advice_for(cause if isinstance(cause, str) else error.code)
    return {
        "code": error.code,
        "message": error.message,
        "context": {key: _plain(value) for key, value in error.context.items()},
        "hint": advice.hint,
        "blame": advice.blame,
        "chip": chip_state(error),
        **commands_for(error),
    }


def as_lines(error: HwflashError, *, about_chip: bool = True) -> list[str]:
    """The same for people.

    Args:
        error: what went wrong.
        about_chip: the command had to do with a chip, so its state is said.
    """
    facts = as_dict(error)
    lines = [f"error: {error.message} [{error.code}]"]
    details = _details(error.context)
    if details:
        lines.append(f"  where: {details}")
    if near := cast("list[str]", error.context.get("near")):
        lines.append(f"  did you mean: {', '.join(near)}")
    if not isinstance(error, Interrupted):
        lines.append(f"  probably: {facts['blame']}")
    if about_chip:
        lines.append(f"  chip: {facts['chip']}")
    lines += [
        f"  {word}: {error.context[key]}"
        for word, key in (("it holds", "holds"), ("wanted", "goal"), ("before", "was"))
        if key in error.context
    ]
    if tail := cast("list[str]", error.context.get("tail")):
        lines += ["  the console's last lines:", *(f"    {line}" for line in tail)]
    if error.context.get("unfinished"):
        lines.append(f"  still half written: {error.context['unfinished']}")
    lines += [
        f"  {name}: {facts[name]}" for name in ("recover", "resume", "restore") if name in facts
    ]
    lines.append(f"hint: {facts['hint']}")
    return lines


_HIDDEN: Final = frozenset(
    {
        "resume",
        "change",
        "holds",
        "goal",
        "was",
        "backup",
        "programmer",
        "cause",
        "facts",
        "known",
        "summary",
        "options",
        "store",
        "store_options",
        "chip_state",
        "restore_command",
        "tail",
        "near",
        "unfinished",
        "history",
        "entries",
    }
)


def _details(context: Mapping[str, object]) -> str:
    from hwflash.uefi.window import printable

    shown: list[str] = []
    faults: list[str] = []
    for key, value in context.items():
        if key in _HIDDEN or value is None or value == []:
            continue
        items = cast("list[Any]", value) if isinstance(value, list) else None
        if items is not None and key == "faults":
            faults = ["\n    " + _fault(fault) for fault in items]
        elif items is not None and len(items) > 5:
            shown.append(f"{key}={len(items)} items")
        elif items and all(_is_place(item) for item in items):
            places = (Range(item["address"], item["length"]) for item in items)
            shown.append(f"{key}={' '.join(map(str, places))}")
        elif key in ("address", "offset") and isinstance(value, int):
            shown.append(f"{key}=0x{value:06X}")
        else:
            # Names from the command line, and what devices say, may hold anything.
            shown.append(f"{key}={printable(str(_plain(value)))}")
    return ", ".join(shown) + "".join(faults)


def _is_place(item: Any) -> bool:
    return isinstance(item, dict) and cast("dict[str, Any]", item).keys() == {"address", "length"}


def _fault(fault: Any) -> str:
    """A fault of a file: a (place, message) pair or a sentence."""
    pair = cast("tuple[Any, ...]", fault) if isinstance(fault, tuple) else (fault,)
    return ": ".join(map(str, pair))


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        return {str(key): _plain(item) for key, item in pairs.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in cast("Iterable[Any]", value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
