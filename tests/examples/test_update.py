"""Update firmware from A to B and back to A: settings survive, and nothing of B stays behind."""

import hashlib

import pytest
from conftest import firmware

from hwflash.testing import assert_same


@pytest.fixture(scope="module")
def other():
    """Version B."""
    return firmware("OVMF_CODE.secboot.fd")


def test_a_to_b_to_a(provisioned, variables, image, other):
    flash = provisioned
    variables.set("Timeout", b"\x07\x00")
    before = flash.read()

    for version in (other, image):
        result = flash.write(version, region="code")
        flash.verify(version, region="code")
        assert result.executed
        assert variables.get("Timeout") == b"\x07\x00"
        variables.check()

    assert hashlib.sha256(flash.read()).digest() == hashlib.sha256(before).digest()


def test_versions_differ_in_code_only(image, other):
    with pytest.raises(AssertionError, match="BdsDxe"):
        assert_same(image, other)
    assert_same(image, other, ignore_regions=("fvmain-compact", "seccode"))
