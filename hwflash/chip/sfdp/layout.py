"""Where the fields lie in SFDP bytes: headers, Basic Flash Parameter Table, 4-byte table, maps.

`construct` descriptions only; what the fields mean is decoded beside the tables they belong to.
A dword is stored little-endian; its fields are listed here from bit 31 down to bit 0.

Ref: JESD216F §6.2 (headers), §6.4 (basic flash parameters, dwords 1 to 20), §6.5 (sector map),
§6.6 (4-byte address instructions). Bit positions were checked against the SFDP decoders of Linux
(drivers/mtd/spi-nor/sfdp.c), Zephyr (drivers/flash/jesd216.c) and the Chromium EC (sfdp.h), and
for dwords 17 to 20 against an xSPI device's register manual.

Limits: dwords 21 to 23 of the basic table (double data rate reads) are not decoded; they stay
in `BasicFlash.dwords`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import construct

# construct carries no annotations: its names enter as Any.
c: Any = construct

SFDP_HEADER: Final[Any] = c.Struct(
    "signature" / c.Bytes(4),
    "minor" / c.Int8ul,
    "major" / c.Int8ul,
    "nph" / c.Int8ul,  # number of parameter headers, less one
    "access_protocol" / c.Int8ul,
)

PARAMETER_HEADER: Final[Any] = c.Struct(
    "id_lsb" / c.Int8ul,
    "minor" / c.Int8ul,
    "major" / c.Int8ul,
    "dwords" / c.Int8ul,
    "pointer" / c.Int24ul,
    "id_msb" / c.Int8ul,
)

DWORD: Final[Any] = c.Int32ul


def _dword(*fields: Any) -> Any:
    return c.ByteSwapped(c.BitStruct(*fields))


def _read(name: str) -> tuple[Any, ...]:
    """One half dword: opcode, mode clocks, wait states."""
    return (
        f"{name}_opcode" / c.BitsInteger(8),
        f"{name}_mode_clocks" / c.BitsInteger(3),
        f"{name}_wait_states" / c.BitsInteger(5),
    )


def _erase(index: int) -> tuple[Any, ...]:
    return (f"opcode_{index}" / c.BitsInteger(8), f"exponent_{index}" / c.BitsInteger(8))


def _time(name: str, units: int, count: int) -> tuple[Any, ...]:
    return (f"{name}_units" / c.BitsInteger(units), f"{name}_count" / c.BitsInteger(count))


BFPT: Final[Mapping[int, Any]] = {
    1: _dword(
        c.Padding(9),
        "read_1_1_4" / c.Flag,
        "read_1_4_4" / c.Flag,
        "read_1_2_2" / c.Flag,
        "dtr" / c.Flag,
        "address_bytes" / c.BitsInteger(2),
        "read_1_1_2" / c.Flag,
        "erase_4k_opcode" / c.BitsInteger(8),
        c.Padding(3),
        "volatile_enable_is_06" / c.Flag,
        "volatile_block_protect" / c.Flag,
        "granularity_64" / c.Flag,
        "erase_4k" / c.BitsInteger(2),
    ),
    2: _dword("exponential" / c.Flag, "value" / c.BitsInteger(31)),
    3: _dword(*_read("read_1_1_4"), *_read("read_1_4_4")),
    4: _dword(*_read("read_1_2_2"), *_read("read_1_1_2")),
    5: _dword(c.Padding(27), "read_4_4_4" / c.Flag, c.Padding(3), "read_2_2_2" / c.Flag),
    6: _dword(*_read("read_2_2_2"), c.Padding(16)),
    7: _dword(*_read("read_4_4_4"), c.Padding(16)),
    8: _dword(*_erase(2), *_erase(1)),
    9: _dword(*_erase(4), *_erase(3)),
    10: _dword(
        *_time("erase_4", 2, 5),
        *_time("erase_3", 2, 5),
        *_time("erase_2", 2, 5),
        *_time("erase_1", 2, 5),
        "maximum" / c.BitsInteger(4),
    ),
    11: _dword(
        c.Padding(1),
        *_time("chip_erase", 2, 5),
        *_time("next_byte", 1, 4),
        *_time("first_byte", 1, 4),
        *_time("page", 1, 5),
        "page_exponent" / c.BitsInteger(4),
        "maximum" / c.BitsInteger(4),
    ),
    12: _dword(
        "unsupported" / c.Flag,
        *_time("erase_latency", 2, 5),
        "erase_interval" / c.BitsInteger(4),
        *_time("program_latency", 2, 5),
        "program_interval" / c.BitsInteger(4),
        c.Padding(1),
        "erase_prohibited" / c.BitsInteger(4),
        "program_prohibited" / c.BitsInteger(4),
    ),
    13: _dword(
        "erase_suspend" / c.BitsInteger(8),
        "erase_resume" / c.BitsInteger(8),
        "program_suspend" / c.BitsInteger(8),
        "program_resume" / c.BitsInteger(8),
    ),
    14: _dword(
        "unsupported" / c.Flag,
        "enter" / c.BitsInteger(8),
        "exit" / c.BitsInteger(8),
        *_time("exit_delay", 2, 5),
        "polling" / c.BitsInteger(6),
        c.Padding(2),
    ),
    15: _dword(
        c.Padding(8),
        "hold_reset_disable" / c.Flag,
        "quad_enable" / c.BitsInteger(3),
        "entry_0_4_4" / c.BitsInteger(4),
        "exit_0_4_4" / c.BitsInteger(6),
        "read_0_4_4" / c.Flag,
        "enable_4_4_4" / c.BitsInteger(5),
        "disable_4_4_4" / c.BitsInteger(4),
    ),
    16: _dword(
        "enter_4byte" / c.BitsInteger(8),
        "exit_4byte" / c.BitsInteger(10),
        "reset" / c.BitsInteger(6),
        c.Padding(1),
        "status_write" / c.BitsInteger(7),
    ),
    17: _dword(*_read("read_1_1_8"), *_read("read_1_8_8")),
    18: _dword(
        "byte_swapped_8d" / c.Flag,
        "command_extension" / c.BitsInteger(2),
        c.Padding(1),
        "strobe_4s_4d_4d" / c.Flag,
        "strobe_4s_4s_4s" / c.Flag,
        "strobe_waveform" / c.BitsInteger(2),
        "jedec_reset" / c.Flag,
        "drive_strength" / c.BitsInteger(5),
        c.Padding(18),
    ),
    19: _dword(
        c.Padding(9),
        "octal_enable" / c.BitsInteger(3),
        "entry_0_8_8" / c.BitsInteger(4),
        "exit_0_8_8" / c.BitsInteger(6),
        "read_0_8_8" / c.Flag,
        "enable_8_8_8" / c.BitsInteger(5),
        "disable_8_8_8" / c.BitsInteger(4),
    ),
    20: _dword(
        "speed_8d_strobe" / c.BitsInteger(4),
        "speed_8d" / c.BitsInteger(4),
        "speed_8s_strobe" / c.BitsInteger(4),
        "speed_8s" / c.BitsInteger(4),
        "speed_4d_strobe" / c.BitsInteger(4),
        "speed_4d" / c.BitsInteger(4),
        "speed_4s_strobe" / c.BitsInteger(4),
        "speed_4s" / c.BitsInteger(4),
    ),
}

MAP_COMMAND: Final[Any] = c.Struct(
    "settings"
    / _dword(
        "mask" / c.BitsInteger(8),
        "address_length" / c.BitsInteger(2),
        c.Padding(2),
        "latency" / c.BitsInteger(4),
        "opcode" / c.BitsInteger(8),
        c.Padding(6),
        "is_map" / c.Flag,
        "is_last" / c.Flag,
    ),
    "address" / c.Int32ul,
)

MAP_HEADER: Final[Any] = _dword(
    c.Padding(8),
    "regions" / c.BitsInteger(8),  # less one
    "configuration" / c.BitsInteger(8),
    c.Padding(6),
    "is_map" / c.Flag,
    "is_last" / c.Flag,
)

MAP_REGION: Final[Any] = _dword(
    "size" / c.BitsInteger(24),  # in 256 bytes, less one
    c.Padding(4),
    "erase_types" / c.BitsInteger(4),  # bit 0 is erase type 1
)


def fields(layout: Any, data: bytes) -> dict[str, int]:
    """Take a dword (or header) apart; flags come as 0 or 1.

    Args:
        layout: one of the descriptions above, of integers and flags only.
        data: at least as many bytes as the description covers.
    """
    parsed = cast("Mapping[str, int]", layout.parse(data))
    return {name: int(value) for name, value in parsed.items() if not name.startswith("_")}
