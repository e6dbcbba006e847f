"""The check ``s3``: a guest suspends, wakes, and finds what its boot script puts back.

The firmware has written an address to fw_cfg (where the VM Generation ID lies). A reset clears it;
on resume no driver runs that could write it again, so the firmware leaves the write in its S3 boot
script. The script is found in memory and decoded; then the guest suspends and wakes, and fw_cfg is
looked at before and after the script has run.

No operating system is needed. The Shell writes the sleep register that the FADT names, with the
type that the DSDT's ``_S3`` gives. The waking vector is pointed at a few bytes of real-mode code
that count and suspend again: what an operating system would be woken by.

Limits: machines with ACPI by OVMF (q35, pc); boot scripts of edk2's own format.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Final

import construct

from hwflash.errors import ReferenceFailed
from hwflash.qemu import acpi
from hwflash.qemu import vmgenid as device
from hwflash.qemu.aml import Operation, parse_table
from hwflash.qemu.boot import Guest
from hwflash.qemu.boot_script import FwCfgTransfer, Script, find_scripts, fwcfg_transfers
from hwflash.qemu.boot_setup import BootOptions
from hwflash.qemu.check import Bench, CheckEnded, Step, equal, needed
from hwflash.qemu.inspector import Inspector
from hwflash.qemu.shell import MemoryRange

# construct carries no annotations: its names enter as Any.
c: Any = construct

STATES_FILE: Final = "etc/system-states"
#: Its byte for S3, and the bit that says that the machine has it.
_S3, _OFFERED = 3, 0x80
#: SLP_EN in the sleep register, and where SLP_TYP begins.
_SLEEP: Final = 1 << 13
_TYPE_SHIFT: Final = 10

#: Where the waking vector points: code of 16 bits that counts in a word behind it and suspends
#: again.
_VECTOR: Final = 0x9000
_COUNTER: Final = 0x20
_CODE: Final = c.Struct(
    "inc" / c.Const(b"\x2e\xff\x06"), "counter" / c.Int16ul,  # inc word [cs:counter]
    "mov_dx" / c.Const(b"\xba"), "port" / c.Int16ul,  # mov dx, port
    "mov_ax" / c.Const(b"\xb8"), "value" / c.Int16ul,  # mov ax, value
    "out" / c.Const(b"\xef"),  # out dx, ax
    "halt" / c.Const(b"\xfa\xf4\xeb\xfd"),  # cli; hlt; jump to the hlt
)  # fmt: skip

#: Patience with QEMU itself, in seconds of the guest's clock: it suspends and wakes at once.
_AT_ONCE: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Sleep:
    """What puts the machine to sleep: an I/O port, and the value for S3."""

    port: int
    value: int


def s3(bench: Bench) -> Generator[Step]:
    """One boot, a suspend, a wake-up, and the suspend of the code at the waking vector."""
    if bench.machine.family not in ("q35", "i440fx"):
        yield Step("offered", False, "a machine with S3", f"{bench.machine.machine} has none")
        return
    guid = bench.guid or device.USUAL
    options = BootOptions(qtest=True, extra=device.device(guid))
    machine = replace(bench.machine, s3=bench.fault != "no-s3")
    with bench.boot(options=options, machine=machine) as guest:
        inspector = Inspector(guest)
        with needed("boots", "the Shell"):
            shell = guest.wait_for_shell(bench.patience)
            ranges = shell.memory_map()
        yield Step("boots", True, "the Shell", "the Shell")
        with inspector.halted():
            address = yield from _offered(inspector)
            yield from _script(bench, inspector, ranges, address)
            sleep = yield from _prepared(inspector, ranges)
        with needed("suspended", "QEMU tells SUSPEND"):
            shell.leave_by(sleep.port, sleep.value, 2, "io")
            _wait(guest, "SUSPEND", _AT_ONCE)
        yield Step("suspended", True, "QEMU tells SUSPEND", "QEMU tells SUSPEND")
        yield _address_is("address-kept", inspector, address)
        yield from _woken(bench, guest, inspector)
        yield from _resumed(bench, guest, inspector, address)
        found = inspector.memory.read(address, device.GUID_BYTES)
        yield equal("guid-kept", device.told(guid.bytes_le), device.told(found))


def _address(inspector: Inspector) -> int:
    """What the firmware has written back to fw_cfg."""
    file = inspector.fw_cfg.file(device.ADDRESS_FILE)
    return int.from_bytes(inspector.fw_cfg.read_port(file.select, file.size), "little")


def _address_is(name: str, inspector: Inspector, wanted: int) -> Step:
    what = f"{device.ADDRESS_FILE} is"
    return equal(name, f"{what} 0x{wanted:X}", f"{what} 0x{_address(inspector):X}")


def _wait(guest: Guest, event: str, patience: float) -> None:
    guest.qmp.wait_event(event, timeout=patience, clock=guest.process.guest_seconds)


# --- before -------------------------------------------------------------------------------------


def _offered(inspector: Inspector) -> Generator[Step, None, int]:
    """Whether QEMU offers S3; the address that the firmware has written back."""
    expected = f"{STATES_FILE} has S3"
    with needed("offered", expected):
        file = inspector.fw_cfg.file(STATES_FILE)
        states = inspector.fw_cfg.read_port(file.select, file.size)
    told = f"{STATES_FILE}: {states.hex(' ')}"
    offered = len(states) > _S3 and bool(states[_S3] & _OFFERED)
    if not offered:
        raise CheckEnded(Step("offered", False, expected, told))
    yield Step("offered", True, expected, told)
    with needed("address-written", "the firmware has written an address"):
        address = _address(inspector)
    yield Step(
        "address-written", address != 0, "the firmware has written an address", f"0x{address:X}"
    )
    return address


def _script(
    bench: Bench, inspector: Inspector, ranges: list[MemoryRange], address: int
) -> Generator[Step]:
    """The boot script, decoded, and the write to fw_cfg in it."""
    expected = "a boot script in the firmware's memory"
    with needed("boot-script", expected):
        scripts = _scripts(inspector, ranges)
        if bench.fault == "script-byte":
            _break(inspector, scripts)
            scripts = _scripts(inspector, ranges)
        if not scripts:
            raise ReferenceFailed("there is none", code="reference.boot-script")
    entries = scripts[0].entries
    places = ", ".join(f"0x{item.address:X}" for item in scripts)
    told = "; ".join(item.text for item in entries)
    same = all(item.entries == entries for item in scripts)
    yield Step(
        "boot-script", same, expected,
        f"{'at' if same else 'not the same at'} {places}: {told}",
    )  # fmt: skip
    names = {item.select: item.name for item in inspector.fw_cfg.files()}
    file = inspector.fw_cfg.file(device.ADDRESS_FILE)
    data = address.to_bytes(file.size, "little")
    wanted = FwCfgTransfer("write", file.select, 0, file.size, data)
    found = fwcfg_transfers(entries)
    yield Step(
        "boot-script-write",
        wanted in found,
        wanted.told(names),
        "; ".join(item.told(names) for item in found) or "nothing for fw_cfg",
    )


def _scripts(inspector: Inspector, ranges: list[MemoryRange]) -> list[Script]:
    base, data = inspector.firmware_memory(ranges)
    return find_scripts(data, base)


def _break(inspector: Inspector, scripts: list[Script]) -> None:
    """Change the last byte that each copy of the script writes to memory."""
    for script in scripts:
        last = [item for item in script.entries if item.name == "MEM_WRITE"][-1:]
        for entry in last:
            following = script.entries[script.entries.index(entry) + 1]
            # The data is the end of an entry.
            inspector.flip(script.address + following.offset - 1)


def _prepared(inspector: Inspector, ranges: list[MemoryRange]) -> Generator[Step, None, _Sleep]:
    """The sleep register, by the tables; and something to wake up to."""
    with needed("sleep-register", "a port in the FADT, a sleep type in the DSDT"):
        tables = acpi.read_tables(inspector.memory, acpi.newest(inspector.rsdps(ranges)))
        fadt = acpi.one(tables, "FACP")
        path, states = parse_table(acpi.one(tables, "DSDT")).value("_S3_")
        match states:
            case Operation("Package", (int(), int() as kind, *_)) if kind < 8:
                pass
            case _:
                raise ReferenceFailed(f"{path} is {states}", code="reference.aml-name")
        sleep = _Sleep(acpi.sleep_port(fadt), _SLEEP | kind << _TYPE_SHIFT)
        facs = acpi.facs_of(fadt)
        code = _CODE.build({"counter": _COUNTER, "port": sleep.port, "value": sleep.value}).ljust(
            _COUNTER + 2, b"\0"
        )
        inspector.memory.write(_VECTOR, code)
        inspector.memory.write(facs + acpi.WAKING_VECTOR, _VECTOR.to_bytes(4, "little"))
    yield Step(
        "sleep-register",
        sleep.port != 0,
        "a port in the FADT, a sleep type in the DSDT",
        f"port 0x{sleep.port:X}, {path} {kind}: 0x{sleep.value:X}; waking vector at "
        f"0x{facs + acpi.WAKING_VECTOR:X}",
    )
    return sleep


# --- behind -------------------------------------------------------------------------------------


def _woken(bench: Bench, guest: Guest, inspector: Inspector) -> Generator[Step]:
    """Awake, before the firmware has come to its boot script."""
    with needed("woken", "QEMU tells WAKEUP"):
        if bench.fault != "no-wake":
            guest.qmp.execute("system_wakeup")
        _wait(guest, "WAKEUP", _AT_ONCE)
    with inspector.halted():
        yield Step("woken", True, "QEMU tells WAKEUP", "QEMU tells WAKEUP")
        yield _address_is("address-cleared", inspector, 0)


def _resumed(bench: Bench, guest: Guest, inspector: Inspector, address: int) -> Generator[Step]:
    """The firmware has gone on to the waking vector, with its boot script behind it."""
    # fw_cfg is not looked at before: that would come between two accesses of the script.
    expected = f"the code at 0x{_VECTOR:X} has run once, and suspended again"
    with needed("resumed", expected):
        _wait(guest, "SUSPEND", bench.patience)
    count = int.from_bytes(inspector.memory.read(_VECTOR + _COUNTER, 2), "little")
    told = f"the code at 0x{_VECTOR:X} has run {count} times, and suspended again"
    yield Step("resumed", count == 1, expected, expected if count == 1 else told)
    yield _address_is("address-restored", inspector, address)
