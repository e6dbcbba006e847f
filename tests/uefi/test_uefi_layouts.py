from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.uefi import layouts

ALL = {name: value for name, value in vars(layouts).items() if isinstance(value, layouts.Layout)}
SIZES = {
    "VOLUME_HEADER": 56, "BLOCK_MAP_ENTRY": 8, "STORE_HEADER": 28, "AUTHENTICATED_RECORD": 60,
    "PLAIN_RECORD": 32, "EFI_TIME": 16, "WORK_SPACE_HEADER": 32, "WRITE_HEADER": 40,
    "WRITE_RECORD": 40, "SIGNATURE_LIST_HEADER": 28, "LOAD_OPTION_HEADER": 6,
    "DEVICE_PATH_HEADER": 4, "APPLE_RECORD": 36, "LEGACY_RECORD": 28, "VSS_HEADER": 16,
    "NVAR_HEADER": 10, "EVSA_ENTRY": 4, "EVSA_STORE": 16, "EVSA_DATA": 8, "FSYS_HEADER": 11,
    "FILE_HEADER": 24,
}  # fmt: skip


def test_sizes_are_those_of_the_specifications():
    assert {name: layout.size for name, layout in ALL.items()} == SIZES


@pytest.mark.parametrize("name", SIZES)
@given(data=st.data())
def test_the_quick_way_agrees_with_construct(name, data):
    layout = ALL[name]
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    slow = {key: value for key, value in layout.construct.parse(raw).items() if key != "_io"}
    assert layout.fields(raw) == slow
    assert layout.build(**slow) == layout.construct.build(slow) == raw


def test_unpacks_in_the_middle():
    assert layouts.BLOCK_MAP_ENTRY.unpack(b"xx\1\0\0\0\2\0\0\0", 2) == (1, 2)
