"""The example bench, run as its author would: `pytest tests/examples/test_NAME.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
#: The wheel is judged by this one, without the slow ones.
QUICK = "test_provision"
SCRIPTS = [
    pytest.param(path.stem, marks=() if path.stem == QUICK else pytest.mark.slow)
    for path in sorted(EXAMPLES.glob("test_*.py"))
]


def test_none_is_forgotten() -> None:
    assert len(SCRIPTS) == 5


@pytest.mark.foreign
@pytest.mark.parametrize("name", SCRIPTS)
def test_example(name: str, tmp_path: Path) -> None:
    environ = {**os.environ, "HWFLASH_STATE_DIR": str(tmp_path / "state")}
    for word in ("HWFLASH_PROGRAMMER", "PYTEST_ADDOPTS"):
        environ.pop(word, None)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", str(EXAMPLES / f"{name}.py"), "-p", "no:cacheprovider",
            "-W", "error", "-rs", f"--junitxml={tmp_path / 'junit.xml'}",
        ],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    if os.environ.get("CI"):
        assert "skipped" not in done.stdout
    written = (tmp_path / "junit.xml").read_text()
    if "skipped" not in done.stdout:
        assert 'name="hwflash.jedec_id" value="ef4015"' in written
        assert 'name="hwflash.modelled_seconds"' in written
    assert not list((tmp_path / "state" / "transactions").glob("*"))
