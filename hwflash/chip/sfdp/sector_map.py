"""Sector Map Parameter Table (id FF81): which erase types work where.

The table lists detection commands and one or more maps. Each command reads one byte; the masked
answers, 1 for any bit set, first command first, are the bits of the configuration number of the
map in use. Without commands there is one map.

Ref: JESD216F §6.5; the selection agrees with Linux drivers/mtd/spi-nor/sfdp.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwflash.chip.sfdp.header import Note
from hwflash.chip.sfdp.layout import DWORD, MAP_COMMAND, MAP_HEADER, MAP_REGION, fields
from hwflash.errors import SfdpError

_ADDRESS_LENGTHS = (0, 3, 4, None)
_VARIABLE_LATENCY = 0xF


@dataclass(frozen=True, slots=True)
class DetectionCommand:
    """A command whose answer tells the configuration.

    Attributes:
        opcode: the command; one byte is read.
        address_bytes: 0, 3 or 4, or None for as many as the chip takes at present.
        address: the address to send.
        latency: dummy clocks, or None for as many as are configured at present.
        mask: bits of the answer that count.
    """

    opcode: int
    address_bytes: int | None
    address: int
    latency: int | None
    mask: int


@dataclass(frozen=True, slots=True)
class MapRegion:
    """A region: ``length`` bytes, in which the erase types (1 to 4) work."""

    length: int
    erase_types: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConfigurationMap:
    """One map: its configuration number and its regions from address 0 up."""

    configuration: int
    regions: tuple[MapRegion, ...]

    @property
    def length(self) -> int:
        """Bytes covered."""
        return sum(region.length for region in self.regions)


@dataclass(frozen=True, slots=True)
class SectorMap:
    """The table: detection commands in order, and all maps."""

    revision: tuple[int, int]
    commands: tuple[DetectionCommand, ...]
    maps: tuple[ConfigurationMap, ...]


def parse_sector_map(
    table: bytes, revision: tuple[int, int], size: int
) -> tuple[SectorMap | None, tuple[Note, ...]]:
    """Decode the table.

    Args:
        table: its bytes.
        revision: major and minor of the table.
        size: bytes of the chip, against which the maps are held.

    Returns:
        The table (None when it has no map) and the oddities met.
    """
    notes: list[Note] = []
    offset = 0
    commands: list[DetectionCommand] = []
    while offset + 8 <= len(table) and not table[offset] & 2:
        commands.append(_command(table[offset : offset + 8]))
        offset += 8
    maps: list[ConfigurationMap] = []
    last = False
    while not last and offset + 8 <= len(table):
        head = fields(MAP_HEADER, table[offset : offset + 4])
        end = offset + 4 * (head["regions"] + 2)
        if not head["is_map"] or end > len(table):
            break
        maps.append(_map(head["configuration"], table[offset + 4 : end]))
        last = bool(head["is_last"])
        offset = end
    if not last:
        text = f"the table of {len(table)} bytes ends without a last map"
        notes.append(Note("sector-map-malformed", text))
    if not maps:
        return None, tuple(notes)
    for found in maps:
        if found.length != size:
            code = "sector-map-short" if found.length < size else "sector-map-larger-than-chip"
            text = f"map {found.configuration:02X}h covers {found.length} of {size} bytes"
            notes.append(Note(code, text))
    return SectorMap(revision, tuple(commands), tuple(maps)), tuple(notes)


def _command(data: bytes) -> DetectionCommand:
    word = fields(MAP_COMMAND.settings, data[:4])
    return DetectionCommand(
        word["opcode"],
        _ADDRESS_LENGTHS[word["address_length"]],
        int(DWORD.parse(data[4:])),
        None if word["latency"] == _VARIABLE_LATENCY else word["latency"],
        word["mask"],
    )


def _map(configuration: int, data: bytes) -> ConfigurationMap:
    regions: list[MapRegion] = []
    for offset in range(0, len(data), 4):
        word = fields(MAP_REGION, data[offset : offset + 4])
        types = tuple(index for index in range(1, 5) if word["erase_types"] >> (index - 1) & 1)
        regions.append(MapRegion((word["size"] + 1) * 256, types))
    return ConfigurationMap(configuration, tuple(regions))


def select_map(
    table: SectorMap, answers: Sequence[int] | None, size: int
) -> tuple[ConfigurationMap, tuple[Note, ...]]:
    """The map in use.

    Args:
        table: the sector map table.
        answers: one byte per detection command, as read (not masked); None when the chip
            cannot be asked: then the first map that covers the chip is taken, with a note.
        size: bytes of the chip.

    Raises:
        SfdpError: ``sfdp.sector-map``: too few or too many answers, no map of that number.
    """
    first = table.maps[0]
    if answers is None and table.commands and len(table.maps) > 1:
        fitting = next((item for item in table.maps if item.length == size), first)
        text = f"the chip was not asked which of {len(table.maps)} maps it uses; "
        text += f"map {fitting.configuration:02X}h is assumed"
        return fitting, (Note("sector-map-undetected", text),)
    if answers is None or not table.commands:
        return first, ()
    if len(answers) != len(table.commands):
        raise SfdpError(
            f"{len(table.commands)} detection commands, but {len(answers)} answers",
            code="sfdp.sector-map",
            commands=len(table.commands),
            answers=list(answers),
        )
    number = 0
    for command, answer in zip(table.commands, answers, strict=True):
        number = number << 1 | bool(answer & command.mask)
    for item in table.maps:
        if item.configuration == number:
            return item, ()
    raise SfdpError(
        f"no sector map for configuration {number:02X}h",
        code="sfdp.sector-map",
        configuration=number,
        known=[item.configuration for item in table.maps],
        answers=list(answers),
    )
