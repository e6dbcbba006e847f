"""Options that give a value: text, numbers, bytes, a file, a boot entry."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hwflash.errors import EnvironmentFault, UsageError

F = TypeVar("F", bound=Callable[..., Any])

#: A value that is longer fits into no store.
VALUE_LIMIT = 16 << 20

_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
_VALUE_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--string", "v_string", metavar="TEXT", help="ASCII text, as PlatformLang has."),
    click.option("--utf16", "v_utf16", metavar="TEXT", help="UTF-16 text, NUL-terminated."),
    click.option("--hex", "v_hex", metavar="BYTES", help="Bytes, such as 0a0b or '0A 0B'."),
    *(
        click.option(
            f"--u{bits}", f"v_u{bits}", metavar="N[,N...]", help=f"Numbers of {bits} bits."
        )
        for bits in (8, 16, 32, 64)
    ),
    click.option("--file", "v_file", type=_FILE, help="The bytes of this file; - is stdin."),
    click.option(
        "--boot", "v_boot", nargs=2, metavar="LABEL DEVPATH",
        help=r"A boot entry, such as 'Debian' '\\EFI\\debian\\shimx64.efi'.",
    ),
    click.option(
        "--optional-data", "optional", type=_FILE,
        help="File with the optional data of the boot entry.",
    ),
]  # fmt: skip


def value_options(function: F) -> F:
    """Every way to give a value; collected by `take_value`."""
    for option in reversed(_VALUE_OPTIONS):
        function = option(function)
    return function


def take_value(options: dict[str, Any]) -> bytes:
    """Take the value out of a command's options.

    Raises:
        UsageError: none is given, several are, or it is no such value (``usage.value``).
        EnvironmentFault: the file cannot be read.
    """
    from hwflash.uefi import values

    optional = options.pop("optional")
    given = {
        key.removeprefix("v_"): options.pop(key)
        for key in [key for key in options if key.startswith("v_")]
    }
    given = {key: value for key, value in given.items() if value is not None and value != ()}
    if len(given) != 1:
        what = "several values are given" if given else "no value is given"
        raise UsageError(
            f"{what}; it takes one of --string, --utf16, --hex, --u8, --u16, --u32, --u64, "
            "--file and --boot",
            code="usage.value",
        )
    kind, value = given.popitem()
    if optional is not None and kind != "boot":
        raise UsageError("--optional-data goes with --boot", code="usage.value")
    if kind == "boot":
        if not set(value[1]) & set("\\("):
            raise UsageError(
                f"{value[1]!r} is neither a device path nor a file with its \\ in front",
                code="usage.device-path",
            )
        data = _read(optional) if optional is not None else b""
        return values.boot_entry(value[0], value[1], optional_data=data)
    if kind == "file":
        content = _read(value)
        if not content:
            raise UsageError(
                f"{value} is empty, and a variable without value is none: `vars delete`",
                code="usage.value",
                file=str(value),
            )
        return content
    if kind == "string":
        return values.from_string(value)
    if kind == "utf16":
        return values.from_utf16(value)
    return values.from_hex(value) if kind == "hex" else values.from_integer(value, int(kind[1:]))


def _read(path: Path) -> bytes:
    try:
        if str(path) == "-":
            if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise UsageError("standard input is closed", code="usage.selection")
            content = sys.stdin.buffer.read(VALUE_LIMIT + 1)
        else:
            with path.open("rb") as stream:
                content = stream.read(VALUE_LIMIT + 1)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be read: {error.strerror or error}",
            code="environment.unreadable",
            file=str(path),
        ) from error
    if len(content) > VALUE_LIMIT:
        raise UsageError(f"{path} is too large for a value", code="usage.value", file=str(path))
    return content
