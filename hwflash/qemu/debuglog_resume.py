"""Whether a resume from S3 put back what firmware had told to fw_cfg, from its debug log.

On the first boot the log names each address that is written to fw_cfg and kept for S3; on resume
it shows the boot script opcode by opcode. Both must say the same.

Limits: logs of a boot and its resumes in one piece; a script that writes more than
`hwflash.qemu.debuglog` keeps of an opcode is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hwflash.qemu.boot_script import FwCfgTransfer, fwcfg_transfers
from hwflash.qemu.debuglog_acpi import BootScriptStep, CondensedPointer
from hwflash.qemu.debuglog_events import Event, Start

#: A field of fw_cfg has eight bytes at most.
_LARGEST = 8


@dataclass(frozen=True, slots=True)
class Resume:
    """A resume from S3.

    Attributes:
        line: where it begins.
        kept: what the firmware had kept for it.
        moved: what its boot script moved to and from fw_cfg.
    """

    line: int
    kept: tuple[FwCfgTransfer, ...]
    moved: tuple[FwCfgTransfer, ...]

    @property
    def missing(self) -> tuple[FwCfgTransfer, ...]:
        """What was kept and is not written again."""
        return tuple(item for item in self.kept if item not in self.moved)


def resumes(events: Iterable[Event]) -> list[Resume]:
    """Every resume whose boot script the log shows, in order."""
    found: list[Resume] = []
    kept: list[FwCfgTransfer] = []
    steps: list[BootScriptStep] = []

    def ended() -> None:
        if steps:
            moved = fwcfg_transfers([step.entry for step in steps])
            found.append(Resume(steps[0].line, tuple(kept), tuple(moved)))
            steps.clear()

    for event in events:
        if isinstance(event, Start):
            ended()
            if not event.resume:
                kept.clear()
        elif isinstance(event, CondensedPointer):
            kept += _transfer(event)
        elif isinstance(event, BootScriptStep):
            steps.append(event)
    ended()
    return found


def _transfer(event: CondensedPointer) -> list[FwCfgTransfer]:
    """The write that a pointer kept for S3 stands for; none if the log is damaged there."""
    address, size = event.address, event.size
    if event.item is None or address is None or not 0 < size <= _LARGEST or address >> 8 * size:
        return []
    data = address.to_bytes(size, "little")
    return [FwCfgTransfer("write", event.item, event.offset, size, data)]
