"""The contact test on simulated wires, good and bad."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from support import Notes

from hwflash.errors import Interrupted
from hwflash.jobs.contact import Contact, contact_test, judge, suspects, verdict, wait_for_chip
from hwflash.jobs.opening import Request
from hwflash.progress import CancelToken


def contacts(tmp_path: Path, query: str = "", frequency: float | None = None) -> list[Contact]:
    environ = {"HWFLASH_STATE_DIR": str(tmp_path)}
    request = Request(f"sim://p25q21h{query}", frequency=frequency, environ=environ)
    return contact_test(request, Notes(), CancelToken())


@pytest.mark.parametrize(
    ("query", "findings", "look_at", "said"),
    [
        ("", {"good"}, (), "good at every clock"),
        ("?faults=stuck=miso-high", {"all-ff"}, ("VCC", "GND", "CS#", "DO", "HOLD#"), "only ones"),
        ("?faults=cs=floating", {"all-ff"}, ("VCC", "GND", "CS#", "DO", "HOLD#"), "only ones"),
        ("?faults=stuck=miso-low", {"all-00"}, ("DO", "VCC", "GND"), "only zeros"),
        ("?faults=flip=0.001@12M", {"good", "flipping"}, ("CLK", "DO", "GND"), "good up to 10 MHz"),
        ("?faults=flip=0.005", {"flipping"}, ("CLK", "DO", "GND"), "reads differ"),
    ],
)
def test_findings(
    tmp_path: Path, query: str, findings: set[str], look_at: tuple[str, ...], said: str
) -> None:
    results = contacts(tmp_path, query)
    assert {item.finding for item in results} == findings
    assert suspects(results) == look_at
    good, text = verdict(results)
    assert good == (findings == {"good"})
    assert said in text


def test_the_clocks_rise_to_the_limit(tmp_path: Path) -> None:
    clocks = [item.frequency for item in contacts(tmp_path, frequency=10e6)]
    assert clocks == sorted(clocks)
    assert 9e6 < clocks[-1] <= 10e6
    assert [item.frequency for item in contacts(tmp_path, frequency=100e3)] == [
        pytest.approx(100e3, rel=0.1)
    ]


def test_one_bit_is_told_from_many() -> None:
    right = b"\xef\x40\x18" + bytes(range(256))
    flipped = bytes([right[0] ^ 1]) + right[1:]
    assert "one bit flips" in judge([right, flipped, right], 1e6).text
    # A slower clock has shown what is right: now every answer is wrong.
    assert judge([flipped] * 3, 1e6, right).good == 0
    assert judge([flipped] * 3, 1e6).ok


def test_waiting_for_a_chip(tmp_path: Path) -> None:
    environ = {"HWFLASH_STATE_DIR": str(tmp_path)}
    here = Request("sim://w25q80", environ=environ)
    wait_for_chip(here, CancelToken(), None, pause=0.01)
    wait_for_chip(here, CancelToken(), "another", pause=0.01)
    cancel = CancelToken()
    threading.Timer(0.3, cancel.cancel).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):  # the board that is done is still on
        wait_for_chip(here, cancel, "eb819e1f3516b5b2", pause=0.01)
    assert time.monotonic() - began < 20
    cancel.cancel()
    with pytest.raises(Interrupted):
        contact_test(here, Notes(), cancel)
