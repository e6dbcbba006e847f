from dataclasses import replace

import pytest
from support import DieBus, Rig, failure, small_chip

from hwflash.bus.pins import PinUse
from hwflash.bus.spi import Transfer
from hwflash.chip import catalog, dumps
from hwflash.chip.identity import Resolved
from hwflash.errors import (
    BusUnstable,
    ChipAbsent,
    ChipError,
    ChipUnknown,
    ChipUnsupported,
    HwflashError,
)
from hwflash.flash.identify import Identity, identify, read_id, read_sfdp
from hwflash.jobs.programmer import Programmer
from hwflash.jobs.session import Session
from hwflash.units import KIB, MIB

W25Q128 = catalog.load().by_name("W25Q128JV").chip
TABLES = dumps.load("W25Q128JV").sfdp


def nobody(_: bytes) -> list:
    return []


def knows(*chips):
    return lambda jedec_id: [chip for chip in chips if jedec_id.startswith(chip.jedec_id)]


def answering(answers: dict[bytes, list[bytes]], **options) -> DieBus:
    """A bus on which each command gives its answers one after the other, the last for ever."""

    def answer(op: Transfer) -> bytes | None:
        found = answers.get(op.write[:1])
        if not found:
            return None
        data = found.pop(0) if len(found) > 1 else found[0]
        return (data + b"\xff" * op.read)[: op.read]

    return DieBus(small_chip(), override=answer, **options)


# --- the id -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"\0", b"\xff"])
def test_no_chip(value: bytes) -> None:
    for state in (b"\0", b"\xff"):
        bus = answering({b"\x9f": [value * 6], b"\x05": [state]})
        with pytest.raises(ChipAbsent) as caught:
            identify(bus, nobody)
        assert failure(caught.value) == ("chip.absent", 4)
        assert caught.value.context["jedec_id"] == value.hex() * 3


@pytest.mark.parametrize("faults", ["stuck=miso-high", "stuck=miso-low", "cs=floating", "hold=low"])
def test_wires_that_are_not_there(faults: str) -> None:
    bus = {"pins": PinUse(hold=None)} if faults == "hold=low" else {}
    rig = Rig(faults=faults, flash=False, bus=bus)
    with pytest.raises(ChipAbsent):
        identify(rig.bus, nobody)
    rig.close()


def test_two_ids_on_two_reads() -> None:
    bus = answering({b"\x9f": [b"\xef\x40\x18", b"\xef\x40\x19"]})
    with pytest.raises(BusUnstable) as caught:
        identify(bus, nobody)
    assert failure(caught.value) == ("chip.unstable", 4)
    assert caught.value.context == {"first": "ef4018", "second": "ef4019"}


def test_bytes_behind_the_id_may_float() -> None:
    bus = answering({b"\x9f": [b"\xef\x40\x18\x01\x02\x03", b"\xef\x40\x18\x01\xff\xff"]})
    assert read_id(bus) == b"\xef\x40\x18\x01\x02\x03"


def test_a_sleeping_chip_is_woken() -> None:
    bus = DieBus(small_chip())
    bus.die.deep = True
    assert read_id(bus)[:3] == b"\xef\x40\x11"


def test_a_chip_still_busy_from_before_is_not_absent() -> None:
    """The cable was pulled during an erase and is back: the chip answers its status only."""
    rig = Rig(timing="max")
    rig.bus.execute([Transfer(b"\x06"), Transfer(b"\xc7")])
    rig.bus.close()
    rig.sim.unplug()
    rig.sim.plug()
    rig.open()
    with pytest.raises(ChipError) as caught:
        read_id(rig.bus)
    assert failure(caught.value) == ("chip.busy", 4)
    assert caught.value.context["status"] == 0x03
    rig.sim.clock.sleep(3)
    assert read_id(rig.bus)[:3] == b"\xef\x40\x11"
    rig.close()


# --- SFDP -------------------------------------------------------------------------------------


def test_a_chip_with_tables_and_catalog() -> None:
    bus = DieBus(W25Q128, sfdp=TABLES)
    found = identify(bus, knows(W25Q128))
    assert found.jedec_id == b"\xef\x40\x18"
    assert found.sfdp_bytes == TABLES[: len(found.sfdp_bytes)]
    assert (found.chip.part, found.chip.size, found.problem) == ("W25Q128JV", 16 * MIB, None)
    assert found.resolved.source == "sfdp"
    assert found.sfdp is not None


def test_a_chip_with_tables_only() -> None:
    found = identify(DieBus(W25Q128, sfdp=TABLES), nobody)
    assert (found.chip.part, found.chip.manufacturer) == ("SFDP-ef4018", "Winbond")
    assert (found.chip.size, found.chip.page_size) == (16 * MIB, 256)
    assert [(kind.size, kind.opcode) for kind in found.chip.erase_types] == [
        (4 * KIB, 0x20), (32 * KIB, 0x52), (64 * KIB, 0xD8),
    ]  # fmt: skip


def test_a_chip_with_the_catalog_only() -> None:
    found = identify(DieBus(W25Q128), knows(W25Q128))
    assert (found.chip, found.sfdp, found.sfdp_bytes) == (W25Q128, None, None)
    assert found.resolved.source == "catalog"


