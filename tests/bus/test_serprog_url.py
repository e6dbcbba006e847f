"""URLs of serprog devices and traces."""

from __future__ import annotations

import pytest
from support import DieBus, Notes, small_chip

from hwflash.bus.url import parse_url
from hwflash.errors import BusUnstable, UsageError
from hwflash.flash.steady import until_steady


@pytest.mark.parametrize(
    ("text", "target", "endpoint"),
    [
        ("serprog:///dev/ttyACM0", "/dev/ttyACM0", None),
        ("serprog:///dev/ttyUSB0?baud=921600&frequency=8M", "/dev/ttyUSB0", None),
        ("serprog://lab:6475", "lab:6475", ("lab", 6475)),
        ("serprog://127.0.0.1:1/", "127.0.0.1:1", ("127.0.0.1", 1)),
        ("serprog://[::1]:6475?frequency=1M", "[::1]:6475", ("::1", 6475)),
    ],
)
def test_serprog(text: str, target: str, endpoint: tuple[str, int] | None) -> None:
    url = parse_url(text)
    assert (url.scheme, url.target, url.endpoint, url.lasting) == (
        "serprog",
        target,
        endpoint,
        text,
    )


def test_serprog_options() -> None:
    url = parse_url("serprog:///dev/ttyUSB0?baud=921600&frequency=8M")
    assert (url.integer("baud", 0, 1, 10**7), url.frequency(0.0)) == (921600, 8e6)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("serprog:", "usage.url"),
        ("serprog://", "usage.url"),
        ("serprog:///", "usage.url"),
        ("serprog://host", "usage.url"),
        ("serprog://host:", "usage.url"),
        ("serprog://host:0", "usage.url"),
        ("serprog://host:66000", "usage.url"),
        ("serprog://host:http", "usage.url"),
        ("serprog://:6475", "usage.url"),
        ("serprog://me@host:6475", "usage.url"),
        ("serprog://host:6475/dev/ttyS0", "usage.url"),
        ("serprog://[::1:6475", "usage.url"),
        ("serprog://host:6475?baud=9600", "usage.url-option"),
        ("serprog:///dev/ttyS0?speed=9600", "usage.url-option"),
    ],
)
def test_what_serprog_urls_are_not(text: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_url(text)
    assert caught.value.code == code
    assert caught.value.context["url"] == text


def test_record_and_replay() -> None:
    url = parse_url("record+sim://w25q80?image=a%20b.bin&trace=my%20trace.jsonl&seed=3")
    assert (url.scheme, url.target) == ("record", "my trace.jsonl")
    assert url.inner is not None
    assert url.inner.text == "sim://w25q80?image=a%20b.bin&seed=3"
    assert url.inner.options == {"image": "a b.bin", "seed": "3"}
    assert url.lasting == url.inner.lasting, "resuming must not replace the trace"
    replay = parse_url("replay:///home/me/trace.jsonl")
    assert (replay.scheme, replay.target) == ("replay", "/home/me/trace.jsonl")
    assert parse_url("replay://trace.jsonl").target == "trace.jsonl"
    over_network = parse_url("record+serprog://lab:6475?trace=t").inner
    assert over_network is not None
    assert over_network.endpoint == ("lab", 6475)


def test_a_clock_that_cannot_be_changed_ends_the_search_for_a_slower_one() -> None:
    """A serprog device without command 14h."""

    class Fixed(DieBus):
        def set_frequency(self, hertz: float, /) -> None:
            pass

    attempts: list[float] = []
    bus = Fixed(small_chip())

    def attempt() -> None:
        attempts.append(bus.frequency)
        raise BusUnstable("two answers")

    with pytest.raises(BusUnstable):
        until_steady(bus, Notes(), attempt)
    assert attempts == [30e6]
