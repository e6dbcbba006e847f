"""Stores of AMI, Phoenix, Insyde and Apple firmware, built byte by byte from published layouts."""

from __future__ import annotations

import struct
import time
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uefi import other_stores as o
from uefi.volumes import OVMF_2M, some_variables, variable, volume_bytes

from hwflash.uefi.evsa import parse_evsa
from hwflash.uefi.find import find_stores
from hwflash.uefi.find_others import find_others, span_of, told_apart
from hwflash.uefi.nvar import parse_nvar
from hwflash.uefi.others import OtherStore
from hwflash.uefi.vss import parse_vss
from hwflash.uefi.window import Window
from hwflash.units import Range

A = o.VALID | o.ASCII


def one(image: bytes, base: int = 0) -> OtherStore:
    (store,) = find_others(Window(image, base))
    return store


def told(store: OtherStore) -> list[tuple[str, str, bytes]]:
    return [(item.name, item.state_name, item.data) for item in store.records]


def codes(store: OtherStore) -> list[str]:
    return [item.code for item in store.anomalies]


def live(store: OtherStore) -> dict[str, bytes]:
    return {item.name: item.data for item in store.live}


# --- AMI NVAR ---------------------------------------------------------------------------------


def test_nvar_in_a_firmware_file():
    main, defaults = find_others(Window(o.nvar_image(), 0x10000))
    assert main.title == "AMI NVAR store"
    assert (main.base, main.size, main.copy) == (0x10060, 0x2000, False)
    assert main.volume == Range(0x10000, 0x4000)
    assert main.anomalies == ()
    assert told(main)[:10] == [
        ("Timeout", "superseded", b"\1\0"), ("PlatformLang", "added", b"en-US\0"),
        ("Timeout", "superseded", b"\3\0"), ("Timeout", "added", b"\5\0"),
        ("Setup", "added", b"\1" * 8), ("Wide", "added", b"utf"), ("Gone", "deleted", b"old"),
        ("Checked", "added", b"sum"), ("db", "added", b"keys"), ("HwErr", "added", b"\2"),
    ]  # fmt: skip
    guids = {item.name: item.guid for item in main.live}
    assert [guids[name] for name in ("Timeout", "Setup", "Wide", "db")] == [
        o.GLOBAL, o.SETUP, o.SETUP, o.SECURITY,
    ]  # fmt: skip
    timeout = next(item for item in main.live if item.name == "Timeout")
    first, middle = (item.offset for item in main.records if item.state_name == "superseded")
    assert timeout.older == (first, middle)
    attributes = {item.name: item.attributes for item in main.live}
    assert [attributes[name] for name in ("Setup", "db", "HwErr")] == [3, 0x27, 0xF]
    db = next(item for item in main.live if item.name == "db").details
    assert (db["timestamp"], db["hash"]) == ("0011223344556677", bytes(range(32)).hex())
    assert main.used + main.free + main.reclaimable == main.size
    # StdDefaults is a store by itself, with a table of GUIDs of its own.
    assert defaults.title == "AMI NVAR store in the variable StdDefaults"
    assert defaults.copy
    assert [(item.name, item.guid) for item in defaults.records] == [("Setup", o.SETUP)]


