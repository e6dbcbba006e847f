"""Real firmware as the judge of a flash content: is it switched on with it, and what is lost?

Judged is what the guest's flash holds once the Shell has come up. The counter of boots, MTC,
which the firmware raises by one at each boot, proves that it booted and wrote; every other
variable must be there as it was, the store must be healthy with nothing pending, and no program
may have set a bit, which QEMU's flash does and a chip does not.

Ref: edk2 MdeModulePkg/Universal/MonotonicCounterRuntimeDxe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from hwflash.errors import ImageError, ReferenceFailed
from hwflash.qemu import trace
from hwflash.qemu.boot import Guest
from hwflash.qemu.boot_setup import BootOptions
from hwflash.qemu.check import Bench
from hwflash.qemu.machine import Machine
from hwflash.uefi.areas import KNOWN, KnownLayout
from hwflash.uefi.find import Found, find_stores
from hwflash.uefi.flashops import Erase, Program
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Record
from hwflash.uefi.store import VariableStore
from hwflash.uefi.window import Anomaly, Window

#: The counter of boots.
MTC: Final = ("MTC", UUID("eb704011-1402-11d3-8e77-00a0c969723b"))
#: Patience with a firmware that does not write to its flash, and with a whole boot: that
#: without a reclaim, and for each KiB of the variable area. Seconds of the guest's clock; under
#: TCG a boot takes 1 to 4, a reclaim 7 for 56 KiB and 32 for 256 KiB.
_QUIET: Final = 10.0
_BOOT: Final = 20.0
_EACH_KIB: Final = 0.6

Variables = dict[tuple[str, UUID], tuple[int, bytes]]
Outcome = Literal["shell", "crash", "hang"]


@dataclass(frozen=True, slots=True)
class PowerOn:
    """What became of a board that was switched on.

    Attributes:
        outcome: the Shell came up, the firmware crashed, or it did not get on.
        image: the volume afterwards.
        operations: what the firmware did to it.
        impossible: programs that a chip could not have done, in words.
        seconds: CPU seconds of the guest.
    """

    outcome: Outcome
    image: bytes
    operations: tuple[Program | Erase, ...]
    impossible: tuple[str, ...]
    seconds: float


class Board:
    """A simulated board whose flash can be given any content before it is switched on.

    Args:
        bench: the machine, and how its guests are started.

    Attributes:
        layout: that of its variable store.

    Raises:
        ImageError: the template has no variable store of a known length
            (``uefi.layout-unknown``), or cannot be read.
        UsageError: see `Bench.template`.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._template = bench.template()
        self.layout = _layout(self._template, bench.machine)

    def template(self) -> bytes:
        """The volume of the template."""
        return self._template[: self.layout.length]

    def switch_on(self, image: bytes) -> PowerOn:
        """Boot with a volume's content up to the Shell, and pull the plug.

        Args:
            image: the volume; what lies behind it is as in the template.

        Raises:
            HwflashError: QEMU cannot be started, see `Guest`.
        """
        whole = image + self._template[len(image) :]
        with self._bench.boot(whole, BootOptions(operations=True)) as guest:
            outcome = self._outcome(guest)
            log = guest.operations()
            seconds = guest.process.cpu_seconds()
            after = guest.image()[: self.layout.length]
        inside = tuple(step for step in log.operations if step.range.end <= len(image))
        bad = trace.impossible_programs(Window(image), inside)
        return PowerOn(outcome, after, inside, tuple(map(str, bad)), seconds)

    def warm(self) -> bytes:
        """The volume after two boots from the template; a third changes nothing but MTC.

        Raises:
            ReferenceFailed: the firmware does not boot from its template
                (``reference.boot-timeout``).
        """
        image = self.template()
        for _ in range(2):
            after = self.switch_on(image)
            if after.outcome != "shell":
                raise ReferenceFailed(
                    f"the firmware does not boot from its template: it ends in a {after.outcome}",
                    code="reference.boot-timeout",
                )
            image = after.image
        return image

    def _outcome(self, guest: Guest) -> Outcome:
        limit = guest.process.guest_seconds() + _BOOT + self.layout.variables / 1024 * _EACH_KIB
        written = -1
        while True:
            try:
                guest.wait_for_shell(min(_QUIET, self._bench.patience))
            except ReferenceFailed as exc:
                if exc.code == "reference.guest-crash":
                    return "crash"
                if exc.code != "reference.boot-timeout":
                    raise
            else:
                return "shell"
            # A reclaim takes long, and writes all the time.
            now = _last_write(guest)
            if now == written or guest.process.guest_seconds() > limit:
                return "hang"
            written = now


