"""The check ``vmgenid``: the VM Generation ID on its whole way from QEMU into the guest's memory.

QEMU hands tables, a page with the GUID and a linker/loader script to the firmware by fw_cfg; the
firmware puts them into memory and writes the page's address back. Each station is looked at from
outside, without an operating system: what QEMU's monitors say, what fw_cfg holds, the script
carried out once more on its files, the tables in memory, the device's AML, the GUID itself. In
the end the guest's state goes to a QEMU with another GUID, as when a snapshot is started twice.

Limits: machines with ACPI by OVMF (q35, pc). QEMU's devices for ``virt`` do not include this one.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from hwflash.errors import ReferenceFailed
from hwflash.qemu import acpi, aml_run, fwcfg, loader
from hwflash.qemu import vmgenid as device
from hwflash.qemu.acpi import Table
from hwflash.qemu.aml import Namespace, parse_table
from hwflash.qemu.boot import Guest
from hwflash.qemu.boot_setup import BootOptions, make_folder
from hwflash.qemu.check import Bench, Step, equal, needed
from hwflash.qemu.inspector import Inspector, incoming
from hwflash.qemu.loader import Command, Unknown
from hwflash.qemu.shell import MemoryRange
from hwflash.uefi.window import printable

#: What QEMU must refuse: a digit is missing, one is none, and something else altogether.
_MALFORMED: Final = ("00112233-4455-6677-8899-aabbccddeef", "0011223g-4455-6677-8899-aabbccddeeff",
                     "generation")  # fmt: skip
#: Files that belong to it.
_FILES: Final = (
    loader.SCRIPT, "etc/acpi/tables", "etc/acpi/rsdp", device.PAGE_FILE, device.ADDRESS_FILE,
)  # fmt: skip
#: Its pointers hold other addresses in memory: the firmware places its tables itself.
_RELINKED: Final = ("FACP", "RSDT")
_EVENT_BIT: Final = 1 << device.EVENT % 8
_NO_DMA: Final = ("-global", "fw_cfg.dma_enabled=off")


def vmgenid(bench: Bench) -> Generator[Step]:
    """GUIDs that QEMU takes and refuses; one boot; one start from its snapshot."""
    wanted = bench.guid or device.USUAL
    given = _another(wanted) if bench.fault == "other-guid" else wanted
    options = _options(bench, given)
    with needed("device", f"QEMU starts with {wanted}"), bench.boot(options=options) as guest:
        found = _asked(guest)
    yield equal("device", f"QEMU starts with {wanted}", f"QEMU starts with {found}")
    yield from _guids(bench)
    folder = make_folder()
    try:
        with bench.boot(options=options) as guest:
            view = yield from _handed_over(bench, guest, wanted)
            page = yield from _in_memory(bench, view, wanted)
            with view.inspector.halted():
                view.inspector.save(folder / "state")
        # A third one: the fault other-guid has taken the second.
        yield from _started_again(bench, page, _another(wanted, 0x5A), folder / "state")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _options(bench: Bench, guid: UUID | str, more: tuple[str, ...] = ()) -> BootOptions:
    words = () if bench.fault == "no-device" else device.device(guid)
    words += _NO_DMA if bench.fault == "no-dma" else ()
    return BootOptions(qtest=True, extra=(*words, *more))


def _another(guid: UUID, bits: int = 0xFF) -> UUID:
    """A GUID that differs in every byte, by these bits."""
    return UUID(bytes=bytes(byte ^ bits for byte in guid.bytes))


def _asked(guest: Guest) -> str:
    """The GUID as QMP tells it."""
    return str(guest.qmp.execute("query-vm-generation-id")["guid"])


# --- what QEMU takes ----------------------------------------------------------------------------


def _guids(bench: Bench) -> Generator[Step]:
    """``auto`` makes a new one each time; what is none is refused."""
    with ExitStack() as stack:
        made = [
            UUID(_asked(stack.enter_context(bench.boot(options=_options(bench, "auto")))))
            for _ in range(2)
        ]
    fresh = made[0] != made[1] and all(item.version == 4 for item in made)
    yield Step("auto", fresh, "two random GUIDs", " and ".join(map(str, made)))
    taken: list[str] = []
    said = ""
    for text in _MALFORMED:
        try:
            with bench.boot(options=_options(bench, text)):
                taken.append(text)
        except ReferenceFailed as exc:
            if exc.code != "reference.qemu-start":
                raise
            said = exc.message
    yield Step(
        "malformed",
        not taken,
        f"QEMU refuses {', '.join(_MALFORMED)}",
        f"QEMU takes {', '.join(taken)}" if taken else said,
    )


# --- what is handed over ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _View:
    """A guest at its Shell, and what was found out about it.

    Attributes:
        inspector: the guest from outside.
        ranges: the firmware's memory map.
        script: QEMU's loader script.
        files: the files that the script is about.
        address: what the firmware has written back.
    """

    inspector: Inspector
    ranges: list[MemoryRange]
    script: tuple[Command, ...]
    files: dict[str, bytes]
    address: int


def _handed_over(bench: Bench, guest: Guest, wanted: UUID) -> Generator[Step, None, _View]:
    """Monitors and fw_cfg, once the firmware has run."""
    with needed("boots", "the Shell"):
        ranges = guest.wait_for_shell(bench.patience).memory_map()
    yield Step("boots", True, "the Shell", "the Shell")
    yield equal("qmp-guid", str(wanted), _asked(guest))
    yield equal("monitor-guid", str(wanted), guest.qmp.monitor("info vm-generation-id").strip())
    inspector = Inspector(guest)
    with inspector.halted():
        device_ = inspector.fw_cfg
        yield equal(
            "fw-cfg",
            _identity(fwcfg.SIGNATURE, fwcfg.TRADITIONAL | fwcfg.DMA, fwcfg.DMA_SIGNATURE),
            _identity(device_.signature(), device_.features(), device_.dma_signature()),
        )
        with needed("fw-cfg-files", ", ".join(_FILES)):
            known = device_.files()
            files = {name: device_.content(fwcfg.named(known, name)) for name in _FILES}
        sizes = ", ".join(f"{name} {len(data)}" for name, data in files.items())
        yield Step("fw-cfg-files", True, ", ".join(_FILES), sizes)
        yield _same_ways(device_, fwcfg.named(known, loader.SCRIPT))
    script = yield from _script(files)
    guid = files[device.PAGE_FILE][device.OFFSET :][: device.GUID_BYTES]
    yield equal("guid-file", device.told(wanted.bytes_le), device.told(guid))
    address = int.from_bytes(files[device.ADDRESS_FILE], "little")
    yield Step(
        "address-written", address != 0, "the firmware has written an address", f"0x{address:X}"
    )
    return _View(inspector, ranges, script, files, address)


def _identity(signature: bytes, features: int, dma: bytes) -> str:
    """What a device says of itself, in words."""
    name, way = (printable(item.decode("latin-1")) for item in (signature, dma))
    return f"{name}, features 0x{features:X}, DMA register {way}"


def _same_ways(device_: fwcfg.FwCfg, file: fwcfg.FwCfgFile) -> Step:
    """Whether the data port and DMA give the same."""
    port = device_.read_port(file.select, file.size)
    direct = device_.read_dma(file.select, file.size)
    text = f"the same {file.size:,} bytes of {file.name}"
    return Step(
        "fw-cfg-ways",
        port == direct,
        f"{text} by port and by DMA",
        text if port == direct else f"{port[:16].hex(' ')}... and {direct[:16].hex(' ')}...",
    )


def _script(files: dict[str, bytes]) -> Generator[Step, None, tuple[Command, ...]]:
    """The loader script: what it says of the device."""
    expected = "an allocation, a pointer in a table, an address written back"
    with needed("loader-script", expected):
        script = loader.parse_script(files[loader.SCRIPT])
    skipped = [item for item in script if isinstance(item, Unknown)]
    future = [item for item in skipped if item.number]
    found = device.commands_of(script)
    kinds = sorted(type(item).__name__ for item in found)
    told = "; ".join(item.text for item in found) or "nothing of the device"
    count = f"{len(script) - len(skipped)} commands, {len(future)} unknown"
    yield Step(
        "loader-script",
        kinds == ["AddPointer", "Allocate", "WritePointer"],
        expected,
        f"{count}: {told}",
    )
    return script


# --- what is in memory --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Page:
    """The page with the GUID.

    Attributes:
        address: where it lies.
        event_port: I/O port that tells of a new GUID.
        quiet: it did not tell of one in the first guest.
    """

    address: int
    event_port: int
    quiet: bool


def _in_memory(bench: Bench, view: _View, wanted: UUID) -> Generator[Step, None, _Page]:
    """Tables, the device's AML, and the GUID where it says."""
    inspector = view.inspector
    with inspector.halted():
        tables = yield from _tables(bench, view)
        yield from _as_linked(view, tables)
        with needed("ssdt", f"one SSDT {device.TABLE_ID}"):
            namespace = parse_table(acpi.one(tables, "SSDT", device.TABLE_ID))
            path, page = namespace.value(device.PAGE_NAME)
            if not isinstance(page, int):
                raise ReferenceFailed(f"{path} is no number: {page}", code="reference.aml-name")
        yield equal(
            "ssdt",
            f"{device.PAGE_NAME} + 0x{device.OFFSET:X} = 0x{view.address:X}",
            f"{device.PAGE_NAME} + 0x{device.OFFSET:X} = 0x{page + device.OFFSET:X}",
        )
        yield from _device(namespace, page)
        kinds = [item.kind for item in view.ranges if item.start <= page <= item.end]
        yield equal(
            "memory-type",
            f"0x{page:X} is ACPI_NVS",
            f"0x{page:X} is {', '.join(kinds) or 'not in the memory map'}",
        )
        place = page + device.OFFSET
        if bench.fault == "memory-byte":
            inspector.flip(place)
        found = inspector.memory.read(place, device.GUID_BYTES)
        yield equal(
            "memory-guid",
            f"{device.told(wanted.bytes_le)} at 0x{place:X}",
            f"{device.told(found)} at 0x{place:X}",
        )
        port = acpi.event_port(acpi.one(tables, "FACP")) + device.EVENT // 8
        return _Page(page, port, not inspector.port(port) & _EVENT_BIT)