def test_nvar_wherever_it_lies():
    sample = o.nvar_store([o.nvar_entry("Setup", b"1", guid=1)], [o.GLOBAL, o.SETUP], 0x100)
    raw = one(sample)
    assert (raw.base, raw.size, raw.records[0].guid) == (0, 0x100, o.SETUP)
    # In the middle of something else its end, and with it the table, is not known.
    middle = one(bytes(64) + sample)
    assert (middle.records[0].name, middle.records[0].guid) == ("Setup", None)
    assert codes(middle) == ["nvar.no-end"]
    file = o.ffs_file(o.DEFAULTS_FILE, sample)
    # Two GUIDs that are not known are still two.
    same = bytes(64) + b"".join(o.nvar_entry("A", b"1", guid=number) for number in range(3))
    assert codes(one(same)) == ["nvar.no-end"]
    external = one(o.volume(file, o.FFS2, 0x1000))
    assert (external.title, external.copy) == ("AMI NVAR store of external defaults", True)
    # Erased flash that reads 00: the end of a chain is 000000 there, and free bytes are 00.
    zeros = o.nvar_entry("Setup", b"1", guid=0, following=0).ljust(0xF0, b"\0") + o.SETUP.bytes_le
    other = one(o.volume(o.ffs_file(o.NVAR_FILE, zeros, state=7), o.FFS2, 0x1000, polarity=False))
    assert (told(other), other.anomalies) == ([("Setup", "added", b"1")], ())
    # A deleted file, and one whose header was never finished, are no stores.
    for state in (0xE8, 0xFC, 0xFF):
        assert one(
            o.volume(o.ffs_file(o.NVAR_FILE, sample, state=state), o.FFS2, 0x1000)
        ).title != ("AMI NVAR store")
    empty = one(o.nvar_image(b"\xff" * 0x800))
    assert (empty.records, empty.free, empty.anomalies) == ((), 0x800, ())


@pytest.mark.parametrize(
    ("entries", "anomaly", "values"),
    [
        pytest.param(
            [o.nvar_entry("A", b"1"), b"NVAR\xff\xff\xff\xff\xff\x82"],
            "nvar.size nvar.tail", {"A": b"1"}, id="size beyond the store",
        ),
        pytest.param([o.nvar_entry("A", b"1"), b"NVAR\x09\0\xff\xff\xff\x82"],
                     "nvar.size nvar.tail", {"A": b"1"}, id="less than a header"),
        pytest.param([o.nvar_entry("A", b"1"), b"NVAR\x30"],
                     "nvar.size nvar.tail", {"A": b"1"}, id="half an entry"),
        pytest.param([o.nvar_entry("A", b"1"), b"\x42"], "nvar.tail", {"A": b"1"}, id="rubbish"),
        pytest.param([o.nvar_entry("A", b"1", following=0)], "nvar.link", {"A": b"1"},
                     id="a link to itself"),
        pytest.param([o.nvar_entry("A", b"1", following=0xFFFFFE)], "nvar.link", {"A": b"1"},
                     id="a link beyond the store"),
        pytest.param([o.nvar_entry("A", b"1", following=14), o.nvar_entry("B", b"2")],
                     "nvar.link", {"A": b"1", "B": b"2"}, id="a link to another variable"),
        pytest.param(
            [o.nvar_entry("A", b"1", following=14), o.nvar_entry(data=b"2", bits=o.DATA_ONLY)],
            "nvar.link", {"A": b"1"}, id="a link to an entry that does not count",
        ),
        pytest.param(
            [o.nvar_entry("A", b"1", following=28), o.nvar_entry("B", b"2", following=14),
             o.nvar_entry(data=b"3", bits=o.VALID | o.DATA_ONLY)],
            "nvar.link", {"A": b"3", "B": b"2"}, id="two links to one value",
        ),
        pytest.param(
            [o.nvar_entry("A", b"1", bits=o.ASCII, following=14),
             o.nvar_entry(data=b"2", bits=o.VALID | o.DATA_ONLY)],
            "nvar.orphan", {}, id="the rest of a deleted variable",
        ),
        pytest.param([o.nvar_entry("A", b"1", guid=200)], "nvar.guid-index", {"A": b"1"},
                     id="a GUID number beyond the table"),
        pytest.param([o.nvar_entry("A", b"1", guid=3)], "nvar.guid-index", {"A": b"1"},
                     id="a GUID that was never written"),
        pytest.param([o.nvar_entry("A", b"1"), b"NVAR\x0a\0\xff\xff\xff\x82"],
                     "nvar.name", {"A": b"1", "": b""},
                     id="a header alone"),
        pytest.param([b"NVAR\x10\0\xff\xff\xff\x82\0ABCDE"], "nvar.name", {"ABCDE": b""},
                     id="a name without an end"),
        pytest.param([o.nvar_entry("A", b"12\xff\xff", bits=A | o.EXTENDED)],
                     "nvar.extended-header", {"A": b"12\xff\xff"}, id="too long a header"),
        pytest.param([o.nvar_entry("A", b"1", extended=b"\1").replace(b"1", b"2")],
                     "nvar.checksum", {"A": b"2"}, id="a wrong checksum"),
        pytest.param([o.nvar_entry("A", b"1"), o.nvar_entry("A", b"2")], "nvar.duplicate",
                     {"A": b"2"}, id="two variables of one name"),
    ],
)  # fmt: skip
def test_nvar_with_something_wrong(entries: list[bytes], anomaly: str, values: dict[str, bytes]):
    store = one(o.nvar_image(o.nvar_store(entries, [o.GLOBAL], 0x400)))
    assert set(codes(store)) == set(anomaly.split())
    assert live(store) == values


