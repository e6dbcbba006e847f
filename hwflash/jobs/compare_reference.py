"""The simulated reference as a flash content: a descriptor's firmware, as built or after a boot.

Ref: QEMU docs/interop/firmware.json; hw/i386/pc_sysfw.c and hw/arm/virt.c (order of the units).
Limits: raw images; the guest has no devices but its serial console.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hwflash.errors import ImageError, ReferenceFailed, UsageError
from hwflash.layout.ovmf import AAVMF, VIRT_UNIT, Fit
from hwflash.progress import CancelToken
from hwflash.qemu.autoselect import Wish, choose, machine_for, make_wish, mismatches
from hwflash.qemu.boot import Guest
from hwflash.qemu.boot_setup import read_file
from hwflash.qemu.descriptors import (
    FEATURES,
    Descriptor,
    Entry,
    Folder,
    read_folders,
    usual_folders,
)
from hwflash.qemu.imagemap import map_image
from hwflash.qemu.machine import ARCHITECTURES, FlashFile, Machine

#: What the firmware prints when its own part of the boot is over: the Shell runs, or the last
#: boot option did not start.
DONE: Final = (
    re.compile(r"Press ESC in \d+ seconds? to skip startup\.nsh"),
    re.compile(r"(?:Shell|FS\d+:[^>\r\n]*)> "),
    re.compile(r"BdsDxe: failed to (?:start|load) .*"),
    re.compile(r"BdsDxe: No bootable option.*"),
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A machine and its flash content.

    Attributes:
        machine: the machine.
        code: content of the code image; code and variables where they are one.
        store: content of the variable store, or None.
    """

    machine: Machine
    code: bytes
    store: bytes | None

    def parts(self) -> list[tuple[int, bytes]]:
        """The flash as the machine shows it: offsets and bytes, one behind the other."""
        if self.store is None:
            return [(0, self.code)]
        if self.machine.family == "virt":
            code = self.code.ljust(VIRT_UNIT, b"\xff")
            return [(0, code), (len(code), self.store)]
        # Together they are what the build calls the whole image, and are looked at as such.
        return [(0, self.store + self.code)]


# --- ovmf: ------------------------------------------------------------------------------------


def reference(text: str, folders: Sequence[Folder] | None = None) -> Reference:
    """The firmware of a descriptor.

    Args:
        text: name of a descriptor, a descriptor file, or words that it shall fit, parted by
            commas: an architecture, a machine type, features, features with ``-`` before them
            that it must not have. Nothing means x86_64.
        folders: where the descriptors are; default: QEMU's.

    Raises:
        ReferenceFailed: none fits (``qemu.no-firmware``), or it is no firmware in flash
            (``qemu.no-descriptor``).
        ImageError: one of its files cannot be read (``image.unreadable``) or is not raw
            (``image.format``).
        UsageError: no such feature (``usage.qemu-feature``).
    """
    entries = read_folders(usual_folders() if folders is None else folders)
    entry = _named_entry(text, entries)
    if entry is None:
        wish = _wish(text)
        _, descriptor = choose(entries, wish)
        return _of_descriptor(descriptor, wish)
    if entry.descriptor is None:
        raise ReferenceFailed(
            f"{entry.file} {entry.reason}", code="qemu.no-descriptor", file=str(entry.file)
        )
    return _of_descriptor(entry.descriptor, _own_wish(entry.descriptor, str(entry.file)))


def _named_entry(text: str, entries: Sequence[Entry]) -> Entry | None:
    if "/" in text:
        path = Path(text)
        alone = read_folders([Folder("user", path.parent)])
        hit = next((entry for entry in alone if entry.name == path.name), None)
        if hit is None:
            raise ImageError(f"there is no descriptor {text}", code="image.unreadable", path=text)
        return hit
    names = (text, f"{text}.json")
    # Of several of one name the first is the one that counts.
    return next((entry for entry in entries if entry.name in names), None)


def _wish(text: str) -> Wish:
    architecture, machine = "x86_64", None
    wanted: list[str] = []
    unwanted: list[str] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        if word in ARCHITECTURES:
            architecture = word
        elif word in FEATURES:
            wanted.append(word)
        elif word.startswith("-"):
            unwanted.append(word[1:])
        elif machine is None:
            machine = word
        else:
            raise UsageError(
                f"{machine!r} and {word!r} are two machine types",
                code="usage.qemu-feature", feature=word, known=list(FEATURES),
            )  # fmt: skip
    return make_wish(architecture, machine or _usual(architecture), wanted=wanted,
                     unwanted=unwanted)  # fmt: skip


def _usual(architecture: str) -> str:
    return "virt" if architecture in ("aarch64", "arm") else "q35"


def _own_wish(descriptor: Descriptor, file: str) -> Wish:
    """A machine that a descriptor is for."""
    for target in descriptor.targets:
        wish = Wish(target.architecture, _usual(target.architecture))
        if target.architecture in ARCHITECTURES and descriptor.device == "flash":
            return wish
    raise ReferenceFailed(
        f"{file} is not about flash of a machine that is known here",
        code="qemu.no-descriptor", file=file,
    )  # fmt: skip


