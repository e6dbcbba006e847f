from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hwflash.compare import bytes as module
from hwflash.compare.bytes import BLOCK, GAP, RUN_LIMIT, Run, cells, count, find_runs
from hwflash.compare.sides import Segment, Side
from hwflash.uefi.window import Window


def sides(left: bytes, right: bytes, base: int = 0) -> tuple[Side, Side]:
    return Side("left", Window(left)), Side("right", Window(right, base))


def whole(left: bytes, base: int = 0) -> list[Segment]:
    return [Segment(0, base, len(left))]


def naive(left: bytes, right: bytes) -> list[tuple[int, int, int]]:
    """Start, length and number of differing bytes of each run."""
    found: list[list[int]] = []
    for at, (one, other) in enumerate(zip(left, right, strict=True)):
        if one == other:
            continue
        if found and at - (found[-1][0] + found[-1][1]) <= GAP:
            found[-1][1:] = [at + 1 - found[-1][0], found[-1][2] + 1]
        else:
            found.append([at, 1, 1])
    return [(start, length, number) for start, length, number in found]


@given(st.binary(max_size=300), st.sets(st.integers(0, 299)), st.integers(8, 64))
def test_runs_are_what_a_plain_loop_finds(left: bytes, places: set[int], block: int):
    right = bytearray(left)
    for place in places:
        if place < len(right):
            right[place] ^= 0x5A
    before = module.BLOCK
    module.BLOCK = block  # small blocks: runs cross their borders
    try:
        one, other = sides(left, bytes(right), 0x1000)
        found = find_runs(one, other, whole(left, 0x1000))
        counted = count(one, other, whole(left, 0x1000))
    finally:
        module.BLOCK = before
    expected = naive(left, bytes(right))
    assert [(run.left, run.length, run.differing) for run in found.runs] == expected
    assert all(run.right == run.left + 0x1000 for run in found.runs)
    assert found.total == len(expected)
    assert found.differing == counted == sum(number for _, _, number in expected)


def test_a_run_across_blocks_is_one():
    left = bytes(3 * BLOCK)
    right = bytearray(left)
    right[BLOCK - 2 : 2 * BLOCK + 3] = b"\1" * (BLOCK + 5)
    found = find_runs(*sides(left, bytes(right)), whole(left))
    assert found.runs == (Run(BLOCK - 2, BLOCK - 2, BLOCK + 5, BLOCK + 5),)


def test_all_runs_are_counted_and_a_bounded_number_kept():
    left = bytes(32 * (RUN_LIMIT + 100))
    right = bytearray(left)
    right[::32] = b"\1" * (RUN_LIMIT + 100)
    found = find_runs(*sides(left, bytes(right)), whole(left))
    assert found.total == found.differing == RUN_LIMIT + 100
    assert len(found.runs) == RUN_LIMIT
    assert found.runs[-1] == Run(32 * (RUN_LIMIT - 1), 32 * (RUN_LIMIT - 1), 1, 1)


def test_runs_of_two_segments_with_other_distances_stay_apart():
    one, other = sides(b"aaaabbbb", b"XaaaaXbbbb")
    found = find_runs(one, other, [Segment(0, 0, 1), Segment(4, 5, 1)])
    assert [(run.left, run.right) for run in found.runs] == [(0, 0), (4, 5)]


def test_cells_count_by_left_offset():
    left = bytes(100)
    right = bytearray(left)
    right[9:12] = b"\1\1\1"
    right[99] = 1
    assert cells(*sides(left, bytes(right)), whole(left), 10) == {0: 1, 1: 2, 9: 1}


def test_nothing_differs():
    assert find_runs(*sides(b"", b""), []).total == 0
    assert find_runs(*sides(b"ab", b"ab"), [Segment(0, 0, 2)]).runs == ()
