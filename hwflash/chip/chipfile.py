"""A chip file: TOML that describes the parts of one maker.

For example::

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
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, cast

from pydantic import ValidationError

from hwflash.chip.catalog import Part
from hwflash.chip.chipfile_form import PartForm
from hwflash.chip.model import (
    Addressing,
    Chip,
    DieAccess,
    Dies,
    Duration,
    EnterFourByte,
    EraseRegion,
    EraseType,
    OtpAccess,
    OtpArea,
    Programming,
    ProtectionLayout,
    ProtectionStyle,
    StatusCommands,
)
from hwflash.errors import ImageError
from hwflash.units import MIB

_LARGEST = 4096 * MIB

Fault = tuple[str, str]
"""Where in the file (``part.NAME.key``), and what is wrong there."""


def refuse_duplicates(name: str, parts: Sequence[Part]) -> None:
    """Refuse names and aliases that two parts share, upper and lower case alike.

    Raises:
        ImageError: code ``chip-file``; ``name`` is the file or the set of files.
    """
    faults = list(_duplicates(parts))
    if faults:
        _fail(name, faults)


def _fail(name: str, faults: list[Fault]) -> NoReturn:
    lines = "; ".join(f"{path}: {message}" if path else message for path, message in faults)
    raise ImageError(f"{name}: {lines}", code="chip-file", file=name, faults=faults)


def parse(text: str, name: str) -> tuple[Part, ...]:
    """Read the text of a chip file.

    Args:
        text: the TOML.
        name: name of the file, for messages and `Part.file`.

    Raises:
        ImageError: code ``chip-file``; ``context["faults"]`` lists every (path, message).
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        _fail(name, [("", f"not valid TOML: {error}")])
    faults = list(_document_faults(document))
    if faults:
        _fail(name, faults)
    parts: list[Part] = []
    for part_name, raw in cast("dict[str, Any]", document["part"]).items():
        path = f"part.{part_name}"
        try:
            entry = PartForm.model_validate(_with_family(raw, document.get("family", {})))
        except _FamilyError as error:
            faults.append((f"{path}.family", str(error)))
        except ValidationError as error:
            faults.extend(_pydantic_faults(path, error))
        else:
            wrong = [(f"{path}.{key}", message) for key, message in _entry_faults(entry)]
            faults.extend(wrong)
            if not wrong:
                parts.append(_part(part_name, document["maker"], entry, name))
    if faults:
        _fail(name, faults)
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


def _entry_faults(entry: PartForm) -> Iterator[Fault]:
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
    if not 0 < entry.size <= _LARGEST:
        yield "size", "must be positive and within 4-byte addresses (4 GiB)"
    elif sizes_fine and entry.size % (min if entry.regions else max)(entry.erase):
        yield "size", "must be a multiple of the erase sizes"
    yield from _region_faults(entry)
    yield from _die_faults(entry)
    address = entry.addressing
    reaches = address.opcodes or address.enter is not EnterFourByte.NONE
    span = entry.size
    if entry.dies.access is DieAccess.SELECT:
        span //= entry.dies.count
    if span > 16 * MIB and not reaches:
        yield "addressing", "a chip above 16 MiB needs a way to take 4-byte addresses"
    yield from _protection_faults(entry)
    if entry.status.read.get(1) != 0x05:
        yield "status.read.1", "register 1 is always read by 0x05"


def _region_faults(entry: PartForm) -> Iterator[Fault]:
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


def _die_faults(entry: PartForm) -> Iterator[Fault]:
    if (entry.programming is Programming.PAGE) != (entry.page_size > 1):
        yield "programming", "a part with pages of one byte, and no other, programs bytes or words"
    dies = entry.dies
    if entry.size % dies.count or not _power_of_two(entry.size // dies.count):
        yield "dies.count", "the size of a die must be a power of two"
    if dies.count == 1 and (dies.erase or dies.access is not DieAccess.ADDRESS):
        yield "dies.count", "one die needs neither an erase nor an access of its own"


def _protection_faults(entry: PartForm) -> Iterator[Fault]:
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


def _duplicates(parts: Sequence[Part]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for part in parts:
        for name in (part.chip.part, *part.aliases):
            other = seen.setdefault(name.casefold(), part.chip.part)
            if other != part.chip.part:
                yield f"part.{part.chip.part}", f"the name {name} is also that of {other}"


def _otp_areas(entry: PartForm) -> Iterator[OtpArea]:
    """As written; those of Spansion parts are always 32 regions, whose first is the maker's."""
    if entry.otp_access is OtpAccess.SPANSION:
        yield from (OtpArea(number * 32, 32) for number in range(1, 32))
    yield from (OtpArea(area.address, area.size, area.lock) for area in entry.otp)


def _duration(pair: tuple[float, float], factor: float) -> Duration:
    return Duration(pair[0] * factor, pair[1] * factor)


def _dies(entry: PartForm) -> Dies:
    one = entry.dies.erase
    erase = (one.opcode, _duration(one.s, 1.0)) if one else None
    return Dies(entry.dies.count, entry.dies.access, erase)


def _part(name: str, maker: str, entry: PartForm, file: str) -> Part:
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
        programming=entry.programming,
        dies=_dies(entry),
        voltage=entry.voltage,
        read_max_hz=entry.read_max_mhz * 1e6 if entry.read_max_mhz else None,
        fast_read_max_hz=entry.max_mhz * 1e6 if entry.max_mhz else None,
        fail_flags=entry.fail_flags,
        status=StatusCommands(
            read=dict(status.read),
            write=dict(status.write),
            enable=status.enable,
            power_up=status.power_up,
            volatile_enable=status.volatile_enable,
            lasting_instead=status.lasting_instead,
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
        sector_locks=entry.sector_locks,
        otp=tuple(_otp_areas(entry)),
        otp_access=entry.otp_access,
        soft_reset=entry.soft_reset,
        deep_power_down=entry.deep_power_down,
        id_command=entry.id_command,
        quirks=frozenset(entry.quirks),
        datasheet=entry.datasheet,
    )
    shares = tuple(entry.shares_id_with)
    return Part(chip, tuple(entry.aliases), shares, entry.sfdp, file)
