"""Provision a board, and verify that it is what it should be.

pytest test_provision.py --junitxml=provision.xml
"""

import struct

import pytest

from hwflash.testing import assert_same


def test_firmware_is_written_and_verified(flash, image):
    flash.write(image, verify="full")
    flash.verify(image)
    assert_same(flash, image)


def test_unit_gets_its_settings(provisioned, variables):
    """Variables are set as firmware sets them: a power cut meanwhile loses nothing."""
    assert variables.set("Timeout", struct.pack("<H", 3)).change == "new"
    variables.set("AssetTag", b"UNIT-0042", guid="5b8e1d2c-6f0a-4c39-9d17-2a4e8f3b7c60")
    variables.check()
    assert variables.get("Timeout") == b"\x03\x00"
    assert {item.name for item in variables.all()} >= {"Timeout", "AssetTag"}
    variables.delete("AssetTag")
    assert "AssetTag" not in variables


def test_only_the_store_was_touched(provisioned, variables, board, image):
    variables.set("Timeout", b"\x03\x00")
    assert_same(board, image, regions="code")
    with pytest.raises(AssertionError, match="Timeout"):
        assert_same(board, image)
