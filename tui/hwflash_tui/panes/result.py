"""Result: pass or fail across the screen, what the chip is, what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from hwflash.jobs.order import Order
from hwflash_tui.outcome import FAIL, PASS, STOPPED
from hwflash_tui.station import Station
from hwflash_tui.widgets.banner import Banner
from hwflash_tui.widgets.bars import Words

CLASSES: Final = {PASS: "pass", FAIL: "fail", STOPPED: "stopped"}


class ResultPane(Vertical):
    """The end of an order; or, of a chip that was found half written, the way on."""

    def compose(self) -> ComposeResult:
        """Banner, sentences, facts, buttons."""
        yield Banner(id="verdict")
        yield Words(id="headline")
        yield Words(id="chip-state")
        yield Words(id="next")
        yield Words(id="result-facts")
        with Horizontal(classes="buttons"):
            yield Button("Resume (R)", id="resume", variant="success")
            yield Button("Restore (Z)", id="restore", variant="warning")
            yield Button("Next board (A)", id="again", variant="primary")

    def show(self, station: Station, followups: Mapping[str, Order]) -> None:
        """Say how it ended."""
        outcome = station.outcome
        banner = self.query_one(Banner)
        verdict = outcome.verdict if outcome is not None else STOPPED
        banner.word = verdict
        for name, css in CLASSES.items():
            banner.set_class(name == verdict, css)
        if outcome is None:
            headline = "a write to this chip stopped half way"
            chip, todo = "the chip is in an unknown state", "Press Resume to go on, or Restore."
            facts: tuple[tuple[str, str], ...] = ()
        else:
            headline, chip, todo = outcome.headline, outcome.chip, outcome.next
            facts = outcome.facts
        self.query_one("#headline", Words).put(Text(_sentence(headline), "bold"))
        sign = "!" if outcome is None or outcome.unknown else "·"
        self.query_one("#chip-state", Words).put(f"{sign} {_sentence(chip)}")
        self.query_one("#next", Words).put(Text(f"► {todo}", "bold"))
        text = Text()
        for name, value in facts:
            text.append(f"{name:>8}  ", "dim")
            text.append(f"{value}\n")
        self.query_one("#result-facts", Words).put(text)
        for name in ("resume", "restore"):
            self.query_one(f"#{name}", Button).display = name in followups


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
