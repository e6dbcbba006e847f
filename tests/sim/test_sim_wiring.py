"""Broken wires, seen with raw USB calls: nothing of hwflash's driver or tester takes part."""

from __future__ import annotations

from itertools import product

import pytest
from sim_chips import MX25L128, W25Q128, sfdp_table
from test_sim_ft232h import HIGH, LOW, Host, rd, wr

from hwflash.errors import UsageError
from hwflash.sim.faults import Faults

IDENT = LOW + wr(b"\x9f") + rd(3) + HIGH
FREE = b"\x80\x00\x00\x81"
LINES = {"clk": 1, "mosi": 2, "miso": 4, "cs": 8}


def host(text: str, **options) -> Host:
    return Host(faults=Faults.parse(text), **options)


def levels(found: Host, value: int, direction: int) -> int:
    """ADBUS0 to 3 when these pins are driven so."""
    return found.ask(bytes((0x80, value, direction, 0x81)), 1)[0] & 0x0F


def by_hand(found: Host, clk: int, mosi: int, miso: int, cs: int) -> str:
    """The id, every edge a pin command."""
    outputs = 0xF0 | clk | mosi | cs
    stream = bytes((0x80, 0xF0 | cs, outputs, 0x80, 0xF0, outputs))
    for place in range(7, -1, -1):
        level = 0xF0 | (mosi if 0x9F >> place & 1 else 0)
        stream += bytes((0x80, level, outputs, 0x80, level | clk, outputs, 0x80, level, outputs))
    stream += bytes((0x81, 0x80, 0xF0 | clk, outputs, 0x80, 0xF0, outputs)) * 24
    answer = found.ask(stream + bytes((0x80, 0xF0 | cs, outputs)), 24)
    return f"{int(''.join(str(int(bool(level & miso))) for level in answer), 2):06x}"


@pytest.mark.parametrize(
    ("text", "jedec_id"),
    [
        ("swap=wp-hold", "ef4018"), ("open=wp", "ef4018"), ("open=hold", "ef4018"),
        ("stuck=wp-low", "ef4018"), ("open=clk", "ffffff"), ("open=mosi", "ffffff"),
        ("open=miso", "ffffff"), ("open=cs", "ffffff"), ("stuck=clk-low", "ffffff"),
        ("stuck=mosi-low", "ffffff"), ("stuck=hold-low", "ffffff"), ("stuck=cs-high", "ffffff"),
        ("hold=low,open=hold", "ffffff"), ("reset=low", "ffffff"), ("supply=off", "000000"),
        ("swap=mosi-miso", "ffffff"), ("swap=clk-cs", "ffffff"), ("short=clk-cs", "ffffff"),
        ("slip=late", "f7a00c"), ("sag=3", "ef40ff"), ("engine=deaf", "000000"),
        ("master=ACBUS1", "ffffff"),
    ],
)  # fmt: skip
def test_what_the_engine_reads(text: str, jedec_id: str) -> None:
    assert host(text).ask(IDENT, 3).hex() == jedec_id


def test_levels_at_rest_and_pulled() -> None:
    for line, bit in LINES.items():
        for other, touched in LINES.items():
            if line != other:
                assert levels(host(f"short={line}-{other}"), 0, bit) == 0x0F & ~bit & ~touched
        low, high = host(f"stuck={line}-low"), host(f"stuck={line}-high")
        assert low.ask(FREE, 1)[0] & 0x0F == 0x0F & ~bit
        assert levels(low, bit, bit) == 0x0F & ~bit, "driving does not help"
        assert levels(high, 0, bit) == 0x0F
        assert levels(host(f"open={line}"), 0, bit) == 0x0F & ~bit, "an open wire looks good"
    off = host("supply=off")
    assert off.ask(FREE, 1)[0] & 0x0F == 0
    assert levels(off, 0x05, 0x0F) == 0x05, "a clamp, not a short"
    assert levels(host(""), 0, 4) == 0x0B, "the pin of MISO can be driven, too"


