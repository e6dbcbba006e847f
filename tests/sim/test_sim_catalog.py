"""Every part of the catalog is a chip the simulated die can be."""

import pytest
from sim_chips import Bench

from hwflash.chip import catalog
from hwflash.chip.model import (
    Chip,
    EnterFourByte,
    EraseRegion,
    EraseType,
    Programming,
    ProtectionStyle,
)
from hwflash.units import MIB

CHIPS = [part.chip for part in catalog.load().parts if part.chip.size <= 32 * MIB]


def erase_command(chip: Chip, region: EraseRegion, kind: EraseType, width: int) -> bytes | None:
    """The erase of the first block of a region, or None when it cannot be reached."""
    if region.start < 1 << 8 * width:
        return bytes((kind.opcode,)) + region.start.to_bytes(width, "big")
    if kind.opcode_4byte is None:
        return None
    return bytes((kind.opcode_4byte,)) + region.start.to_bytes(4, "big")


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.part)
def test_part(chip: Chip) -> None:
    bench = Bench(chip)
    always = chip.addressing.enter is EnterFourByte.ALWAYS or not chip.addressing.three_byte
    width = 4 if always else 3
    ask = "9f" if chip.id_command == 0x9F else "90000000"
    assert bench(ask, len(chip.jedec_id)) == chip.jedec_id
    if chip.protection.style is ProtectionStyle.SST26:
        bench.write("98")
    if chip.status.power_up is not None:
        bench(bytes((chip.status.enable,)))
        bench("0100")
    content = bench.die.content
    single = chip.programming is not Programming.PAGE
    for place, data in enumerate((b"\x12", b"\x34") if single else (b"\x12\x34",)):
        bench.write(b"\x02" + place.to_bytes(width) + data)
    assert content[:3] == b"\x12\x34\xff"
    assert bench(b"\x03" + bytes(width), 2) == b"\x12\x34"
    for region in chip.erase:
        for kind in region.types:
            command = erase_command(chip, region, kind, width)
            content[region.start] = 0
            bench("70", 1)
            if command is not None:
                bench.write(command)
                assert content[region.start] == 0xFF
    if chip.chip_erase is not None:
        content[5] = 0
        bench.write(bytes((chip.chip_erase[0],)))
        assert content[5] == 0xFF
    for number, opcode in chip.status.read.items():
        assert bench(bytes((opcode,)), 1) == bytes((bench.die.registers[number],))
