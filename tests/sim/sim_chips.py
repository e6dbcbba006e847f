"""Chips built by hand from their data sheets, and a host that talks to a bare die."""

from dataclasses import replace

from hwflash.chip import dumps
from hwflash.chip.model import (
    Addressing,
    Chip,
    Duration,
    EnterFourByte,
    EraseRegion,
    EraseType,
    FailFlags,
    OtpArea,
    ProtectionLayout,
    ProtectionStyle,
    RegisterBit,
    StatusCommands,
)
from hwflash.sim.clock import VirtualClock
from hwflash.sim.die import NorDie
from hwflash.units import KIB, MIB


def bits(register: int, *places: int) -> tuple[RegisterBit, ...]:
    return tuple(RegisterBit(register, place) for place in places)


def sfdp_table(name: str) -> bytes:
    return dumps.load(name).sfdp


def uniform(size: int, *types: EraseType) -> tuple[EraseRegion, ...]:
    return (EraseRegion(0, size, types),)


W25Q128 = Chip(
    part="W25Q128JV",
    manufacturer="Winbond",
    jedec_id=bytes.fromhex("ef4018"),
    size=16 * MIB,
    page_size=256,
    erase=uniform(
        16 * MIB,
        EraseType(4 * KIB, 0x20, Duration(0.045, 0.4)),
        EraseType(32 * KIB, 0x52, Duration(0.120, 1.6)),
        EraseType(64 * KIB, 0xD8, Duration(0.150, 2.0)),
    ),
    page_program=Duration(0.0004, 0.003),
    chip_erase=(0xC7, Duration(40.0, 200.0)),
    read_max_hz=50e6,
    fast_read_max_hz=133e6,
    status=StatusCommands(
        read={1: 0x05, 2: 0x35, 3: 0x15},
        write={1: 0x01, 2: 0x31, 3: 0x11},
        volatile_enable=True,
        write_time=Duration(0.010, 0.015),
    ),
    protection=ProtectionLayout(
        style=ProtectionStyle.BP,
        bp=bits(1, 2, 3, 4),
        tb=RegisterBit(1, 5),
        sec=RegisterBit(1, 6),
        cmp=RegisterBit(2, 6),
        srp=(RegisterBit(1, 7), RegisterBit(2, 0)),
        wps=RegisterBit(3, 2),
        unit=256 * KIB,
    ),
    otp=(
        OtpArea(0x1000, 256, RegisterBit(2, 3)),
        OtpArea(0x2000, 256, RegisterBit(2, 4)),
        OtpArea(0x3000, 256, RegisterBit(2, 5)),
    ),
    soft_reset=True,
)

W25Q256 = replace(
    W25Q128,
    part="W25Q256JV",
    jedec_id=bytes.fromhex("ef4019"),
    size=32 * MIB,
    erase=uniform(
        32 * MIB,
        EraseType(4 * KIB, 0x20, Duration(0.045, 0.4), 0x21),
        EraseType(64 * KIB, 0xD8, Duration(0.150, 2.0), 0xDC),
    ),
    addressing=Addressing(enter=EnterFourByte.B7, opcodes=True),
)

MT25Q256 = Chip(
    part="MT25QL256ABA",
    manufacturer="Micron",
    jedec_id=bytes.fromhex("20ba191044"),
    size=32 * MIB,
    page_size=256,
    erase=uniform(
        32 * MIB,
        EraseType(4 * KIB, 0x20, Duration(0.05, 0.4), 0x21),
        EraseType(64 * KIB, 0xD8, Duration(0.15, 1.0), 0xDC),
    ),
    page_program=Duration(0.00012, 0.0018),
    addressing=Addressing(enter=EnterFourByte.WREN_B7, opcodes=True),
    fail_flags=FailFlags.MICRON_FSR,
    protection=ProtectionLayout(
        style=ProtectionStyle.BP,
        bp=bits(1, 2, 3, 4, 6),
        tb=RegisterBit(1, 5),
        srp=bits(1, 7),
        unit=64 * KIB,
    ),
    soft_reset=True,
)

