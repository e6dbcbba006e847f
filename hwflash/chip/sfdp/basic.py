"""Decoder of the Basic Flash Parameter Table, of any length from 9 dwords.

Ref: JESD216F §6.4. JESD216 (2011) had 9 dwords, B 16, D 20; 23 are seen in newer parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from hwflash.chip.model import Duration
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
from hwflash.chip.sfdp.header import Note
from hwflash.chip.sfdp.layout import BFPT, fields
from hwflash.errors import SfdpError

MIN_DWORDS: Final = 9
FULL_DWORDS: Final = 16  # JESD216A and later; shorter tables tell no times
DEFAULT_PAGE: Final = 256

# 4-byte addresses end at 4 GiB; below 4 KiB there is no erase block. What lies outside is a
# damaged table.
MAX_SIZE: Final = 1 << 32
MIN_SIZE: Final = 4096

# Units in nanoseconds: whole numbers keep 40 x 8 us at 0.00032 s exactly.
_ERASE_UNITS: Final = (1_000_000, 16_000_000, 128_000_000, 1_000_000_000)
_CHIP_ERASE_UNITS: Final = (16_000_000, 256_000_000, 4_000_000_000, 64_000_000_000)
_PAGE_UNITS: Final = (8_000, 64_000)
_BYTE_UNITS: Final = (1_000, 8_000)
_LATENCY_UNITS: Final = (128, 1_000, 8_000, 64_000)
_INTERVAL: Final = 64_000
_SECOND: Final = 1_000_000_000

_ADDRESS_BYTES: Final = tuple(AddressBytes)
_QUAD_ENABLE: Final = tuple(QuadEnable)
_EXTENSIONS: Final = ("repeat", "invert", "reserved", "16-bit")

# Support flag (dword, name), settings (dword, name), protocol.
_READS: Final = (
    (1, "read_1_1_2", 4, "1S-1S-2S"),
    (1, "read_1_2_2", 4, "1S-2S-2S"),
    (5, "read_2_2_2", 6, "2S-2S-2S"),
    (1, "read_1_1_4", 3, "1S-1S-4S"),
    (1, "read_1_4_4", 3, "1S-4S-4S"),
    (5, "read_4_4_4", 7, "4S-4S-4S"),
)

_T = TypeVar("_T")
# 21h, 5Ch and DCh are the 4-byte forms of 20h, 52h and D8h; S28HS lists nothing else.
_FOUR_BYTE_ERASES: Final = frozenset({0x21, 0x5C, 0xDC})

_Words = Mapping[int, Mapping[str, int]]


def _nanoseconds(word: Mapping[str, int], name: str, units: tuple[int, ...]) -> int:
    return (word[f"{name}_count"] + 1) * units[word[f"{name}_units"]]


def _span(word: Mapping[str, int], name: str, units: tuple[int, ...], maximum: int) -> Duration:
    typical = _nanoseconds(word, name, units)
    return Duration(typical / _SECOND, typical * 2 * (maximum + 1) / _SECOND)


def _size(word: Mapping[str, int], notes: list[Note], offset: int) -> int:
    """Density: N + 1 bits up to 2 Gbit, 2^N bits from 4 Gbit on."""
    value = word["value"]
    # Cut before shifting: N has 31 bits.
    bits = 1 << min(value, 64) if word["exponential"] else value + 1
    size, rest = divmod(bits, 8)
    if rest or size % 256 or not MIN_SIZE <= size <= MAX_SIZE:
        raise SfdpError(
            f"a density of {'2^' if word['exponential'] else ''}{value:#x} bits is impossible",
            code="sfdp.density",
            offset=offset + 4,
            dword=word["exponential"] << 31 | value,
        )
    if word["exponential"] and bits < 1 << 32:
        notes.append(
            Note("density-form", f"{bits} bits are told as a power of two, meant for 4 Gbit on")
        )
    if size & (size - 1):
        notes.append(Note("size-not-power-of-two", f"the chip has {size} bytes"))
    return size


def _reads(words: _Words, notes: list[Note]) -> tuple[ReadMode, ...]:
    found: list[ReadMode] = []
    for support, name, settings, protocol in _READS:
        word = words[settings]
        mode = ReadMode(
            protocol,
            word[f"{name}_opcode"],
            word[f"{name}_mode_clocks"],
            word[f"{name}_wait_states"],
        )
        usable = mode.opcode not in (0x00, 0xFF)
        if words[support][name]:
            if usable:
                found.append(mode)
            else:
                text = f"{protocol} is supported, but its opcode is {mode.opcode:02X}h"
                notes.append(Note("read-opcode-missing", text))
        elif usable:
            text = f"{protocol} has settings (opcode {mode.opcode:02X}h), but is not supported"
            notes.append(Note("read-settings-without-support", text))
    for name, protocol in (("read_1_1_8", "1S-1S-8S"), ("read_1_8_8", "1S-8S-8S")):
        # No support flags: an opcode of 0 means that there is none.
        if 17 in words and words[17][f"{name}_opcode"] not in (0x00, 0xFF):
            word = words[17]
            found.append(
                ReadMode(
                    protocol,
                    word[f"{name}_opcode"],
                    word[f"{name}_mode_clocks"],
                    word[f"{name}_wait_states"],
                )
            )
    return tuple(found)


def _erases(words: _Words, size: int, notes: list[Note]) -> tuple[BasicErase, ...]:
    found: list[BasicErase] = []
    for index in range(1, 5):
        word = words[8 if index < 3 else 9]
        exponent, opcode = word[f"exponent_{index}"], word[f"opcode_{index}"]
        if exponent == 0:
            continue
        if exponent > 31 or 1 << exponent > size or exponent < 8:
            text = f"erase type {index} of 2^{exponent} bytes does not fit the chip"
            notes.append(Note("erase-size-impossible", text))
            continue
        time = None
        if 10 in words:
            time = _span(words[10], f"erase_{index}", _ERASE_UNITS, words[10]["maximum"])
        found.append(BasicErase(index, 1 << exponent, opcode, time))
    always = [item for item in found if item.opcode in _FOUR_BYTE_ERASES]
    if always:
        names = ", ".join(f"{item.opcode:02X}h" for item in always)
        notes.append(Note("4byte-erase-opcode-in-bfpt", f"{names} always take 4 address bytes"))
    counts = Counter(item.opcode for item in found)
    for opcode, count in counts.items():
        if count > 1:
            sizes = ", ".join(str(item.size) for item in found if item.opcode == opcode)
            text = f"{opcode:02X}h erases {sizes} bytes, depending on the place"
            notes.append(Note("shared-erase-opcode", text))
    return tuple(found)


def _page_size(words: _Words, notes: list[Note]) -> int:
    if 11 not in words:
        return DEFAULT_PAGE
    page = 1 << words[11]["page_exponent"]
    if page != DEFAULT_PAGE:
        notes.append(Note("page-size-not-256", f"a page has {page} bytes"))
    return page


def _times(words: _Words) -> ProgramTimes | None:
    if 11 not in words:
        return None
    word = words[11]
    maximum = word["maximum"]
    return ProgramTimes(
        _span(word, "page", _PAGE_UNITS, maximum),
        _span(word, "first_byte", _BYTE_UNITS, maximum),
        _span(word, "next_byte", _BYTE_UNITS, maximum),
        # The multiplier of dword 11 is for programs; erases have theirs in dword 10.
        _span(word, "chip_erase", _CHIP_ERASE_UNITS, words[10]["maximum"]),
    )


def _suspend(words: _Words) -> Suspend | None:
    if 13 not in words or words[12]["unsupported"]:
        return None
    times, opcodes = words[12], words[13]
    return Suspend(
        opcodes["erase_suspend"],
        opcodes["erase_resume"],
        opcodes["program_suspend"],
        opcodes["program_resume"],
        _nanoseconds(times, "erase_latency", _LATENCY_UNITS) / _SECOND,
        (times["erase_interval"] + 1) * _INTERVAL / _SECOND,
        _nanoseconds(times, "program_latency", _LATENCY_UNITS) / _SECOND,
        (times["program_interval"] + 1) * _INTERVAL / _SECOND,
        times["erase_prohibited"],
        times["program_prohibited"],
    )


def _power_down(words: _Words) -> PowerDown | None:
    if 14 not in words or words[14]["unsupported"]:
        return None
    word = words[14]
    return PowerDown(
        word["enter"], word["exit"], _nanoseconds(word, "exit_delay", _LATENCY_UNITS) / _SECOND
    )


def _quad(words: _Words) -> QuadSettings | None:
    if 15 not in words:
        return None
    word = words[15]
    return QuadSettings(
        _QUAD_ENABLE[word["quad_enable"]],
        bool(word["hold_reset_disable"]),
        bool(word["read_0_4_4"]),
        word["entry_0_4_4"],
        word["exit_0_4_4"],
        word["enable_4_4_4"],
        word["disable_4_4_4"],
    )


def _octal(words: _Words) -> OctalSettings | None:
    if 18 not in words:
        return None
    word, mode = words[18], words.get(19)
    return OctalSettings(
        _EXTENSIONS[word["command_extension"]],
        bool(word["byte_swapped_8d"]),
        bool(word["jedec_reset"]),
        bool(word["strobe_4s_4s_4s"]),
        bool(word["strobe_4s_4d_4d"]),
        mode["octal_enable"] if mode else None,
        bool(mode["read_0_8_8"]) if mode else None,
        mode["enable_8_8_8"] if mode else None,
        mode["disable_8_8_8"] if mode else None,
        {name.removeprefix("speed_"): value for name, value in words.get(20, {}).items()},
    )


def _address_bytes(word: Mapping[str, int], size: int, notes: list[Note]) -> AddressBytes:
    found = _ADDRESS_BYTES[word["address_bytes"]]
    if found is AddressBytes.THREE and size > 1 << 24:
        text = f"3-byte addresses only, but {size} bytes"
        notes.append(Note("address-bytes-3-only-above-16M", text))
    elif found is AddressBytes.RESERVED:
        notes.append(Note("address-bytes-reserved", "the number of address bytes is not told"))
    return found


def _mask(words: _Words, number: int, name: str, known: int) -> int | None:
    """A bit mask without its reserved bits, which makers leave 0 or 1 as they like."""
    return words[number][name] & known if number in words else None


def _flags(kind: Callable[[int], _T], value: int | None) -> _T | None:
    return None if value is None else kind(value)


def _words(table: bytes) -> tuple[tuple[int, ...], _Words]:
    """The dwords as numbers, and the known ones taken apart."""
    count = len(table) // 4
    parts = {number: table[4 * number - 4 : 4 * number] for number in range(1, count + 1)}
    words = {number: fields(BFPT[number], parts[number]) for number in parts if number in BFPT}
    return tuple(int.from_bytes(part, "little") for part in parts.values()), words


def parse_basic(
    table: bytes, revision: tuple[int, int], offset: int
) -> tuple[BasicFlash, tuple[Note, ...]]:
    """Decode a Basic Flash Parameter Table.

    Args:
        table: its bytes, at least `MIN_DWORDS` dwords.
        revision: major and minor of the table, from its header.
        offset: its address, for error messages.

    Returns:
        The decoded table and the oddities met.

    Raises:
        SfdpError: ``sfdp.density``.
    """
    dwords, words = _words(table)
    notes: list[Note] = []
    if len(dwords) < FULL_DWORDS:
        text = f"{len(dwords)} dwords: not all times, resets and address modes are told"
        notes.append(Note("bfpt-short", text))
    if 11 not in words:
        notes.append(Note("times-assumed", "no erase and program times are told"))
    size = _size(words[2], notes, offset)
    first = words[1]
    basic = BasicFlash(
        revision=revision,
        dwords=dwords,
        size=size,
        address_bytes=_address_bytes(first, size, notes),
        erase_4k_opcode=first["erase_4k_opcode"] if first["erase_4k"] == 1 else None,
        granularity_64=bool(first["granularity_64"]),
        volatile_block_protect=bool(first["volatile_block_protect"]),
        volatile_enable=0x06 if first["volatile_enable_is_06"] else 0x50,
        dtr=bool(first["dtr"]),
        reads=_reads(words, notes),
        erases=_erases(words, size, notes),
        page_size=_page_size(words, notes),
        page_size_told=11 in words,
        times=_times(words),
        suspend=_suspend(words),
        power_down=_power_down(words),
        polling=_flags(Polling, _mask(words, 14, "polling", 0x03)),
        quad=_quad(words),
        enter_4byte=_flags(EnterMethods, _mask(words, 16, "enter_4byte", 0x7F)),
        exit_4byte=_flags(ExitMethods, _mask(words, 16, "exit_4byte", 0xFF)),
        reset=_flags(ResetMethods, _mask(words, 16, "reset", 0x3F)),
        status_write=_flags(StatusWrite, _mask(words, 16, "status_write", 0x1F)),
        octal=_octal(words),
    )
    return basic, tuple(notes)
