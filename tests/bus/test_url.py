import pytest

from hwflash.bus.url import FtdiSelector, parse_url
from hwflash.errors import UsageError


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("ftdi://ftdi:232h/1", FtdiSelector()),
        ("ftdi://ftdi:232h", FtdiSelector()),
        ("ftdi://ftdi/1", FtdiSelector()),
        ("ftdi:///1", FtdiSelector()),
        ("ftdi://::/1", FtdiSelector()),
        ("ftdi://ftdi:232h::/1", FtdiSelector()),
        ("ftdi://0x403:0x6014/1", FtdiSelector()),
        ("ftdi://0x0403:ft232h/1", FtdiSelector()),
        ("ftdi://ftdi:232h:FT1ABCDE/1", FtdiSelector(serial="FT1ABCDE")),
        ("ftdi://ftdi:232h:12345/1", FtdiSelector(serial="12345")),
        ("ftdi://::FT1ABCDE/1", FtdiSelector(serial="FT1ABCDE")),
        ("ftdi://ftdi:232h:2/1", FtdiSelector(index=2)),
        # pyftdi writes bus and address in hexadecimal
        ("ftdi://ftdi:232h:3:1f/1", FtdiSelector(bus=3, address=31)),
        ("ftdi:bus=3,path=1.2", FtdiSelector(bus=3, path=(1, 2))),
        ("ftdi:path=4", FtdiSelector(path=(4,))),
        ("ftdi:serial=7", FtdiSelector(serial="7")),
        ("ftdi:bus=10", FtdiSelector(bus=10)),
    ],
)
def test_ftdi_forms(text: str, selector: FtdiSelector) -> None:
    url = parse_url(text)
    assert (url.text, url.scheme, url.target, url.selector) == (text, "ftdi", "", selector)
    assert dict(url.options) == {}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "usage.url-scheme"),
        ("w25q128jv", "usage.url-scheme"),
        ("usb://1", "usage.url-scheme"),
        ("FTDI://::/1", "usage.url-scheme"),
        ("ftdi:", "usage.url"),
        ("ftdi:bus", "usage.url"),
        ("ftdi:bus=", "usage.url"),
        ("ftdi:bus=x", "usage.url"),
        ("ftdi:path=1..2", "usage.url"),
        ("ftdi:bus=1,bus=2", "usage.url"),
        ("ftdi:speed=3", "usage.url"),
        ("ftdi://ftdi:232h/2", "usage.url"),
        ("ftdi://ftdi:2232h/1", "usage.url"),
        ("ftdi://prolific:232h/1", "usage.url"),
        ("ftdi://ftdi:232h:zz:1/1", "usage.url"),
        ("ftdi://ftdi:232h:1:2:3/1", "usage.url"),
        ("ftdi://[/1", "usage.url"),
        ("ftdi://::/1?speed=3", "usage.url-option"),
        ("ftdi://::/1?image=x", "usage.url-option"),
        ("ftdi:bus=1?seed=3", "usage.url-option"),
        ("sim://", "usage.url"),
        ("sim:", "usage.url"),
        ("sim://?seed=1", "usage.url"),
        ("sim://w25q128jv?power=ACBUS0", "usage.url-option"),
    ],
)
def test_bad_urls_name_what_is_wrong(text: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_url(text)
    assert caught.value.code == code
    assert caught.value.exit_code == 2
    assert caught.value.context["url"] == text


def test_queries() -> None:
    url = parse_url(
        "ftdi://::/1?frequency=12.5M&latency=2&power=ACBUS0&reset=ACBUS1&cs=1&wait=timer"
    )
    assert url.frequency(30e6) == 12.5e6
    assert url.integer("latency", 16, 1, 255) == 2
    assert url.integer("cs", 0, 0, 4) == 1
    assert url.choice("wait", "clock", ("clock", "timer")) == "timer"
    assert url.options["power"] == "ACBUS0"
    assert url.options["reset"] == "ACBUS1"
    assert parse_url("ftdi:path=1?frequency=500k").frequency(30e6) == 500e3


def test_defaults_of_absent_options() -> None:
    url = parse_url("ftdi://::/1")
    assert url.frequency(30e6) == 30e6
    assert url.integer("latency", 16, 1, 255) == 16
    assert url.choice("wait", "clock", ("clock", "timer")) == "clock"


@pytest.mark.parametrize("text", ["sim://w25q128jv", "sim:w25q128jv", "sim://w25q128jv/"])
def test_sim_forms(text: str) -> None:
    url = parse_url(text)
    assert (url.scheme, url.target, dict(url.options)) == ("sim", "w25q128jv", {})


def test_sim_queries() -> None:
    url = parse_url(
        "sim://w25q128jv?image=/home/a#b+c%20d.bin&seed=0x10&timing=max&power_cut=3&wp=0"
        "&faults=slow=0.2,flip=1e-6@20M"
    )
    assert url.options["image"] == "/home/a#b+c d.bin"
    assert url.integer("seed", 0, 0, 99) == 16
    assert url.integer("power_cut", 0, 1, 99) == 3
    assert url.options["faults"] == "slow=0.2,flip=1e-6@20M"


@pytest.mark.parametrize("value", ["0", "256", "x", "", "1.5", "-1"])
def test_numbers_out_of_range(value: str) -> None:
    url = parse_url(f"ftdi://::/1?latency={value}")
    with pytest.raises(UsageError, match="latency") as caught:
        url.integer("latency", 16, 1, 255)
    assert (caught.value.code, caught.value.context["option"]) == ("usage.url-option", "latency")


def test_words_and_frequencies_that_are_none() -> None:
    with pytest.raises(UsageError, match=r"wait=soon.*clock or timer"):
        parse_url("ftdi://::/1?wait=soon").choice("wait", "clock", ("clock", "timer"))
    for text in ("fast", "0", "-3M", "nan", "inf"):
        with pytest.raises(UsageError) as caught:
            parse_url(f"ftdi://::/1?frequency={text}").frequency(30e6)
        assert caught.value.code == "usage.frequency"


def test_an_option_given_twice_is_a_mistake() -> None:
    with pytest.raises(UsageError) as caught:
        parse_url("ftdi://::/1?cs=0&cs=1")
    assert (caught.value.code, caught.value.context["option"]) == ("usage.url-option", "cs")


# --- other programmers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target", "endpoint"),
    [
        ("serprog:///dev/ttyACM0?baud=921600", "/dev/ttyACM0", None),
        ("serprog:///dev/serial/by-id/a+b", "/dev/serial/by-id/a+b", None),
        ("serprog://box.example:5000", "box.example:5000", ("box.example", 5000)),
        ("serprog://[::1]:5000/", "[::1]:5000", ("::1", 5000)),
    ],
)
def test_serprog_forms(text: str, target: str, endpoint) -> None:
    url = parse_url(text)
    assert (url.scheme, url.target, url.endpoint) == ("serprog", target, endpoint)
    assert url.lasting == text


