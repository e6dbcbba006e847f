"""What must hold in a board file beyond the type of each value.

The rules look at the raw TOML, value by value, so that they also find their faults in a file
that has wrong types elsewhere: a person wants the whole list at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast

from hwflash.errors import UsageError
from hwflash.layout.ifd import NAMES as DESCRIPTOR_REGIONS
from hwflash.layout.regions import Region, find_problems
from hwflash.units import Range, format_hz, format_size, parse_frequency, parse_size

if TYPE_CHECKING:
    from hwflash.chip.model import Chip

#: Bytes of the shortest header of a firmware volume.
VOLUME_HEADER = 0x48
_PINS = ("power", "reset", "wp", "hold")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Something wrong in a file: ``path`` within it (``region[1].start``, ``""`` for the file
    as a whole) and a message that reads on from the path.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def to_size(value: object) -> int:
    """Read a size as board files have it: an integer, or text such as ``64K``.

    Raises:
        ValueError: anything else, or below 0 or above 4 GiB.
    """
    words = 'must be a size such as 4096, 0x1000, "64K" or "16M"'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(words)
    try:
        size = parse_size(value) if isinstance(value, str) else value
    except (UsageError, ValueError) as error:
        raise ValueError(words) from error
    if not 0 <= size <= 1 << 32:
        raise ValueError("must be between 0 and 4 GiB")
    return size


def to_frequency(value: object) -> float:
    """Read a frequency: hertz as a number, or text such as ``30M``.

    Raises:
        ValueError: anything else.
    """
    words = 'must be a frequency such as 500000, "500k" or "30M"'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(words)
    try:
        hertz = parse_frequency(value) if isinstance(value, str) else float(value)
    except (UsageError, OverflowError) as error:
        raise ValueError(words) from error
    if not 0 < hertz <= 1e9:
        raise ValueError("must be above 0 and at most 1 GHz")
    return hertz


def to_pattern(value: object) -> str:
    """Check that a value is a regular expression.

    Raises:
        ValueError: it is none.
    """
    try:
        return re.compile(cast("str", value)).pattern
    except (TypeError, re.error, RecursionError) as error:
        raise ValueError(f"must be a regular expression: {error}") from error


def rule_faults(raw: Mapping[str, Any]) -> list[Fault]:
    """Every rule the content of a board file breaks.

    Values of a wrong type are passed over; they are faults of the model.
    """
    rules = (_regions, _chip, _pins, _power, _nvram, _expect)
    return [fault for rule in rules for fault in rule(raw)]


def _table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _size(value: object) -> int | None:
    try:
        return to_size(value)
    except ValueError:
        return None


def _range(table: Mapping[str, Any]) -> Range | None:
    start, length = _size(table.get("start")), _size(table.get("length"))
    return Range(start, length) if start is not None and length else None


def _regions(raw: Mapping[str, Any]) -> Iterator[Fault]:
    entries = raw.get("region")
    listed = cast("list[Any]", entries) if isinstance(entries, list) else []
    if _table(raw, "layout").get("kind") == "regions" and not listed:
        yield Fault("region", 'is missing, though layout.kind is "regions"')
    index_of: dict[tuple[str, int], int] = {}
    regions: list[Region] = []
    for index, entry in enumerate(listed):
        where = _range(cast("Mapping[str, Any]", entry)) if isinstance(entry, dict) else None
        if where is not None:
            name = str(cast("Mapping[str, Any]", entry).get("name", index))
            regions.append(Region(name, where))
            index_of[name, where.address] = index
    for problem in find_problems(regions, _size(_table(raw, "flash").get("size"))):
        place = cast("tuple[str, int]", (problem.context["region"], problem.context["address"]))
        text = problem.message.partition(") ")[2]
        yield Fault(f"region[{index_of[place]}]", text)


def _chip(raw: Mapping[str, Any]) -> Iterator[Fault]:
    from hwflash.chip import catalog  # the catalog is read only if a board names a chip

    flash = _table(raw, "flash")
    value = flash.get("chip")
    names = cast("list[Any]", value) if isinstance(value, list) else [value]
    for name in names:
        if not isinstance(name, str) or not name:
            continue
        try:
            chip = catalog.load().by_name(name).chip
        except UsageError as error:
            near = cast("list[str]", error.context.get("near", []))
            tail = f"; did you mean {near[0]!r}?" if near else ""
            yield Fault("flash.chip", f"{name!r} is not in the chip catalog{tail}")
            continue
        yield from _chip_contradicts(raw, flash, chip)


def _chip_contradicts(
    raw: Mapping[str, Any], flash: Mapping[str, Any], chip: Chip
) -> Iterator[Fault]:
    size = _size(flash.get("size"))
    if size is not None and size != chip.size:
        said = f"is {format_size(size)}, but {chip.part} has {format_size(chip.size)}"
        yield Fault("flash.size", said)
    volts = flash.get("voltage")
    if isinstance(volts, int | float) and not isinstance(volts, bool) and chip.voltage:
        low, high = chip.voltage
        if not low <= volts <= high:
            said = f"is {volts:g} V, but {chip.part} takes {low:g} V to {high:g} V"
            yield Fault("flash.voltage", said)
    jedec_id = flash.get("jedec_id")
    if isinstance(jedec_id, str):
        known = chip.jedec_id.hex()
        shared = min(len(known), len(jedec_id))
        if known[:shared] != jedec_id[:shared]:
            yield Fault("flash.jedec_id", f"is {jedec_id}, but {chip.part} answers {known}")
    value = _table(raw, "programmer").get("frequency")
    try:
        hertz = to_frequency(value)
    except ValueError:
        return
    if chip.fast_read_max_hz is not None and hertz > chip.fast_read_max_hz:
        limit = format_hz(chip.fast_read_max_hz)
        said = f"is {format_hz(hertz)}, but {chip.part} takes at most {limit}"
        yield Fault("programmer.frequency", said)


def _pins(raw: Mapping[str, Any]) -> Iterator[Fault]:
    programmer = _table(raw, "programmer")
    used: dict[str, str] = {}
    for role in _PINS:
        pin = programmer.get(role)
        if isinstance(pin, str):
            if pin in used:
                yield Fault(f"programmer.{role}", f"is {pin}, which is programmer.{used[pin]} too")
            used.setdefault(pin, role)


#: Keys of ``[power]`` that belong to one method only.
_POWER_KEYS = {
    "on": "command",
    "off": "command",
    "timeout": "command",
    "port": "relay",
    "baud": "relay",
    "channel": "relay",
    "on_bytes": "relay",
    "off_bytes": "relay",
}


def _power(raw: Mapping[str, Any]) -> Iterator[Fault]:
    power = _table(raw, "power")
    method = power.get("method", "none")
    for key in ("on", "off"):
        if method == "command" and not power.get(key):
            yield Fault(f"power.{key}", 'is missing, though power.method is "command"')
    for key, owner in _POWER_KEYS.items():
        if isinstance(method, str) and method != owner and power.get(key):
            yield Fault(f"power.{key}", f'has no use when power.method is "{method}"')
    if method == "gpio" and not _table(raw, "programmer").get("power"):
        yield Fault("programmer.power", 'is missing, though power.method is "gpio"')
    if method == "relay":
        yield from _relay(power)
    yield from _simulated(raw, method)


def _relay(power: Mapping[str, Any]) -> Iterator[Fault]:
    if not power.get("port"):
        yield Fault("power.port", 'is missing, though power.method is "relay"')
    for one, other in (("on_bytes", "off_bytes"), ("off_bytes", "on_bytes")):
        if power.get(one) and not power.get(other):
            yield Fault(f"power.{other}", f"is missing, though power.{one} is given")
    if power.get("on_bytes") and power.get("channel") is not None:
        yield Fault("power.channel", "has no use beside power.on_bytes, which say it all")


def _simulated(raw: Mapping[str, Any], method: object) -> Iterator[Fault]:
    simulated = _table(raw, "simulated")
    if method != "qemu":
        if "simulated" in raw:
            yield Fault("simulated", 'has no use unless power.method is "qemu"')
        return
    if "simulated" not in raw:
        yield Fault("simulated", 'is missing, though power.method is "qemu"')
    if "console" in raw:
        yield Fault("console", 'has no use when power.method is "qemu": QEMU has the console')
    size = _size(_table(raw, "flash").get("size"))
    found = {
        key: where
        for key in ("code", "variables")
        if (where := _range(_table(simulated, key))) is not None
    }
    for key, where in found.items():
        if size is not None and where.end > size:
            yield Fault(f"simulated.{key}", f"reaches beyond the flash of {format_size(size)}")
    if len(found) == 2 and found["code"].overlaps(found["variables"]):
        yield Fault("simulated.variables", f"overlaps simulated.code ({found['code']})")


def _nvram(raw: Mapping[str, Any]) -> Iterator[Fault]:
    nvram = _table(raw, "nvram")
    areas = [key for key in ("variables", "work", "spare") if isinstance(nvram.get(key), dict)]
    if nvram.get("find") is True:
        for key in areas:
            yield Fault(f"nvram.{key}", "is given, though nvram.find says to search for it")
    elif "nvram" in raw and "variables" not in nvram:
        yield Fault("nvram.variables", "is missing (or set nvram.find = true)")
    for one, other in (("work", "spare"), ("spare", "work")):
        if one in areas and other not in nvram:
            yield Fault(f"nvram.{other}", f"is missing, though nvram.{one} is given")
    found = {key: where for key in areas if (where := _range(_table(nvram, key)))}
    size = _size(_table(raw, "flash").get("size"))
    for key, where in found.items():
        if size is not None and where.end > size:
            yield Fault(f"nvram.{key}", f"reaches beyond the flash of {format_size(size)}")
    for one, two in combinations(found, 2):
        if found[one].overlaps(found[two]):
            yield Fault(f"nvram.{two}", f"overlaps nvram.{one} ({found[one]})")


def _expect(raw: Mapping[str, Any]) -> Iterator[Fault]:
    expect, size = _table(raw, "expect"), _size(_table(raw, "flash").get("size"))
    regions = _table(_table(expect, "descriptor"), "regions")
    for name in regions:
        if name not in DESCRIPTOR_REGIONS:
            yield Fault(f"expect.descriptor.regions.{name}", "is no region of a descriptor")
    entries = expect.get("volume")
    for index, entry in enumerate(cast("list[Any]", entries) if isinstance(entries, list) else []):
        at = _size(cast("Mapping[str, Any]", entry).get("at")) if isinstance(entry, dict) else None
        if at is not None and size is not None and at + VOLUME_HEADER > size:
            where = f"reaches beyond the flash of {format_size(size)}"
            yield Fault(f"expect.volume[{index}].at", where)
