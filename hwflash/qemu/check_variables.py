"""The check ``variables``: what hwflash writes the firmware reads, and the other way round.

Ref: edk2 MdeModulePkg/Universal/MonotonicCounterRuntimeDxe for the boot counter MTC.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Final
from uuid import UUID

from hwflash.qemu.check import Bench, Step, equal, store_of
from hwflash.qemu.shell import Shell
from hwflash.uefi.check import check as check_store
from hwflash.uefi.difference import compare
from hwflash.uefi.exchange import Variable
from hwflash.uefi.guids import MONOTONIC_COUNTER
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Attribute
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window, printable

#: Vendor GUID of the variables that checks set.
CHECK_GUID: Final = UUID("c4ec9a1f-2f5d-4d57-9a0b-6d3a1b7e5f02")
_EVERYWHERE: Final = int(
    Attribute.NON_VOLATILE | Attribute.BOOTSERVICE_ACCESS | Attribute.RUNTIME_ACCESS
)
_BOOT_ONLY: Final = int(Attribute.NON_VOLATILE | Attribute.BOOTSERVICE_ACCESS)

Change = tuple[str, bytes, int]


def variables(bench: Bench) -> Generator[Step]:
    """Set, update and delete variables on both sides, and compare after each of two boots."""
    image = yield from made_store(bench)
    first = bytes(range(48))
    image = changed(image, [
        ("OffNew", first, _EVERYWHERE),
        ("OffBoot", b"\x00\xff" * 5, _BOOT_ONLY),
        ("OffUpd", b"old", _EVERYWHERE),
        ("OffUpd", b"newer", _EVERYWHERE),
        ("OffDel", b"gone", _EVERYWHERE),
        ("OffDel", b"", _EVERYWHERE),
    ])  # fmt: skip
    counter = boot_counter(image)
    with bench.shell(image) as (guest, shell):
        seen = named(firmware_variables(shell))
        yield _is("offline-set-seen", seen, "OffNew", first)
        yield _is("offline-boot-only-seen", seen, "OffBoot", b"\x00\xff" * 5, _BOOT_ONLY)
        yield _is("offline-update-seen", seen, "OffUpd", b"newer")
        yield _is("offline-delete-seen", seen, "OffDel", None)
        shell.setvar("ShNew", b"shell", CHECK_GUID, _EVERYWHERE)
        shell.setvar("ShDel", b"\x5a", CHECK_GUID, _BOOT_ONLY)
        shell.setvar("OffUpd", b"by Shell", CHECK_GUID, _EVERYWHERE)
        shell.setvar("OffNew", b"", CHECK_GUID, _EVERYWHERE)
        # At once: each change is in the file when the Shell's prompt is back.
        held = named(stored(guest.image()))
        yield _is("shell-set-stored", held, "ShNew", b"shell")
        yield _is("shell-boot-only-stored", held, "ShDel", b"\x5a", _BOOT_ONLY)
        yield _is("shell-update-stored", held, "OffUpd", b"by Shell")
        yield _is("shell-delete-stored", held, "OffNew", None)
        yield same_variables("all-agree", shell, guest.image())
        guest.power_off(shell)
        image = guest.image()
    yield store_healthy("store-healthy", image)
    yield counted("boot-counted", counter, image)
    yield from _second_boot(bench, image)


def _second_boot(bench: Bench, image: bytes) -> Generator[Step]:
    """What the firmware stored is changed offline, and the firmware looks again."""
    counter = boot_counter(image)
    image = changed(image, [("ShNew", b"offline", _EVERYWHERE), ("ShDel", b"", _BOOT_ONLY)])
    with bench.shell(image) as (guest, shell):
        seen = named(firmware_variables(shell))
        yield _is("second-update-seen", seen, "ShNew", b"offline")
        yield _is("second-delete-seen", seen, "ShDel", None)
        yield _is("second-kept", seen, "OffUpd", b"by Shell")
        yield same_variables("second-all-agree", shell, guest.image())
        guest.power_off(shell)
        image = guest.image()
    yield store_healthy("second-store-healthy", image)
    yield counted("second-boot-counted", counter, image)


def _is(
    step: str,
    seen: dict[str, str],
    name: str,
    data: bytes | None,
    attributes: int = _EVERYWHERE,
) -> Step:
    """Whether a variable of `CHECK_GUID` is as it was set; None: whether it is gone."""
    gone = f"no variable {name}"
    expected = gone if data is None else _word(name, data, attributes)
    return equal(step, expected, seen.get(name, gone))


# --- for other checks ---------------------------------------------------------------------------


def made_store(bench: Bench) -> Generator[Step, None, bytes]:
    """A store to work on: the template, or what a first boot makes of a blank one.

    AAVMF's template is all zero; the firmware formats it. That boot is a step of its own.

    Raises:
        HwflashError: see `Bench.shell` and `Bench.template`.
    """
    image = bench.template()
    if image.strip(b"\0"):
        return image
    with bench.shell(image) as (guest, shell):
        guest.power_off(shell)
        image = guest.image()
    yield store_healthy("blank-formatted", image)
    return image


def changed(image: bytes, changes: Iterable[Change]) -> bytes:
    """An image in which hwflash has set variables of `CHECK_GUID`.

    Args:
        image: content of the guest's unit.
        changes: name, data and attributes of each; no data deletes.

    Raises:
        HwflashError: as `hwflash.uefi.services.VariableServices.set_variable` does, and
            `hwflash.qemu.check.store_of`.
    """
    found = store_of(image)
    nvram = Nvram(Window(image[: found.length]), found)
    services = VariableServices(nvram)
    for name, data, attributes in changes:
        services.set_variable(name, CHECK_GUID, attributes, data)
    return nvram.flash.window().data + image[found.length :]


def firmware_variables(shell: Shell) -> list[Variable]:
    """The non-volatile variables as the firmware's own service gives them."""
    return [
        Variable(item.name, item.guid, item.attributes, item.data)
        for item in shell.variables()
        if item.attributes & Attribute.NON_VOLATILE
    ]


