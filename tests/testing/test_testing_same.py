"""Assertions about flash contents: what passes, and what is said where it does not."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from hwflash import testing
from hwflash.boards import load_board
from hwflash.errors import HwflashError
from hwflash.layout.files import load_image
from hwflash.testing import assert_same, assert_same_variables
from hwflash.testing.reference import find_reference
from hwflash.uefi.exchange import Variable
from hwflash.uefi.find import find_stores
from hwflash.uefi.window import Window

STORE = lzma.decompress(
    (Path(__file__).parents[1] / "data" / "ovmf-2m-reclaim.pre.fd.xz").read_bytes()
)


def timeout() -> tuple[int, Variable]:
    """Where the value of a variable lies, and the variable."""
    (found,) = find_stores(Window(STORE))
    assert found.store is not None
    (record,) = found.store.named("Timeout")
    return record.data_offset, Variable.of(record)


def changed() -> bytes:
    at, variable = timeout()
    value = bytes(byte ^ 1 for byte in variable.data)
    return STORE[:at] + value + STORE[at + len(value) :]


def test_the_message_is_the_comparison(tmp_path: Path) -> None:
    file = tmp_path / "other.fd"
    file.write_bytes(changed())
    with pytest.raises(AssertionError) as caught:
        assert_same(STORE, file)
    lines = str(caught.value).splitlines()
    assert lines[:2] == ["- bytes: OVMF 2M, vars, 128 KiB", "+ other.fd: OVMF 2M, vars, 128 KiB"]
    assert "  ! Timeout (EfiGlobalVariable): data" in lines
    assert lines[-1] == "different: 2 of 131,072 bytes"
    with pytest.raises(AssertionError) as caught:
        assert_same_variables(STORE, str(file))
    assert "  ! Timeout (EfiGlobalVariable): data" in str(caught.value).splitlines()
    assert "bytes differ" not in str(caught.value)


def test_every_kind_of_side(tmp_path: Path) -> None:
    file = tmp_path / "store.fd"
    file.write_bytes(STORE)

    class Fixture:
        def side(self) -> object:
            from hwflash.jobs.compare import make_side

            return make_side("fixture", [(0, STORE)])

    for side in (STORE, bytearray(STORE), file, str(file), load_image(file), Fixture()):
        assert assert_same(STORE, side).identical
        assert assert_same_variables(side, STORE).stores == 1


def test_what_is_ignored() -> None:
    guid = timeout()[1].guid
    for ignore in ("Timeout", ("Nothing", "Time*"), f"*:{guid}", f"Timeout:{guid}"):
        assert not assert_same(STORE, changed(), ignore=ignore).identical
        assert_same_variables(STORE, changed(), ignore=ignore)
    assert_same(STORE, changed(), regions="ftw-spare")
    assert_same(STORE, changed(), ignore_regions=("vars",))
    with pytest.raises(AssertionError):
        assert_same(STORE, changed(), ignore_regions=("ftw-spare", "ftw-work"))
    with pytest.raises(AssertionError):
        assert_same(STORE, changed(), ignore="BootOrder")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: assert_same(STORE, STORE, regions="nowhere"), "usage.region"),
        (lambda: assert_same(STORE, STORE, ignore_regions="nowhere"), "usage.region"),
        (
            lambda: assert_same(STORE, STORE, regions="vars", ignore_regions="ftw-work"),
            "usage.selection",
        ),
        (lambda: assert_same(STORE, STORE, ignore="Name:no-guid"), "usage.guid"),
        (lambda: assert_same(STORE, 5), "usage.compare-side"),
        (lambda: assert_same(None, STORE), "usage.compare-side"),
        (lambda: assert_same(STORE, b""), "image.empty"),
        (lambda: assert_same(STORE, "no/such/file"), "image.unreadable"),
        (lambda: assert_same(STORE, "sim://nowhere"), "chips.unknown-part"),
        (lambda: assert_same(STORE, "board:nowhere"), "usage.board"),
    ],
)
def test_bad_sides(call, code: str) -> None:
    with pytest.raises(HwflashError) as caught:
        call()
    assert caught.value.code == code


def test_a_side_without_a_store_has_no_variables_to_agree() -> None:
    with pytest.raises(AssertionError, match="no variable store on the right side"):
        assert_same_variables(STORE, b"\xff" * len(STORE))
    with pytest.raises(AssertionError, match="not both have a variable store"):
        assert_same_variables(b"\xff" * 4096, b"\xff" * 4096)


@pytest.mark.foreign
def test_the_reference_is_the_boards_own() -> None:
    """Unless another is named; its template and code are the flash."""
    board = load_board("qemu-q35-ovmf-4m")
    name, found = find_reference(None, board)
    assert (name, found.machine.machine) == ("reference of qemu-q35-ovmf-4m", "q35")
    assert [(at, len(data)) for at, data in found.parts()] == [(0, board.flash.size)]
    assert find_reference("aarch64", board)[0] == "ovmf:aarch64"


def test_names_for_annotations() -> None:
    for name in testing.__all__:
        assert callable(getattr(testing, name))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        testing.Nothing  # noqa: B018
