"""Contact test, variables, compare, history, doctor, help, palette: each does its job."""

from __future__ import annotations

import pytest
from hwflash_tui.outcome import PASS
from hwflash_tui.station import Standing
from rig import NEW, OLD, SMALL, SMALL_OLD, Bench, bench_test
from textual.widgets import TabbedContent
from uefi.volumes import OVMF_4M, some_variables, variable, volume_bytes

from hwflash.jobs.history import open_history
from hwflash.jobs.store_order import StoreOrder, StoreSight

pytestmark = pytest.mark.slow


def store_image(size: int) -> bytes:
    """A flash that begins with OVMF's variable store."""
    records = [*some_variables(), variable("Timeout", b"\3\0")]
    volume = bytes(volume_bytes(records, OVMF_4M))
    return volume + b"\xff" * (size - len(volume))


@bench_test
async def test_contact(bench: Bench) -> None:
    urls = [
        bench.chip("good", SMALL, SMALL_OLD),
        bench.chip("long", SMALL, SMALL_OLD, faults="flip=0.0005@12M"),
        bench.chip("open", SMALL, SMALL_OLD, faults="cs=floating"),
    ]
    said = [
        ("✓ good: the contact is good at every clock", ""),
        ("✗ bad: good up to 10 MHz", "!   AD2    DO"),
        ("✗ bad: only ones, and no line is shorted: nobody drives MISO", "!   AD3   CS#"),
    ]
    async with bench.run(*urls):
        for station, (verdict, wire) in zip(bench.stations, said, strict=True):
            bench.app.screen.query_one(f"#station-{station.number}").focus()
            await bench.press("c")
            await bench.until(lambda: not bench.current.busy)
            assert verdict in bench.text
            assert wire in bench.text
            assert bench.view.command.startswith("hwflash contact -p")
            await bench.press("escape")


@bench_test
async def test_a_variable_is_changed_as_shown(bench: Bench) -> None:
    url = bench.chip("one", "w25q80", store_image(1 << 20))
    async with bench.run(url):
        await bench.press("v")
        await bench.until(lambda: not bench.current.busy)
        assert "✓ sound" in bench.text
        sight = bench.current.finished.value
        assert isinstance(sight, StoreSight)
        names = [item["name"] for item in sight.variables]
        before = bench.content("one")
        bench.view.query_one("#variables").move_cursor(row=names.index("Timeout"))
        await bench.press("enter")
        value = bench.app.screen.query_one("#new-value")
        value.value = "70000"
        await bench.press("enter")
        assert "!" in str(bench.app.screen.query_one("#value-problem").render())
        value.value = "7"
        await bench.press("enter")
        await bench.until(lambda: bench.view.NAME == "What it takes")
        assert "program" in bench.text
        assert "header of the new record" in bench.text
        assert "--u16 7" in bench.view.command
        bench.view._since += 1e6  # it came this very moment
        await bench.press("y")
        assert bench.view.NAME == "What it takes", "pressed in haste"
        assert bench.content("one") == before
        bench.view._since -= 1e6
        await bench.pilot.pause(0.7)
        await bench.press("y")
        await bench.until(lambda: bench.view.NAME == "Work" and bench.current.outcome is not None)
        assert bench.current.outcome.verdict == PASS
        await bench.press("escape")
        await bench.until(lambda: bench.view.NAME == "Variables" and not bench.current.busy)
        found = {item["name"]: item["data"] for item in bench.current.finished.value.variables}
        assert found["Timeout"] == "0700"
        await bench.press("f")
        assert "work space" in bench.text
        await bench.press("p")
        assert bench.view.NAME == "Variables", "there is nothing to repair"
    with open_history(bench.state, create=False) as history:
        assert [item.kind for item in history.entries()] == ["vars set"]


@bench_test
async def test_a_chip_without_a_store(bench: Bench) -> None:
    async with bench.run(bench.chip("one", SMALL, SMALL_OLD)):
        await bench.press("v")
        await bench.until(lambda: not bench.current.busy)
        assert bench.current.standing is Standing.TROUBLE
        assert "no UEFI variable store" in bench.text


@bench_test
async def test_compare(bench: Bench) -> None:
    async with bench.run(bench.chip("one")):
        await bench.press("x")
        bench.view.query_one("#other").value = str(bench.image("new.fd"))
        await bench.press("enter")
        await bench.until(lambda: not bench.current.busy)
        differing = sum(one != other for one, other in zip(OLD, NEW, strict=True))
        assert f"✗ {differing:,} of 1,048,576 bytes differ" in bench.text
        bench.view.query_one(TabbedContent).active = "tab-bytes"
        await bench.pilot.pause(0.2)
        assert f"{OLD[:4].hex()}" in bench.text.replace("·", "")
        assert bench.view.command.endswith("new.fd")
        bench.view.query_one("#other").value = str(bench.image("same.fd", OLD))
        bench.view.query_one("#other").focus()
        await bench.press("enter")
        await bench.until(lambda: not bench.current.busy)
        assert "✓ identical" in bench.text


@bench_test
async def test_history_doctor_help_and_palette(bench: Bench) -> None:
    async with bench.run(bench.chip("one", SMALL, SMALL_OLD), size=(120, 40)):
        await bench.press("h")
        await bench.until(lambda: "none yet" in bench.text)
        await bench.press("escape")
        await bench.choose(bench.image("same.fd", SMALL_OLD))
        await bench.press("f6")
        await bench.until(lambda: bench.view.NAME == "Work" and bench.current.outcome is not None)
        await bench.press("escape", "h")
        await bench.until(lambda: "✓ ok" in bench.text)
        assert "history show 1 --html" in bench.view.command
        await bench.press("o")
        await bench.until(lambda: "0 entries, ok" in bench.text or "1 entries, ok" in bench.text)
        await bench.press("escape", "o")
        await bench.until(lambda: "libusb" in bench.text)
        await bench.press("escape", "f1")
        assert bench.view.NAME == "Help"
        assert "Contact" in bench.text
        assert "Nothing is written before" in bench.text
        await bench.press("escape", "ctrl+y")
        assert bench.app.clipboard == bench.view.command
        await bench.press("ctrl+p")
        await bench.until(lambda: "Search for commands" in bench.text)
        await bench.type("variab")
        await bench.until(lambda: "key v" in bench.text)
        await bench.press("enter")
        await bench.until(lambda: bench.view.NAME == "Variables" and not bench.current.busy)


def test_store_orders_have_a_command() -> None:
    order = StoreOrder("vars", "sim://w25q80?image=a b.bin", name="Boot 1", kind="u16", value="3")
    assert order.command == "hwflash vars set 'sim://w25q80?image=a b.bin' 'Boot 1' --u16 3"