def _tables(bench: Bench, view: _View) -> Generator[Step, None, tuple[Table, ...]]:
    """The tables by way of the root pointer."""
    inspector = view.inspector
    expected = "a root pointer with an XSDT"
    with needed("acpi-root", expected):
        found = inspector.rsdps(view.ranges)
        rsdp = acpi.newest(found)
        if bench.fault == "table-byte":
            table = acpi.one(acpi.read_tables(inspector.memory, rsdp), "SSDT", device.TABLE_ID)
            inspector.flip(table.address + len(table.data) - 1)
        tables = acpi.read_tables(inspector.memory, rsdp)
    told = ", ".join(f"revision {item.revision} at 0x{item.address:X}" for item in found)
    yield Step("acpi-root", rsdp.xsdt != 0, expected, told)
    wrong = [item.name for item in tables if not item.ok]
    names = f"{len(tables)} tables: {', '.join(item.name for item in tables)}"
    yield Step(
        "acpi-tables",
        not wrong,
        "the bytes of every table sum up to 0",
        f"not of {', '.join(wrong)}" if wrong else names,
    )
    return tables


def _as_linked(view: _View, tables: tuple[Table, ...]) -> Generator[Step]:
    """Whether the script, carried out here, gives the tables that are in memory."""
    expected = "carried out here: every checksum right, and the tables as they are in memory"
    with needed("loader-result", expected):
        places = loader.told_places(view.script, view.files)
        linked = loader.link(view.script, view.files, places)
        ours = list(acpi.split_tables(bytes(linked.blobs["etc/acpi/tables"])))
    wrong = [f"{item.name}: the checksum" for item in ours if not item.ok]
    theirs = {item.data for item in tables}
    compared = [item for item in ours if item.signature not in _RELINKED]
    wrong += [f"{item.name}: not in memory" for item in compared if item.data not in theirs]
    written = [item for item in linked.written if item.file == device.ADDRESS_FILE]
    if [item.data for item in written] != [view.files[device.ADDRESS_FILE]]:
        wrong.append(f"{device.ADDRESS_FILE}: another address")
    same = f"{len(ours)} checksums right, {len(compared)} tables as they are in memory"
    yield Step("loader-result", not wrong, expected, "; ".join(wrong) or same)


