from __future__ import annotations

import pytest

pytest.register_assert_rewrite("bench_desk")
from bench_desk import Desk  # noqa: E402 - its assertions are rewritten first


@pytest.fixture
def desk(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("HWFLASH_PROGRAMMER", "XDG_CONFIG_HOME", "PYTEST_ADDOPTS", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    found = Desk(pytester)
    monkeypatch.setenv("HWFLASH_STATE_DIR", str(found.state))
    # The plugins of this computer cost a second, and say nothing of ours.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return found
