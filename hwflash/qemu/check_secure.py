"""The check ``secure``: flash that only SMM may write, and keys that refuse what is not signed.

QEMU's ``cfi.pflash01`` with ``secure=on`` ignores writes from outside SMM; those made here come
from its qtest server, which is outside. The same writes to a flash without ``secure`` change it:
the method works. Firmware with enrolled keys starts no Shell, as the Shell is not signed.

Limits: keys come from the enrolled template of this computer's firmware descriptors; without one
no keys are tried.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Final

from hwflash.bus.qtest import QtestClient
from hwflash.errors import ReferenceFailed
from hwflash.qemu.boot import Guest
from hwflash.qemu.boot_setup import BootOptions, read_file
from hwflash.qemu.check import Bench, Step, equal, store_of
from hwflash.qemu.check_pflash import unit_ranges
from hwflash.qemu.check_variables import (
    CHECK_GUID,
    boot_counter,
    counted,
    made_store,
    named,
    store_healthy,
    stored,
)
from hwflash.qemu.shell import PROMPT
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.secureboot import DATABASES, KeyStore
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window

_PROGRAM: Final = 0x40
_ERASE: Final = 0x20
_CONFIRM: Final = 0xD0
_READ_ARRAY: Final = 0xFF
_BLOCK: Final = 0x1000
_REFUSED: Final = r"Security Violation|Access Denied"
#: The order in which keys are written: a platform key ends setup mode.
_KEYS: Final = ("db", "KEK", "PK")


def secure(bench: Bench) -> Generator[Step]:
    """Writes from outside SMM, then from inside; then keys."""
    image = yield from made_store(bench)
    if _enforcing(image):
        yield from _outside_only(bench, image)
        yield from _refused(bench, "template-refuses", image)
        return
    yield from _writes(bench, image)
    yield from _control(bench, image)
    enrolled = _enrolled_template(bench)
    if enrolled is None:
        bench.reporter.info("no template with enrolled keys here: no keys are tried")
        return
    if len(enrolled) == len(image):
        yield from _refused(bench, "enrolled-refuses", enrolled)
    yield from _refused(bench, "written-keys-refuse", _with_keys(image, enrolled))


# --- writes -------------------------------------------------------------------------------------


def _writes(bench: Bench, image: bytes) -> Generator[Step]:
    """One boot: the flash refuses us, and takes what the firmware writes from SMM."""
    counter = boot_counter(image)
    with bench.boot(image, BootOptions(qtest=True)) as guest:
        yield from _outside(guest, image, "outside", changes=False)
        shell = guest.wait_for_shell(bench.patience)
        yield Step("boots", True, "the Shell", "the Shell")
        shell.setvar("FromSmm", b"inside", CHECK_GUID)
        held = named(stored(guest.image())).get("FromSmm", "no variable FromSmm")
        yield equal("inside-written", f"FromSmm 0x7 {b'inside'.hex()}", held)
        guest.power_off(shell)
        after = guest.image()
    yield store_healthy("store-healthy", after)
    yield counted("boot-counted", counter, after)


def _outside_only(bench: Bench, image: bytes) -> Generator[Step]:
    with bench.boot(image, BootOptions(qtest=True)) as guest:
        yield from _outside(guest, image, "outside", changes=False)
    yield from _control(bench, image)


def _control(bench: Bench, image: bytes) -> Generator[Step]:
    """The same writes where the flash takes them from everywhere."""
    machine = replace(bench.machine, secure=False)
    with bench.boot(image, BootOptions(qtest=True), machine) as guest:
        yield from _outside(guest, image, "control", changes=True)


def _outside(guest: Guest, image: bytes, name: str, *, changes: bool) -> Generator[Step]:
    """Program a byte and erase the first block, while the processor stands still."""
    if guest.qtest is None:
        raise ReferenceFailed("the guest has no qtest server", code="reference.qtest")
    units = unit_ranges(guest)
    unit = units.get("flash1" if guest.machine.vars is not None else "flash0")
    if unit is None:
        raise ReferenceFailed("QEMU has no flash unit of the guest's own", code="reference.qmp")
    guest.qmp.execute("stop")
    place = image.rfind(0xFF, 0, store_of(image).areas.variables.end)
    if place < 0:
        raise ReferenceFailed("the variable area has no erased byte", code="reference.no-room")
    _write(guest.qtest, unit.address + place, _PROGRAM, 0x00)
    found = guest.image()[place]
    wanted = 0x00 if changes else 0xFF
    yield equal(
        f"{name}-program", f"0x{wanted:02X} at 0x{place:06X}", f"0x{found:02X} at 0x{place:06X}"
    )
    _write(guest.qtest, unit.address, _ERASE, _CONFIRM)
    found = guest.image()[:_BLOCK]
    wanted = b"\xff" * _BLOCK if changes else image[:_BLOCK]
    yield Step(
        f"{name}-erase",
        found == wanted,
        "block 0 erased" if changes else "block 0 as it was",
        "block 0 as it was" if found == image[:_BLOCK]
        else "block 0 erased" if not found.strip(b"\xff") else "block 0 changed",
    )  # fmt: skip
    guest.qmp.execute("cont")


def _write(qtest: QtestClient, address: int, *values: int) -> None:
    qtest.execute([f"writeb 0x{address:x} 0x{value:02x}".encode() for value in values])
    qtest.execute([f"writeb 0x{address:x} 0x{_READ_ARRAY:02x}".encode()])


# --- keys ---------------------------------------------------------------------------------------


def _refused(bench: Bench, name: str, image: bytes) -> Generator[Step]:
    """Whether the firmware refuses to start its Shell, as it is not signed."""
    with bench.boot(image) as guest:
        found = guest.wait_for([_REFUSED, PROMPT], bench.patience, nudge="\r")
        told = "the Shell runs" if found.index else f"{found.match[0]}: no Shell"
        yield Step(name, found.index == 0, "Security Violation: no Shell", told)
        if name == "written-keys-refuse":
            store = store_of(guest.image()).store
            keys = KeyStore.of(store) if store is not None else None
            # The firmware makes this variable itself when it takes the keys for its own.
            yield equal(
                "secure-boot-enabled",
                "SecureBootEnable 1",
                f"SecureBootEnable {None if keys is None else keys.secure_boot_enable}",
            )


def _enforcing(image: bytes) -> bool:
    store = store_of(image).store
    return store is not None and KeyStore.of(store).enforcing


def _enrolled_template(bench: Bench) -> bytes | None:
    """A variable store with keys for this machine, by the firmware descriptors here."""
    from hwflash.qemu.autoselect import choose, make_wish
    from hwflash.qemu.descriptors import read_folders, usual_folders

    machine = bench.machine
    wish = make_wish(machine.architecture, machine.machine, wanted=("enrolled-keys", "secure-boot"))
    try:
        _, found = choose(read_folders(usual_folders()), wish)
    except ReferenceFailed:
        return None
    if found.template is None or found.template.format != "raw":
        return None
    return read_file(Path(found.template.path))


def _with_keys(image: bytes, enrolled: bytes) -> bytes:
    """The image with the keys of another one, written by hwflash.

    Raises:
        HwflashError: as `hwflash.uefi.services.VariableServices.set_variable` does.
    """
    found, source = store_of(image), store_of(enrolled).store
    nvram = Nvram(Window(image[: found.length]), found)
    services = VariableServices(nvram)
    for name in _KEYS:
        guid = DATABASES[name].guid
        record = source.find(name, guid) if source is not None else None
        if record is None:
            raise ReferenceFailed(
                f"the template with enrolled keys has no {name}", code="reference.no-keys"
            )
        services.set_variable(
            name, guid, record.attributes, record.data, timestamp=record.time, force=True
        )
    return nvram.flash.window().data + image[found.length :]
