"""Which firmware fits a machine, by QEMU's rules, and why the others do not.

The first descriptor, in the order of `hwflash.qemu.descriptors`, that is for the machine, has
the interface and the features and none that it must not have, is chosen. Its files must exist.

Ref: QEMU docs/interop/firmware.json.
Limits: a machine type's alias is compared under the name it has in QEMU 7.2, as descriptors
name concrete types; name the concrete type to be exact. libvirt has further rules of its own.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hwflash.errors import ReferenceFailed, UsageError
from hwflash.qemu.descriptors import FEATURES, Descriptor, Entry
from hwflash.qemu.machine import FlashFile, Machine

_ALIASES: Final = {"q35": "pc-q35-7.2", "pc": "pc-i440fx-7.2", "virt": "virt-7.2"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a machine wants of its firmware.

    Attributes:
        architecture: of the machine.
        machine: its type; an alias stands for QEMU 7.2's concrete type.
        interface: ``uefi`` and the like.
        features: features it must have (True) or must not have (False), sorted by name.
        smm: False: a machine without SMM, for which no firmware that requires it will do.
    """

    architecture: str = "x86_64"
    machine: str = "q35"
    interface: str = "uefi"
    features: tuple[tuple[str, bool], ...] = ()
    smm: bool | None = None

    @property
    def concrete(self) -> str:
        """The machine type as descriptors name it."""
        return _ALIASES.get(self.machine, self.machine)


def make_wish(
    architecture: str = "x86_64",
    machine: str = "q35",
    *,
    wanted: Sequence[str] = (),
    unwanted: Sequence[str] = (),
    interface: str = "uefi",
    smm: bool | None = None,
) -> Wish:
    """A wish, checked.

    Raises:
        UsageError: a feature that firmware.json does not know, or one wanted and unwanted at
            once (``usage.qemu-feature``).
    """
    for name in (*wanted, *unwanted):
        if name not in FEATURES:
            raise UsageError(
                f"there is no firmware feature {name!r}",
                code="usage.qemu-feature",
                feature=name,
                known=list(FEATURES),
            )
    if both := sorted(set(wanted) & set(unwanted)):
        raise UsageError(
            f"the feature {both[0]} is both wanted and unwanted",
            code="usage.qemu-feature",
            feature=both[0],
        )
    features = sorted([*((name, True) for name in set(wanted)),
                       *((name, False) for name in set(unwanted))])  # fmt: skip
    return Wish(architecture, machine, interface, tuple(features), smm)


