from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples
from test_uefi_power_cuts import cuts
from test_uefi_recover import interrupted_reclaim
from volumes import (
    AAVMF,
    OVMF_2M,
    OVMF_4M,
    State,
    after_power_cuts,
    entry,
    recorded_volume,
    some_variables,
    variable,
    volume_bytes,
)

from hwflash.uefi import salvage as salvage_module
from hwflash.uefi import store as store_module
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.check import Report, check
from hwflash.uefi.find import assume, find_stores
from hwflash.uefi.ftw import make_work_space
from hwflash.uefi.store import make_store
from hwflash.uefi.volume import make_volume

PLAIN, SMM, ARM = "OVMF, plain build", "OVMF, SMM build", "AAVMF"


def report(image: bytes, layout: KnownLayout = OVMF_2M) -> Report:
    return check(assume(bytes(image), layout))


def severities(found: Report) -> dict[str, str]:
    return {item.firmware: item.severity for item in found.outlook}


def texts(found: Report) -> dict[str, str]:
    return {item.firmware: item.text for item in found.outlook}


def codes(found: Report) -> list[str]:
    return [item.code for item in found.problems]


@pytest.mark.parametrize(
    ("layout", "kinds"), [(OVMF_2M, {PLAIN, SMM}), (OVMF_4M, {PLAIN, SMM}), (AAVMF, {ARM})]
)
def test_a_healthy_volume_is_ok(layout, kinds):
    block = 0x40000 if layout is AAVMF else 0x1000
    found = report(volume_bytes(some_variables(), layout, block=block), layout)
    assert found.ok
    assert found.repair == "none"
    assert found.problems == ()
    assert severities(found) == dict.fromkeys(kinds, "note")
    assert found.lint == ()


def test_the_recorded_volume_is_ok():
    found = check(find_stores(recorded_volume())[0])
    assert (found.ok, found.repair) == (True, "none")


def test_a_dirty_tail_needs_a_reclaim():
    image = volume_bytes(some_variables())
    image[0xD000] = 0
    found = report(image)
    assert not found.ok
    assert found.repair == "reclaim"
    assert ("store.tail", 0xD000) in [(item.code, item.offset) for item in found.problems]
    assert severities(found) == {PLAIN: "note", SMM: "note"}
    assert "rewrites the store once" in texts(found)[PLAIN]


@pytest.mark.parametrize(
    ("header", "record"), [(0xFE, 0xFF), (0xFC, 0xFF), (0xFC, 0xF9)]
)  # fmt: skip
def test_an_unfinished_queue_needs_a_recovery_and_loses_nothing(header, record):
    found = report(volume_bytes(some_variables(), entries=(entry(header=header, record=record),)))
    assert found.repair == "recover"
    assert set(severities(found).values()) == {"note"}
    assert 0xF020 in [item.offset for item in found.problems if item.code.startswith("ftw.")]


# --- QEMU.md: power cuts with real firmware -------------------------------------------------


def test_with_the_spare_complete_and_the_target_old_only_the_plain_build_fails():
    image, _ = interrupted_reclaim(done=0)
    found = report(image)
    assert found.repair == "recover"
    assert severities(found) == {PLAIN: "error", SMM: "note"}


def test_a_store_that_is_marked_unfinished_survives_on_the_plain_build_too():
    image, _ = interrupted_reclaim(done=0)
    image[0xDFFC:0xE000] = bytes(4)
    assert severities(report(image)) == {PLAIN: "note", SMM: "note"}


def test_with_all_live_data_back_nothing_fails():
    image, wanted = interrupted_reclaim(done=0)
    image[: len(wanted)] = wanted
    assert severities(report(image)) == {PLAIN: "note", SMM: "note"}


def test_with_block_0_erased_all_is_lost_by_switching_on():
    image, _ = interrupted_reclaim(done=1)
    found = report(image)
    assert found.repair == "recover"
    assert severities(found) == {PLAIN: "error", SMM: "error"}
    assert "erases the whole volume with the complete copy" in texts(found)[SMM]
    assert "every later one" in texts(found)[PLAIN]


def test_aavmf_makes_an_empty_store_of_a_volume_without_a_header():
    image, _ = interrupted_reclaim(AAVMF, done=1)
    found = report(image, AAVMF)
    assert severities(found) == {ARM: "error"}
    assert "empty store" in texts(found)[ARM]


def test_with_the_header_back_and_the_store_missing_the_plain_build_fails_once():
    image, wanted = interrupted_reclaim(done=1)
    image[:0x48] = wanted[:0x48]
    found = report(image)
    assert severities(found) == {PLAIN: "warning", SMM: "note"}
    assert "once" in texts(found)[PLAIN]