def stored(image: bytes) -> list[Variable]:
    """The live variables as hwflash reads them; without the times that no service tells.

    Raises:
        ReferenceFailed: there is no store (``reference.no-store``).
    """
    store = store_of(image).store
    live = () if store is None else store.live
    return [Variable(item.name, item.guid, item.attributes, item.data) for item in live]


def named(items: Iterable[Variable]) -> dict[str, str]:
    """The variables of `CHECK_GUID` in words, by name."""
    return {
        item.name: _word(item.name, item.data, item.attributes)
        for item in items
        if item.guid == CHECK_GUID
    }


def same_variables(name: str, shell: Shell, image: bytes) -> Step:
    """Whether firmware and hwflash see the same variables: names, GUIDs, attributes, bytes."""
    ours, theirs = stored(image), firmware_variables(shell)
    found = compare(ours, theirs)
    told = [f"{printable(item.name)} is not seen by the firmware" for item in found.only_left]
    told += [f"{printable(item.name)} is not seen by hwflash" for item in found.only_right]
    told += [
        f"{printable(item.left.name)} differs in {', '.join(item.what)}" for item in found.changed
    ]
    text = f"{len(ours)} variables"
    return Step(name, not told, f"the same {text} on both sides", "; ".join(told[:5]) or text)


def store_healthy(name: str, image: bytes) -> Step:
    """Whether hwflash finds nothing wrong with the store that a guest has left."""
    found = store_of(image)
    report = check_store(found)
    wrong = [item.text for item in report.problems if item.severity != "note"]
    told = "; ".join(wrong[:3]) or "healthy"
    if report.repair != "none":
        told = f"{report.repair}: {told}"
    return Step(name, report.ok and found.healthy, "healthy", told)


def boot_counter(image: bytes) -> int:
    """The boot counter MTC in a store; 0 where there is none yet.

    Raises:
        ReferenceFailed: there is no store (``reference.no-store``).
    """
    store = store_of(image).store
    record = store.find("MTC", MONOTONIC_COUNTER) if store is not None else None
    return 0 if record is None else int.from_bytes(record.data, "little")


def counted(name: str, before: int, image: bytes) -> Step:
    """Whether the boot counter grew by one: this firmware really started and wrote."""
    return equal(name, f"MTC {before + 1}", f"MTC {boot_counter(image)}")


def _word(name: str, data: bytes, attributes: int) -> str:
    return f"{name} 0x{attributes:X} {data.hex()}"
