"""Update firmware from A to B and back to A: settings survive, and nothing of B stays behind."""

import hashlib

import pytest

from hwflash.testing import assert_same


def test_a_to_b_to_a(provisioned, variables, image, next_image):
    flash = provisioned
    variables.set("Timeout", b"\x07\x00")
    before = flash.read()

    for version in (next_image, image):
        result = flash.write(version, region="code")
        flash.verify(version, region="code")
        assert result.executed
        assert variables.get("Timeout") == b"\x07\x00"
        variables.check()

    assert hashlib.sha256(flash.read()).digest() == hashlib.sha256(before).digest()


def test_versions_differ_in_code_only(image, next_image):
    with pytest.raises(AssertionError, match="BdsDxe"):
        assert_same(image, next_image)
    assert_same(image, next_image, ignore_regions=("fvmain-compact", "seccode"))
