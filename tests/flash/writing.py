"""A write job on a small simulated chip, from opening to the end."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from support import Notes, Rig

from hwflash.chip.identity import Resolved
from hwflash.errors import HwflashError
from hwflash.flash.identify import Identity
from hwflash.jobs import write as jobs
from hwflash.jobs.programmer import Programmer
from hwflash.jobs.session import Session
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken


def session_on(rig: Rig) -> Session:
    programmer = Programmer("sim://tiny", "sim", rig.bus, True, rig.bus.close)
    chip = rig.chip
    identity = Identity(chip.jedec_id, chip.jedec_id, Resolved(chip, "catalog"), None, None, None)
    return Session(programmer, identity, None)


class Job:
    """Writes ``targets`` and remembers how it went."""

    def __init__(self, rig: Rig, targets: dict[int, bytes], state: Path, **options) -> None:
        self.rig = rig
        self.targets = [Segment(address, data) for address, data in targets.items()]
        self.options = jobs.WriteOptions(state=state, **options)
        self.notes = Notes()
        self.cancel = CancelToken()
        self.before = bytes(rig.sim._die.content)
        expected = bytearray(self.before)
        for address, data in targets.items():
            expected[address : address + len(data)] = data
        self.after = bytes(expected)

    def write(self) -> HwflashError | jobs.WriteResult:
        return self._run(lambda s: jobs.write(s, self.targets, self.options, *self._talk))

    def resume(self) -> HwflashError | jobs.WriteResult:
        record = jobs.unfinished(self.options.state, None)
        return self._run(lambda s: jobs.resume(s, record, self.options, *self._talk))

    def restore(self, backup: str) -> HwflashError | jobs.WriteResult:
        def put_back(session: Session) -> jobs.WriteResult:
            targets = jobs.restore_targets(session, Path(backup))
            return jobs.write(session, targets, self.options, *self._talk)

        return self._run(put_back)

    @property
    def content(self) -> bytes:
        return bytes(self.rig.sim.die.content)

    @property
    def _talk(self) -> tuple[Notes, CancelToken]:
        return self.notes, self.cancel

    def _run(self, action) -> HwflashError | jobs.WriteResult:
        try:
            session = session_on(self.rig)
        except HwflashError as error:
            return error
        try:
            return action(session)
        except HwflashError as error:
            return error
        finally:
            with suppress(HwflashError):
                session.close()
