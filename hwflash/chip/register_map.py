"""The status and configuration registers of a chip, and what their bits mean.

The registers that the catalog describes come first, with the bits it names; then those of the
family. A bit nobody names is left out, so what is shown is known.

Ref: W25Q128JV Rev. F §7.1 and W25Q256JV Rev. G §7.1.11; N25Q256A Rev. W tables 5 to 13 and
MT25QL256ABA Rev. K tables 3 to 16; MX25L25645G Rev. 1.4 (RDCR, RDSCUR); S25FL128S Rev. M §7.6;
SST26VF064B DS20005119 §4.3; IS25LP064A (function register).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from hwflash.chip import opcodes
from hwflash.chip.commands import THREE_BYTE_SPAN
from hwflash.chip.model import Chip, EnterFourByte, FailFlags, ProtectionStyle, SectorLocks

_NO_WORDS: Final[Mapping[int, str]] = MappingProxyType({})
_ON: Final = MappingProxyType({0: "off", 1: "on"})
_OFF: Final = MappingProxyType({0: "on", 1: "off"})
_FAILED: Final = MappingProxyType({0: "no", 1: "failed"})
_SUSPENDED: Final = MappingProxyType({0: "no", 1: "suspended"})
_LOCKED: Final = MappingProxyType({0: "open", 1: "locked for ever"})


@dataclass(frozen=True, slots=True)
class Bits:
    """Some bits of a register.

    Attributes:
        name: as the data sheet calls them.
        low: the lowest.
        width: how many.
        words: what values mean.
    """

    name: str
    low: int
    width: int = 1
    words: Mapping[int, str] = field(default_factory=lambda: _NO_WORDS)

    def of(self, value: int) -> int:
        """Their value in a register."""
        return value >> self.low & (1 << self.width) - 1


@dataclass(frozen=True, slots=True)
class Register:
    """One register.

    Attributes:
        name: short, as the data sheet calls it.
        title: in words.
        opcode: reads it.
        length: bytes; the first is the lowest.
        bits: from the lowest, those that are known.
    """

    name: str
    title: str
    opcode: int
    length: int = 1
    bits: tuple[Bits, ...] = ()

    def value(self, answer: bytes) -> int:
        """The register as a number."""
        return int.from_bytes(answer, "little")


def registers_of(chip: Chip) -> tuple[Register, ...]:
    """Every register of a chip that is known, each opcode once."""
    found: dict[int, Register] = {}
    for register in (*_described(chip), *_of_family(chip)):
        known = found.get(register.opcode)
        if known is None:
            found[register.opcode] = register
        else:  # the family knows more bits of it
            taken = {bit.low for bit in known.bits}
            more = [bit for bit in register.bits if bit.low not in taken]
            bits = tuple(sorted((*known.bits, *more), key=lambda bit: bit.low))
            found[register.opcode] = Register(
                register.name, register.title, known.opcode, register.length, bits
            )
    return tuple(found.values())


def _described(chip: Chip) -> Iterator[Register]:
    layout = chip.protection
    named = [(place, f"BP{number}") for number, place in enumerate(layout.bp)]
    named += [(place, f"SRP{number}") for number, place in enumerate(layout.srp)]
    others = ((layout.tb, "TB"), (layout.sec, "SEC"), (layout.cmp, "CMP"), (layout.wps, "WPS"))
    named += [(place, name) for place, name in others if place is not None]
    bits = {(place.register, place.bit): Bits(name, place.bit) for place, name in named}
    for number, area in enumerate(chip.otp, 1):
        if area.lock is not None:
            at = area.lock
            bits[at.register, at.bit] = Bits(f"LB{number}", at.bit, words=_LOCKED)
    bits[1, 0] = Bits("WIP", 0, words=MappingProxyType({0: "ready", 1: "busy"}))
    bits[1, 1] = Bits("WEL", 1)
    for number, opcode in sorted(chip.status.read.items()):
        known = tuple(bit for (at, _), bit in sorted(bits.items()) if at == number)
        yield Register(f"SR{number}", f"status register {number}", opcode, 1, known)


def _of_family(chip: Chip) -> Iterator[Register]:
    large = chip.size > THREE_BYTE_SPAN
    maker = chip.jedec_id[0]
    if chip.protection.style is ProtectionStyle.SST26:
        yield from _SST26
    elif chip.fail_flags is FailFlags.MICRON_FSR:
        yield from _MICRON
        if chip.sector_locks is SectorLocks.MICRON_BITS:
            yield from _MICRON_LOCKS
    elif chip.fail_flags is FailFlags.SPANSION_SR1:
        yield from _SPANSION
        if chip.addressing.enter is EnterFourByte.BANK_REGISTER:
            yield _BANK
    elif maker == 0xC2:
        yield from _MACRONIX
    elif chip.status.read.get(2) == 0x48:
        yield from _ISSI
    elif chip.status.read.get(2) == opcodes.READ_STATUS_2:
        yield _STATUS_2
        if maker in (0xEF, 0xC8) and 3 in chip.status.read:
            yield _STATUS_3
        if maker == 0xEF and 3 in chip.status.read and large:
            yield _ADDRESS_MODE
    if large and chip.addressing.enter in (EnterFourByte.B7, EnterFourByte.WREN_B7):
        yield Register("EAR", "extended address register", opcodes.READ_EXTENDED_ADDRESS, 1,
                       (Bits("segment of 16 MiB", 0, 8),))  # fmt: skip


_DRIVE: Final = MappingProxyType({0: "100 %", 1: "75 %", 2: "50 %", 3: "25 %"})
_OHMS: Final = MappingProxyType(
    {1: "90 ohm", 2: "60 ohm", 3: "45 ohm", 5: "20 ohm", 6: "15 ohm", 7: "30 ohm"}
)
_CLOCKS: Final = MappingProxyType(
    {0: "default", **{n: f"{n} clocks" for n in range(1, 15)}, 15: "default"}
)
_STATUS_2: Final = Register(
    "SR2", "status register 2", 0x35, 1,
    (Bits("QE", 1, words=_ON), Bits("SUS", 7, words=_SUSPENDED)),
)  # fmt: skip
_STATUS_3: Final = Register(
    "SR3", "status register 3", 0x15, 1, (Bits("DRV", 5, 2, _DRIVE),)
)  # fmt: skip
_ADDRESS_MODE: Final = Register("SR3", "status register 3", 0x15, 1, (
    Bits("ADS", 0, words=MappingProxyType({0: "3-byte mode", 1: "4-byte mode"})),
    Bits("ADP", 1, words=MappingProxyType({0: "starts in 3-byte mode",
                                           1: "starts in 4-byte mode"})),
))  # fmt: skip
_MICRON: Final = (
    Register("FSR", "flag status register", 0x70, 1, (
        Bits("4-byte mode", 0, words=_ON),
        Bits("protection", 1, words=MappingProxyType({0: "no", 1: "a protected sector was hit"})),
        Bits("program suspend", 2, words=_SUSPENDED), Bits("VPP", 3, words=_FAILED),
        Bits("program", 4, words=_FAILED), Bits("erase", 5, words=_FAILED),
        Bits("erase suspend", 6, words=_SUSPENDED),
        Bits("ready", 7, words=MappingProxyType({0: "busy", 1: "ready"})),
    )),
    Register("NVCR", "non-volatile configuration register", 0xB5, 2, (
        Bits("address bytes", 0, words=MappingProxyType({0: "4 at power-up", 1: "3 at power-up"})),
        Bits("segment", 1, words=MappingProxyType({0: "highest", 1: "lowest"})),
        Bits("dual protocol", 2, words=_OFF), Bits("quad protocol", 3, words=_OFF),
        Bits("reset/hold pin", 4, words=_ON), Bits("driver strength", 6, 3, _OHMS),
        Bits("XIP at power-up", 9, 3, MappingProxyType({7: "off"})),
        Bits("dummy clocks", 12, 4, _CLOCKS),
    )),
    Register("VCR", "volatile configuration register", 0x85, 1, (
        Bits("wrap", 0, 2, MappingProxyType({0: "16 bytes", 1: "32 bytes", 2: "64 bytes",
                                             3: "continuous"})),
        Bits("XIP", 3, words=_OFF), Bits("dummy clocks", 4, 4, _CLOCKS),
    )),
    Register("EVCR", "enhanced volatile configuration register", 0x65, 1, (
        Bits("driver strength", 0, 3, _OHMS), Bits("reset/hold pin", 4, words=_ON),
        Bits("dual protocol", 6, words=_OFF), Bits("quad protocol", 7, words=_OFF),
    )),
)  # fmt: skip
_MICRON_LOCKS: Final = (
    Register("SPR", "sector protection register", 0x2D, 2, (
        Bits("sector protection", 1, words=MappingProxyType({0: "without password, for ever",
                                                             1: "not chosen"})),
        Bits("password protection", 2, words=MappingProxyType({0: "for ever", 1: "not chosen"})),
    )),
    Register("GFB", "global freeze bit", 0xA7, 1,
             (Bits("freeze", 0, words=MappingProxyType({0: "frozen", 1: "open"})),)),
)  # fmt: skip
_MACRONIX: Final = (
    Register("SR1", "status register", 0x05, 1, (Bits("QE", 6, words=_ON),)),
    Register("CR", "configuration register", 0x15, 1, (
        Bits("ODS", 0, 3), Bits("4BYTE", 5, words=_ON), Bits("DC", 6, 2),
    )),
    Register("SCUR", "security register", 0x2B, 1, (
        Bits("secured OTP", 0, words=MappingProxyType({0: "not locked by the factory",
                                                       1: "locked by the factory"})),
        Bits("LDSO", 1, words=_LOCKED), Bits("PSB", 2, words=_SUSPENDED),
        Bits("ESB", 3, words=_SUSPENDED), Bits("P_FAIL", 5, words=_FAILED),
        Bits("E_FAIL", 6, words=_FAILED),
        Bits("WPSEL", 7, words=MappingProxyType({0: "BP bits", 1: "single sectors, for ever"})),
    )),
)  # fmt: skip
_SPANSION: Final = (
    Register("SR1", "status register 1", 0x05, 1,
             (Bits("E_ERR", 5, words=_FAILED), Bits("P_ERR", 6, words=_FAILED))),
    Register("CR1", "configuration register 1", 0x35, 1, (
        Bits("FREEZE", 0, words=_ON), Bits("QUAD", 1, words=_ON),
        Bits("TBPARM", 2, words=MappingProxyType({0: "small sectors at the bottom",
                                                  1: "small sectors at the top"})),
        Bits("BPNV", 3, words=MappingProxyType({0: "BP non-volatile", 1: "BP volatile"})),
        Bits("LC", 6, 2),
    )),
    Register("SR2", "status register 2", 0x07, 1,
             (Bits("PS", 0, words=_SUSPENDED), Bits("ES", 1, words=_SUSPENDED))),
    Register("ASPR", "advanced sector protection register", 0x2B, 2, (
        Bits("PSTMLB", 1, words=MappingProxyType({0: "persistent mode, for ever",
                                                  1: "not chosen"})),
        Bits("PWDMLB", 2, words=MappingProxyType({0: "password mode, for ever",
                                                  1: "not chosen"})),
    )),
    Register("PPBL", "PPB lock", 0xA7, 1,
             (Bits("PPBLOCK", 0, words=MappingProxyType({0: "frozen", 1: "open"})),)),
)  # fmt: skip
_BANK: Final = Register(
    "BAR", "bank address register", opcodes.READ_BANK_REGISTER, 1,
    (Bits("BA", 0, 2), Bits("EXTADD", 7, words=_ON)),
)  # fmt: skip
_SST26: Final = (
    Register("SR", "status register", 0x05, 1, (
        Bits("WSE", 2, words=_SUSPENDED), Bits("WSP", 3, words=_SUSPENDED),
        Bits("WPLD", 4, words=MappingProxyType({0: "open", 1: "block protection locked down"})),
        Bits("SEC", 5, words=_LOCKED),
    )),
    Register("CR", "configuration register", 0x35, 1, (
        Bits("IOC", 1, words=_ON), Bits("BPNV", 3), Bits("WPEN", 7, words=_ON),
    )),
)  # fmt: skip
_ISSI: Final = (
    Register("SR1", "status register", 0x05, 1, (Bits("QE", 6, words=_ON),)),
    Register("FR", "function register", 0x48, 1, (
        Bits("PSUS", 2, words=_SUSPENDED), Bits("ESUS", 3, words=_SUSPENDED),
        Bits("IRL0", 4, words=_LOCKED), Bits("IRL1", 5, words=_LOCKED),
        Bits("IRL2", 6, words=_LOCKED), Bits("IRL3", 7, words=_LOCKED),
    )),
)  # fmt: skip
