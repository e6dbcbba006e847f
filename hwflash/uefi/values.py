"""The bytes of a value, from what a person types.

Firmware keeps its ASCII strings with a NUL: in Debian's OVMF template ``PlatformLang`` is
``65 6e 00`` and ``Lang`` ``65 6e 67 00``. Strings therefore get one unless it is declined.

All faults are `UsageError` with code ``usage.value``; those of device paths have
``usage.device-path``.
"""

from __future__ import annotations

import re
from typing import Final

from hwflash.errors import UsageError
from hwflash.uefi.devicepath_parse import parse_text
from hwflash.uefi.loadoption import LoadFlag, LoadOption
from hwflash.uefi.window import encode_utf16, printable

#: Widths of integers, in bits.
WIDTHS: Final = (8, 16, 32, 64)

_TOKEN: Final = re.compile(r"[^\s:]+")
_NUMBER: Final = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+", re.ASCII)
#: The length of a load option's device paths has 16 bits.
_PATHS_LIMIT: Final = 0xFFFF


def from_string(text: str, *, terminated: bool = True) -> bytes:
    """Text as UTF-8, which is ASCII where the text is.

    Args:
        text: what the variable shall say.
        terminated: a NUL follows, as in ``PlatformLang``.

    Raises:
        UsageError: a NUL or a lone surrogate in the text, or no bytes at all.
    """
    _check_text(text)
    data = text.encode() + (b"\0" if terminated else b"")
    if not data:
        raise _bad("the text is empty")
    return data


def from_utf16(text: str, *, terminated: bool = True) -> bytes:
    """Text as UTF-16, little endian.

    Args:
        text: what the variable shall say.
        terminated: a NUL (two bytes) follows.

    Raises:
        UsageError: a NUL or a lone surrogate in the text, or no bytes at all.
    """
    _check_text(text)
    data = encode_utf16(text) if terminated else encode_utf16(text)[:-2]
    if not data:
        raise _bad("the text is empty")
    return data


def from_hex(text: str) -> bytes:
    """Hexadecimal digits in groups of whole bytes.

    Groups may be parted by white space or colons, and each may begin with ``0x``.

    Raises:
        UsageError: another character, a group with an odd number of digits, or no digits.
    """
    found = bytearray()
    for token in _TOKEN.finditer(text):
        digits, start = token.group(), token.start()
        if digits[:2] in ("0x", "0X"):
            digits, start = digits[2:], start + 2
        for at, char in enumerate(digits):
            if char not in "0123456789abcdefABCDEF":
                raise _bad(f"{_shown(char)} at column {start + at + 1} is no hexadecimal digit",
                      column=start + at + 1)  # fmt: skip
        if len(digits) % 2 or not digits:
            count = "1 hexadecimal digit" if len(digits) == 1 else f"{len(digits)} digits"
            raise _bad(f"the group at column {token.start() + 1} has {count}, no whole bytes",
                  column=token.start() + 1)  # fmt: skip
        found += bytes.fromhex(digits)
    if not found:
        raise _bad("there are no hexadecimal digits")
    return bytes(found)


def from_integer(text: str, bits: int) -> bytes:
    """Unsigned numbers, little endian: one, or several parted by commas.

    ``3,0,0x1`` of 16 bits is the BootOrder Boot0003, Boot0000, Boot0001.

    Args:
        text: decimal, or hexadecimal with ``0x``.
        bits: 8, 16, 32 or 64.

    Raises:
        UsageError: no number, or one that has no room.
        ValueError: another number of bits.
    """
    if bits not in WIDTHS:
        raise ValueError(f"integers of {bits} bits are not known")
    found = bytearray()
    start = 0
    for part in text.split(","):
        word = part.strip()
        column = start + part.index(word) + 1
        if not _NUMBER.fullmatch(word):
            what = f"{_shown(word)} at column {column} is" if word else f"column {column} has"
            raise _bad(f"{what} no unsigned number, decimal or with 0x", column=column)
        digits = word[2:].lstrip("0") if word[1:2] in ("x", "X") else word.lstrip("0")
        base = 16 if word[1:2] in ("x", "X") else 10
        # int() refuses thousands of digits; twenty are enough for 64 bits.
        value = int(digits or "0", base) if len(digits) <= 20 else 1 << 64
        if value >> bits:
            raise _bad(f"{_shown(word)} at column {column} is more than {bits} bits hold "
                  f"(0x{(1 << bits) - 1:X})", column=column)  # fmt: skip
        found += value.to_bytes(bits // 8, "little")
        start += len(part) + 1
    return bytes(found)


def boot_entry(
    label: str,
    device_path_text: str,
    *,
    optional_data: bytes = b"",
    active: bool = True,
    hidden: bool = False,
    category_app: bool = False,
) -> bytes:
    r"""The value of ``Boot####``: an EFI_LOAD_OPTION with one device path.

    Args:
        label: what the boot menu shows.
        device_path_text: see `hwflash.uefi.devicepath_parse.parse_text`; a file path such as
            ``\EFI\BOOT\BOOTX64.EFI`` alone makes a short-form path. One instance only.
        optional_data: is handed to the program.
        active: the boot manager tries it by itself.
        hidden: the boot menu does not show it.
        category_app: it is an application and no boot target.

    Raises:
        UsageError: a label that cannot be stored (``usage.value``), or no device path
            (``usage.device-path``).
    """
    _check_text(label, "the label")
    path = parse_text(device_path_text)
    if any(node.is_instance_end for node in path.nodes):
        raise UsageError(
            "a boot entry has one device path, a ',' between nodes begins another",
            code="usage.device-path",
        )
    paths = path.build()
    if len(paths) > _PATHS_LIMIT:
        raise _bad(f"the device path has {len(paths)} bytes, a boot entry holds {_PATHS_LIMIT}")
    attributes = (
        LoadFlag.ACTIVE * active | LoadFlag.HIDDEN * hidden | LoadFlag.CATEGORY_APP * category_app
    )
    return LoadOption(int(attributes), encode_utf16(label), paths, optional_data).build()


def _check_text(text: str, what: str = "the text") -> None:
    for at, char in enumerate(text):
        if char == "\0":
            raise _bad(f"{what} has a NUL at character {at + 1}", column=at + 1)
        if 0xD800 <= ord(char) < 0xE000:
            raise _bad(
                f"{what} has no valid character at {at + 1}: {printable(char)}", column=at + 1
            )


def _shown(text: str) -> str:
    return f"'{printable(text if len(text) <= 40 else text[:37] + '...')}'"


def _bad(text: str, **context: object) -> UsageError:
    return UsageError(text, code="usage.value", **context)