# --- $VSS ---------------------------------------------------------------------------------------


def test_vss_of_phoenix_and_insyde():
    store = one(o.vss_image(o.vss_sample()))
    assert (store.title, store.form, store.base, store.size) == (
        "$VSS store",
        "mixed",
        0x48,
        0x2000,
    )
    assert store.anomalies == ()
    assert told(store) == [
        ("Timeout", "deleted", b"\1\0"), ("Timeout", "added", b"\5\0"), ("db", "added", b"keys"),
        ("Setup", "added", bytes(range(16))), ("Moved", "in-deleted-transition", b"old"),
    ]  # fmt: skip
    assert list(live(store)) == ["Timeout", "db", "Setup", "Moved"]
    db = store.live[1]
    assert (db.guid, db.attributes, str(db.time)) == (o.SECURITY, 0x27, "2024-05-17T10:20:30Z")
    assert store.used + store.free + store.reclaimable == store.size
    # Where the firmware goes on to 3F, 7F is a record that was never finished.
    later = o.vss_store([o.vss_plain("A", b"1", state=0x3F), o.vss_plain("B", b"2")], 0x200)
    assert told(one(o.vss_image(later))) == [("A", "added", b"1"), ("B", "header-valid-only", b"2")]


def test_vss_headers_of_every_kind():
    for align in (1, 4, 8):
        records = [
            o.vss_plain("Ab", b"1"), o.vss_auth("Auth", b"12", attributes=7),
            o.vss_auth("Counted", b"3", attributes=0x17, count=1 << 32 | 7), o.vss_apple("X", b"4"),
            o.vss_plain("Empty", b""), o.vss_legacy("Old", b"56"),
            o.vss_legacy("Gone", b"7", state=0xF8), o.vss_plain("Last", b"8"),
        ]  # fmt: skip
        store = one(o.vss_image(o.vss_store(records, 0x800, align=align)))
        assert [(item.name, item.data) for item in store.records] == [
            ("Ab", b"1"), ("Auth", b"12"), ("Counted", b"3"), ("X", b"4"), ("Empty", b""),
            ("Old", b"56"), ("Gone", b"7"), ("Last", b"8"),
        ], align  # fmt: skip
        assert (codes(store), store.records[-2].state_name) == ([], "deleted")
    for signature in (b"$SVS", b"$NSS"):
        assert (
            one(o.vss_store([], 0x100, signature=signature)).title == f"{signature.decode()} store"
        )
    vss2 = UUID("ddcf3617-3275-4164-98b6-fe85707ffe7d").bytes_le
    head = vss2 + struct.pack("<IBBHI", 0x200, 0x5A, 0xFE, 0, 0)
    store = one(o.vss_image((head + o.vss_plain("A", b"1")).ljust(0x200, b"\xff")))
    assert (store.title, live(store), store.form) == ("Phoenix VSS2 store", {"A": b"1"}, "plain")


def test_a_factory_copy_is_told_from_the_store():
    image = o.vss_image(o.vss_sample(0x1000) + o.factory_copy(o.vss_sample(0x800)))
    main, copy = find_others(Window(image))
    assert (main.copy, copy.copy) == (False, True)
    assert copy.title == "$VSS store in an Insyde factory data copy (_FDC)"