# --- matching ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a descriptor file.

    Attributes:
        entry: the file.
        chosen: it is the one.
        fits: it would do.
        reasons: why not; for one that fits and was not chosen, which one goes before it.
    """

    entry: Entry
    chosen: bool
    fits: bool
    reasons: tuple[str, ...]


def match(entries: Sequence[Entry], wish: Wish) -> tuple[Verdict, ...]:
    """Hold every descriptor file against a wish, in order; the first that fits is chosen."""
    found: list[Verdict] = []
    first: str | None = None
    for entry in entries:
        if entry.descriptor is None:
            found.append(Verdict(entry, False, False, (entry.reason,)))
            continue
        reasons = mismatches(entry.descriptor, wish)
        if reasons:
            found.append(Verdict(entry, False, False, reasons))
        elif first is None:
            first = entry.name
            found.append(Verdict(entry, True, True, ()))
        else:
            found.append(Verdict(entry, False, True, (f"{first} comes first",)))
    return tuple(found)


def mismatches(descriptor: Descriptor, wish: Wish) -> tuple[str, ...]:
    """Everything that speaks against a descriptor; empty when it fits."""
    found: list[str] = []
    if wish.interface not in descriptor.interfaces:
        found.append(f"its interface is {', '.join(descriptor.interfaces) or 'none'}")
    if descriptor.device != "flash":
        found.append(f"it is mapped as {descriptor.device}, not into flash")
    targets = [item for item in descriptor.targets if item.architecture == wish.architecture]
    if not targets:
        found.append(f"it is not for {wish.architecture}")
    elif not any(
        fnmatch.fnmatchcase(wish.concrete, glob) for item in targets for glob in item.machines
    ):
        globs = ", ".join(glob for item in targets for glob in item.machines)
        found.append(f"it is for machines {globs or 'of no type'}, not {wish.concrete}")
    for name, wanted in wish.features:
        if wanted and name not in descriptor.features:
            found.append(f"it has no {name}")
        elif not wanted and name in descriptor.features:
            found.append(f"it has {name}")
    if wish.smm is False and "requires-smm" in descriptor.features:
        found.append("it requires SMM")
    found += [f"{file} does not exist" for file in descriptor.files if not _is_file(file)]
    return tuple(found)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a folder that may not be entered, a name that is too long
        return False


def choose(entries: Sequence[Entry], wish: Wish) -> tuple[Entry, Descriptor]:
    """The descriptor file for a wish, and what it says.

    Raises:
        ReferenceFailed: none fits (``qemu.no-firmware``); ``context["faults"]`` says of every
            file why not.
    """
    verdicts = match(entries, wish)
    for verdict in verdicts:
        if verdict.chosen and verdict.entry.descriptor is not None:
            return verdict.entry, verdict.entry.descriptor
    raise ReferenceFailed(
        f"no firmware here fits a {wish.machine} machine ({wish.architecture}, {wish.interface})",
        code="qemu.no-firmware",
        faults=[f"{item.entry.file}: {'; '.join(item.reasons)}" for item in verdicts],
    )


def machine_for(descriptor: Descriptor, wish: Wish, copy: str | None) -> Machine:
    """The machine that a descriptor and a wish make.

    Args:
        descriptor: one that fits.
        wish: the machine it is for.
        copy: the guest's own file; None: the machine keeps nothing, unless the descriptor is
            ``combined``, which cannot be.

    Raises:
        UsageError: a ``combined`` image without a file of the guest's own, or a file of the
            guest's own that nothing would be kept in (``usage.qemu-template``).
    """
    smm = True if "requires-smm" in descriptor.features else wish.smm
    # firmware.json: with both, writes to the variable store must come from SMM.
    secure = {"requires-smm", "secure-boot"} <= descriptor.features
    code, own, template = descriptor.executable, None, descriptor.template
    if descriptor.mode == "combined":
        if copy is None:
            raise UsageError(
                f"{code.path} has code and variables in one: the guest needs a copy of it",
                code="usage.qemu-template",
                file=code.path,
            )
        template = FlashFile(code.path, code.format, readonly=True)
        code = FlashFile(copy, code.format)
    elif copy is not None:
        if template is None:
            raise UsageError(
                f"{code.path} keeps nothing, so {copy} would not be used",
                code="usage.qemu-template",
                file=copy,
            )
        own = FlashFile(copy, template.format)
    else:
        template = None
    return Machine(
        code, own, template,
        machine=wish.machine, architecture=wish.architecture, secure=secure, smm=smm,
    )  # fmt: skip


def wish_of(machine: Machine, entries: Sequence[Entry]) -> Wish:
    """The wish by which these descriptors lead to a machine's own files.

    The features that libvirt can name, ``secure-boot`` and ``enrolled-keys``, are tried from
    the descriptor that has the files.

    Raises:
        ReferenceFailed: no descriptor has them (``qemu.no-descriptor``), or the wish would
            lead to other files (``qemu.other-firmware``).
    """
    files = (machine.code.path, machine.template.path if machine.template else None)
    if machine.mode == "combined":
        files = (files[1] or files[0], None)
    other: Entry | None = None
    for entry in entries:
        described = entry.descriptor
        if described is None or not _has_files(described, files, machine.mode):
            continue
        named = [(name, name in described.features) for name in ("enrolled-keys", "secure-boot")]
        wish = Wish(machine.architecture, machine.machine, "uefi", tuple(named), machine.smm)
        if mismatches(described, wish):
            continue
        other, taken = choose(entries, wish)
        if taken.files == described.files:
            return wish
    if other is None:
        raise ReferenceFailed(
            f"no firmware descriptor here is about {files[0]} on a {machine.machine} machine",
            code="qemu.no-descriptor",
            file=files[0],
        )
    raise ReferenceFailed(
        f"autoselection would take {other.name}, not {files[0]}",
        code="qemu.other-firmware",
        file=files[0],
        descriptor=str(other.file),
    )


def _has_files(descriptor: Descriptor, files: tuple[str | None, ...], mode: str) -> bool:
    if descriptor.device != "flash" or descriptor.mode != mode:
        return False
    if descriptor.executable.path != files[0]:
        return False
    return descriptor.template is None or descriptor.template.path == files[1]
