"""A bench with simulated programmers, driven by keys; and gates that hold a job where we want."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hwflash_tui.app import BenchApp
from hwflash_tui.screens.base import View
from hwflash_tui.station import Station
from support import pattern
from textual import events
from textual.pilot import Pilot

from hwflash.progress import Progress

#: 1 MiB, with a unique id; and 256 KiB without one.
PART, SMALL = "w25q80", "p25q21h"
SIZES = {"short": (80, 24), "tall": (120, 40)}

_RANDOM = pattern(128 << 10, 1)
#: What chips hold, and what they shall hold: equal but for 192 KiB.
OLD = _RANDOM * 8
NEW = _RANDOM[::-1] + OLD[128 << 10 : -(64 << 10)] + _RANDOM[-(64 << 10) :][::-1]
BLANK = b"\xff" * (1 << 20)
SMALL_OLD = OLD[: 256 << 10]

BOARD = """
name = "{name}"
description = "a board of the tests"
[flash]
chip = "{chip}"
size = "{size}"
[[region]]
name = "boot"
start = 0
length = "64K"
protected = true
[[region]]
name = "main"
start = "64K"
length = {rest}
"""


class Gate:
    """Holds the thread of a job at the first progress event of a phase."""

    def __init__(self, station: Station, phase: str, at: int = 1) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._phase, self._left = phase, at
        self._pass_on = station.mailbox.progress
        station.mailbox.progress = self._progress  # type: ignore[method-assign]

    def _progress(self, event: Progress, /) -> None:
        self._pass_on(event)
        if event.phase == self._phase and self._left > 0:
            self._left -= 1
            if self._left == 0:
                self.reached.set()
                assert self.opened.wait(60)

    def open(self) -> None:
        self.opened.set()


class Bench:
    """A folder with chips, boards and images, and the application over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.boards = folder / "config" / "hwflash" / "boards"
        self.boards.mkdir(parents=True)
        self.environ = {
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "HWFLASH_STATE_DIR": str(self.state),
        }
        self.app: BenchApp
        self.pilot: Pilot[None]
        self.bells = 0

    # --- things on the bench ---------------------------------------------------------------

    def chip(
        self, name: str, part: str = PART, content: bytes | None = None, **options: Any
    ) -> str:
        """The URL of a chip with content."""
        path = self.folder / f"{name}.bin"
        path.write_bytes(OLD if content is None else content)
        more = "".join(f"&{key}={value}" for key, value in options.items())
        return f"sim://{part}?image={path}{more}"

    def content(self, name: str) -> bytes:
        return (self.folder / f"{name}.bin").read_bytes()

    def image(self, name: str, content: bytes | None = None) -> Path:
        path = self.folder / name
        path.write_bytes(NEW if content is None else content)
        return path

    def board(self, name: str, chip: str = PART, size: int = 1 << 20) -> str:
        text = BOARD.format(name=name, chip=chip, size=size, rest=size - (64 << 10))
        (self.boards / f"{name}.toml").write_text(text)
        return name

    # --- the application ---------------------------------------------------------------------

    @asynccontextmanager
    async def run(
        self, *urls: str, size: tuple[int, int] = (80, 24), looked: bool = True, **options: Any
    ) -> AsyncIterator[Bench]:
        before = set(threading.enumerate())
        self.app = BenchApp(urls, state=self.state, environ=self.environ, **options)
        self.app.bell = self._bell  # type: ignore[method-assign]
        try:
            async with self.app.run_test(size=size) as pilot:
                self.pilot = pilot
                if looked:
                    await self.until(lambda: not any(s.busy for s in self.stations))
                yield self
        finally:
            self.app.close_threads()
        left = {t for t in threading.enumerate() if t not in before and "programmer" in t.name}
        assert not left, "an actor's thread outlived the bench"

    def _bell(self) -> None:
        self.bells += 1

    @property
    def stations(self) -> list[Station]:
        return self.app.stations

    @property
    def view(self) -> View:
        screen = self.app.screen
        assert isinstance(screen, View)
        return screen

    async def press(self, *keys: str) -> None:
        """Type keys. Textual's own pilot waits after each until the whole process is idle, which it
        is not while a job runs in another thread."""
        driver = self.app._driver
        assert driver is not None
        for key in keys:
            character = {"space": " "}.get(key, key if len(key) == 1 else None)
            event = events.Key(key, character)
            event.set_sender(self.app)
            driver.send_message(event)
            await asyncio.sleep(0.01)
            await self.pilot._wait_for_screen()
        await asyncio.sleep(0.02)
        await self.pilot._wait_for_screen()

    async def hold(self, key: str, times: int = 4) -> None:
        """Keys that come faster than the first one is done with."""
        driver = self.app._driver
        assert driver is not None
        for _ in range(times):
            event = events.Key(key, None)
            event.set_sender(self.app)
            driver.send_message(event)
        await self.press()
        await self.pilot.pause(0.3)

    async def type(self, text: str) -> None:
        await self.press(*text)

    async def until(
        self, condition: Callable[[], Any], seconds: float = 60, *, poll: bool = True
    ) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"never came; the screen says:\n{self.text}"
            await asyncio.sleep(0.02)
        if not poll:
            return
        looks = self.app.looks
        while self.app.is_running and self.app.looks < looks + 2:  # so that the screen shows it
            await asyncio.sleep(0.02)
        await self.pilot._wait_for_screen()

    @property
    def text(self) -> str:
        """The characters on the screen."""
        width, height = self.app.size
        lines = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text[:width].rstrip() for strip in lines[:height])

    async def choose(self, image: Path, board: str | None = None) -> None:
        """From the bench to a filled-in job, by keys."""
        await self.press("enter")
        await self.until(lambda: self.view.NAME == "Board and job")
        while self.app.focused is None or self.app.focused.id != "search":
            await self.press("tab")
        if board is not None:
            await self.type(board)
            await self.press("enter")
        else:
            await self.press("tab", "tab")
        assert self.app.focused is not None
        assert self.app.focused.id == "file"
        self.app.focused.value = str(image)  # type: ignore[attr-defined] - a paste
        await self.until(lambda: getattr(self.view, "form").image is not None)  # noqa: B009

    async def agree(self) -> None:
        """Wait for the plan, and say yes."""
        station = self.current
        await self.until(lambda: station.question is not None)
        await self.until(lambda: station.seconds_asked > 0.65)
        await self.press("y")

    @property
    def current(self) -> Station:
        return getattr(self.view, "station")  # noqa: B009


def bench_test(
    scenario: Callable[..., Awaitable[None]],
) -> Callable[[Path], None]:
    """Make ``async def test(bench)`` a test."""

    def test(tmp_path: Path) -> None:
        asyncio.run(scenario(Bench(tmp_path)))  # type: ignore[arg-type]

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    return test
