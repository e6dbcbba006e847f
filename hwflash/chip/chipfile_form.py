"""The form of a chip file: what a person may write for one part.

Every value is checked on its own here; `hwflash.chip.chipfile` checks them against each other.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hwflash.chip.model import (
    DieAccess,
    EnterFourByte,
    FailFlags,
    OtpAccess,
    Programming,
    ProtectionStyle,
    RegisterBit,
    SectorLocks,
)
from hwflash.chip.quirks import QUIRKS
from hwflash.errors import UsageError
from hwflash.units import parse_size

_SIZE_WORDS = 'must be a size such as 4096, 0x1000, "64K" or "16M"'

_BIT = re.compile(r"^SR([1-3])\.([0-7])$")


def _to_size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(_SIZE_WORDS)
    try:
        size = parse_size(value) if isinstance(value, str) else value
    except UsageError as error:
        raise ValueError(_SIZE_WORDS) from error
    if size < 0:
        raise ValueError("must not be negative")
    return size


def _to_bit(value: object) -> RegisterBit:
    match = _BIT.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a register bit such as "SR1.2"')
    return RegisterBit(int(match[1]), int(match[2]))


def _to_id(value: object) -> bytes:
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        found = b""
    if not 3 <= len(found) <= 20 or found[0] in (0x00, 0xFF):
        raise ValueError('must be 3 to 20 bytes in hexadecimal such as "ef4018"')
    return found


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] < pair[0]:
        raise ValueError("the second value must not be below the first")
    return pair


def _known_quirk(name: str) -> str:
    if name not in QUIRKS:
        raise ValueError(f"unknown quirk {name!r}; known are {', '.join(sorted(QUIRKS))}")
    return name


_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
_Pair = Annotated[tuple[_Positive, _Positive], AfterValidator(_ascending)]
_Opcode = Annotated[int, Field(ge=0, le=255, strict=True)]
_Size = Annotated[int, BeforeValidator(_to_size)]
_Bit = Annotated[RegisterBit, BeforeValidator(_to_bit)]
_Register = Annotated[int, Field(ge=1, le=3)]
_Name = Annotated[str, Field(min_length=1, pattern=r"^\S(.*\S)?$")]


class Table(BaseModel):
    """A table of a chip file: unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class EraseForm(Table):
    """One erase command: opcodes, and typical and maximum milliseconds."""

    opcode: _Opcode
    opcode_4byte: _Opcode | None = None
    ms: _Pair


class ChipEraseForm(Table):
    """The chip-erase command: opcode, and typical and maximum seconds."""

    opcode: _Opcode
    s: _Pair


class RegionForm(Table):
    """A run of the address space, and the sizes of the erase commands that work in it."""

    start: _Size
    size: _Size
    erase: list[_Size] = Field(min_length=1)


class AddressingForm(Table):
    """As `hwflash.chip.model.Addressing`."""

    three_byte: bool = True
    enter: EnterFourByte = EnterFourByte.NONE
    opcodes: bool = False
    read_opcodes: bool = False


class DiesForm(Table):
    """As `hwflash.chip.model.Dies`; ``erase`` is that of one die, typical and maximum seconds."""

    count: Annotated[int, Field(ge=1, le=16, strict=True)]
    access: DieAccess = DieAccess.ADDRESS
    erase: ChipEraseForm | None = None


class StatusForm(Table):
    """As `hwflash.chip.model.StatusCommands`; ``write_ms`` is typical and maximum."""

    read: dict[_Register, _Opcode] = {1: 0x05}
    write: dict[_Register, _Opcode] = {1: 0x01}
    enable: _Opcode = 0x06
    power_up: _Opcode | None = None
    volatile_enable: bool = False
    lasting_instead: bool = True
    write_ms: _Pair


class ProtectionForm(Table):
    """As `hwflash.chip.model.ProtectionLayout`."""

    style: ProtectionStyle
    bp: list[_Bit] = []
    tb: _Bit | None = None
    sec: _Bit | None = None
    cmp: _Bit | None = None
    srp: list[_Bit] = []
    wps: _Bit | None = None
    unit: _Size = 0


class OtpForm(Table):
    """As `hwflash.chip.model.OtpArea`."""

    address: _Size
    size: _Size
    lock: _Bit | None = None


class PartForm(Table):
    """One part, its family merged in."""

    family: str | None = None
    aliases: list[_Name] = []
    jedec_id: Annotated[bytes, BeforeValidator(_to_id)]
    shares_id_with: list[_Name] = []
    size: _Size
    page_size: _Size
    voltage: _Pair | None = None
    read_max_mhz: _Positive | None = None
    max_mhz: _Positive | None = None
    erase: dict[_Size, EraseForm] = Field(min_length=1)
    regions: list[RegionForm] = []
    chip_erase: ChipEraseForm | None = None
    page_program_ms: _Pair
    addressing: AddressingForm = AddressingForm()
    programming: Programming = Programming.PAGE
    dies: DiesForm = DiesForm(count=1)
    status: StatusForm
    protection: ProtectionForm = ProtectionForm(style=ProtectionStyle.NONE)
    sector_locks: SectorLocks = SectorLocks.NONE
    otp: list[OtpForm] = []
    otp_access: OtpAccess = OtpAccess.SECURITY
    fail_flags: FailFlags = FailFlags.NONE
    soft_reset: bool = False
    deep_power_down: bool = True
    id_command: Literal[0x9F, 0x90] = 0x9F
    quirks: list[Annotated[str, AfterValidator(_known_quirk)]] = []
    datasheet: Annotated[str, Field(min_length=1)]
    sfdp: str | None = None