S25FL128 = Chip(
    part="S25FL256S",
    manufacturer="Spansion",
    jedec_id=bytes.fromhex("010219"),
    size=32 * MIB,
    page_size=512,
    erase=uniform(32 * MIB, EraseType(256 * KIB, 0xD8, Duration(0.52, 2.6), 0xDC)),
    page_program=Duration(0.00034, 0.00075),
    addressing=Addressing(enter=EnterFourByte.BANK_REGISTER, opcodes=True),
    fail_flags=FailFlags.SPANSION_SR1,
    status=StatusCommands(read={1: 0x05, 2: 0x35}, write={1: 0x01}),
    protection=ProtectionLayout(
        style=ProtectionStyle.BP, bp=bits(1, 2, 3, 4), tb=RegisterBit(2, 5), srp=bits(1, 7),
        unit=512 * KIB,
    ),
    deep_power_down=False,
    quirks=frozenset({"tb-one-time", "busy-after-failure"}),
)  # fmt: skip

MX25L128 = Chip(
    part="MX25L12835F",
    manufacturer="Macronix",
    jedec_id=bytes.fromhex("c22018"),
    size=16 * MIB,
    page_size=256,
    erase=uniform(
        16 * MIB,
        EraseType(4 * KIB, 0x20, Duration(0.03, 0.2)),
        EraseType(64 * KIB, 0xD8, Duration(0.28, 2.0)),
    ),
    page_program=Duration(0.0005, 0.0015),
    fail_flags=FailFlags.MACRONIX_SCUR,
    status=StatusCommands(read={1: 0x05, 2: 0x15}, write={1: 0x01}),
    protection=ProtectionLayout(
        style=ProtectionStyle.BP_MIRRORED,
        bp=bits(1, 2, 3, 4, 5), tb=RegisterBit(2, 3), srp=bits(1, 7), unit=64 * KIB,
    ),
    soft_reset=True,
)  # fmt: skip

_SST_TIME = Duration(0.018, 0.025)


def _sst26_map() -> tuple[EraseRegion, ...]:
    sector = EraseType(4 * KIB, 0x20, _SST_TIME)

    def region(start: int, length: int, block: int) -> EraseRegion:
        return EraseRegion(start, length, (sector, EraseType(block, 0xD8, _SST_TIME)))

    size = 8 * MIB
    return (
        region(0, 32 * KIB, 8 * KIB),
        region(32 * KIB, 32 * KIB, 32 * KIB),
        region(64 * KIB, size - 128 * KIB, 64 * KIB),
        region(size - 64 * KIB, 32 * KIB, 32 * KIB),
        region(size - 32 * KIB, 32 * KIB, 8 * KIB),
    )


SST26 = Chip(
    part="SST26VF064B",
    manufacturer="Microchip",
    jedec_id=bytes.fromhex("bf2643"),
    size=8 * MIB,
    page_size=256,
    erase=_sst26_map(),
    page_program=Duration(0.001, 0.0015),
    chip_erase=(0xC7, Duration(0.035, 0.05)),
    read_max_hz=40e6,
    protection=ProtectionLayout(style=ProtectionStyle.SST26),
    soft_reset=True,
)


class Bench:
    """A host on the wires of a die; time passes only in `wait`."""

    def __init__(self, chip: Chip = W25Q128, *, timing="datasheet", sfdp=None, **options) -> None:
        self.clock = VirtualClock()
        self.die = NorDie(chip, sfdp, self.clock, timing=timing, **options)

    def __call__(self, write: str | bytes, read: int = 0) -> bytes:
        data = bytes.fromhex(write) if isinstance(write, str) else write
        self.die.select()
        head = self.die.exchange(data)
        assert head == b"\xff" * len(head), "the chip drove MISO during the command"
        answer = self.die.exchange(bytes(read))
        self.die.deselect()
        return answer

    def wait(self, seconds: float = 1000.0) -> None:
        self.clock.sleep(seconds)

    def status(self) -> int:
        return self("05", 1)[0]

    def write(self, command: str | bytes, seconds: float = 1000.0) -> None:
        self("06")
        self(command)
        self.wait(seconds)

    def program(self, address: int, data: bytes) -> None:
        self.write(b"\x02" + address.to_bytes(3, "big") + data)
