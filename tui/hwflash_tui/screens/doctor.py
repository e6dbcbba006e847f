"""Doctor: is this computer ready, and what to do if not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from hwflash.jobs.doctor import Check, run_checks
from hwflash.remedies import REMEDIES
from hwflash_tui.screens.base import View
from hwflash_tui.widgets.bars import BAD, GOOD, WARN, Words

SIGNS: Final = {"ok": ("✓", GOOD), "info": ("·", ""), "warn": ("!", WARN),
                "fail": ("✗", f"bold {BAD}")}  # fmt: skip


class DoctorScreen(View):
    """Runs the checks when it is opened."""

    NAME = "Doctor"
    PURPOSE = (
        "Checks this computer: libusb, permissions, who holds a programmer, disk space, QEMU. "
        "Nothing is changed; what helps stands below each fault."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("l", "check", "Check again")]

    def __init__(self) -> None:
        super().__init__()
        self._checks: list[Check] | None = None

    @property
    def command(self) -> str:
        """The same on the command line."""
        return "hwflash doctor"

    def body(self) -> Iterable[Widget]:
        """A list."""
        yield VerticalScroll(Words(id="checks"), classes="page")

    def on_mount(self) -> None:
        """Begin."""
        self.action_check()

    def action_check(self) -> None:
        """Check again."""
        self._checks = None
        self._run()
        self.refresh_view()

    @work(thread=True, exclusive=True)
    def _run(self) -> None:
        """In a thread: programs are asked for their versions. No programmer is opened."""
        checks = run_checks()
        self.bench.call_from_thread(self._done, checks)

    def _done(self, checks: list[Check]) -> None:
        self._checks = checks
        self.refresh_view()

    def show(self) -> None:
        """What was found."""
        self.query_one("#checks", Words).put(
            Text("… checking") if self._checks is None else _report(self._checks)
        )


def _report(checks: list[Check]) -> Text:
    faults = sum(check.status in ("warn", "fail") for check in checks)
    text = Text.assemble(
        ("Everything is as it should be.\n\n" if not faults else f"{faults} remarks.\n\n", "bold")
    )
    for check in checks:
        sign, style = SIGNS[check.status]
        text.append(f"{sign} {check.status:<5}", style)
        text.append(f"{check.name}: {check.found}\n")
        remedy = REMEDIES.get(check.code)
        if check.status in ("warn", "fail"):
            if check.expected:
                text.append(f"        expected: {check.expected}\n", "dim")
            if remedy:
                text.append(f"        do: {remedy}\n", "bold")
    return text
