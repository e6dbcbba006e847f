"""The bytes that a job file's values mean for one unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hwflash.errors import HwflashError, UsageError
from hwflash.jobs.jobfile_form import BytesTable, JobForm, Value, VariableTable
from hwflash.jobs.placeholders import UnitValues, fill, placeholders
from hwflash.layout.files import Segment
from hwflash.uefi import values as uefi_values

#: Fields of a value in which placeholders are filled in.
FILLED: Final = ("string", "utf16", "hex", "u8", "u16", "u32", "u64")


def texts(value: Value) -> list[tuple[str, str]]:
    """The texts of a value that may have placeholders, with the names of their keys."""
    found = [(key, text) for key in FILLED if (text := getattr(value, key)) is not None]
    if value.boot is not None:
        found += [("boot.label", value.boot.label), ("boot.path", value.boot.path)]
    return found


def used(form: JobForm) -> list[str]:
    """Every placeholder in the values of a job; lone braces are left out of account."""
    found: list[str] = []
    for value in (*form.variable, *form.bytes):
        for _, text in texts(value):
            try:
                found += placeholders(text)
            except UsageError:
                continue
    return found


def value_of(
    value: Value, unit: UnitValues, load: Callable[[str], bytes], *, terminated: bool
) -> bytes:
    """The bytes of a value.

    Args:
        value: how it is said.
        unit: what placeholders stand for.
        load: the content of a file that is named.
        terminated: strings end with a NUL.

    Raises:
        UsageError: it is no such value (``usage.value``, ``usage.device-path``), or a
            placeholder stands for nothing (``job.placeholder``).
    """
    if value.file is not None:
        return load(value.file)
    if value.boot is not None:
        optional = load(value.boot.optional_data) if value.boot.optional_data else b""
        return uefi_values.boot_entry(
            fill(value.boot.label, unit), fill(value.boot.path, unit), optional_data=optional
        )
    if value.string is not None:
        return uefi_values.from_string(fill(value.string, unit), terminated=terminated)
    if value.utf16 is not None:
        return uefi_values.from_utf16(fill(value.utf16, unit), terminated=terminated)
    if value.hex is not None:
        return uefi_values.from_hex(fill(value.hex, unit))
    for bits in uefi_values.WIDTHS:
        text = getattr(value, f"u{bits}")
        if text is not None:
            return uefi_values.from_integer(fill(text, unit), bits)
    raise UsageError("no value is given", code="usage.value")


def variable_data(table: VariableTable, unit: UnitValues, load: Callable[[str], bytes]) -> bytes:
    """The value of a variable; nothing for one that shall be deleted."""
    return b"" if table.delete else value_of(table, unit, load, terminated=True)


def placed_bytes(table: BytesTable, unit: UnitValues, load: Callable[[str], bytes]) -> Segment:
    """Bytes at their offset, filled up to their length.

    Raises:
        UsageError: they are longer (``usage.value``), and as `value_of`.
    """
    # A NUL is no part of a text at an offset: where it belongs, fill = 0 says so.
    data = value_of(table, unit, load, terminated=False)
    if table.length is not None and len(data) > table.length:
        raise UsageError(
            f"{len(data)} bytes at 0x{table.at:06X} have room for {table.length}",
            code="usage.value",
            address=table.at,
            length=table.length,
        )
    return Segment(table.at, data.ljust(table.length or 0, bytes([table.fill])))


def fault_of(
    value: Value, unit: UnitValues, load: Callable[[str], bytes]
) -> tuple[str, str] | None:
    """What is wrong with a value for a unit: the key in it, and why; None when it is good."""
    try:
        if isinstance(value, BytesTable):
            placed_bytes(value, unit, load)
        else:
            value_of(value, unit, load, terminated=True)
    except HwflashError as error:
        given = value.given()
        return (given[0] if given else ""), error.message
    return None