def test_without_anything_pending_a_missing_store_is_an_exception_at_every_boot():
    image = volume_bytes(some_variables())
    image[0x48:0xE000] = b"\xff" * (0xE000 - 0x48)
    found = report(image)
    assert found.repair == "rescue"
    assert severities(found) == {PLAIN: "error", SMM: "error"}
    assert "store.missing" in codes(found)


def test_two_live_records_hang_every_boot():
    image = volume_bytes([*some_variables(3), variable("Variable1", b"second")])
    found = report(image)
    assert found.repair == "rescue"
    assert "hangs at every boot" in texts(found)[PLAIN]
    assert "record.duplicate" in codes(found)


def test_an_implausible_spare_loses_variables_and_needs_a_rescue():
    found = report(volume_bytes(some_variables(), entries=(entry(header=0xFC, record=0xFD),)))
    assert found.repair == "rescue"
    assert severities(found) == {PLAIN: "error", SMM: "error"}


@pytest.mark.slow
def test_the_recorded_power_cuts_follow_the_measured_table():
    seen = set()
    for cut, image in after_power_cuts(cuts()[::3]):
        found = check(find_stores(image)[0])
        volume = find_stores(image)[0].volume
        level = severities(found)
        assert found.repair in ("none", "reclaim", "recover"), cut
        if volume is None or not volume.checksum_ok:
            assert level == {PLAIN: "error", SMM: "error"}, cut
        else:
            assert level[SMM] == "note", cut
        seen.add((level[PLAIN], level[SMM]))
    assert {("note", "note"), ("error", "error"), ("error", "note")} <= seen


# --- other damage ---------------------------------------------------------------------------


def test_a_damaged_start_id_is_named_though_the_chain_just_ends():
    image = volume_bytes([variable(f"V{n}", bytes(100)) for n in range(20)])
    record = find_stores(bytes(image))[0].store.records[4]
    image[record.offset] = 0
    found = report(image)
    assert found.repair == "rescue"
    assert ("store.unsound", 0) in [(item.code, item.offset) for item in found.problems]
    assert set(severities(found).values()) == {"error"}


def test_a_lost_work_space_is_recovered_and_the_variables_stay():
    image = volume_bytes(some_variables())
    image[0xF000:0x10000] = b"\xff" * 0x1000
    found = report(image)
    assert found.repair == "recover"
    assert set(severities(found).values()) == {"warning"}


def test_offsets_are_those_of_the_image():
    image, _ = interrupted_reclaim(done=0)
    (found,) = find_stores(b"\0" * 0x7000 + bytes(image))
    offsets = {item.code: item.offset for item in check(found).problems}
    assert offsets["ftw.replay"] == 0x7000 + 0xF020


def test_a_bare_store_is_of_no_use_to_firmware_but_can_be_written():
    (found,) = find_stores(make_store(some_variables(), 0x4000).build())
    got = check(found)
    assert got.repair == "none"
    assert severities(got) == {PLAIN: "error", SMM: "error", ARM: "error"}


# --- strict lint ----------------------------------------------------------------------------


def test_the_rules_of_closer_looking_firmware_are_notes():
    records = [
        variable("Torn", state=State.ERASED),
        variable("Strange", state=0x15),
    ]
    image = volume_bytes([*some_variables(1), records[1], *some_variables(3)[1:]])
    image[0x2C] = 0xFE
    found = report(image)
    lint = [(item.code, item.severity) for item in found.lint]
    assert set(lint) == {("lint.aavmf", "note"), ("lint.ovmf-memory", "note")}
    words = " ".join(item.text for item in found.lint)
    assert "state 15" in words
    assert "attributes" in words


def test_aavmf_ends_its_list_at_a_torn_header_and_ovmf_in_memory_refuses_it():
    torn = variable("T", b"")
    image = volume_bytes(some_variables(2))
    at = find_stores(bytes(image))[0].store.free_offset
    image[at : at + 60] = torn.build()[:2] + b"\xff" + torn.build()[3:60]
    image[at + 60 : at + 60 + len(variable("Bad", state=0x15).build())] = variable(
        "Bad", state=0x15
    ).build()
    lint = [(item.code, item.offset) for item in report(image).lint]
    assert ("lint.ovmf-memory", at + 2) in lint
    assert ("lint.ovmf-memory", at + 60) in lint
    assert "lint.aavmf" not in [code for code, _ in lint]


# --- anything -------------------------------------------------------------------------------


@settings(max_examples=examples(60), deadline=2000)
@given(
    st.integers(0, 14),
    st.lists(st.tuples(st.integers(0, 0x1FFFF), st.binary(min_size=1, max_size=60)), max_size=15),
)
def test_a_damaged_volume_is_checked(done, changes):
    image, _ = interrupted_reclaim(done=done)
    for at, data in changes:
        image[at : at + len(data)] = data
    for found in [*find_stores(bytes(image[:0x20000])), assume(bytes(image[:0x20000]), OVMF_2M)]:
        got = check(found)
        assert got.ok <= (got.repair == "none")
        assert [item.offset for item in got.problems] == sorted(i.offset for i in got.problems)
        assert all(item.text for item in got.outlook)


