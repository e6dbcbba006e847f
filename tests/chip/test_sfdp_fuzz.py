"""Any bytes: nothing but hwflash's own errors, and never slowly."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples

from hwflash.chip import dumps, sfdp
from hwflash.errors import HwflashError

TABLES = [dumps.load(name).sfdp for name in dumps.names()]
# CPU seconds for all of it, which takes about 2 ms: room for a slow machine, none for a hang.
LIMIT = 0.5


PARSE_CODES = {
    "sfdp.truncated",
    "sfdp.signature",
    "sfdp.revision",
    "sfdp.bfpt",
    "sfdp.density",
    "sfdp.pointer",
}
CHIP_CODES = {"sfdp.erase", "sfdp.sector-map", "chip.page-size"}


def code_of(function: Callable[..., object], *arguments: object) -> tuple[object, str]:
    """The result and "", or None and the code of the error."""
    try:
        return function(*arguments), ""
    except HwflashError as error:
        return None, error.code


def swallow(data: bytes, answers: list[int] | None = None) -> None:
    """Do everything that is done with a table; only the right errors may come."""
    start = time.process_time()
    need, code = code_of(sfdp.length_needed, data)
    assert code in PARSE_CODES if need is None else 8 <= need <= sfdp.MAX_BYTES
    table, code = code_of(sfdp.parse, data)
    if table is None:
        assert code in PARSE_CODES
        return
    json.dumps(sfdp.describe(table), allow_nan=False)
    commands = sfdp.detection_commands(table)
    for attempt in (None, answers or [0] * len(commands)):
        chip, code = code_of(sfdp.to_chip, table, b"\xef\x40\x18", attempt)
        if chip is None:
            assert code in CHIP_CODES
            continue
        place = 0
        for region in chip.erase:
            assert region.start == place
            assert region.types
            place += region.length
        assert place == chip.size == table.size
    assert time.process_time() - start < LIMIT


@given(st.binary(max_size=512))
def test_random_bytes(data: bytes) -> None:
    swallow(data)


@given(st.binary(max_size=512), st.lists(st.integers(0, 255), max_size=4))
def test_random_bytes_behind_a_signature(data: bytes, answers: list[int]) -> None:
    swallow(b"SFDP\x06\x01" + data, answers)


@settings(max_examples=examples(150))
@given(
    st.sampled_from(TABLES),
    st.lists(st.tuples(st.integers(0, 4463), st.integers(0, 255)), min_size=1, max_size=6),
    st.lists(st.integers(0, 255), max_size=4),
)
def test_mutated_tables(data: bytes, changes: list[tuple[int, int]], answers: list[int]) -> None:
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(data)] = value
    swallow(bytes(changed), answers)


@settings(max_examples=examples(150))
@given(
    st.sampled_from([data for data in TABLES if data[6] > 0 and len(data) < 1024]),
    st.lists(st.integers(0, 0xFFFFFFFF), min_size=2, max_size=40),
)
def test_random_sector_maps(data: bytes, dwords: list[int]) -> None:
    count = data[6] + 1
    pointer = (len(data) + 3) // 4 * 4
    table = b"".join(word.to_bytes(4, "little") for word in dwords)
    last = 8 + 8 * (count - 1)
    head = bytes([0x81, 0, 1, len(dwords)]) + pointer.to_bytes(3, "little") + b"\xff"
    swallow(data[:last] + head + data[last + 8 :].ljust(pointer - last - 8, b"\xff") + table)


@pytest.mark.parametrize("name", dumps.names())
def test_truncations(name: str) -> None:
    data = dumps.load(name).sfdp
    for length in range(0, min(len(data), 1024), 13):
        swallow(data[:length])


@pytest.mark.slow
@pytest.mark.parametrize("name", dumps.names())
def test_every_truncation(name: str) -> None:
    data = dumps.load(name).sfdp
    for length in range(len(data)):
        swallow(data[:length])


@pytest.mark.slow
@pytest.mark.parametrize("name", dumps.names())
def test_every_byte_inverted(name: str) -> None:
    data = dumps.load(name).sfdp
    for place in range(len(data)):
        swallow(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
