from dataclasses import replace

import pytest
from support import BLOCK_64K, SECTOR, small_chip

from hwflash.chip.identity import combine, conflicts, manufacturer_name, resize, resolve
from hwflash.chip.model import Addressing, Duration, EnterFourByte, EraseRegion, EraseType
from hwflash.errors import ChipUnknown, UsageError
from hwflash.units import KIB, MIB

ID = b"\xef\x40\x18"


def described(**changes):
    """A chip as SFDP knows it: no voltage, coarse times."""
    kinds = tuple(replace(k, time=Duration(k.time.typical * 2, 9.0)) for k in (SECTOR, BLOCK_64K))
    region = EraseRegion(0, 16 * MIB, kinds)
    return small_chip(16 * MIB, part="SFDP-ef4018", jedec_id=ID, erase=(region,), **changes)


def listed(**changes):
    region = EraseRegion(0, 16 * MIB, (SECTOR, BLOCK_64K))
    facts = {"part": "W25Q128JV", "jedec_id": ID, "erase": (region,), "voltage": (2.7, 3.6)}
    return small_chip(**{"size": 16 * MIB, **facts, **changes})


def test_makers() -> None:
    assert manufacturer_name(b"\xef\x40\x18") == "Winbond"
    assert manufacturer_name(b"\xc2") == "Macronix"
    assert manufacturer_name(b"\x99\0\0") == "unknown (99)"


def test_no_source() -> None:
    with pytest.raises(ChipUnknown, match="ef4018") as caught:
        resolve(ID, None, [])
    assert caught.value.context == {"jedec_id": "ef4018", "manufacturer": "Winbond"}


def test_one_source() -> None:
    only = resolve(ID, described(), [])
    assert (only.chip, only.source, only.conflicts, only.twins) == (described(), "sfdp", (), ())
    other = listed(part="W25Q128FV")
    found = resolve(ID, None, [listed(), other])
    assert (found.chip, found.source, found.twins) == (listed(), "catalog", (other,))


def test_two_sources_that_agree() -> None:
    found = resolve(ID, described(), [listed()])
    assert (found.source, found.conflicts) == ("sfdp", ())
    assert (found.chip.part, found.chip.voltage) == ("W25Q128JV", (2.7, 3.6))
    kinds = found.chip.erase[0].types
    assert [kind.time.typical for kind in kinds] == [0.045, 0.15], "the data sheet's times"
    limits = [kind.time.maximum for kind in described().erase[0].types]
    assert [kind.time.maximum for kind in kinds] == limits, "the longer of two limits"


def test_the_part_that_fits_best_is_taken() -> None:
    wrong = listed(part="WRONG", size=8 * MIB, page_size=512)
    found = resolve(ID, described(), [wrong, listed(), listed(part="TWIN")])
    assert found.chip.part == "W25Q128JV"
    assert [twin.part for twin in found.twins] == ["TWIN"]


def test_twins_are_treated_so_that_it_is_right_for_each() -> None:
    slow = listed(
        part="SLOW",
        page_program=Duration(0.001, 0.009),
        erase=(EraseRegion(0, 16 * MIB, (replace(SECTOR, time=Duration(0.1, 7.0)),)),),
        chip_erase=None,
    )
    found = resolve(ID, None, [listed(), slow]).chip
    assert found.part == "W25Q128JV"
    assert found.page_program == Duration(listed().page_program.typical, 0.009)
    assert [(kind.size, kind.time.maximum) for kind in found.erase_types] == [(4096, 7.0)]
    assert found.chip_erase is None
    large = {"size": 32 * MIB, "erase": (EraseRegion(0, 32 * MIB, (SECTOR, BLOCK_64K)),)}
    fitted = listed(**large, addressing=Addressing(enter=EnterFourByte.B7, opcodes=True))
    without = listed(**large, part="OLD", addressing=Addressing(enter=EnterFourByte.WREN_B7))
    both = resolve(ID, None, [fitted, without]).chip
    assert both.addressing == Addressing(enter=EnterFourByte.WREN_B7, opcodes=False)


def test_the_erase_commands_tell_twins_apart() -> None:
    fewer = listed(part="FEWER", erase=(EraseRegion(0, 16 * MIB, (SECTOR,)),))
    found = resolve(ID, described(), [fewer, listed()])
    assert (found.chip.part, found.twins) == ("W25Q128JV", ())


def test_a_size_settles_the_size_only() -> None:
    odd = listed(erase=(EraseRegion(0, 8 * MIB, (replace(SECTOR, size=8192),)),), size=8 * MIB)
    found = resolve(ID, described(), [odd], size=8 * MIB)
    assert {item.field for item in found.conflicts} == {"size", "erase"}
    assert [item.field for item in found.doubts] == ["erase"]
    assert resolve(ID, described(), [odd], override=odd).doubts == ()


