"""Whole jobs on odd chips: across banks and dies, cut off and taken up again."""

from __future__ import annotations

import pytest
from test_jobs_twins import GO, QUIET, Desk, desk, pattern

from hwflash.errors import ChipStateUnknown
from hwflash.jobs.prepare import WriteOptions
from hwflash.jobs.session import Session
from hwflash.jobs.write import resume, unfinished
from hwflash.units import MIB

__all__ = ["desk"]

#: Part, where its write begins, and in which program or erase the power goes away.
CUT = [
    ("sst25vf040b", 0x1FFF, 4000),
    ("sst25vf512a", 0x1FFF, 300),
    ("w25m512jv", 32 * MIB - 5000, 20),
    ("s25fl512s", 16 * MIB - 5000, 10),
]
#: Those that are written only when they are named.
NAMED = frozenset({"w25m512jv"})
LENGTH = 20_001


def finish(desk: Desk, session: Session) -> None:
    with session:
        record = unfinished(desk.state, None)
        resume(session, record, WriteOptions(desk.state), QUIET, GO)


@pytest.mark.parametrize(
    ("part", "address", "cut"),
    [
        pytest.param(*case, id=case[0], marks=pytest.mark.slow if number else [])
        for number, case in enumerate(CUT)
    ],
)
def test_cut_off_and_taken_up_again(desk: Desk, part: str, address: int, cut: int) -> None:
    data = pattern(LENGTH, 3)
    named = part if part in NAMED else None
    with pytest.raises(ChipStateUnknown):
        desk.write(desk.open(part, more=f"&power_cut={cut}", chip=named), address, data)
    finish(desk, desk.open(part, chip=named))
    content = desk.content()
    assert content[address : address + LENGTH] == data
    assert content.count(0xFF) == len(content) - LENGTH + data.count(0xFF)
