from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwflash.errors import EnvironmentFault
from hwflash.state import state_dir, state_path


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HWFLASH_STATE_DIR": "/a", "XDG_STATE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_STATE_HOME": "/b", "HOME": "/c"}, "/b/hwflash"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/c"}, "/c/.local/state/hwflash"),
        ({"HWFLASH_STATE_DIR": "", "HOME": "/c"}, "/c/.local/state/hwflash"),
    ],
)
def test_where_it_is(environ: dict[str, str], path: str) -> None:
    assert state_path(environ) == Path(path)


def test_relative_directory_of_the_users_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert state_path({"HWFLASH_STATE_DIR": "state"}) == tmp_path / "state"


def test_no_home() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        state_path({})
    assert caught.value.code == "state.unwritable"


def test_is_made_private(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    path = state_dir(environ)
    assert path == tmp_path / ".local/state/hwflash"
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o750)
    assert state_dir(environ).stat().st_mode & 0o777 == 0o750


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    for environ in (
        {"HWFLASH_STATE_DIR": str(tmp_path / "state")},
        {"XDG_STATE_HOME": str(tmp_path / "state")},
    ):
        with pytest.raises(EnvironmentFault) as caught:
            state_dir(environ)
        assert caught.value.code == "state.unwritable"
        assert caught.value.exit_code == 3
        assert str(tmp_path / "state") in caught.value.message


def test_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(EnvironmentFault, match="cannot be written to"):
        state_dir({"HWFLASH_STATE_DIR": str(tmp_path)})
