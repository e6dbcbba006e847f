"""The last orders of this bench, on disk: ``bench.json`` in the state directory.

A file that is damaged or cannot be written costs the list, never a job.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast, get_args

from hwflash.jobs.order import Action, Order

FILE: Final = "bench.json"
#: One for each digit key.
MOST: Final = 9


def load_recent(state: Path) -> list[Order]:
    """The last orders, the newest first; without programmers, which change from day to day."""
    try:
        found: Any = json.loads((state / FILE).read_text(encoding="utf-8"))
        return [_order(item) for item in found["recent"]][:MOST]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def add_recent(state: Path, order: Order) -> list[Order]:
    """Put an order at the top of the list; the new list."""
    order = replace(order, programmer=None, sha256=None)
    if order.action not in ("write", "verify"):
        return load_recent(state)
    orders = [order, *(item for item in load_recent(state) if item != order)][:MOST]
    _save(state, orders)
    return orders


def _save(state: Path, orders: Sequence[Order]) -> None:
    text = json.dumps({"recent": [_plain(item) for item in orders]}, indent=1) + "\n"
    new = state / f".{FILE}.new"
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(state / FILE)
    except OSError:  # a convenience only
        return


def _plain(order: Order) -> dict[str, Any]:
    return {
        "action": order.action,
        "board": order.board,
        "file": str(order.file) if order.file is not None else None,
        "at": order.at,
        "regions": list(order.regions),
        "verify_full": order.verify_full,
    }


def _order(item: Any) -> Order:
    if item["action"] not in get_args(Action):
        raise ValueError(item["action"])
    return Order(
        action=cast("Action", item["action"]),
        board=None if item["board"] is None else str(item["board"]),
        file=None if item["file"] is None else Path(str(item["file"])),
        at=None if item["at"] is None else int(item["at"]),
        regions=tuple(str(name) for name in item["regions"]),
        verify_full=bool(item["verify_full"]),
    )
