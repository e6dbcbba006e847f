"""Serial Flash Discoverable Parameters: what a chip says about itself.

`length_needed` tells a reader how much to fetch, `parse` decodes it, `detection_commands` is what
to ask the chip next, and `to_chip` turns the whole into a `hwflash.chip.model.Chip`.

Ref: JESD216, A to F.
"""

from hwflash.chip.sfdp.basic_types import (
    AddressBytes,
    BasicErase,
    BasicFlash,
    EnterMethods,
    ExitMethods,
    OctalSettings,
    Polling,
    PowerDown,
    ProgramTimes,
    QuadEnable,
    QuadSettings,
    ReadMode,
    ResetMethods,
    StatusWrite,
    Suspend,
)
from hwflash.chip.sfdp.chip import (
    EraseLayout,
    addressing,
    detection_commands,
    erase_layout,
    erase_regions,
    to_chip,
)
from hwflash.chip.sfdp.decode import RawTable, Sfdp, parse
from hwflash.chip.sfdp.describe import describe
from hwflash.chip.sfdp.four_byte import FourByteInstructions, read_modes
from hwflash.chip.sfdp.header import MAX_BYTES, Note, ParameterHeader, length_needed
from hwflash.chip.sfdp.sector_map import (
    ConfigurationMap,
    DetectionCommand,
    MapRegion,
    SectorMap,
)

__all__ = [
    "MAX_BYTES",
    "AddressBytes",
    "BasicErase",
    "BasicFlash",
    "ConfigurationMap",
    "DetectionCommand",
    "EnterMethods",
    "EraseLayout",
    "ExitMethods",
    "FourByteInstructions",
    "MapRegion",
    "Note",
    "OctalSettings",
    "ParameterHeader",
    "Polling",
    "PowerDown",
    "ProgramTimes",
    "QuadEnable",
    "QuadSettings",
    "RawTable",
    "ReadMode",
    "ResetMethods",
    "SectorMap",
    "Sfdp",
    "StatusWrite",
    "Suspend",
    "addressing",
    "describe",
    "detection_commands",
    "erase_layout",
    "erase_regions",
    "length_needed",
    "parse",
    "read_modes",
    "to_chip",
]
