"""The chip catalog: what data sheets say and SFDP does not.

One TOML file per maker in ``data/catalog``, and the same form for a user's own ``--chip-file``::

    maker = "Winbond"

    [family.w25q-jv]                 # defaults, merged key by key into the parts that name it
    page_size = 256
    page_program_ms = [0.4, 3]       # typical, maximum
    erase.4K = { opcode = 0x20, ms = [45, 400] }

    [part.W25Q128JV]
    family = "w25q-jv"
    jedec_id = "ef4018"
    size = "16M"
    chip_erase = { opcode = 0xC7, s = [40, 200] }
    datasheet = "W25Q128JV Revision F"

Tables of a part are merged into those of its family, other values replace them. A register
bit is ``"SR2.6"``: bit 6 of register 2 of `hwflash.chip.model.StatusCommands`.

Source of every fact: the document a part names in ``datasheet``.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

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
from hwflash.chip.quirks import QUIRKS
from hwflash.errors import ImageError, UsageError
from hwflash.units import MIB, parse_size

type_error_words = "must be a size such as 4096, 0x1000, \"64K\" or \"16M\""

_BIT = re.compile(r"^SR([1-3])\.([0-7])$")

Fault = tuple[str, str]
"""Where in the file (``part.NAME.key``), and what is wrong there."""


def _to_size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(type_error_words)
    try:
        size = parse_size(value) if isinstance(value, str) else value
    except UsageError as error:
        raise ValueError(type_error_words) from error
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


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class _Erase(_Table):
    opcode: _Opcode
    opcode_4byte: _Opcode | None = None
    ms: _Pair


class _ChipErase(_Table):
    opcode: _Opcode
    s: _Pair


class _Region(_Table):
    start: _Size
    size: _Size
    erase: list[_Size] = Field(min_length=1)


class _Addressing(_Table):
    three_byte: bool = True
    enter: EnterFourByte = EnterFourByte.NONE
    opcodes: bool = False


class _Status(_Table):
    read: dict[_Register, _Opcode] = {1: 0x05}
    write: dict[_Register, _Opcode] = {1: 0x01}
    volatile_enable: bool = False
    write_ms: _Pair


class _Protection(_Table):
    style: ProtectionStyle
    bp: list[_Bit] = []
    tb: _Bit | None = None
    sec: _Bit | None = None
    cmp: _Bit | None = None
    srp: list[_Bit] = []
    wps: _Bit | None = None
    unit: _Size = 0


class _Otp(_Table):
    address: _Size
    size: _Size
    lock: _Bit | None = None


class _Entry(_Table):
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
    erase: dict[_Size, _Erase] = Field(min_length=1)
    regions: list[_Region] = []
    chip_erase: _ChipErase | None = None
    page_program_ms: _Pair
    addressing: _Addressing = _Addressing()
    status: _Status
    protection: _Protection = _Protection(style=ProtectionStyle.NONE)
    otp: list[_Otp] = []
    fail_flags: FailFlags = FailFlags.NONE
    soft_reset: bool = False
    deep_power_down: bool = True
    quirks: list[Annotated[str, AfterValidator(_known_quirk)]] = []
    datasheet: Annotated[str, Field(min_length=1)]
    sfdp: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of the catalog.

    Attributes:
        chip: what the data sheet says.
        aliases: other names of the part, ordering codes and older names.
        shares_id_with: parts that answer 9Fh with the same bytes and have the same size.
        sfdp_dump: name of a stored SFDP dump of this very part, or None.
        file: name of the TOML file it is from.
    """

    chip: Chip
    aliases: tuple[str, ...] = ()
    shares_id_with: tuple[str, ...] = ()
    sfdp_dump: str | None = None
    file: str = ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """All parts hwflash knows."""

    parts: tuple[Part, ...]

    def by_name(self, name: str) -> Part:
        """Find a part by its name or an alias, upper and lower case alike.

        Raises:
            UsageError: no part has the name; ``context["near"]`` lists similar names.
        """
        wanted = name.strip().casefold()
        names: dict[str, str] = {}
        for part in self.parts:
            for known in (part.chip.part, *part.aliases):
                if known.casefold() == wanted:
                    return part
                names[known.casefold()] = known
        close = difflib.get_close_matches(wanted, names, n=5, cutoff=0.6)
        raise UsageError(
            f"no part named {name!r} in the chip catalog",
            code="chips.unknown-part",
            name=name,
            near=[names[item] for item in close],
        )

    def by_jedec_id(self, jedec_id: bytes) -> tuple[Part, ...]:
        """Every part that can answer 9Fh with ``jedec_id``, the closest match first.

        Bytes are compared as far as both the answer and the catalog entry go: a chip may be
        asked for three bytes only, and many repeat or pad theirs.
        """
        found = [
            part
            for part in self.parts
            if len(jedec_id) >= 3
            and all(a == b for a, b in zip(part.chip.jedec_id, jedec_id, strict=False))
        ]
        return tuple(sorted(found, key=lambda part: -len(part.chip.jedec_id)))