def test_a_chip_nobody_knows() -> None:
    with pytest.raises(ChipUnknown) as caught:
        identify(DieBus(small_chip()), nobody)
    assert failure(caught.value) == ("chip.unknown", 4)
    assert caught.value.context == {"jedec_id": "ef4011", "manufacturer": "Winbond"}


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_tables_that_change_between_two_reads(number: int) -> None:
    """Whichever read is disturbed, and wherever: unstable, never another chip or none."""
    unstable = 0
    for place in (0, 5, 6, 9, 20, len(TABLES) - 1):
        good, seen = bytearray(TABLES), [0]
        bad = bytearray(TABLES)
        bad[place] ^= 0x10

        def disturbed(op: Transfer, good=good, bad=bad, seen=seen) -> bytes | None:
            if op.write[:1] != b"\x5a":
                return None
            seen[0] += 1
            source = bad if seen[0] == number else good
            return bytes((source + b"\xff" * op.read)[: op.read])

        bus = DieBus(W25Q128, override=disturbed)
        try:
            found = read_sfdp(bus)
        except BusUnstable:
            unstable += 1
            continue
        assert found == TABLES[: len(found)], "the flipped byte was not among those asked for"
    assert unstable >= 1


def broken() -> bytes:
    """A signature, and then nothing that makes sense."""
    return b"SFDP" + bytes(60)


def test_broken_tables_with_and_without_the_catalog() -> None:
    found = identify(DieBus(W25Q128, sfdp=broken()), knows(W25Q128))
    assert found.chip == W25Q128
    assert found.resolved.source == "catalog"
    assert found.problem is not None
    assert found.problem.code.startswith("sfdp")
    with pytest.raises(ChipUnknown, match="SFDP cannot be used") as caught:
        identify(DieBus(W25Q128, sfdp=broken()), nobody)
    assert caught.value.context["sfdp_error"] == found.problem.code
    named = identify(DieBus(W25Q128, sfdp=broken()), nobody, override=W25Q128)
    assert (named.chip, named.resolved.source) == (W25Q128, "override")


def test_a_chip_that_is_no_nor_flash_is_refused_unless_named() -> None:
    """CYRS17B512: its own tables say what makes it unusable; a catalog entry does not help."""
    table = dumps.load("CYRS17B512").sfdp
    for candidates in (nobody, knows(W25Q128)):
        with pytest.raises(ChipUnsupported):
            identify(DieBus(W25Q128, sfdp=table), candidates)
    found = identify(DieBus(W25Q128, sfdp=table), nobody, override=W25Q128)
    assert isinstance(found.problem, ChipUnsupported)


def test_a_hybrid_chip_is_asked_which_sector_map_is_in_force() -> None:
    """SEMPER: configuration registers, read by 65h with 3 address bytes and 8 dummy clocks."""
    table = dumps.load("S28HS512T-model").sfdp
    maps = set()
    for register in (b"\x00", b"\x08"):
        bus = answering({b"\x65": [register]}, sfdp=table)
        found = identify(bus, nobody)
        maps.add(found.chip.erase)
        asked = [op.write.hex() for op in bus.sent if isinstance(op, Transfer)]
        assert "6580000400" in asked
        assert "6580000200" in asked
        assert sum(region.length for region in found.chip.erase) == found.chip.size
    assert len(maps) >= 2, "the answers decide"


def test_size_by_the_user() -> None:
    found = identify(DieBus(W25Q128, sfdp=TABLES), knows(W25Q128), size=8 * MIB)
    assert (found.chip.size, found.resolved.source) == (8 * MIB, "override")
    same = identify(DieBus(W25Q128, sfdp=TABLES), knows(W25Q128), size=16 * MIB)
    assert same.resolved.source == "sfdp"


# --- what writing makes of it -------------------------------------------------------------------


def session(identity: Identity) -> Session:
    bus = DieBus(W25Q128)
    return Session(Programmer("sim://x", "x", bus, True, bus.close), identity, None)


def refused(candidate, **options) -> HwflashError | None:
    found = identify(DieBus(W25Q128, sfdp=TABLES), knows(candidate), **options)
    try:
        session(found).require_writable()
    except HwflashError as error:
        return error
    return None


@pytest.mark.slow
def test_a_dangerous_conflict_refuses_writes_unless_overridden() -> None:
    half = replace(W25Q128, size=8 * MIB)
    error = refused(half)
    assert failure(error) == ("chip.conflict", 4)
    assert "size: SFDP says 16777216, the catalog says 8388608" in error.message
    assert refused(half, override=W25Q128) is None
    assert refused(half, size=8 * MIB) is None
    assert refused(W25Q128) is None
    assert refused(replace(W25Q128, page_size=512)) is None, "told, but not dangerous"
    kinds = tuple(replace(kind, size=2 * kind.size) for kind in W25Q128.erase[0].types)
    other = replace(W25Q128, erase=(replace(W25Q128.erase[0], types=kinds),))
    assert failure(refused(other)) == ("chip.conflict", 4)


def test_identity_gives_its_chip() -> None:
    found = Identity(b"", b"", Resolved(W25Q128, "catalog"), None, None, None)
    assert found.chip is W25Q128