@pytest.mark.parametrize(
    "pair", ["clk-mosi", "clk-miso", "clk-cs", "mosi-miso", "mosi-cs", "miso-cs"]
)
def test_a_swapped_chip_answers_on_the_other_pins(pair: str) -> None:
    one, other = pair.split("-")
    roles = {**LINES, one: LINES[other], other: LINES[one]}
    assert by_hand(host(f"swap={pair}"), **roles) == "ef4018"
    assert by_hand(host(f"swap={pair}"), **LINES) != "ef4018"
    assert by_hand(host(""), **LINES) == "ef4018"


def test_two_swaps_are_a_cycle() -> None:
    found = host("swap=clk-mosi+mosi-cs")
    assert by_hand(found, clk=2, mosi=8, miso=4, cs=1) == "ef4018"


def test_a_loose_miso_picks_up_its_neighbour() -> None:
    found = host("open=miso-coupled")
    assert found.ask(LOW + b"\x31\x01\x00\x5a\xa5" + HIGH, 2) == b"\x5a\xa5"
    assert found.ask(FREE, 1)[0] & 4, "at rest it is pulled up"


def test_a_supply_that_sags_is_back_after_the_window() -> None:
    found = host("sag=10")
    status = LOW + wr(b"\x05") + rd(20) + HIGH
    assert found.ask(status, 20) == bytes(9) + b"\xff" * 11
    found.clock.sleep(0.001)
    assert found.ask(IDENT, 3).hex() == "ef4018"
    found = host("sag=10@10M")
    found.write(b"\x86\x05\x00")
    assert found.ask(status, 20) == bytes(20), "not at this clock"


def test_what_broke_down_has_forgotten_its_write_enable() -> None:
    found = host("sag=10")
    found.ask(LOW + wr(b"\x06") + HIGH, 0)
    assert found.sim.die.wel
    found.ask(LOW + wr(b"\x05") + rd(20) + HIGH, 20)
    assert not found.sim.die.wel


def test_a_clock_that_rings_puts_the_chip_ahead() -> None:
    found = host("ring=0.02", sfdp=sfdp_table("w25q128jv"))
    right = Host(sfdp=sfdp_table("w25q128jv"))
    read = LOW + wr(b"\x5a\x00\x00\x00\x00") + rd(64) + HIGH
    good = f"{int.from_bytes(right.ask(read, 64)):0512b}"
    ahead = 0
    for _ in range(40):
        answer = f"{int.from_bytes(found.ask(read, 64)):0512b}"
        first = next((at for at in range(512) if answer[at] != good[at]), 512)
        ahead += first < 480 and answer[first : first + 8] == good[first + 1 : first + 9]
    assert ahead > 5


def test_two_chips_pull_low_together() -> None:
    found = Host(second=(MX25L128, None))
    assert found.ask(IDENT, 3).hex() == f"{0xEF4018 & 0xC22018:06x}"
    both = Host(second=(W25Q128, None))
    assert both.ask(IDENT, 3).hex() == "ef4018"


def test_another_master_is_quiet_while_its_reset_is_low() -> None:
    found = host("master=ACBUS1")
    seen = set()
    for _ in range(60):
        seen.add(found.ask(FREE, 1)[0] & 0x09)
        found.clock.sleep(13e-6)
    assert len(seen) > 1
    found.write(b"\x82\x00\x02")
    assert found.ask(IDENT, 3).hex() == "ef4018"
    assert {found.ask(FREE, 1)[0] & 0x0F for _ in range(60)} == {0x0F}


def test_faults_of_lines_are_parsed() -> None:
    for one, other in product(LINES, LINES):
        if one != other:
            assert Faults.parse(f"swap={one}-{other}").swap == f"{one}-{other}"
    assert Faults.parse("ring=0.1@20M,slip=late@5M,sag=100@1M") == Faults(
        ring=0.1, ring_above=20e6, slip="late", slip_above=5e6, sag=100, sag_above=1e6
    )
    for text in (
        "swap=clk-clk", "swap=clk", "swap=clk-mosi+", "short=clk-wp", "open=all", "stuck=clk",
        "stuck=clk-0", "master=ADBUS0", "slip=early", "second=", "sag=0", "ring=2", "supply=on",
    ):  # fmt: skip
        with pytest.raises(UsageError):
            Faults.parse(text)
