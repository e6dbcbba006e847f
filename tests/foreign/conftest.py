"""Programs we did not write. In CI a missing one is a failure, never a skip."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

OVMF = Path("/usr/share/OVMF")


def require(found: object, what: str) -> None:
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def ovmf() -> tuple[Path, Path]:
    """Debian's 4 MiB OVMF: variable store template and code."""
    store, code = OVMF / "OVMF_VARS_4M.fd", OVMF / "OVMF_CODE_4M.fd"
    require(store.exists() and code.exists(), "package ovmf")
    return store, code


@pytest.fixture(scope="session")
def qemu() -> str:
    found = shutil.which("qemu-system-x86_64")
    require(found, "package qemu-system-x86")
    assert found is not None
    return found


def require_qemu_arm() -> str:
    """QEMU with the Aspeed machine that carries SPI chips."""
    found = shutil.which("qemu-system-arm")
    require(found, "package qemu-system-arm")
    assert found is not None
    return found
