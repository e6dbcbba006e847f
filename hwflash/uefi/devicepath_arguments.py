"""The arguments of one node of a device path's text, taken one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from uuid import UUID

from hwflash.errors import UsageError
from hwflash.uefi.window import printable

_NUMBER: Final = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+", re.ASCII)
_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_PROTOCOLS: Final = {"UDP": 17, "TCP": 6}


def bad(column: int, text: str) -> UsageError:
    """What is wrong with a device path's text, and where.

    Args:
        column: of the fault, from 1 on.
        text: what was found and what was expected.
    """
    return UsageError(f"column {column}: {text}", code="usage.device-path", column=column)


def shown(text: str) -> str:
    """A piece of the text as it can stand in a message."""
    return f"'{printable(text if len(text) <= 40 else text[:37] + '...')}'"


class Arguments:
    """What stands between the parentheses of a node.

    Each method takes the next argument; ``what`` names it in errors. An argument that is
    missing or empty has the value of ``default``, if there is one.

    Attributes:
        name: of the node.
        text: all of it, parentheses left out.
        column: of its first character in the whole text, from 1 on.
    """

    __slots__ = ("_parts", "_taken", "column", "name", "text")

    def __init__(self, name: str, text: str, column: int) -> None:
        self.name = name
        self.text = text
        self.column = column
        self._taken = 0
        self._parts: list[tuple[str, int]] = []
        self._split(text.split(",") if text else [])

    def _split(self, parts: list[str]) -> None:
        at = self.column
        self._parts = []
        for part in parts:
            self._parts.append((part, at))
            at += len(part) + 1

    def free_text(self, before: int, behind: int) -> None:
        """Let one argument have commas: so many others are before and behind it."""
        parts = self.text.split(",", before)
        self._split([*parts[:-1], *parts[-1].rsplit(",", behind)])

    @property
    def left(self) -> int:
        """How many arguments are left."""
        return max(len(self._parts) - self._taken, 0)

    @property
    def next_column(self) -> int:
        """Where the next argument is, or would be."""
        if self.left:
            part, column = self._parts[self._taken]
            return column + len(part) - len(part.lstrip())
        return self.column + len(self.text)

    def bad(self, expected: str) -> UsageError:
        """The next argument is not what is expected."""
        word = self.peek()
        found = f"not {shown(word)}" if word else "and there is nothing"
        return bad(self.next_column, f"{self.name} needs {expected}, {found}")

    def peek(self) -> str:
        """The next argument, which stays; "" if there is none."""
        return self._parts[self._taken][0].strip() if self.left else ""

    def word(self, what: str, default: str | None = None) -> str:
        """Any text."""
        found = self.peek()
        if not found:
            if default is None:
                raise self.bad(what)
            found = default
        self._taken += 1
        return found

    def integer(self, bits: int, what: str, default: int | None = None) -> int:
        """A number, decimal or with ``0x``."""
        word = self.peek()
        if not word and default is not None:
            self._taken += 1
            return default
        limit = f"{what}: a number up to 0x{(1 << bits) - 1:X}"
        # Twenty digits are enough for 64 bits; int() refuses thousands.
        if not _NUMBER.fullmatch(word) or len(word.lstrip("0xX")) > 20:
            raise self.bad(limit)
        value = int(word, 16 if word[1:2] in ("x", "X") else 10)
        if value >> bits:
            raise self.bad(limit)
        self._taken += 1
        return value

    def choice(self, words: Mapping[str, int], bits: int, what: str) -> int:
        """One of some words, or a number; without bits only a word."""
        word = self.peek()
        for known, value in words.items():
            if word.lower() == known.lower():
                self._taken += 1
                return value
        if bits and _NUMBER.fullmatch(word):
            return self.integer(bits, what)
        raise self.bad(f"{what}: {', '.join(words)}" + (" or a number" if bits else ""))

    def guid(self, what: str = "a GUID") -> bytes:
        """The 16 bytes of a GUID as stored."""
        word = self.peek()
        if not _GUID.fullmatch(word):
            raise self.bad(what)
        self._taken += 1
        return UUID(word).bytes_le

    def hex(self, what: str, least: int, most: int) -> bytes:
        """Bytes as hexadecimal digits, without anything between or before them."""
        word = self.peek()
        digits = word if len(word) % 2 == 0 else ""
        if word and not (digits and re.fullmatch("[0-9A-Fa-f]+", digits)):
            raise self.bad(f"{what}: an even number of hexadecimal digits")
        if not least <= len(digits) // 2 <= most:
            count = f"{least}" if least == most else f"{least} to {most}"
            raise self.bad(f"{what} of {count} bytes")
        self._taken += 1
        return bytes.fromhex(digits)

    def latin1(self, what: str, most: int, *, empty: bool = True) -> bytes:
        """Text of 8-bit characters, without a NUL; white space around it counts."""
        word = self._parts[self._taken][0] if self.left else ""
        if "\0" in word or any(ord(char) > 0xFF for char in word):
            raise self.bad(f"{what} of 8-bit characters")
        if len(word) > most or not (word or empty):
            raise self.bad(f"{what} of {0 if empty else 1} to {most} characters")
        self._taken += 1
        return word.encode("latin-1")

    def ipv4(self, what: str) -> bytes:
        """The 4 bytes of an address."""
        try:
            found = IPv4Address(self.peek()).packed
        except AddressValueError:
            raise self.bad(f"{what}: an IPv4 address") from None
        self._taken += 1
        return found

    def ipv6(self, what: str) -> bytes:
        """The 16 bytes of an address."""
        try:
            address = IPv6Address(self.peek())
        except AddressValueError:
            raise self.bad(f"{what}: an IPv6 address") from None
        if address.scope_id is not None:
            raise self.bad(f"{what}: an IPv6 address without a zone")
        self._taken += 1
        return address.packed

    def protocol(self) -> int:
        """The number of a network protocol."""
        return self.choice(_PROTOCOLS, 16, "a protocol")

    def done(self) -> None:
        """Tell if arguments are left over.

        Raises:
            UsageError: so they are (``usage.device-path``).
        """
        if self.left:
            raise bad(
                self.next_column,
                f"{self.name} has {self._taken} arguments, {shown(self.peek())} is one too many",
            )
