from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import UsageError
from hwflash.units import (
    Range,
    format_hz,
    format_seconds,
    format_size,
    merge_ranges,
    parse_frequency,
    parse_range,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("4096", 4096), ("010", 10), ("0x1000", 4096), ("0XfF", 255), ("64K", 65536),
        ("64k", 65536), ("16M", 1 << 24), ("16MiB", 1 << 24), ("16 MB", 1 << 24), ("1G", 1 << 30),
        (" 8 ", 8), ("12b", 12), ("0x10K", 16384), ("0x1b", 27), ("100B", 100),
    ],
)  # fmt: skip
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "K", "-1", "1.5M", "0x", "0xG", "1T", "1 2", "64KK", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert (caught.value.code, caught.value.context["text"]) == ("usage.size", text)


@given(st.integers(0, 1 << 40))
def test_a_printed_size_can_be_read(size: int) -> None:
    text = format_size(size)
    assert parse_size(text.replace(",", "").removesuffix("ytes").removesuffix("yte")) == size


def test_printed_sizes() -> None:
    assert [format_size(n) for n in (0, 1, 123, 1024, 1536, 4096, 16 << 20, 1 << 30)] == [
        "0 bytes", "1 byte", "123 bytes", "1 KiB", "1,536 bytes", "4 KiB", "16 MiB", "1 GiB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "hertz"),
    [("30M", 30e6), ("500k", 5e5), ("1000000", 1e6), ("12.5MHz", 12.5e6), (" 1 kHz ", 1e3)],
)
def test_frequencies(text: str, hertz: float) -> None:
    assert parse_frequency(text) == hertz


@pytest.mark.parametrize("text", ["", "0", "0M", "-1", "30m", "30G", "fast", "1e6", "inf", "nan"])
def test_what_is_no_frequency(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_frequency(text)
    assert caught.value.code == "usage.frequency"


def test_printed_frequencies_and_times() -> None:
    assert [format_hz(f) for f in (30e6, 12.5e6, 500e3, 1e6, 457.76)] == [
        "30 MHz", "12.5 MHz", "500 kHz", "1 MHz", "0.45776 kHz",
    ]  # fmt: skip
    assert [format_seconds(s) for s in (0, 0.354, 9.99, 10, 31.4, 119, 120, 125, 3599.7)] == [
        "0.00 s", "0.35 s", "9.99 s", "10 s", "31 s", "119 s", "2 min 00 s", "2 min 05 s",
        "60 min 00 s",
    ]  # fmt: skip


def test_ranges() -> None:
    one = Range(0x1000, 0x100)
    assert one.end == 0x1100
    assert str(one) == "0x001000-0x0010FF"
    assert str(Range(0, 0)) == "0x000000-0x000000"
    assert one.contains(one)
    assert one.contains(Range(0x1080, 0x80))
    assert not one.contains(Range(0x1080, 0x81))
    assert one.overlaps(Range(0x10FF, 5))
    assert not one.overlaps(Range(0x1100, 5))
    assert not one.overlaps(Range(0xF00, 0x100))


def test_parsed_ranges() -> None:
    assert parse_range("64K:0x10") == Range(65536, 16)
    assert parse_range("0:1M") == Range(0, 1 << 20)
    for text, code in (("64K", "usage.range"), ("1:0", "usage.range"), (":1", "usage.size"),
                       ("1:", "usage.size"), ("1:2:3", "usage.size")):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            parse_range(text)
        assert caught.value.code == code


@given(st.lists(st.builds(Range, st.integers(0, 200), st.integers(0, 40))), st.integers(0, 9))
def test_merging(ranges: list[Range], gap: int) -> None:
    merged = merge_ranges(ranges, gap)
    covered = {place for item in ranges for place in range(item.address, item.end)}
    found = {place for item in merged for place in range(item.address, item.end)}
    assert covered <= found
    if gap == 0:
        assert covered == found
    for item in merged:
        assert {item.address, item.end - 1} <= covered
    for one, other in pairwise(merged):
        assert other.address - one.end > gap