@pytest.mark.parametrize(
    ("records", "anomaly", "names"),
    [
        ([o.vss_plain("A", b"1"), b"\xaa\x55\x7f\0" + b"\x07" * 40], "vss.record vss.tail", ["A"]),
        ([b"\xaa\x55" + b"\xff" * 30, o.vss_plain("A", b"1")], "", ["A"]),
        (
            [
                o.vss_auth("A", b"1"),
                o.vss_auth("B", b"")[:36] + b"\xff" * 24,
                o.vss_auth("C", b"3"),
            ],
            "",
            ["A", "C"],
        ),
        ([o.vss_plain("A", b"1"), b"\x42"], "vss.tail", ["A"]),
        ([o.vss_apple("A", b"1", crc=5)], "vss.crc", ["A"]),
        ([o.vss_plain("A", b"1"), o.vss_plain("A", b"2")], "vss.duplicate", ["A", "A"]),
        ([o.vss_legacy("A", b"1")[:-4]], "vss.record vss.tail", []),
        ([o.vss_plain("A", b"1", state=0xBF)], "", []),
    ],
    ids=["sizes", "torn", "torn-auth", "tail", "crc", "twice", "legacy-cut", "state"],
)
def test_vss_with_something_wrong(records: list[bytes], anomaly: str, names: list[str]):
    store = one(o.vss_image(o.vss_store(records, 0x400)))
    assert codes(store) == anomaly.split()
    assert [item.name for item in store.live] == names


def test_vss_headers_that_make_no_sense():
    store = bytearray(o.vss_sample())
    store[9] = 0xFF
    assert codes(one(bytes(store))) == ["vss.state"]
    assert codes(one(o.vss_sample(0x2000)[:0x1000])) == ["vss.size"]
    for size, form in ((16, 0x5A), (0xFFFFFFFF, 0x5A), (0x2000, 0xFF)):
        assert find_others(Window(b"$VSS" + struct.pack("<IB", size, form) + bytes(999))) == ()


# --- EVSA, Fsys ---------------------------------------------------------------------------------


def test_evsa():
    store = one(o.vss_image(o.evsa_sample()))
    assert (store.title, store.base, store.size) == ("Phoenix EVSA store", 0x48, 0x1000)
    assert store.anomalies == ()
    assert told(store) == [
        ("Timeout", "deleted", b"\1\0"), ("Timeout", "superseded", b"\3\0"),
        ("Setup", "added", b"\1" * 8), ("Timeout", "added", b"\5\0"),
        ("Long", "added", b"long value"),
    ]  # fmt: skip
    assert store.records[3].older == (store.records[1].offset,)
    assert [item.attributes for item in store.live] == [3, 7, 7]
    assert [item.guid for item in store.live] == [o.SETUP, o.GLOBAL, o.SETUP]
    assert store.used + store.free + store.reclaimable == store.size


@pytest.mark.parametrize(
    ("entries", "anomaly"),
    [
        ([b"\xe1\0\3\0"], "evsa.entry evsa.tail"),
        ([b"\xe1\0\xff\x7f"], "evsa.entry evsa.tail"),
        ([o.evsa_long(0, 0, b"")[:-4] + b"\xff\xff\xff\x7f"], "evsa.entry evsa.tail"),
        ([o.evsa_data(9, 9, b"1")], "evsa.number evsa.number"),
        ([o.evsa_entry(0x55, b"what")], "evsa.type"),
        ([o.evsa_entry(0xE1, b"short")], "evsa.type"),
        ([bytes([0x83, 0]) + o.evsa_data(0, 0, b"1", kind=0x83)[2:]], "evsa.checksum"),
    ],
    ids=["small", "large", "long", "numbers", "type", "guid", "checksum"],
)
def test_evsa_with_something_wrong(entries: list[bytes], anomaly: str):
    assert codes(one(o.evsa_store(entries, 0x200))) == anomaly.split()


