"""A SPI NOR chip as the rest of hwflash sees it.

`Chip` is what identification ends in, whatever it came from: SFDP, the catalog, the user.
All times are seconds, all sizes and addresses bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Duration:
    """How long an operation takes: ``typical`` and data-sheet ``maximum``, in seconds."""

    typical: float
    maximum: float


@dataclass(frozen=True, slots=True)
class EraseType:
    """One erase command.

    Attributes:
        size: bytes erased; the command acts on the aligned block of this size.
        opcode: the command with a 3-byte address (or with the 4-byte mode on).
        opcode_4byte: the command that always takes a 4-byte address, or None.
        time: typical and maximum time of one such erase.
    """

    size: int
    opcode: int
    time: Duration
    opcode_4byte: int | None = None


@dataclass(frozen=True, slots=True)
class EraseRegion:
    """A run of the address space in which the same erase commands work.

    An erase block of a type is the aligned block of its size, clipped to the region (a
    hybrid sector map has a 64 KiB type in a region of 60 KiB; the command then erases 60 KiB).
    """

    start: int
    length: int
    types: tuple[EraseType, ...]


class EnterFourByte(StrEnum):
    """How a chip is brought to take 4-byte addresses (JESD216F BFPT dword 16)."""

    NONE = "none"  # it cannot, or needs not
    B7 = "b7"  # B7h, left by E9h
    WREN_B7 = "wren-b7"  # 06h then B7h, left by 06h then E9h
    EXTENDED_ADDRESS_REGISTER = "ear"  # top byte by C5h, read by C8h
    BANK_REGISTER = "bank"  # bit 7 of the bank register, 17h write, 16h read
    ALWAYS = "always"  # takes 4-byte addresses from power-up


@dataclass(frozen=True, slots=True)
class Addressing:
    """What address widths the chip takes.

    Attributes:
        three_byte: 3-byte addresses work after power-up.
        enter: how the 4-byte mode is entered.
        opcodes: the dedicated 4-byte commands 13h, 0Ch and 12h exist
            (each erase type has its own ``opcode_4byte``).
        read_opcodes: of these only the reads 13h and 0Ch exist (W25Q256FV): nothing can be
            programmed by them, so they are not used.
    """

    three_byte: bool = True
    enter: EnterFourByte = EnterFourByte.NONE
    opcodes: bool = False
    read_opcodes: bool = False


class Programming(StrEnum):
    """What one program command takes."""

    PAGE = "page"  # 02h with up to a page of bytes
    BYTE = "byte"  # 02h with a single byte
    AAI_BYTE = "aai-byte"  # 02h as above, or AFh: a byte, then one byte a command
    AAI_WORD = "aai-word"  # 02h as above, or ADh: two bytes, then two bytes a command


class DieAccess(StrEnum):
    """How the dies of a stack are reached."""

    ADDRESS = "address"  # by the address; operations, and reads, end at the border of a die
    STATUS = "status"  # by the address; the status register is that of the die C2h selected
    SELECT = "select"  # C2h with the number: each has an address space and modes of its own


@dataclass(frozen=True, slots=True)
class Dies:
    """The dies in one package, all of one size.

    Attributes:
        count: how many.
        access: how they are reached.
        erase: opcode and time of erasing one die, or None.
    """

    count: int = 1
    access: DieAccess = DieAccess.ADDRESS
    erase: tuple[int, Duration] | None = None


class FailFlags(StrEnum):
    """Where the chip says that a program or erase failed."""

    NONE = "none"
    SPANSION_SR1 = "spansion-sr1"  # SR1 bit 5 erase, bit 6 program; cleared by 30h
    MICRON_FSR = "micron-fsr"  # register 70h, bit 5 erase, bit 4 program; cleared by 50h
    MACRONIX_SCUR = "macronix-scur"  # register 2Bh, bit 6 erase, bit 5 program


@dataclass(frozen=True, slots=True)
class RegisterBit:
    """A bit of a status or configuration register: ``register`` 1, 2 or 3, ``bit`` 0 to 7."""

    register: int
    bit: int


class ProtectionStyle(StrEnum):
    """How block protection is told to the chip."""

    NONE = "none"  # no block protection known
    BP = "bp"  # BP bits in the status register, `ProtectionLayout` says which
    BP_MIRRORED = "bp-mirrored"  # four BP bits; codes above 8 leave free what 15 - n protects
    SST26 = "sst26"  # block-protection register, read by 72h, all locked at power-up


@dataclass(frozen=True, slots=True)
class ProtectionLayout:
    """Block-protection bits and what they mean.

    With BP = n (1 ≤ n, not all ones) the protected part is ``unit << (n - 1)`` bytes, at most
    the whole chip, at the top, or at the bottom when TB is set; all ones is the whole chip.
    With SEC set the unit is 4 KiB and the part at most 32 KiB. CMP turns it inside out.

    Attributes:
        style: how protection is told to this chip.
        bp: BP0 upwards.
        tb: the top/bottom bit, or None when protection always starts at the top.
        sec: the sector/block bit, or None.
        cmp: the complement bit, or None.
        srp: the status-register protect bits, SRP0 (or SRWD) first.
        wps: the bit that switches to individual block locks, or None.
        unit: bytes protected by BP = 1.
    """

    style: ProtectionStyle = ProtectionStyle.NONE
    bp: tuple[RegisterBit, ...] = ()
    tb: RegisterBit | None = None
    sec: RegisterBit | None = None
    cmp: RegisterBit | None = None
    srp: tuple[RegisterBit, ...] = ()
    wps: RegisterBit | None = None
    unit: int = 0


class SectorLocks(StrEnum):
    """Lock bits of single sectors, beside or instead of the BP bits; see `hwflash.chip.sectors`."""

    NONE = "none"
    MACRONIX = "macronix"  # DPB and SPB, in force once WPSEL is set
    MICRON = "micron"  # a volatile lock register for each 64 KiB
    MICRON_BITS = "micron-bits"  # the same, and non-volatile lock bits
    SPANSION = "spansion"  # DYB and PPB


class OtpAccess(StrEnum):
    """How the areas beside the memory are reached, written and locked."""

    SECURITY = "security"  # 44h erases, 42h programs, 48h reads; locked by a register bit
    MACRONIX = "macronix"  # as the memory, after B1h and until C1h; locked by 2Fh
    MICRON = "micron"  # 42h programs, 4Bh reads; locked by bit 0 of the byte behind it
    SPANSION = "spansion"  # the same commands; locked by a bit for each region at 10h to 13h


@dataclass(frozen=True, slots=True)
class OtpArea:
    """One security register or OTP area.

    Attributes:
        address: its first address in the security-register address space.
        size: bytes.
        lock: the one-time lock bit, or None when it is locked otherwise.
    """

    address: int
    size: int
    lock: RegisterBit | None = None


@dataclass(frozen=True, slots=True)
class StatusCommands:
    """Which opcodes reach the status and configuration registers.

    Attributes:
        read: opcode per register number; register 1 is always 05h.
        write: opcode per register number. When a register has no opcode of its own, it is
            the second (third) byte of the 01h command.
        enable: write enable of register writes; 50h on old SST parts.
        power_up: what register 1 holds after power-up where its bits are volatile, else None.
        volatile_enable: 50h works as write enable for a volatile register write.
        lasting_instead: where a part does not take it after all, a lift of the protection may
            use a non-volatile write, which wears the registers and outlives a power cut.
        write_time: time of a non-volatile register write.
    """

    read: dict[int, int] = field(default_factory=lambda: {1: 0x05})
    write: dict[int, int] = field(default_factory=lambda: {1: 0x01})
    enable: int = 0x06
    power_up: int | None = None
    volatile_enable: bool = False
    lasting_instead: bool = True
    write_time: Duration = Duration(0.010, 0.1)


@dataclass(frozen=True, slots=True)
class Chip:
    """A SPI NOR chip.

    Attributes:
        part: name of the part, as in its data sheet.
        manufacturer: its maker.
        jedec_id: the bytes answered to 9Fh, three or more; of parts that do not know 9Fh, what
            they answer to 90h: maker and device, over and over.
        size: bytes.
        page_size: bytes a page program may span; 1 where single bytes are programmed.
        erase: the address space in order, without holes, each region with its erase types,
            smallest first.
        page_program: time of one page program, or of one byte or word.
        chip_erase: opcode and time of a chip erase, or None when there is none.
        addressing: 3- and 4-byte addresses.
        programming: what one program command takes.
        dies: the dies in the package.
        voltage: lowest and highest supply, or None when not known.
        read_max_hz: highest SCK for Read 03h, or None when not known.
        fast_read_max_hz: highest SCK for every other command, or None when not known.
        fail_flags: where failures are shown.
        status: register commands.
        protection: block protection.
        sector_locks: lock bits of single sectors.
        otp: security registers.
        otp_access: how they are reached; all but ``security`` can never be erased.
        soft_reset: 66h, 99h resets the chip.
        deep_power_down: B9h/ABh work.
        id_command: 9Fh, or 90h for parts that do not know 9Fh.
        quirks: names of known oddities (documented in the catalog).
        datasheet: document the catalog facts are from, or "".
    """

    part: str
    manufacturer: str
    jedec_id: bytes
    size: int
    page_size: int
    erase: tuple[EraseRegion, ...]
    page_program: Duration
    chip_erase: tuple[int, Duration] | None = None
    addressing: Addressing = Addressing()
    programming: Programming = Programming.PAGE
    dies: Dies = Dies()
    voltage: tuple[float, float] | None = None
    read_max_hz: float | None = None
    fast_read_max_hz: float | None = None
    fail_flags: FailFlags = FailFlags.NONE
    status: StatusCommands = field(default_factory=StatusCommands)
    protection: ProtectionLayout = ProtectionLayout()
    sector_locks: SectorLocks = SectorLocks.NONE
    otp: tuple[OtpArea, ...] = ()
    otp_access: OtpAccess = OtpAccess.SECURITY
    soft_reset: bool = False
    deep_power_down: bool = True
    id_command: int = 0x9F
    quirks: frozenset[str] = frozenset()
    datasheet: str = ""

    @property
    def locked_at_power_up(self) -> bool:
        """Every byte is locked when the supply comes, by locks that are volatile by nature."""
        return self.protection.style is ProtectionStyle.SST26 or self.status.power_up is not None

    @property
    def die_size(self) -> int:
        """Bytes of one die."""
        return self.size // self.dies.count

    @property
    def erase_types(self) -> tuple[EraseType, ...]:
        """Every different erase type of the chip, smallest first."""
        found: dict[tuple[int, int], EraseType] = {}
        for region in self.erase:
            for kind in region.types:
                found.setdefault((kind.size, kind.opcode), kind)
        return tuple(sorted(found.values(), key=lambda kind: (kind.size, kind.opcode)))
