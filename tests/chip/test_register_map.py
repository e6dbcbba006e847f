"""The map of registers: for every part of the catalog, and read from chips."""

from __future__ import annotations

from support import DieBus, session_over, small_chip

from hwflash.bus.spi import Transfer
from hwflash.chip import catalog
from hwflash.chip.register_map import registers_of
from hwflash.jobs.registers import register_keys


def test_every_part_has_registers_that_make_sense() -> None:
    for part in catalog.load().parts:
        found = registers_of(part.chip)
        name = part.chip.part
        assert found[0].opcode == 0x05, name
        assert len({item.opcode for item in found}) == len(found), name
        assert len({item.name for item in found}) == len(found), name
        for item in found:
            taken = 0
            for bit in item.bits:
                mask = (1 << bit.width) - 1 << bit.low
                assert not taken & mask, (name, item.name, bit.name)
                assert mask < 1 << 8 * item.length
                assert all(0 <= value < 1 << bit.width for value in bit.words)
                taken |= mask


def read(part: str, *commands: str, **stored: int) -> dict[str, dict]:
    chip = catalog.load().by_name(part).chip
    small = small_chip(
        128 * 1024, part=part, jedec_id=chip.jedec_id, status=chip.status, otp=chip.otp,
        otp_access=chip.otp_access, sector_locks=chip.sector_locks, protection=chip.protection,
        fail_flags=chip.fail_flags, addressing=chip.addressing,
    )  # fmt: skip
    bus = DieBus(small)
    bus.die.status.stored.update({int(name[1:]): value for name, value in stored.items()})
    bus.die.restart()
    for command in commands:
        bus.execute([Transfer(b"\x06"), Transfer(bytes.fromhex(command))])
        bus.clock.sleep(0.001)
    return {
        item["name"]: {"value": item["value"], **{b["name"]: b["words"] for b in item["bits"]}}
        for item in register_keys(session_over(bus))
    }


def test_what_a_chip_is_told_to_do_shows() -> None:
    found = read("W25Q128JV", "20000000", "75", r2=0x02, r3=0x60)
    assert found["SR2"]["QE"] == "on"
    assert found["SR2"]["SUS"] == "suspended"
    assert found["SR3"]["DRV"] == "25 %"
    found = read("MX25L12835F", "68", "2f")
    assert found["SCUR"]["WPSEL"] == "single sectors, for ever"
    assert found["SCUR"]["LDSO"] == "locked for ever"
    found = read("MT25QL128ABA", "a6")
    assert (found["GFB"]["freeze"], found["FSR"]["ready"]) == ("frozen", "ready")
    assert (found["NVCR"]["value"], found["NVCR"]["dual protocol"]) == (0xFFFF, "off")
    found = read("S25FL128S", "a6", r2=0x02)
    assert (found["PPBL"]["PPBLOCK"], found["CR1"]["QUAD"]) == ("frozen", "on")
    assert found["ASPR"]["PWDMLB"] == "not chosen"
    found = read("SST26VF016B", "8d")
    assert found["SR"]["WPLD"] == "block protection locked down"
    assert read("IS25LP064A", "20000000", "75")["FR"]["ESUS"] == "suspended"