def test_fsys():
    store = one(o.vss_image(bytes(100) + o.fsys_sample()))
    assert (store.title, store.base, store.size) == ("Apple Fsys store", 0xAC, 0x800)
    assert told(store) == [
        ("ssn", "added", b"C02TEST00000"), ("hwc", "added", b"XXXX"), ("old", "deleted", b"gone"),
    ]  # fmt: skip
    assert (store.anomalies, store.live[0].guid, store.live[0].attributes) == ((), None, 0)
    assert store.used + store.free + store.reclaimable == store.size
    for signature in (b"Gaid", b"SysF", b"Diag"):
        made = o.fsys_store([o.fsys_entry("a", b"")], 0x40, signature=signature)
        assert one(made).title == f"Apple {signature.decode()} store"
    damaged = bytearray(o.fsys_sample())
    damaged[20] ^= 1
    assert codes(one(bytes(damaged))) == ["fsys.crc"]
    # The signatures are words: a text with one in it is no store.
    text = b"Diagnostic text that goes on for long enough to be taken for entries. " * 2000
    assert find_others(Window(text)) == ()


# --- finding ------------------------------------------------------------------------------------


def test_nothing_of_edk2_is_taken_for_another_store():
    image = volume_bytes(some_variables(), OVMF_2M)
    image[0x100:0x100] = b""
    found = find_stores(bytes(image))
    assert told_apart([Window(bytes(image))], found) == (tuple(found), ())
    # A $VSS store in a variable is a value of that variable.
    image = bytes(volume_bytes([variable("Dump", o.vss_sample(0x400))]))
    found = find_stores(image)
    assert told_apart([Window(image)], found) == (tuple(found), ())


def test_programs_that_know_the_signatures_are_no_stores():
    """Firmware of AMI compares with "NVAR" in modules that are not compressed."""
    code = bytes.fromhex("813b4e564152751d8b4304c1e80883f8ff7412 0f b6 93 9c")
    image = bytes(64) + code * 3 + b"$VSS\0Fsys\0EVSA\0_FDC\0" + bytes(99)
    assert find_others(Window(image)) == ()
    # In a damaged volume of EDK2 an AMI entry is what a variable holds: it can still be rescued.
    volume = bytearray(volume_bytes(some_variables()))
    volume[0x48:0x58] = bytes(16)
    volume[0x2000:0x2100] = (o.nvar_entry("Setup", b"1") * 9).ljust(256, b"\xff")
    (damaged,) = find_stores(bytes(volume))
    found, others = told_apart([Window(bytes(volume))], [damaged])
    assert (found, len(others)) == ((damaged,), 1)


def test_a_volume_of_another_vendor_is_not_a_damaged_one_of_edk2():
    image = o.vss_image(o.vss_sample())
    (damaged,) = find_stores(image)
    assert damaged.store is None
    found, others = told_apart([Window(image)], [damaged])
    assert (found, [item.title for item in others]) == ((), ["$VSS store"])


@pytest.mark.parametrize("lost", [slice(0x48, 0x58), slice(0, 0x1000)], ids=["guid", "block"])
@pytest.mark.parametrize("value", [o.vss_sample(0x400), o.evsa_sample(0x200), o.nvar_sample(0x400)])
def test_a_value_is_no_store_where_the_headers_before_it_are_gone(value: bytes, lost: slice):
    variables = [*(variable(f"V{i}", bytes(90)) for i in range(40)), variable("Dump", value)]
    image = bytearray(volume_bytes(variables))
    image[lost] = b"\xff" * (lost.stop - lost.start)
    window = Window(bytes(image))
    (damaged,) = find_stores(window)
    assert damaged.store is None
    assert told_apart([window], [damaged]) == ((damaged,), ())


def test_what_is_read_of_a_chip_by_how_a_block_begins():
    whole = Range(0x8000, 0x4000)
    assert span_of(0x8000, o.nvar_image()[:128]) == whole
    assert span_of(0x8000, o.vss_image(o.vss_sample())[:128]) == whole
    assert span_of(0x8000, o.volume(b"", o.FFS2, 0x4000)[:128]) is None
    assert span_of(0x8000, o.vss_sample()[:128]) == Range(0x8000, 0x2000)
    assert span_of(0x8000, o.evsa_sample()[:128]) == Range(0x8000, 0x1000)
    assert span_of(0x8000, o.fsys_sample()[:128]) == Range(0x8000, 0x800)
    assert span_of(0x8000, o.factory_copy(o.vss_sample())[:128]) == Range(0x8000, 0x2050)
    assert span_of(0x8000, b"\xff" * 128) is None


