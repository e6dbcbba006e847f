"""Bench scripts: fixtures for pytest that drive a board as the commands do.

The plugin is `hwflash.testing.plugin`; pytest loads it by its entry point wherever hwflash is
installed. What scripts import themselves are the assertions; the classes are named here for
annotations, and loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hwflash.testing.same import assert_same, assert_same_variables

if TYPE_CHECKING:
    from hwflash.testing.board import BenchBoard
    from hwflash.testing.flash import BenchFlash
    from hwflash.testing.power import BenchConsole, BenchPower
    from hwflash.testing.programmer import BenchProgrammer
    from hwflash.testing.reference import RunningReference
    from hwflash.testing.transaction import Transaction
    from hwflash.testing.variables import BenchVariables

__all__ = [
    "BenchBoard",
    "BenchConsole",
    "BenchFlash",
    "BenchPower",
    "BenchProgrammer",
    "BenchVariables",
    "RunningReference",
    "Transaction",
    "assert_same",
    "assert_same_variables",
]

_PLACES: Final = {
    "BenchBoard": "board",
    "BenchConsole": "power",
    "BenchFlash": "flash",
    "BenchPower": "power",
    "BenchProgrammer": "programmer",
    "BenchVariables": "variables",
    "RunningReference": "reference",
    "Transaction": "transaction",
}


def __getattr__(name: str) -> object:
    """The classes, by PEP 562: importing the plugin must cost nothing."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
