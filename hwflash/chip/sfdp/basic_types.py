"""What the Basic Flash Parameter Table says, as objects.

All times are seconds, sizes bytes. A part of the table that is too short to hold a field leaves
that field None (or at the default that JESD216 names).

Ref: JESD216F §6.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag, StrEnum

from hwflash.chip.model import Duration


class AddressBytes(StrEnum):
    """Dword 1 bits 18:17: how many address bytes read, program and erase take."""

    THREE = "3"
    THREE_OR_FOUR = "3-or-4"  # 3 after power-up, 4 after the mode is entered
    FOUR = "4"
    RESERVED = "reserved"


class QuadEnable(StrEnum):
    """Dword 15 bits 22:20: where the quad-enable bit is and how it is written."""

    NONE = "none"
    SR2_BIT1_CLEARED = "sr2-bit1-cleared-by-short-write"  # 01h + 1 byte clears register 2
    SR1_BIT6 = "sr1-bit6"
    SR2_BIT7 = "sr2-bit7"  # read 3Fh, write 3Eh
    SR2_BIT1_KEPT = "sr2-bit1-kept-by-short-write"
    SR2_BIT1_35 = "sr2-bit1-read-35"  # read 35h, write 01h + 2 bytes
    SR2_BIT1_31 = "sr2-bit1-write-31"  # read 35h, write 31h + 1 byte
    RESERVED = "reserved"


class EnterMethods(IntFlag):
    """Dword 16 bits 31:24: ways to 4-byte addresses."""

    B7 = 0x01
    WREN_B7 = 0x02
    EXTENDED_ADDRESS_REGISTER = 0x04  # C5h write, C8h read
    BANK_REGISTER = 0x08  # 17h write, 16h read
    NONVOLATILE_REGISTER = 0x10  # B1h write, B5h read
    OPCODES = 0x20  # dedicated 4-byte commands
    ALWAYS = 0x40


class ExitMethods(IntFlag):
    """Dword 16 bits 23:14: ways back to 3-byte addresses."""

    E9 = 0x001
    WREN_E9 = 0x002
    EXTENDED_ADDRESS_REGISTER = 0x004
    BANK_REGISTER = 0x008
    NONVOLATILE_REGISTER = 0x010
    HARDWARE_RESET = 0x020
    SOFTWARE_RESET = 0x040
    POWER_CYCLE = 0x080


class ResetMethods(IntFlag):
    """Dword 16 bits 13:8: soft reset and rescue sequences."""

    F_8_CLOCKS = 0x01  # Fh on four lines
    F_10_CLOCKS = 0x02
    F_16_CLOCKS = 0x04
    F0 = 0x08
    RESET_66_99 = 0x10
    EXIT_0_4_4_FIRST = 0x20


class StatusWrite(IntFlag):
    """Dword 16 bits 6:0: what status register 1 is made of and how a write is enabled."""

    NONVOLATILE_06 = 0x01
    VOLATILE_ONES_06 = 0x02  # bits are 1 after power-up
    VOLATILE_ONES_50 = 0x04
    BOTH_06_50 = 0x08  # 06h for the non-volatile, 50h for the volatile register
    MIXED_06 = 0x10


class Polling(IntFlag):
    """Dword 14 bits 7:2: how busy is told."""

    STATUS_05 = 0x01  # bit 0 is 1 while busy
    FLAG_STATUS_70 = 0x02  # bit 7 is 0 while busy


@dataclass(frozen=True, slots=True)
class ReadMode:
    """A read command.

    Attributes:
        protocol: lines of command, address and data, as in ``1S-4S-4S``.
        opcode: the command.
        mode_clocks: clocks of mode bits behind the address.
        wait_states: dummy clocks behind these.
    """

    protocol: str
    opcode: int
    mode_clocks: int
    wait_states: int


@dataclass(frozen=True, slots=True)
class BasicErase:
    """Erase type ``index`` (1 to 4) of dwords 8 and 9; ``time`` is None without dword 10."""

    index: int
    size: int
    opcode: int
    time: Duration | None


@dataclass(frozen=True, slots=True)
class ProgramTimes:
    """Dword 11 (and the erase multiplier of dword 10)."""

    page: Duration
    first_byte: Duration
    next_byte: Duration
    chip_erase: Duration


@dataclass(frozen=True, slots=True)
class Suspend:
    """Dwords 12 and 13; the prohibited operations are the raw 4-bit fields."""

    erase_suspend: int
    erase_resume: int
    program_suspend: int
    program_resume: int
    erase_latency: float
    erase_interval: float
    program_latency: float
    program_interval: float
    erase_prohibited: int
    program_prohibited: int


@dataclass(frozen=True, slots=True)
class PowerDown:
    """Dword 14: deep power-down commands, and the delay after the leaving one."""

    enter: int
    exit: int
    exit_delay: float


@dataclass(frozen=True, slots=True)
class QuadSettings:
    """Dword 15; entry, exit, enable and disable are the raw bit masks."""

    quad_enable: QuadEnable
    hold_reset_disable: bool
    read_0_4_4: bool
    entry_0_4_4: int
    exit_0_4_4: int
    enable_4_4_4: int
    disable_4_4_4: int


@dataclass(frozen=True, slots=True)
class OctalSettings:
    """Dwords 18 to 20.

    Attributes:
        command_extension: second command byte in 8D-8D-8D: "repeat", "invert", "16-bit"
            (opcode and extension are one word) or "reserved".
        byte_swapped_8d: bytes of a 16-bit word are swapped in 8D-8D-8D.
        jedec_reset: the JEDEC SPI reset by CS# and data lines works.
        strobe_4s_4s_4s: data strobe in 4S-4S-4S.
        strobe_4s_4d_4d: data strobe in 4S-4D-4D.
        octal_enable: raw octal-enable requirement, None without dword 19.
        read_0_8_8: reads without a command, None without dword 19.
        enable_8_8_8: raw bit mask, None without dword 19.
        disable_8_8_8: raw bit mask, None without dword 19.
        speeds: raw 4-bit speed grade per mode of dword 20 (15 means: not supported).
    """

    command_extension: str
    byte_swapped_8d: bool
    jedec_reset: bool
    strobe_4s_4s_4s: bool
    strobe_4s_4d_4d: bool
    octal_enable: int | None
    read_0_8_8: bool | None
    enable_8_8_8: int | None
    disable_8_8_8: int | None
    speeds: dict[str, int]


@dataclass(frozen=True, slots=True)
class BasicFlash:
    """The Basic Flash Parameter Table.

    Attributes:
        revision: major and minor of the table.
        dwords: the table, as many dwords as there are.
        size: bytes of flash.
        address_bytes: dword 1.
        erase_4k_opcode: the 4 KiB erase of dword 1, or None.
        granularity_64: writes of 64 bytes or more are possible.
        volatile_block_protect: block-protection bits are volatile.
        volatile_enable: opcode that enables a volatile status write by dword 1, 06h or 50h.
        dtr: double transfer rate is supported somehow.
        reads: reads other than 03h and 0Bh, which SFDP takes for granted.
        erases: erase types, by index.
        page_size: 256 when the table is too short to say.
        page_size_told: the table says the page size.
        times: None without dword 11.
        suspend: None when not supported or not told.
        power_down: None when not supported or not told.
        polling: None without dword 14.
        quad: None without dword 15.
        enter_4byte: None without dword 16.
        exit_4byte: None without dword 16.
        reset: None without dword 16.
        status_write: None without dword 16.
        octal: None without dword 18.
    """

    revision: tuple[int, int]
    dwords: tuple[int, ...]
    size: int
    address_bytes: AddressBytes
    erase_4k_opcode: int | None
    granularity_64: bool
    volatile_block_protect: bool
    volatile_enable: int
    dtr: bool
    reads: tuple[ReadMode, ...]
    erases: tuple[BasicErase, ...]
    page_size: int
    page_size_told: bool
    times: ProgramTimes | None
    suspend: Suspend | None
    power_down: PowerDown | None
    polling: Polling | None
    quad: QuadSettings | None
    enter_4byte: EnterMethods | None
    exit_4byte: ExitMethods | None
    reset: ResetMethods | None
    status_write: StatusWrite | None
    octal: OctalSettings | None
