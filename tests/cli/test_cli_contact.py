"""``hwflash contact``, ``probe --contact`` and ``doctor --bus``."""

from __future__ import annotations

import pytest
from harness import Bench


def test_contact(bench: Bench) -> None:
    answer = bench.json("contact", "-p", bench.url())
    assert answer.code == 0, answer.out
    assert {item["finding"] for item in answer.result["clocks"]} == {"good"}
    answer = bench.json("contact", "-p", bench.url(faults="stuck=miso-low"))
    assert answer.code == 1
    assert answer.result["suspects"][0] == "DO"
    answer = bench.run("contact", "-p", bench.url(faults="flip=0.001@12M"), "-f", "10M")
    assert answer.code == 0, answer.err
    assert "good at every clock" in answer.out
    answer = bench.run("contact", "-p", bench.url(faults="flip=0.001@12M"))
    assert answer.code == 1
    assert "BAD" in answer.out
    assert "used from now on: 10 MHz at most" in answer.out
    answer = bench.json("probe", "-p", bench.url())
    assert answer.result["frequency"] == 10e6
    assert bench.json("probe", "-p", bench.url(), "-f", "30M").result["frequency"] == 30e6
    assert bench.json("contact", "--forget", "-p", bench.url()).result["forgotten"] == 10e6
    assert "nothing was remembered" in bench.run("contact", "--forget", "-p", bench.url()).out
    assert bench.json("probe", "-p", bench.url()).result["frequency"] == 30e6


@pytest.mark.slow
def test_probe_and_doctor_test_the_contact(bench: Bench) -> None:
    good = bench.json("probe", "--contact", "-p", bench.url())
    assert good.code == 0, good.out
    assert good.result["contact"]["finding"] == "good"
    assert good.result["jedec_id"] == good.result["contact"]["clocks"][0]["jedec_id"]
    slow = bench.json("probe", "--contact", "-p", bench.url(faults="slip=late@12M"), "-f", "20M")
    assert slow.code == 1, "not good up to the clock that was asked for"
    assert slow.result["frequency"] == 10e6
    bad = bench.json("probe", "--contact", "-p", bench.url(faults="swap=mosi-miso"))
    assert bad.code == 1
    assert bad.result["contact"]["answers"]["roles"]["mosi"] == "miso"
    assert "jedec_id" not in bad.result
    said = bench.run("probe", "--contact", "-p", bench.url(faults="swap=mosi-miso")).out
    assert "MOSI (DI) and MISO (DO) are swapped" in said

    doctor = bench.json("doctor", "--bus", "-p", bench.url(faults="short=clk-cs"))
    assert doctor.code == 1
    assert doctor.result["checks"][-1]["name"] == "bus"
    assert doctor.result["checks"][-1]["status"] == "fail"
    assert doctor.result["contact"]["lines"]["shorts"] == [["clk", "cs"]]
    assert bench.json("doctor", "--bus", "-p", bench.url()).result["contact"]["good"]
    denied = bench.json("doctor", "--bus", "-p", bench.url(faults="access=denied"))
    assert denied.result["checks"][-1]["code"] == "programmer.inaccessible"
    assert "contact" not in denied.result
    assert bench.run("doctor", "--bus", "-p", "nonsense").code == 2
    assert "usage.doctor" in bench.run("doctor", "-p", bench.url()).err
