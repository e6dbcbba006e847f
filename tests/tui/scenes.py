"""A walk through the bench that stops at each screen for its looks.

``python tests/tui/scenes.py`` draws the pictures of the handbook (``docs/tui``) and what the test
of looks expects (``tests/tui/looks``); look at both before they are committed.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests")]

from hwflash_tui.screens.base import View  # noqa: E402
from rig import SIZES, Bench, Gate  # noqa: E402
from support import pattern  # noqa: E402
from uefi.volumes import OVMF_4M, some_variables, variable, volume_bytes  # noqa: E402

from hwflash.uefi.guids import GLOBAL_VARIABLE as GLOBAL  # noqa: E402

LOOKS = Path(__file__).parent / "looks"
PICTURES = ROOT / "docs" / "tui"

BOARD = """
name = "gizmo-b"
description = "gizmo, revision B"
[wiring]
connector = "SOIC-8 clip"
[flash]
chip = "W25Q80DV"
size = "1M"
[[region]]
name = "vars"
start = 0
length = "528K"
[[region]]
name = "main"
start = "528K"
length = "432K"
[[region]]
name = "boot"
start = "960K"
length = "64K"
protected = true
[nvram]
variables = { start = 0, length = "256K" }
work = { start = "260K", length = "4K" }
spare = { start = "264K", length = "264K" }
"""
JOB = """
[job]
name = "gizmo"
on_failure = "go-on"
[image]
file = "gizmo.fd"
[[bytes]]
at = "0xF0000"
length = 16
fill = 0
string = "{serial}"
[serial]
source = "counter"
format = "GZ-{n:06}"
start = 1
"""

#: What is never twice the same: rates, times left, clock times, hashes of paths.
_VARIES = (
    (re.compile(r"\d[\d.,]* (?:KiB|MiB)/s.*"), "RATE"),
    (re.compile(r"(?:, )?\d[\d.]* (?:s|min \d+ s) left"), ""),
    (re.compile(r"\d+\.\d\d s\b"), "N.NN s"),
)


def steady(text: str) -> str:
    """A screen without what varies from run to run."""
    for pattern_, instead in _VARIES:
        text = pattern_.sub(instead, text)
    return text


def contents() -> tuple[bytes, bytes]:
    """What the chip holds and what it shall hold: some variables, half a program, some more."""
    records = [
        *some_variables(),
        variable("Timeout", b"\3\0", GLOBAL),
        variable("PlatformLang", b"en\0", GLOBAL),
    ]
    volume = bytes(volume_bytes(records, OVMF_4M))
    code = pattern(64 << 10, 3)
    old = (volume + code * 6).ljust(1 << 20, b"\xff")
    new = bytearray(old)
    new[700 << 10 : 760 << 10] = pattern(60 << 10, 4)
    new[920 << 10 : 940 << 10] = pattern(20 << 10, 5)
    return old, bytes(new)


class Walk:
    """Pictures and texts, by name."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.texts: dict[str, str] = {}
        self.pictures: dict[str, str] = {}

    async def stop(self, name: str) -> None:
        await self.bench.pilot.pause(0.2)
        if isinstance(self.bench.app.screen, View):
            self.bench.view.refresh_view()
        await self.bench.pilot.pause(0.1)
        self.texts[name] = steady(self.bench.text) + "\n"
        self.pictures[name] = self.bench.app.export_screenshot(title="hwflash tui")


async def walk(size: tuple[int, int], folder: Path) -> Walk:
    """All of it, in a folder of its own; names are relative, so that they are the same anywhere."""
    os.chdir(folder)
    bench = Bench(Path())
    (bench.boards / "gizmo-b.toml").write_text(BOARD)
    old, new = contents()
    bench.environ["XDG_CONFIG_HOME"] = str((folder / "config").absolute())
    url = bench.chip("board-1", content=old)
    two = bench.chip("board-2", "p25q21h", pattern(64 << 10, 9) * 4)
    bench.image("gizmo.fd", new)
    found = Walk(bench)
    async with bench.run(url, two, size=size):
        await found.stop("bench")
        await _write(bench, found)
        await _look_around(bench, found)
    cut = f"{url}&faults=disconnect=150"
    async with bench.run(cut, size=size):
        await bench.press("enter")
        await bench.until(lambda: bench.view.NAME == "Board and job")
        bench.image("gizmo.fd", old)
        await bench.press("1")
        await bench.until(lambda: bench.view.form.image is not None)
        await bench.press("f5")
        await bench.until(lambda: bench.view.NAME == "Work" and bench.current.question is not None)
        await bench.agree()
        await bench.until(lambda: bench.current.outcome is not None)
        await found.stop("result-pulled")
    return found


async def _write(bench: Bench, found: Walk) -> None:
    await bench.choose(Path("gizmo.fd"), "gizmo-b")
    bench.view.query_one("#regions").focus()
    await bench.press("down", "space")
    await found.stop("job")
    await bench.press("f5")
    await bench.until(lambda: bench.view.NAME == "Work" and bench.current.question is not None)
    await found.stop("plan")
    gate = Gate(bench.current, "program", 2)
    await bench.agree()
    await bench.until(gate.reached.is_set)
    await found.stop("run")
    gate.open()
    await bench.until(lambda: bench.current.outcome is not None)
    await found.stop("result-pass")
    await bench.press("escape")


async def _look_around(bench: Bench, found: Walk) -> None:
    await bench.press("c")
    await bench.until(lambda: not bench.current.busy)
    await found.stop("contact")
    await bench.press("escape", "v")
    await bench.until(lambda: not bench.current.busy)
    names = [item["name"] for item in bench.current.finished.value.variables]
    bench.view.query_one("#variables").move_cursor(row=names.index("Timeout"))
    await found.stop("variables")
    await bench.press("enter")
    bench.app.screen.query_one("#new-value").value = "5"
    await found.stop("value")
    await bench.press("enter")
    await bench.until(lambda: bench.view.NAME == "What it takes")
    await found.stop("preview")
    await bench.press("n")
    await bench.until(lambda: not bench.current.busy)
    await bench.press("escape", "x")
    other = bytearray(bench.content("board-1"))
    other[0xB0000:0xB0008] = b"hwflash!"
    bench.view.query_one("#other").value = str(bench.image("other.fd", bytes(other)))
    await bench.press("enter")
    await bench.until(lambda: not bench.current.busy)
    await found.stop("compare")
    await bench.press("escape", "f1")
    await found.stop("help")
    await bench.press("escape")
    await _produce(bench, found)


async def _produce(bench: Bench, found: Walk) -> None:
    from hwflash.jobs.jobfile import check_job

    Path("gizmo.toml").write_text(JOB)
    bench.app.produce(bench.stations[0], check_job(Path("gizmo.toml"), bench.environ))
    await bench.until(lambda: bench.view.NAME == "Production")
    await bench.press("space")
    await bench.until(lambda: bench.view.tally.units == 1)
    await found.stop("production")


def draw_all() -> None:
    """Write pictures and looks."""
    LOOKS.mkdir(exist_ok=True)
    PICTURES.mkdir(exist_ok=True)
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(walk(size, Path(folder)))
            os.chdir(ROOT)
        for scene, text in found.texts.items():
            (LOOKS / f"{scene}-{name}.txt").write_text(text)
            if (scene, name) not in (("value", "tall"), ("help", "tall")):
                picture = PICTURES / f"{scene}-{size[0]}x{size[1]}.svg"
                picture.write_text(found.pictures[scene])


if __name__ == "__main__":
    draw_all()
