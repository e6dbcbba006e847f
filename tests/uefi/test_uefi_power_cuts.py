"""Every state that a recorded boot with a reclaim goes through is read, and read sensibly."""

from __future__ import annotations

import hashlib
from uuid import UUID

import pytest
from volumes import after_power_cuts, recorded_operations, recorded_volume

from hwflash.uefi.find import find_stores

MTC = ("MTC", UUID("eb704011-1402-11d3-8e77-00a0c969723b"))


def cuts() -> list[int]:
    """Around every erase and every program of more than a byte or of a state, and a sample."""
    operations = recorded_operations()
    marks = {0, len(operations)}
    last = -2
    for index, (kind, address, data) in enumerate(operations):
        beginning = address != last + 1
        if kind == "e" or len(data) > 1 or beginning:
            marks |= {index, index + 1}
        last = address + len(data) - 1
    marks |= set(range(0, len(operations), 1499))
    return sorted(marks)


@pytest.mark.slow
def test_every_power_cut_is_read_and_told_of():
    verdicts: dict[str, int] = {}
    lost = 0
    before = {record.key for record in find_stores(recorded_volume())[0].store.live}
    for cut, image in after_power_cuts(cuts()):
        (found,) = find_stores(image)
        assert found.base == 0, cut
        assert found.areas.layout == "OVMF 1M/2M", cut
        verdicts[found.ftw.verdict] = verdicts.get(found.ftw.verdict, 0) + 1
        for part in (found.volume, found.store, found.ftw.work_space):
            if part is not None:
                built = part.build()
                assert built == image[part.base : part.base + len(built)], cut
        live = {record.key for record in found.store.live} if found.store else set()
        if before <= live:
            continue
        # A variable can be missing only while the target is being rewritten from the spare,
        # and then the spare has them all and the verdict says so.
        lost += 1
        assert found.ftw.verdict == "replay", cut
        copy = {record.key for record in found.ftw.spare_store.live}
        assert before <= copy, cut
    assert set(verdicts) == {"idle", "abort", "replay", "finish"}
    assert lost >= 14, "the recording erases 14 blocks of the target"
    assert len(cuts()) > 300


def test_the_whole_recording_ends_as_it_was_recorded():
    ((_, image),) = after_power_cuts([len(recorded_operations())])
    assert hashlib.sha256(image).hexdigest() == (
        "fb7f5708a65f15332e99dc8c27acc5eabd0e5850a0eff8d35f8702b920394ec1"
    )
    (found,) = find_stores(image)
    assert found.healthy
    assert found.anomalies == ()
    assert len(found.store.live) == 28
    counters = [
        int.from_bytes(find_stores(data)[0].store.find(*MTC).data, "little")
        for data in (recorded_volume(), image)
    ]
    assert counters[1] == counters[0] + 1, "the firmware counts its boots"
