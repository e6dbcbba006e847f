"""Writing status registers without touching a bit that was not asked for.

A register write replaces whole bytes, and some of their bits can be set once and never cleared:
locks of security registers, the top/bottom bit of some parts, permanent locks. So the bits that
may change are named, all others are written as they were read, and one-time bits that were not
asked for are written as 0, which changes nothing: a wrongly read bit cannot burn one.

Ref: W25Q128JV Rev. F §7.1 and §8.2.5; MX25L12835F PM1795 (01h with one or two bytes, TB);
S25FL128S Rev. M §7.6 (CR1: TBPARM, BPNV, TBPROT); S25FL128L Rev. N §6.6 (LB3-LB0); IS25LP064A
(function register: TBS, PSUS, ESUS, IRL0-IRL3); GD25Q128E (SUS1, SUS2); W25Q256JV Rev. G §7.1.11
(ADS); MX25L25645G Rev. 1.4 (4BYTE); SST26VF064B DS20005119 §4.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hwflash.chip import opcodes
from hwflash.chip.commands import THREE_BYTE_SPAN
from hwflash.chip.model import Chip, FailFlags, ProtectionStyle, RegisterBit
from hwflash.errors import ChipUnsupported

#: LB3-LB0 of every part whose second register is read by 35h and holds SRP1 or CMP.
_LOCK_BITS = 0x3C
#: TBPARM, BPNV and TBPROT in the configuration register of Spansion's FL-S and FS-S.
_SPANSION_ONCE = 0x2C
#: E_ERR and P_ERR in the status register of the same parts: an operation failed.
_SPANSION_ERRORS = 0x60
#: TBS and IRL0 to IRL3 in the function register of ISSI parts, read by 48h.
_ISSI_ONCE = 0xF2
_ISSI_READ_FUNCTION = 0x48
#: PSUS and ESUS there: an operation is suspended.
_ISSI_SUSPENDED = 0x0C
#: SUS, bit 7 of a second register that is read by 35h; where programs and erases are told apart,
#: bit 2 is the program (GigaDevice, and the makers that follow it).
_SUSPENDED = 0x80
_PROGRAM_SUSPENDED = 0x04
_TWO_SUSPEND_BITS = frozenset({0xC8, 0x68, 0x0B, 0x5E})
#: BUSY, WEL, WSE, WSP and the second BUSY of SST26 parts; WPLD and SEC say how the part is set.
_SST26_LIVE = 0x8F
#: ADS of Winbond's third register and 4BYTE of Macronix's configuration register: the mode now.
_WINBOND, _WINBOND_ADS = 0xEF, 0x01
_MACRONIX, _MACRONIX_4BYTE = 0xC2, 0x20
_LIVE = opcodes.STATUS_WIP | opcodes.STATUS_WEL


@dataclass(frozen=True, slots=True)
class RegisterWrite:
    """One register-write command.

    Attributes:
        command: its bytes, opcode first.
        registers: the registers it writes.
    """

    command: bytes
    registers: tuple[int, ...]


def masks(bits: Iterable[RegisterBit | None]) -> dict[int, int]:
    """Bits as a mask for each register that holds one."""
    found: dict[int, int] = {}
    for bit in bits:
        if bit is not None:
            found[bit.register] = found.get(bit.register, 0) | 1 << bit.bit
    return found


def one_time_bits(chip: Chip) -> dict[int, int]:
    """Bits that can be set and never cleared, as a mask for each register.

    SRP1 is among them: with SRP0 it locks the registers for ever on parts that have that mode.
    """
    layout = chip.protection
    found = masks(
        [
            *(area.lock for area in chip.otp),
            *layout.srp[1:2],
            layout.tb if "tb-one-time" in chip.quirks else None,
        ]
    )
    more = 0
    if chip.status.read.get(2) == _ISSI_READ_FUNCTION:
        more = _ISSI_ONCE
    elif chip.fail_flags is FailFlags.SPANSION_SR1:
        more = _SPANSION_ONCE
    elif chip.status.read.get(2) == opcodes.READ_STATUS_2 and (
        len(layout.srp) > 1 or layout.cmp is not None
    ):
        more = _LOCK_BITS
    if more:
        found[2] = found.get(2, 0) | more
    return found


def live_bits(chip: Chip) -> dict[int, int]:
    """Bits that say what the chip is doing or what went wrong, as a mask for each register.

    They are no settings: never compared, and written as 0. A bit that the catalog names is one.
    """
    second, large = chip.status.read.get(2), chip.size > THREE_BYTE_SPAN
    found = {1: _LIVE}
    if chip.protection.style is ProtectionStyle.SST26:
        found[1] = _SST26_LIVE
    elif chip.fail_flags is FailFlags.SPANSION_SR1:
        found[1] |= _SPANSION_ERRORS
    if second == opcodes.READ_STATUS_2 and chip.protection.style is not ProtectionStyle.SST26:
        if chip.fail_flags is not FailFlags.SPANSION_SR1:
            found[2] = _SUSPENDED
        if chip.jedec_id[0] in _TWO_SUSPEND_BITS:
            found[2] = found.get(2, 0) | _PROGRAM_SUSPENDED
    elif second == _ISSI_READ_FUNCTION:
        found[2] = _ISSI_SUSPENDED
    elif second is not None and chip.jedec_id[0] == _MACRONIX and large:
        found[2] = _MACRONIX_4BYTE
    if 3 in chip.status.read and chip.jedec_id[0] == _WINBOND and large:
        found[3] = _WINBOND_ADS
    layout = chip.protection
    named = masks(
        [*layout.bp, layout.tb, layout.sec, layout.cmp, *layout.srp, layout.wps]
        + [area.lock for area in chip.otp]
    )
    return {number: mask & ~named.get(number, 0) for number, mask in found.items()}


def suspended(chip: Chip, registers: Mapping[int, int]) -> bool:
    """Whether a program or erase is suspended, as far as registers just read can tell."""
    if chip.protection.style is ProtectionStyle.SST26:
        return bool(registers.get(1, 0) & 0x0C)
    mask = live_bits(chip).get(2, 0) & ~(_MACRONIX_4BYTE if chip.jedec_id[0] == _MACRONIX else 0)
    value = registers.get(2, 0)
    return value != 0xFF and bool(value & mask)


def failed(chip: Chip, registers: Mapping[int, int]) -> bool:
    """Whether error bits are up that keep the chip from taking a command (Spansion: 30h)."""
    return chip.fail_flags is FailFlags.SPANSION_SR1 and bool(
        registers.get(1, 0) & _SPANSION_ERRORS
    )


def merged(
    current: Mapping[int, int], wanted: Mapping[int, int], allow: Mapping[int, int]
) -> dict[int, int]:
    """What the registers hold after a change of the allowed bits."""
    return {
        number: value & ~allow.get(number, 0) | wanted.get(number, 0) & allow.get(number, 0)
        for number, value in current.items()
    }


def register_writes(
    chip: Chip, current: Mapping[int, int], wanted: Mapping[int, int], allow: Mapping[int, int]
) -> tuple[RegisterWrite, ...]:
    """The commands that change some bits of the registers, and nothing else.

    Args:
        chip: the chip.
        current: what every register of the chip holds, as just read.
        wanted: the new values; only bits of ``allow`` are taken from them.
        allow: the bits that may change, as a mask for each register.

    Returns:
        Nothing when the registers hold it already.

    Raises:
        ChipUnsupported: no command writes a register that has to change
            (``protection.no-write-command``).
    """
    after = merged(current, wanted, allow)
    live = live_bits(chip)
    changed = {
        number for number in after if (after[number] ^ current[number]) & ~live.get(number, 0)
    }
    once = one_time_bits(chip)
    sent = {
        number: value
        & ~(once.get(number, 0) & ~(wanted.get(number, 0) & allow.get(number, 0)))
        & ~live.get(number, 0)
        & 0xFF
        for number, value in after.items()
    }
    found: list[RegisterWrite] = []
    own = {
        number: opcode
        for number, opcode in chip.status.write.items()
        if opcode != opcodes.WRITE_STATUS_1
    }
    joined = [number for number in sorted(chip.status.read) if number not in own]
    if joined[:1] != [1] or joined != list(range(1, len(joined) + 1)):
        raise _no_command(chip, min(joined))
    last = max((number for number in joined if number in changed), default=0)
    if last:
        if "wrsr-clears-second-register" in chip.quirks and not own:
            last = max(last, min(2, len(joined)))
        numbers = tuple(range(1, last + 1))
        found.append(
            RegisterWrite(
                bytes((opcodes.WRITE_STATUS_1, *(sent[number] for number in numbers))), numbers
            )
        )
    found += [
        RegisterWrite(bytes((own[number], sent[number])), (number,))
        for number in sorted(changed & own.keys())
    ]
    return tuple(found)


def _no_command(chip: Chip, register: int) -> ChipUnsupported:
    return ChipUnsupported(
        f"no command that writes register {register} of {chip.part} is known",
        code="protection.no-write-command",
        part=chip.part,
        register=register,
    )
