from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hwflash.errors import EnvironmentFault
from hwflash.resources import data_dir, data_files


def test_shipped_files_are_found() -> None:
    boards = data_files("boards", ".toml")
    assert list(boards) == sorted(boards)
    assert tomllib.loads(boards["qemu-q35-ovmf-4m.toml"].read_text("utf-8"))["name"] == (
        "qemu-q35-ovmf-4m"
    )
    assert set(data_files("udev")) == {"70-hwflash.rules", "hwflash-sysusers.conf"}


def test_installed_data_comes_before_the_checkout(tmp_path: Path) -> None:
    package = tmp_path / "hwflash"
    (package / "_boards").mkdir(parents=True)
    (tmp_path / "boards").mkdir()
    assert data_dir("boards", package=package) == package / "_boards"
    (package / "_boards").rmdir()
    assert data_dir("boards", package=package) == tmp_path / "boards"


def test_incomplete_installation(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        data_dir("udev", package=tmp_path / "hwflash")
    assert caught.value.code == "environment.data-missing"
    assert caught.value.context["folder"] == str(tmp_path / "hwflash" / "_udev")