SAMPLES = [o.nvar_image(), o.vss_image(o.vss_sample()), o.evsa_sample(), o.fsys_sample()]


@settings(max_examples=60, deadline=None, database=None)
@given(
    sample=st.sampled_from(SAMPLES),
    changes=st.lists(
        st.tuples(st.integers(0, 0x400), st.binary(min_size=1, max_size=6)), max_size=8
    ),
    cut=st.integers(0, 0x4000),
)
@example(sample=SAMPLES[0], changes=[], cut=0x200)
def test_damage_is_told_and_nothing_breaks(
    sample: bytes, changes: list[tuple[int, bytes]], cut: int
):
    image = bytearray(sample)
    for at, new in changes:
        image[at : at + len(new)] = new
    image = image[: len(image) - cut]
    for store in find_others(Window(bytes(image), 0x1000)):
        assert store.used >= 0 <= store.reclaimable
        for item in store.records:
            assert 0x1000 <= item.offset < item.end <= 0x1000 + len(image)
            assert item.data == image[item.data_offset - 0x1000 :][: len(item.data)]
        for odd in store.anomalies:
            assert str(odd)


@pytest.mark.slow
def test_thousands_of_entries_and_signatures_do_not_hang():
    """What grows with the square of their number takes minutes here."""
    chained = o.nvar_entry("A", b"1", following=14)
    link = o.nvar_entry(data=b"2", bits=o.VALID | o.DATA_ONLY, following=11)
    unnamed = bytes(4) + o.nvar_entry("", b"x", bits=o.VALID | o.DATA_ONLY)
    images = [
        chained + link * 5_000, unnamed * 5_000, b"NVAR" * 50_000,
        o.vss_store([o.vss_plain("A", b"")] * 5_000, 1 << 21),
        (b"$VSS" + struct.pack("<IBBHI", 20, 0x5A, 0xFE, 0, 0)) * 5_000,
        o.evsa_store([o.evsa_data(0, 0, b"")] * 5_000, 1 << 20),
        b"Fsys\1\1\1\1\1\xff\x7f\1A" * 5_000, o.NVAR_FILE.bytes_le * 5_000, b"_FVH" * 50_000,
    ]  # fmt: skip
    before = time.process_time()
    found = [find_others(Window(image)) for image in images]
    assert time.process_time() - before < 8
    assert [len(stores) for stores in found] == [1, 0, 0, 1, 32, 1, 0, 0, 0]
    assert len(found[0][0].records) == len(found[3][0].records) + 1 == 5_001
    assert "others.limit" in codes(found[4][-1])


def test_entries_of_one_store_do_not_hide_the_next():
    entry = o.nvar_entry("A", b"1")
    many = o.nvar_image(o.nvar_store([entry] * 2_500, [o.GLOBAL], 0xA000), 0xC000)
    image = many + bytes(16) + entry * 3
    assert [item.base for item in find_others(Window(image))] == [0x60, 0xC010]


def test_a_word_is_not_judged_by_all_that_follows_it(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    whole = Window.at

    def at(window: Window, offset: int, length: int) -> bytes:
        sizes.append(len(whole(window, offset, length)))
        return whole(window, offset, length)

    monkeypatch.setattr(Window, "at", at)
    image = bytes(4) + (o.nvar_entry("A", b"x") + b"zz") * 100 + b"\xff" * (4 << 20)
    assert find_others(Window(image)) == ()
    assert sum(sizes) < 100 << 20 >> 1


def test_no_more_entries_are_read_than_asked_for():
    image = Window(o.nvar_entry("A", b"1") * 9)
    assert codes(parse_nvar(image, 0, image.end, most=1)) == ["nvar.limit", "nvar.tail"]
    vss = parse_vss(Window(o.vss_sample()), 0, most=2)
    evsa = parse_evsa(Window(o.evsa_sample()), 0, most=7)
    assert vss is not None
    assert evsa is not None
    assert [len(item.records) for item in (vss, evsa)] == [2, 2]
    assert codes(vss) + codes(evsa) == ["vss.limit", "vss.tail", "evsa.limit", "evsa.tail"]
