"""How each screen looks at 80 x 24 and 120 x 40; in black and white; light and dark.

What differs is meant or a fault: `scenes.py` draws what is expected anew.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from rig import SIZES, SMALL, SMALL_OLD, Bench, bench_test
from scenes import LOOKS, walk


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_looks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path.cwd())  # put back afterwards
    found = asyncio.run(walk(SIZES[name], tmp_path))
    expected = {path.stem.removesuffix(f"-{name}") for path in LOOKS.glob(f"*-{name}.txt")}
    assert set(found.texts) == expected
    for scene, text in found.texts.items():
        assert text == (LOOKS / f"{scene}-{name}.txt").read_text(), scene
        width, height = SIZES[name]
        assert max(map(len, text.splitlines())) <= width
        assert len(text.splitlines()) <= height


@pytest.mark.slow
def test_no_color(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one colour that is no grey; what has the focus still shows."""
    monkeypatch.setenv("NO_COLOR", "1")

    @bench_test
    async def scenario(bench: Bench) -> None:
        async with bench.run(bench.chip("one", SMALL, SMALL_OLD), bench.chip("two")):
            assert "┏" in bench.text, "the focus has a heavy frame"
            assert "● ready" in bench.text
            picture = bench.app.export_screenshot()
            colours = {
                picture[at + 6 : at + 13]
                for at in range(len(picture))
                if picture.startswith('fill="#', at)
            }
            terminal = {"#c5c8c6", "#ff5f57", "#febc2e", "#28c840", "#292929"}  # of the drawing
            assert all(c[1:3] == c[3:5] == c[5:7] for c in colours - terminal), colours

    scenario(tmp_path)
    assert os.environ["NO_COLOR"]


@pytest.mark.slow
@bench_test
async def test_light_and_dark(bench: Bench) -> None:
    async with bench.run(bench.chip("one", SMALL, SMALL_OLD)):
        before = bench.text
        assert bench.app.current_theme.dark
        await bench.press("ctrl+t")
        assert not bench.app.current_theme.dark
        await bench.until(lambda: bench.text == before)


@pytest.mark.slow
@bench_test
async def test_a_tiny_terminal_is_no_reason_to_break(bench: Bench) -> None:
    async with bench.run(bench.chip("one", SMALL, SMALL_OLD), size=(40, 10)):
        await bench.choose(bench.image("same.fd", SMALL_OLD))
        await bench.press("f5")
        await bench.until(lambda: bench.view.NAME == "Work" and bench.current.outcome is not None)
        assert "hwflash bench" in bench.text