def test_the_user_has_the_last_word() -> None:
    named = listed(part="NAMED", size=8 * MIB)
    found = resolve(ID, described(), [listed()], override=named)
    assert (found.chip, found.source) == (named, "override")
    assert [item.field for item in found.conflicts] == ["size"], "still told"
    assert resolve(ID, None, [], override=named).conflicts == ()
    sized = resolve(ID, described(), [listed()], size=4 * MIB)
    assert (sized.chip.size, sized.source) == (4 * MIB, "override")
    assert sized.chip.erase[-1].length == 4 * MIB


def test_conflicts_are_told_in_words() -> None:
    kinds = (replace(SECTOR, size=8 * KIB), BLOCK_64K)
    other = listed(size=8 * MIB, page_size=512, erase=(EraseRegion(0, 8 * MIB, kinds),))
    found = conflicts(described(), other)
    assert [(item.field, item.dangerous) for item in found] == [
        ("size", True), ("page_size", False), ("erase", True),
    ]  # fmt: skip
    assert [str(item) for item in found] == [
        "size: SFDP says 16777216, the catalog says 8388608",
        "page_size: SFDP says 256, the catalog says 512",
        "erase: SFDP says 20h=4096, D8h=65536, the catalog says 20h=8192, D8h=65536",
    ]
    assert conflicts(described(), listed()) == ()


def test_an_erase_type_only_one_source_knows_is_no_conflict() -> None:
    half = EraseType(32 * KIB, 0x52, Duration(0.1, 1))
    more = listed(erase=(EraseRegion(0, 16 * MIB, (SECTOR, half, BLOCK_64K)),))
    assert conflicts(described(), more) == ()
    # several sizes on one opcode (SST26): fine as long as each size is known
    block = [EraseType(size * KIB, 0xD8, Duration(0.1, 1)) for size in (8, 32, 64)]
    several = listed(erase=(EraseRegion(0, 16 * MIB, tuple(block)),))
    assert conflicts(several, several) == ()


def test_combining_keeps_times_of_erase_types_the_catalog_lacks() -> None:
    odd = EraseType(32 * KIB, 0x52, Duration(0.7, 3))
    source = replace(described(), erase=(EraseRegion(0, 16 * MIB, (SECTOR, odd)),))
    assert combine(source, listed()).erase[0].types == (SECTOR, odd)


def test_addressing_comes_from_sfdp_unless_it_cannot_be_true() -> None:
    """IS25WP256: 32 MiB, and its tables claim 3-byte addresses only."""
    real = Addressing(enter=EnterFourByte.B7, opcodes=True)
    large = replace(described(), size=32 * MIB)
    assert combine(large, listed(addressing=real)).addressing == real
    own = replace(large, addressing=Addressing(enter=EnterFourByte.WREN_B7))
    assert combine(own, listed(addressing=real)).addressing.enter is EnterFourByte.WREN_B7
    assert combine(described(), listed(addressing=real)).addressing == Addressing()


# --- another size -------------------------------------------------------------------------------

REGIONS = (EraseRegion(0, 64 * KIB, (SECTOR,)), EraseRegion(64 * KIB, 64 * KIB, (BLOCK_64K,)))


def test_a_smaller_chip_has_its_map_cut_off_and_no_chip_erase() -> None:
    chip = small_chip(erase=REGIONS)
    found = resize(chip, 64 * KIB)
    assert (found.size, found.erase) == (64 * KIB, REGIONS[:1])
    assert found.chip_erase is None, "it would not stop at the size"
    found = resize(chip, 8 * KIB)
    assert found.erase == (EraseRegion(0, 8 * KIB, (SECTOR,)),)


def test_a_larger_chip_has_its_last_region_drawn_out() -> None:
    chip = small_chip(erase=REGIONS)
    found = resize(chip, 1 * MIB)
    assert found.erase[-1] == EraseRegion(64 * KIB, MIB - 64 * KIB, (BLOCK_64K,))
    assert found.chip_erase == chip.chip_erase
    assert resize(chip, chip.size) == chip


@pytest.mark.parametrize("size", [0, -4096, 1, 5000, 64 * KIB + 4096])
def test_sizes_that_are_no_whole_blocks(size: int) -> None:
    with pytest.raises(UsageError) as caught:
        resize(small_chip(erase=REGIONS), size)
    assert (caught.value.code, caught.value.context["size"]) == ("usage.size", size)