def test_qemu_and_replay_forms() -> None:
    url = parse_url("qemu://w25q256?image=/a+b.bin&frequency=10M")
    assert (url.scheme, url.target, url.options["image"]) == ("qemu", "w25q256", "/a+b.bin")
    url = parse_url("replay:///home/a+b.jsonl")
    assert (url.scheme, url.target, dict(url.options)) == ("replay", "/home/a+b.jsonl", {})
    assert parse_url("replay://a.jsonl").target == "a.jsonl"


def test_recording_wraps_another_url() -> None:
    url = parse_url("record+sim://w25q128jv?seed=3&trace=/home/a+b%20c.jsonl&wp=0")
    assert (url.scheme, url.target) == ("record", "/home/a+b c.jsonl")
    assert url.inner is not None
    assert (url.inner.scheme, url.inner.target) == ("sim", "w25q128jv")
    assert dict(url.inner.options) == {"seed": "3", "wp": "0"}
    assert parse_url("record+ftdi://::/1?trace=x").inner.scheme == "ftdi"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("serprog:", "usage.url"), ("serprog://", "usage.url"), ("serprog://box", "usage.url"),
        ("serprog://box:x", "usage.url"), ("serprog://box:99999", "usage.url"),
        ("serprog://user@box:1", "usage.url"), ("serprog://box:1/path", "usage.url"),
        ("serprog://[:1", "usage.url"), ("serprog://box:1?baud=9600", "usage.url-option"),
        ("serprog:///dev/x?latency=1", "usage.url-option"),
        ("qemu://", "usage.url"), ("qemu://x?seed=1", "usage.url-option"),
        ("replay://", "usage.url"), ("replay://x?y=1", "usage.url-option"),
        ("record+sim://x", "usage.url"), ("record+sim://x?trace=", "usage.url"),
        ("record+sim://x?trace=a&trace=b", "usage.url"),
        ("record+record+sim://x?trace=a", "usage.url"), ("record+x?trace=a", "usage.url-scheme"),
        ("record+sim://x?trace=a&nonsense=1", "usage.url-option"),
    ],
)  # fmt: skip
def test_bad_urls_of_other_programmers(text: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_url(text)
    assert caught.value.code == code


def test_a_url_for_later_leaves_out_the_accidents_of_one_run() -> None:
    url = parse_url("sim://w25q128jv?image=/home/a+b%20c&power_cut=3&faults=slow=1&seed=2")
    assert "power_cut" not in url.lasting
    assert "faults" not in url.lasting
    assert dict(parse_url(url.lasting).options) == {"image": "/home/a+b c", "seed": "2"}
    recorded = parse_url("record+sim://w25q128jv?power_cut=3&trace=a")
    assert recorded.lasting == "sim://w25q128jv", "recording again would replace the trace"