@functools.cache
def load() -> Catalog:
    """Read the catalog that is shipped with hwflash.

    Raises:
        ImageError: a catalog file has faults (code ``chip-file``).
    """
    folder = resources.files("hwflash.chip") / "data" / "catalog"
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".toml")), key=str)
    parts: list[Part] = []
    for item in files:
        parts.extend(_parse(item.read_text("utf-8"), item.name))
    _raise("the chip catalog", list(_duplicates(parts)))
    return Catalog(tuple(parts))


def load_file(path: Path | str) -> tuple[Part, ...]:
    """Read a user's chip file.

    Raises:
        ImageError: code ``chip-file``; ``context["faults"]`` lists every (path, message).
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"cannot read {path}: {error}", code="chip-file", faults=[]) from error
    parts = _parse(text, str(path))
    _raise(str(path), list(_duplicates(parts)))
    return parts


def _raise(name: str, faults: list[Fault]) -> None:
    if faults:
        lines = "; ".join(f"{path}: {message}" if path else message for path, message in faults)
        raise ImageError(f"{name}: {lines}", code="chip-file", file=name, faults=faults)


def _parse(text: str, name: str) -> tuple[Part, ...]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        _raise(name, [("", f"not valid TOML: {error}")])
        raise AssertionError from error
    faults = list(_document_faults(document))
    _raise(name, faults)
    parts: list[Part] = []
    for part_name, raw in cast("dict[str, Any]", document["part"]).items():
        path = f"part.{part_name}"
        try:
            merged = _with_family(raw, document.get("family", {}))
            entry = _Entry.model_validate(merged)
        except _FamilyError as error:
            faults.append((f"{path}.family", str(error)))
        except ValidationError as error:
            faults.extend(_pydantic_faults(path, error))
        else:
            wrong = [(f"{path}.{key}", message) for key, message in _entry_faults(entry)]
            faults.extend(wrong)
            if not wrong:
                parts.append(_part(part_name, document["maker"], entry, name))
    _raise(name, faults)
    return tuple(parts)


class _FamilyError(Exception):
    """A family is missing or names itself."""


def _document_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    for key in document.keys() - {"maker", "family", "part"}:
        yield key, "unknown key; a chip file has maker, [family.NAME] and [part.NAME]"
    maker = document.get("maker")
    if not isinstance(maker, str) or not maker:
        yield "maker", "must name the maker of the parts"
    for key, needed in (("part", True), ("family", False)):
        table = document.get(key, None if needed else {})
        if not isinstance(table, dict) or (needed and not table):
            yield key, f"must hold tables [{key}.NAME]"
            continue
        for name, value in cast("dict[str, Any]", table).items():
            if not isinstance(value, dict):
                yield f"{key}.{name}", "must be a table"


def _with_family(raw: dict[str, Any], families: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    name = raw.get("family")
    if name is None:
        return raw
    if not isinstance(name, str) or name not in families:
        raise _FamilyError(f"there is no [family.{name}]")
    if depth > len(families):
        raise _FamilyError(f"family {name!r} is its own ancestor")
    return _merge(_with_family(families[name], families, depth + 1), raw)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        base = merged.get(key)
        if isinstance(value, dict) and isinstance(base, dict):
            merged[key] = _merge(cast("dict[str, Any]", base), cast("dict[str, Any]", value))
        else:
            merged[key] = value
    return merged


def _pydantic_faults(path: str, error: ValidationError) -> Iterator[Fault]:
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(step) for step in item["loc"] if step != "[key]")
        message = item["msg"].removeprefix("Value error, ")
        yield f"{path}.{where}", message[0].lower() + message[1:]


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _entry_faults(entry: _Entry) -> Iterator[Fault]:
    """What is absurd about values that are well formed."""
    sizes_fine = True
    for size in entry.erase:
        if not _power_of_two(size):
            sizes_fine = False
            yield f"erase.{size}", "the erase size must be a power of two"
    if not _power_of_two(entry.page_size):
        yield "page_size", "must be a power of two"
    elif entry.page_size > min(entry.erase):
        yield "page_size", "must not be above the smallest erase size"
    if entry.size <= 0:
        yield "size", "must be positive"
    elif sizes_fine and entry.size % (min if entry.regions else max)(entry.erase):
        yield "size", "must be a multiple of the erase sizes"
    yield from _region_faults(entry)
    address = entry.addressing
    reaches = address.opcodes or address.enter is not EnterFourByte.NONE
    if entry.size > 16 * MIB and not reaches:
        yield "addressing", "a chip above 16 MiB needs a way to take 4-byte addresses"
    yield from _protection_faults(entry)
    if entry.status.read.get(1) != 0x05:
        yield "status.read.1", "register 1 is always read by 0x05"


def _region_faults(entry: _Entry) -> Iterator[Fault]:
    end = 0
    for index, region in enumerate(entry.regions):
        path = f"regions.{index}"
        if region.start != end:
            kind = "overlaps the region before it" if region.start < end else "leaves a hole"
            yield f"{path}.start", f"{kind}: expected {end:#x}"
        if region.size <= 0 or (region.size | region.start) % entry.page_size:
            yield f"{path}.size", "start and size must be multiples of the page size"
        for size in region.erase:
            if size not in entry.erase:
                yield f"{path}.erase", f"there is no erase of {size} bytes"
        end = region.start + region.size
    if entry.regions:
        if end != entry.size:
            yield "regions", f"end at {end:#x}, the chip at {entry.size:#x}"
        used = {size for region in entry.regions for size in region.erase}
        for size in entry.erase.keys() - used:
            yield f"erase.{size}", "is used in no region"


def _protection_faults(entry: _Entry) -> Iterator[Fault]:
    layout = entry.protection
    bits = [*layout.bp, *layout.srp, layout.tb, layout.sec, layout.cmp, layout.wps]
    named = [bit for bit in bits if bit is not None]
    if len(set(named)) != len(named):
        yield "protection", "the same register bit is named twice"
    for register in sorted({bit.register for bit in named} - entry.status.read.keys()):
        yield "status.read", f"register {register} holds a protection bit and has no read opcode"
    if layout.style in (ProtectionStyle.BP, ProtectionStyle.BP_MIRRORED):
        if not layout.bp:
            yield "protection.bp", "must name the BP bits"
        if not _power_of_two(layout.unit) or layout.unit > entry.size:
            yield "protection.unit", "must be a power of two within the chip"
    if layout.style is ProtectionStyle.BP_MIRRORED and len(layout.bp) != 4:
        yield "protection.bp", "the mirrored style has four BP bits"


def _duplicates(parts: list[Part] | tuple[Part, ...]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for part in parts:
        for name in (part.chip.part, *part.aliases):
            other = seen.setdefault(name.casefold(), part.chip.part)
            if other != part.chip.part:
                yield f"part.{part.chip.part}", f"the name {name} is also that of {other}"


def _duration(pair: tuple[float, float], factor: float) -> Duration:
    return Duration(pair[0] * factor, pair[1] * factor)


def _part(name: str, maker: str, entry: _Entry, file: str) -> Part:
    types = {
        size: EraseType(size, erase.opcode, _duration(erase.ms, 1e-3), erase.opcode_4byte)
        for size, erase in sorted(entry.erase.items())
    }
    regions = tuple(
        EraseRegion(r.start, r.size, tuple(types[size] for size in sorted(r.erase)))
        for r in entry.regions
    ) or (EraseRegion(0, entry.size, tuple(types.values())),)
    bulk, status, layout = entry.chip_erase, entry.status, entry.protection
    chip = Chip(
        part=name,
        manufacturer=maker,
        jedec_id=entry.jedec_id,
        size=entry.size,
        page_size=entry.page_size,
        erase=regions,
        page_program=_duration(entry.page_program_ms, 1e-3),
        chip_erase=(bulk.opcode, _duration(bulk.s, 1.0)) if bulk else None,
        addressing=Addressing(**entry.addressing.model_dump()),
        voltage=entry.voltage,
        read_max_hz=entry.read_max_mhz * 1e6 if entry.read_max_mhz else None,
        fast_read_max_hz=entry.max_mhz * 1e6 if entry.max_mhz else None,
        fail_flags=entry.fail_flags,
        status=StatusCommands(
            read=dict(status.read),
            write=dict(status.write),
            volatile_enable=status.volatile_enable,
            write_time=_duration(status.write_ms, 1e-3),
        ),
        protection=ProtectionLayout(
            style=layout.style,
            bp=tuple(layout.bp),
            tb=layout.tb,
            sec=layout.sec,
            cmp=layout.cmp,
            srp=tuple(layout.srp),
            wps=layout.wps,
            unit=layout.unit,
        ),
        otp=tuple(OtpArea(area.address, area.size, area.lock) for area in entry.otp),
        soft_reset=entry.soft_reset,
        deep_power_down=entry.deep_power_down,
        quirks=frozenset(entry.quirks),
        datasheet=entry.datasheet,
    )
    shares = tuple(entry.shares_id_with)
    return Part(chip, tuple(entry.aliases), shares, entry.sfdp, file)
