"""A drawing of the wires, from a board file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hwflash.boards import Board

#: As an FT232H is wired when no board says otherwise: pin of an 8-pin package, signal, where to.
USUAL: Final = (
    ("1", "CS#", "AD3"),
    ("2", "DO", "AD2"),
    ("3", "WP#", "AD4"),
    ("4", "GND", "GND"),
    ("5", "DI", "AD1"),
    ("6", "CLK", "AD0"),
    ("7", "HOLD#", "AD5"),
    ("8", "VCC", "3V3"),
)
#: Where 8-pin packages have their pins: left from above, right from below.
_LEFT: Final = ("1", "2", "3", "4")
_RIGHT: Final = ("8", "7", "6", "5")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the drawing; ``suspect`` says that a wire in it should be looked at."""

    text: str
    suspect: bool = False


def draw(board: Board | None, suspects: Sequence[str] = ()) -> list[Row]:
    """The wires of a board, or the usual ones.

    Args:
        board: the board, or None.
        suspects: signals whose contact is doubtful.
    """
    named = [(str(item.pin), item.signal, item.to) for item in board.wiring.pin] if board else []
    pins = named or list(USUAL)
    if {pin for pin, _, _ in pins} == {*_LEFT, *_RIGHT}:
        return _package({pin: (signal, to) for pin, signal, to in pins}, suspects)
    return [
        Row(f"{_flag(signal, suspects)} {pin:>4}  {signal:<12} {to}", _is(signal, suspects))
        for pin, signal, to in pins
    ]


def _package(pins: dict[str, tuple[str, str]], suspects: Sequence[str]) -> list[Row]:
    rows = [Row(f"{'':15}┌───────┐")]
    for left, right in zip(_LEFT, _RIGHT, strict=True):
        (one, one_to), (other, other_to) = pins[left], pins[right]
        dot = "●" if left == "1" else " "
        text = (
            f"{_flag(one, suspects)} {_short(one_to):>5} {_name(one):>5} ─┤{left}{dot}    {right}├─"
            f" {_name(other):<5} {_short(other_to):<5} {_flag(other, suspects)}"
        )
        rows.append(Row(text, _is(one, suspects) or _is(other, suspects)))
    return [*rows, Row(f"{'':15}└───────┘")]


def _name(signal: str) -> str:
    return signal.split()[0]


def _short(to: str) -> str:
    return to.replace("ADBUS", "AD").replace("ACBUS", "AC").split()[0] if to else "-"


def _is(signal: str, suspects: Sequence[str]) -> bool:
    name = _name(signal).upper()
    return any(name.startswith(item.upper()) for item in suspects)


def _flag(signal: str, suspects: Sequence[str]) -> str:
    return "!" if _is(signal, suspects) else " "