def verdict(after: PowerOn, allowed: Sequence[Variables], *, any_new: bool = False) -> str:
    """What is wrong with a board that was switched on; "" when all is well.

    Args:
        after: what became of it.
        allowed: sets of variables that may be there. Their MTC is the one before the boot.
        any_new: the firmware may have made further variables, as in an empty store.
    """
    if after.outcome != "shell":
        left = find_stores(after.image)
        faults = [str(item) for item in (left[0].anomalies if left else ()) if _twice(item)]
        what = {"crash": "the firmware crashes", "hang": "the firmware hangs"}[after.outcome]
        return ": ".join([what, *faults[:1]])
    if after.impossible:
        return f"{len(after.impossible)} programs set bits: {after.impossible[0]}"
    found = find_stores(after.image)
    if len(found) != 1 or found[0].store is None:
        return "there is no store any more"
    there = variables_of(found[0].store)
    wrong = [_difference(there, each, any_new) for each in allowed]
    if "" not in wrong:
        return wrong[-1]
    faults = [item for item in found[0].anomalies if item.severity == "error"]
    # A queue that cannot be added to costs nothing: the next write begins with a new one.
    faults = [item for item in faults if not item.code.startswith("ftw.")]
    if faults:
        return f"the store is damaged: {faults[0].text}"
    ended = found[0].ftw.verdict in ("idle", "reclaim-work-space")
    return "" if ended else f"not finished: {found[0].ftw.text}"


def variables_of(store: VariableStore) -> Variables:
    """The live variables."""
    return {item.key: (item.attributes, item.data) for item in store.live}


def only_store(image: bytes) -> Found:
    """The store of a volume, healthy or not.

    Raises:
        ImageError: there is none, or more than one (``uefi.no-store``).
    """
    found = find_stores(image)
    if len(found) != 1:
        raise ImageError(f"there are {len(found)} variable stores", code="uefi.no-store")
    return found[0]


def store_of(image: bytes) -> VariableStore:
    """The same; its variables.

    Raises:
        ImageError: there is none (``uefi.no-store``).
    """
    return Nvram(Window(image), only_store(image)).store


def with_records(image: bytes, records: Sequence[Record]) -> bytes:
    """A volume whose store has these records, dead ones too, and no others.

    Raises:
        ImageError: they do not fit (``uefi.store-full``).
    """
    store = store_of(image)
    at, room = store.base + STORE_HEADER.size, b"".join(item.build() for item in records)
    if at + len(room) > store.end:
        raise ImageError(
            f"{len(room)} bytes of records do not fit into the store at 0x{store.base:06X}",
            code="uefi.store-full",
            offset=store.base,
        )
    return image[:at] + room + b"\xff" * (store.end - at - len(room)) + image[store.end :]


def _difference(there: Variables, wanted: Variables, any_new: bool) -> str:
    lost = sorted(name for name, _ in wanted.keys() - there.keys())
    if lost:
        return f"{len(lost)} of {len(wanted)} variables are lost"
    new = sorted(name for name, _ in there.keys() - wanted.keys())
    if new and not any_new:
        return f"{', '.join(new[:3])}: there, and should not be"
    changed = sorted(key[0] for key, value in wanted.items() if key != MTC and there[key] != value)
    if changed:
        return f"{', '.join(changed[:3])}: another value"
    if MTC not in there:
        return "the firmware has not written MTC"
    if MTC in wanted:
        counts = [int.from_bytes(each[MTC][1], "little") for each in (wanted, there)]
        if counts[1] != counts[0] + 1:
            return f"MTC was {counts[0]} and is {counts[1]}"
    return ""


def _twice(anomaly: Anomaly) -> bool:
    """Two live records of one variable: the firmware counts through its variables for ever."""
    return anomaly.code == "record.duplicate" and anomaly.severity == "error"


def _last_write(guest: Guest) -> int:
    return 0 if guest.own is None else guest.own.stat().st_mtime_ns


def _layout(template: bytes, machine: Machine) -> KnownLayout:
    for known in KNOWN:
        if len(template) == known.length:
            return known
    if machine.family == "virt":
        return KNOWN[-1]
    raise ImageError(
        f"a variable store of {len(template)} bytes is that of no known build",
        code="uefi.layout-unknown",
        size=len(template),
    )