@settings(max_examples=examples(60), deadline=2000)
@given(st.binary(max_size=3000))
def test_any_bytes_are_checked(data):
    for found in find_stores(data):
        check(found)


def absurd(name_size: int | None, data_size: int) -> bytearray:
    """Thirty variables, and in the eleventh record's header sizes that take in those behind it."""
    records = [variable(f"Setting{index}", bytes([index + 1]) * 90) for index in range(30)]
    image = volume_bytes(records)
    at = 0x64 + sum(record.end - record.offset for record in records[:10])
    if name_size is not None:
        image[at + 36 : at + 40] = name_size.to_bytes(4, "little")
    image[at + 40 : at + 44] = data_size.to_bytes(4, "little")
    return image


@pytest.mark.parametrize(
    ("name_size", "data_size"), [(0x1000, 0x4000), (None, 0x4000), (None, 2000), (None, 3260)]
)
def test_records_inside_another_ones_absurd_sizes_need_a_rescue(name_size, data_size):
    found = report(absurd(name_size, data_size))
    assert not found.ok
    assert found.repair == "rescue"
    (problem,) = [item for item in found.problems if item.severity == "error"]
    assert problem.code == "store.unsound"
    assert "cannot be reached by the chain" in problem.text
    assert set(severities(found).values()) == {"error"}
    kept = {record.name for record in found.diagnosis.variables}
    assert kept == {f"Setting{index}" for index in range(30) if index != 10}


@pytest.mark.parametrize(
    ("prefix", "names", "header", "behind"),
    [
        (b"", ["One"], False, 200),
        (b"", ["One", "Two"], False, 200),
        (b"in front", ["One"], False, 200),
        (b"in front", ["One", "Two"], False, 0),
        (b"in front", ["One", "Two"], True, 0),
        (b"in front", ["One", "Two"], True, 200),
    ],
)
def test_a_value_that_may_be_a_copy_of_records_is_a_warning(prefix, names, header, behind):
    inner = make_store([variable(name) for name in names], 0x1000)
    begin = 0 if header else 28
    copied = prefix + inner.build()[begin : inner.free_offset] + b"\xff" * behind
    outer = variable("Outer", copied)
    assert outer.data_offset % 4 == 0, "the copy is where records can begin"
    for records in ([*some_variables(), outer, variable("Last")], [*some_variables(), outer]):
        found = report(volume_bytes(records))
        assert (found.ok, found.repair) == (True, "none")
        assert [(item.code, item.severity) for item in found.problems] == [
            ("record.overlap", "warning")
        ]
        assert outer.key in {record.key for record in found.diagnosis.variables}


def test_erase_blocks_are_those_of_the_flash():
    place = assume(bytes(interrupted_reclaim()[0]), OVMF_2M)
    assert check(place).repair == "recover"
    for other in ((0x10000, 0), (0x1000, 0x800)):
        found = check(place, *other)
        assert found.repair == "rescue"
        assert found.diagnosis.recovery is None
        assert "erase" in found.diagnosis.refused


@pytest.mark.slow
def test_a_megabyte_of_records_is_read_once(monkeypatch):
    # The search for the store, the check and a second check all look at the same bytes; reading
    # them for each of a check's questions took seconds.
    record = variable("Setting00000", b"x").build()
    count = (0x100000 - 0x64) // len(record)
    at = record.index("00000".encode("utf-16-le"))
    body = b"".join(
        record[:at] + f"{index:05}".encode("utf-16-le") + record[at + 10 :]
        for index in range(count)
    )
    image = bytearray(b"\xff" * 0x210000)
    image[:0x48] = make_volume(len(image), 0x1000).build()
    image[0x48:0x64] = make_store([], 0x100000 - 0x48, base=0x48).header()
    image[0x64 : 0x64 + len(body)] = body
    image[0x100000:0x101000] = make_work_space(0x1000).build()
    read: Counter[str] = Counter()
    for module, name in (
        (store_module, "record_anomalies"),
        (salvage_module, "_trusted"),
        (salvage_module, "prove"),
    ):
        original = getattr(module, name)

        def counted(*values, name=name, function=original):
            read[name] += 1
            return function(*values)

        monkeypatch.setattr(module, name, counted)
    first = check(find_stores(bytes(image))[0])
    assert check(find_stores(bytes(image))[0]) == first
    assert first.diagnosis.copies[0].live == count > 10_000
    assert read == {"record_anomalies": count, "_trusted": count}
    store = find_stores(bytes(image))[0].store
    assert store is not None
    assert store.live is store.live
