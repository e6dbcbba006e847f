from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("harness")
from harness import Bench  # noqa: E402 - its assertions are rewritten first


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person with nothing: no programmer set, no boards, no state."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HWFLASH_PROGRAMMER", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "HWFLASH_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HWFLASH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """1 MiB with a unique id, known from the catalog only."""
    return Bench(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Bench:
    """256 KiB, neither unique id nor known protection: quick."""
    return Bench(tmp_path, "p25q21h")