def _device(namespace: Namespace, page: int) -> Generator[Step]:
    """What an operating system finds out from the device's objects."""
    expected = f"{device.HARDWARE_ID}, {device.COMPATIBLE_ID}"
    with needed("device-names", expected):
        names = [str(namespace.value(name)[1]) for name in ("_HID", "_CID")]
    yield equal("device-names", expected, ", ".join(names))
    place = page + device.OFFSET
    expected = f"0x{place & 0xFFFFFFFF:X}, 0x{place >> 32:X}"
    with needed("addr-method", f"ADDR returns {expected}"):
        value = aml_run.call(namespace.method("ADDR"), namespace).value
    parts = value if isinstance(value, list) else [value]
    told = ", ".join(f"0x{item:X}" if isinstance(item, int) else str(item) for item in parts)
    yield equal("addr-method", f"ADDR returns {expected}", f"ADDR returns {told}")
    name = f"_E{device.EVENT:02X}"
    paths = namespace.devices
    expected = f"\\_GPE.{name} notifies {', '.join(paths)} of 0x{device.NOTIFICATION:X}"
    with needed("event-method", expected):
        method = namespace.method(name)
        calls = aml_run.call(method, namespace).notifications
    told = ", ".join(f"{item.device} of 0x{item.value:X}" for item in calls) or "nobody"
    yield equal("event-method", expected, f"{method.path} notifies {told}")


# --- started again ------------------------------------------------------------------------------


def _started_again(bench: Bench, page: _Page, guid: UUID, file: Path) -> Generator[Step]:
    """The guest's state in a QEMU that has another GUID."""
    options = _options(bench, guid, incoming(file))
    with bench.boot(options=options) as guest:
        inspector = Inspector(guest)
        with needed("restarted", "a QEMU with another GUID takes the guest's state"):
            inspector.loaded()
        yield equal("restarted-qmp-guid", str(guid), _asked(guest))
        place = page.address + device.OFFSET
        found = inspector.memory.read(place, device.GUID_BYTES)
        yield equal(
            "restarted-memory-guid",
            f"{device.told(guid.bytes_le)} at 0x{place:X}",
            f"{device.told(found)} at 0x{place:X}",
        )
        status = inspector.port(page.event_port)
        yield Step(
            "restarted-event",
            page.quiet and bool(status & _EVENT_BIT),
            f"event {device.EVENT} was not pending, and is",
            f"event {device.EVENT} was {'not ' if page.quiet else ''}pending, and port "
            f"0x{page.event_port:X} reads 0x{status:02X}",
        )
