"""``hwflash tui`` before it takes the screen."""

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
