"""The recorded debug logs; see tests/data/README.md."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path

from hwflash.qemu.debuglog import DebugLog, parse

DATA = Path(__file__).parents[1] / "data" / "logs"
BOOT = "boot-setvar-s3"
REPLAY = "ftw-replay"
BLANK = "blank-store"
NAMES = (BOOT, REPLAY, BLANK)


@cache
def raw(name: str) -> bytes:
    return lzma.decompress((DATA / f"ovmf-debug-{name}.log.xz").read_bytes())


@cache
def log(name: str) -> DebugLog:
    return parse([raw(name)])
