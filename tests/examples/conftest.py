"""What the scripts of this bench share."""

import os
from pathlib import Path

import pytest

OVMF = Path("/usr/share/OVMF")


def firmware(code: str) -> bytes:
    """One of Debian's 2M builds, laid out as the flash: variable store, then code."""
    files = [OVMF / "OVMF_VARS.fd", OVMF / code]
    if not all(file.exists() for file in files):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("package ovmf is not installed")
    return b"".join(file.read_bytes() for file in files)


@pytest.fixture(scope="session")
def image() -> bytes:
    """The firmware under test. It takes the place of the plugin's `image`, which is the file
    that --hwflash-image names."""
    return firmware("OVMF_CODE.fd")


@pytest.fixture(scope="session")
def next_image() -> bytes:
    """The next version of it: another build of the same firmware."""
    return firmware("OVMF_CODE.secboot.fd")


@pytest.fixture
def provisioned(flash, image):
    """The board with our firmware on it, and as it was before when the test has ended."""
    with flash.transaction():
        flash.write(image)
        yield flash