def _of_descriptor(descriptor: Descriptor, wish: Wish) -> Reference:
    template = descriptor.template
    copy = template.path if template is not None else None
    if descriptor.mode == "combined":
        copy = descriptor.executable.path
    machine = machine_for(descriptor, wish, copy)
    store = _raw(template) if template is not None else None
    return Reference(machine, _raw(descriptor.executable), store)


def _raw(file: FlashFile) -> bytes:
    if file.format != "raw":
        raise ImageError(
            f"{file.path} is {file.format}, only raw images are compared",
            code="image.format", path=file.path, format=file.format,
        )  # fmt: skip
    return read_file(Path(file.path))


# --- boot: ------------------------------------------------------------------------------------


def of_image(name: str, data: bytes, folders: Sequence[Folder] | None = None) -> Reference:
    """A machine for an image, with what it lacks from the descriptors of this computer.

    Args:
        name: of the image, for messages.
        data: the image: a whole one, a CODE or a VARS part.
        folders: where the descriptors are; default: QEMU's.

    Raises:
        ImageError: it is no OVMF nor AAVMF (``image.boot``).
        ReferenceFailed: no firmware here goes with it (``qemu.no-firmware``).
    """
    fit = map_image(data).fit
    if fit is None:
        raise ImageError(
            f"{name} is no image of OVMF or AAVMF, as far as is known: {len(data):,} bytes",
            code="image.boot", source=name, size=len(data),
        )  # fmt: skip
    if fit.part == "unified":
        # Both are only names here: the content is written to files of the guest's own.
        return Reference(Machine(FlashFile("flash", "raw", readonly=False)), data, None)
    entries = read_folders(usual_folders() if folders is None else folders)
    known = _matching(fit, data, entries)
    if known is None:
        raise ReferenceFailed(
            f"no firmware here goes with {name}, {fit.build.name}, {fit.part}",
            code="qemu.no-firmware", source=name,
            faults=[f"{item.file}: {item.reason or 'of another size'}" for item in entries],
        )  # fmt: skip
    if fit.part == "vars":
        return replace(known, store=data)
    return replace(known, code=data)


def _matching(fit: Fit, data: bytes, entries: Sequence[Entry]) -> Reference | None:
    """The firmware that an image is one half of.

    A code image that a descriptor names, byte for byte, brings that descriptor's machine. Else
    firmware that does without SMM goes first, as a VARS file does not say what it is for.
    """
    architecture = "aarch64" if fit.build is AAVMF else "x86_64"
    wish = Wish(architecture, _usual(architecture))
    found: list[tuple[bool, bool, int, Reference]] = []
    for place, entry in enumerate(entries):
        described = entry.descriptor
        if described is None or described.mode != "split" or mismatches(described, wish):
            continue
        try:
            half = _of_descriptor(described, wish)
        except ImageError:
            continue
        own = half.code if fit.part == "code" else half.store
        if own is None or len(own) != len(data):
            continue
        other = fit.part == "vars" or own != data
        found.append((other, "requires-smm" in described.features, place, half))
    return min(found, key=lambda item: item[:3])[3] if found else None


def boot(found: Reference, cancel: CancelToken | None = None) -> Reference:
    """Boot a copy and take its flash when the firmware has done its own.

    Raises:
        EnvironmentFault: no QEMU here (``environment.qemu-missing``), or no place for copies.
        ReferenceFailed: it does not boot (``reference.boot-timeout``, ``reference.guest-crash``).
    """
    try:
        with tempfile.TemporaryDirectory(prefix="hwflash-compare-") as folder:
            machine = with_files(found, Path(folder))
            with Guest(machine, cancel=cancel) as guest:
                guest.wait_for(DONE)
                guest.stop()
                return after_boot(found, guest)
    except OSError as error:
        from hwflash.qemu.boot_setup import unwritable

        raise unwritable(Path(tempfile.gettempdir()), error) from error


def after_boot(found: Reference, guest: Guest) -> Reference:
    """The flash of a guest that has ended.

    Args:
        found: what it was started with.
        guest: the guest.
    """
    if guest.own is None:  # it keeps nothing
        return found
    after = guest.image()
    if found.store is None:
        return replace(found, code=after)
    return replace(found, store=after)


def with_files(found: Reference, folder: Path) -> Machine:
    """The machine on files with the contents, which are written to a folder."""
    code = folder / "code"
    code.write_bytes(found.code)
    machine = replace(
        found.machine,
        code=FlashFile(str(code), "raw", found.machine.code.readonly),
        template=None,
    )
    if found.store is None:
        return replace(machine, vars=None)
    store = folder / "store"
    store.write_bytes(found.store)
    return replace(machine, vars=FlashFile(str(store), "raw", readonly=False))
