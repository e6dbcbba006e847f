"""``hwflash qemu fwcfg``: what QEMU hands to firmware, from outside."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from hwflash.cli import params, runner
from hwflash.cli.qemu_machine import machine_of, machine_options, vm_generation
from hwflash.errors import UsageError

if TYPE_CHECKING:
    from hwflash.qemu.fwcfg import FwCfg, FwCfgFile
    from hwflash.qemu.loader import Linked

#: What is read of an item that is no file.
_ITEM_BYTES: Final = 256


@click.group("fwcfg")
def command() -> None:
    """Read QEMU's fw_cfg: files, items, and the ACPI linker/loader script.

    The machine stands still at power-on, or, with --boot, at its Shell. QEMU makes the ACPI
    tables anew when firmware first asks for them: with --boot they are those of the boot.
    """


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    options: list[Callable[[Any], Any]] = [
        click.option("--boot", is_flag=True, help="Boot to the Shell first."),
        click.option("--guid", metavar="GUID", help="Add a VM Generation ID device; or `auto`."),
        click.option("--memory", type=click.IntRange(64, 65536), default=256, show_default=True,
                     help="RAM in MiB."),
        machine_options,
        params.json_option,
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@command.command("list")
@_options
@runner.command("qemu fwcfg list")
def list_(run: runner.Run, **options: Any) -> runner.Outcome:
    """List the files: selector, size, name."""
    from hwflash.qemu import fwcfg

    with _opened(run, options) as device:
        features = device.features()
        files = device.files()
    ways = [name for bit, name in ((fwcfg.TRADITIONAL, "port"), (fwcfg.DMA, "dma"))
            if features & bit]  # fmt: skip
    keys = {
        "features": ways,
        "files": [{"name": item.name, "select": item.select, "size": item.size} for item in files],
    }
    lines = [f"0x{item.select:04X} {item.size:>9,}  {item.name}" for item in files]
    return runner.Outcome(keys, [*lines, f"{len(files)} files; read by {' and '.join(ways)}"])


@command.command("read")
@click.argument("name", metavar="NAME")
@click.argument("file", required=False,
                type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))  # fmt: skip
@click.option("--by", "way", type=click.Choice(["port", "dma"]),
              help="Read byte by byte, or by DMA. Default: by size.")  # fmt: skip
@_options
@runner.command("qemu fwcfg read")
def read(
    run: runner.Run, name: str, file: Path | None, way: Literal["port", "dma"] | None,
    **options: Any,
) -> runner.Outcome:  # fmt: skip
    """Read the file NAME into FILE (- is standard output), or dump it.

    NAME may also be the number of an item, such as 0x19, of which 256 bytes are read.
    """
    from hwflash.qemu.fwcfg import named

    if str(file) == "-" and run.console.json_lines:
        raise UsageError("--json and - both want stdout", code="usage.selection")
    if str(file) == "-" and sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise UsageError("standard output is closed", code="usage.selection")
    number = _number(name)
    with _opened(run, options) as device:
        if number is not None:
            files = {item.select: item for item in device.files()}
            found = files.get(number, _item(number))
        else:
            found = named(device.files(), name)
        data = _content(device, found, way)
    from hwflash.cli.vars import hex_lines

    keys = {
        "name": found.name, "select": found.select, "size": len(data), "data": data.hex(),
        "sha256": hashlib.sha256(data).hexdigest(), "file": str(file) if file else None,
    }  # fmt: skip
    if file is None:
        return runner.Outcome(keys, hex_lines(data))
    _save(file, data)
    lines = [] if str(file) == "-" else [f"{len(data):,} bytes of {found.name} in {file}"]
    return runner.Outcome(keys, lines)


@command.command("loader")
@_options
@runner.command("qemu fwcfg loader")
def loader_(run: runner.Run, **options: Any) -> runner.Outcome:
    """Tell the ACPI linker/loader script in words, and carry it out on its files.

    Files lie where the firmware says it put them, as far as it says so (--boot).
    """
    from hwflash.qemu import acpi, loader

    with _opened(run, options) as device:
        files = {item.name: item for item in device.files()}
        script = loader.parse_script(device.content(device.file(loader.SCRIPT)))
        wanted = [name for item in script for name in loader.files_of(item)]
        content = {name: device.content(files[name]) for name in wanted if name in files}
    told = loader.told_places(script, content)
    linked = loader.link(script, content, told)
    tables = [table for blob in linked.blobs.values() for table in acpi.split_tables(bytes(blob))]
    commands = [item for item in script if not isinstance(item, loader.Unknown)]
    keys = {
        "commands": [{"kind": type(item).__name__, "text": item.text} for item in script],
        "files": [
            {"name": name, "address": address, "size": len(linked.blobs[name]),
             "told": name in told}
            for name, address in linked.addresses.items()
        ],
        "written": [
            {"name": item.file, "offset": item.offset, "value": item.value}
            for item in linked.written
        ],
        "tables": [{"name": table.name, "size": len(table.data), "ok": table.ok}
                   for table in tables],
    }  # fmt: skip
    lines = [item.text for item in commands]
    lines += _linked_lines(linked, told)
    lines += [
        f"{table.name}: {len(table.data):,} bytes, checksum {'right' if table.ok else 'WRONG'}"
        for table in tables
    ]
    skipped = len(script) - len(commands)
    lines.append(f"{len(commands)} commands, {skipped} entries skipped, {len(tables)} tables")
    return runner.Outcome(keys, lines, 0 if all(table.ok for table in tables) else 1)


def _linked_lines(linked: Linked, told: dict[str, int]) -> list[str]:
    lines = [
        f"{name} at 0x{address:X}" + ("" if name in told else " (chosen here)")
        for name, address in linked.addresses.items()
    ]
    return lines + [f"{item.file}[0x{item.offset:X}] = 0x{item.value:X}" for item in linked.written]


# --- the guest ----------------------------------------------------------------------------------


@contextmanager
def _opened(run: runner.Run, options: dict[str, Any]) -> Generator[FwCfg]:
    """The fw_cfg device of a guest that stands still."""
    from hwflash.qemu import vmgenid
    from hwflash.qemu.boot import Guest
    from hwflash.qemu.boot_setup import BootOptions
    from hwflash.qemu.inspector import Inspector

    text: str | None = options["guid"]
    guid = text if text == "auto" else vm_generation(text)
    machine = machine_of(options)
    boot = BootOptions(
        memory=options["memory"], qtest=True, paused=not options["boot"],
        extra=vmgenid.device(guid) if guid is not None else (),
    )  # fmt: skip
    with Guest(machine, boot, run.cancel) as guest:
        inspector = Inspector(guest)
        if not options["boot"]:
            yield inspector.fw_cfg
            return
        run.console.info(f"booting {machine.code.path}", program=machine.program)
        guest.wait_for_shell(options["patience"])
        with inspector.halted():
            yield inspector.fw_cfg


def _number(name: str) -> int | None:
    if not name[:1].isdigit():
        return None
    try:
        number = int(name, 0)
    except ValueError:
        return None
    if number > 0xFFFF:
        raise UsageError(f"{name} is no selector: 0xFFFF is the last", code="usage.fwcfg-item")
    return number


def _item(number: int) -> FwCfgFile:
    """An item that is no file: nothing tells its size."""
    from hwflash.qemu.fwcfg import FwCfgFile

    return FwCfgFile(f"item 0x{number:04X}", number, _ITEM_BYTES)


def _content(device: FwCfg, file: FwCfgFile, way: Literal["port", "dma"] | None) -> bytes:
    if way == "dma":
        return device.read_dma(file.select, file.size)
    if way == "port":
        return device.read_port(file.select, file.size)
    return device.content(file)


def _save(file: Path, data: bytes) -> None:
    from hwflash.layout.files import write_atomically
    from hwflash.qemu.boot_setup import unwritable

    if str(file) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        write_atomically(file, data)
    except OSError as exc:
        raise unwritable(file, exc) from exc
