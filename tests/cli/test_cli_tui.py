"""``hwflash tui`` before it takes the screen, and ``hwflash contact``."""

from __future__ import annotations

import importlib.util

import pytest
from harness import Bench


def test_without_textual_it_says_what_to_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "textual" else known(name, *rest),
    )
    answer = bench.run("tui", "-p", bench.url(), typed="")
    assert answer.code == 3
    assert "environment.tui-missing" in answer.err
    assert "pip install 'hwflash[tui]'" in answer.err


def test_it_needs_a_terminal_and_a_good_url(bench: Bench) -> None:
    answer = bench.json("tui", "-p", bench.url())
    assert answer.error["code"] == "usage.terminal"
    assert bench.run("tui", "-p", bench.url()).code == 2
    assert "usage.url" in bench.run("tui", "-p", "sim://").err
    assert "usage.url" in bench.run("tui", "-p", "nonsense").err
    answer = bench.run("tui", "--job", bench.file("job.toml", "[job]\nname = 3\n"))
    assert answer.code == 7
    assert "job.faults" in answer.err


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
