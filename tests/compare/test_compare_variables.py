from __future__ import annotations

import pytest
from compare.firmware_sides import changed, firmware, side
from uefi.volumes import GUID, OVMF_4M, State, entry, variable, volume_bytes

from hwflash.compare.report import compare
from hwflash.compare.sides import align
from hwflash.compare.variables import AUTO_CREATED, HD_BOOT, compare_variables
from hwflash.errors import UsageError
from hwflash.uefi import guids
from hwflash.uefi.devicepath import Node
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.loadoption import LoadOption
from hwflash.uefi.window import encode_utf16

END = Node(0x7F, 0xFF).build()
NV = 7
GLOBAL = guids.GLOBAL_VARIABLE
#: Fv(GUID)/FvFile(GUID)
IN_FIRMWARE = Node(4, 7, GUID.bytes_le).build() + Node(4, 6, HD_BOOT.bytes_le).build() + END
DISK = Node(1, 1, b"\0\x1f").build() + END


def option(path: bytes = DISK, text: str = "entry", extra: bytes = b"", attributes: int = 1):
    return LoadOption(attributes, encode_utf16(text), path, extra).build()


def made(name: str, data: bytes, guid=GLOBAL, **options):
    return variable(name, data, guid, attributes=options.pop("attributes", NV), **options)


def difference(left, right, **options):
    one, other = (side(bytes(volume_bytes(records, OVMF_4M))) for records in (left, right))
    return compare_variables(one, other, align(one, other), **options)


def classes(found) -> dict[str, str]:
    return {item.variable.name: item.reason.name for item in found.volatile}


@pytest.mark.parametrize(
    ("name", "guid", "reason"),
    [
        ("MTC", guids.MONOTONIC_COUNTER, "boot-counter"),
        ("MemoryTypeInformation", guids.MEMORY_TYPE_INFORMATION, "memory-hint"),
        ("ConIn", GLOBAL, "console"),
        ("ConOut", GLOBAL, "console"),
        ("ErrOut", GLOBAL, "console"),
        ("HDDP", HD_BOOT, "boot-cache"),
    ],
)
def test_what_every_boot_writes_does_not_count(name, guid, reason):
    before, after = made(name, b"\1\0\0\0", guid), made(name, b"\2\0\0\0", guid)
    for left, right in (([before], [after]), ([before], []), ([], [after])):
        found = difference(left, right)
        assert found.difference.equal
        assert classes(found) == {name: reason}
    assert difference([before], [before]).volatile == ()
    other = difference([made(name, b"\1", GUID)], [made(name, b"\2", GUID)])
    assert not other.difference.equal, "of another vendor it is another variable"


def test_attributes_count_even_there():
    left = made("MTC", b"\1\0\0\0", guids.MONOTONIC_COUNTER)
    right = made("MTC", b"\2\0\0\0", guids.MONOTONIC_COUNTER, attributes=3)
    found = difference([left], [right])
    assert [change.what for change in found.difference.changed] == [("attributes", "data")]


def test_a_time_alone_does_not_count():
    def at(year: int, data: bytes = b"list"):
        return made("db", data, guids.IMAGE_SECURITY, timestamp=EfiTime(year, 1, 1).build())

    assert classes(difference([at(2024)], [at(2025)])) == {"db": "timestamp"}
    found = difference([at(2024)], [at(2025, b"other")])
    assert found.volatile == ()
    assert len(found.difference.changed) == 1


def test_options_of_the_firmware_itself_do_not_count():
    own = made("Boot0001", option(IN_FIRMWARE, "Shell"))
    other = made("Boot0001", option(IN_FIRMWARE.replace(GUID.bytes_le, HD_BOOT.bytes_le), "Shell"))
    assert classes(difference([own], [other])) == {"Boot0001": "firmware-option"}
    assert classes(difference([own], [])) == {"Boot0001": "firmware-option"}
    hidden = made("Boot0001", option(IN_FIRMWARE, "Shell", attributes=9))
    assert not difference([own], [hidden]).difference.equal
    disk = made("Boot0001", option(DISK))
    assert not difference([own], [disk]).difference.equal
    assert not difference([disk], []).difference.equal


def test_options_the_boot_manager_makes_from_devices_do_not_count():
    automatic = made("Boot0002", option(DISK, "disk", AUTO_CREATED.bytes_le))
    assert classes(difference([automatic], [])) == {"Boot0002": "device-option"}
    longer = made("Boot0002", option(DISK, "disk", AUTO_CREATED.bytes_le + b"\0"))
    assert difference([longer], []).volatile == ()


def test_the_order_counts_without_the_firmware_s_options():
    shell, disk = made("Boot0001", option(IN_FIRMWARE)), made("Boot0002", option(DISK))
    third = made("Boot0003", option(DISK, "third"))

    def order(*numbers: int):
        return made("BootOrder", b"".join(n.to_bytes(2, "little") for n in numbers))

    found = difference([shell, disk, order(1, 2)], [disk, order(2)])
    assert found.difference.equal
    assert classes(found) == {"Boot0001": "firmware-option", "BootOrder": "option-order"}
    found = difference([disk, third, order(2, 3)], [disk, third, order(3, 2)])
    assert [item.left.name for item in found.difference.changed] == ["BootOrder"]
    assert classes(difference([shell, order(1)], [])) == {
        "Boot0001": "firmware-option", "BootOrder": "option-order",
    }  # fmt: skip
    assert not difference([disk, order(2)], [disk]).difference.equal


def test_a_hot_key_of_the_firmware_s_option_does_not_count():
    def key(checksum: int, number: int, scan: bytes = b"\x17\0\0\0"):
        data = bytes(4) + checksum.to_bytes(4, "little") + number.to_bytes(2, "little") + scan
        return made("Key0000", data)

    shell, disk = made("Boot0001", option(IN_FIRMWARE)), made("Boot0002", option(DISK))
    both = [shell, disk]
    assert classes(difference([*both, key(1, 1)], [*both, key(2, 1)])) == {"Key0000": "hot-key"}
    assert classes(difference([*both, key(1, 1)], both)) == {"Key0000": "hot-key"}
    for other in (key(2, 2), key(1, 1, b"\x0d\0\0\0"), made("Key0000", b"\0" * 5)):
        assert not difference([*both, key(1, 1)], [*both, other]).difference.equal


def test_ignored_variables_are_not_compared():
    found = difference([made("Mine", b"1")], [made("Mine", b"2"), made("Other", b"3")],
                       ignore=["Mi*"])  # fmt: skip
    assert [item.name for item in found.difference.only_right] == ["Other"]
    assert found.difference.changed == ()
    with pytest.raises(UsageError) as caught:
        difference([], [], ignore=["Name:no-guid"])
    assert caught.value.code == "usage.guid"
    with pytest.raises(UsageError):
        compare_variables(side(b"a"), side(b"b"), align(side(b"a"), side(b"b")), ["x:y"])


def test_a_store_that_one_side_has_not():
    image = firmware([made("Mine", b"1")])
    blank = b"\xff" * 0x84000 + image[0x84000:]
    report = compare(side(image, "board"), side(blank, "erased"))
    assert [item.name for item in report.variables.difference.only_left] == ["Mine"]
    assert any("no variable store on the right side (erased)" in note for note in report.notes)
    assert not report.equal
    reverse = compare(side(blank), side(image))
    assert [item.name for item in reverse.variables.difference.only_right] == ["Mine"]


def test_a_store_that_is_left_out_is_not_compared():
    image = firmware([made("Mine", b"1")])
    report = compare(side(image), side(image[0x84000:]))
    assert report.variables.stores == 0
    assert report.equal


# --- what the variables explain -------------------------------------------------------------


def test_how_records_lie_does_not_count():
    first, second = made("One", b"1"), made("Two", b"2")
    dead = made("One", b"old", state=State.DELETED)
    left = firmware([first, second])
    right = firmware([dead, second, first])
    report = compare(side(left), side(right))
    assert report.runs.differing > 0
    assert report.significant == 0
    assert report.equal
    assert not report.identical
    vars_region = report.regions[0]
    assert vars_region.bytes_differing > 0
    assert not vars_region.equal


def test_the_spare_and_the_queue_do_not_count():
    left = firmware([made("One", b"1")])
    used = bytearray(volume_bytes([made("One", b"1")], OVMF_4M,
                                  entries=(entry(OVMF_4M, header=0xF8, record=0xF9),)))  # fmt: skip
    used[0x50000:0x50010] = b"old copy of data"
    report = compare(side(left), side(bytes(used) + left[0x84000:]))
    assert report.runs.differing > 16
    assert report.equal


def test_headers_count():
    left = firmware([made("One", b"1")])
    report = compare(side(left), side(changed(left, 0x2C)))  # attributes of the volume
    assert not report.equal
    assert report.significant == 1


def test_a_pending_write_counts():
    left = firmware([made("One", b"1")])
    pending = bytes(volume_bytes([made("One", b"1")], OVMF_4M,
                                 entries=(entry(OVMF_4M, record=0xFD),)))  # fmt: skip
    report = compare(side(left), side(pending + left[0x84000:], "board"))
    assert report.variables.explained == ()
    assert not report.equal
    assert any("board: a fault-tolerant write is pending" in note for note in report.notes)


def test_everything_counts_when_asked_for():
    left = firmware([made("MTC", b"\1\0\0\0", guids.MONOTONIC_COUNTER)])
    right = firmware([made("MTC", b"\2\0\0\0", guids.MONOTONIC_COUNTER)])
    from hwflash.compare.report import Options

    assert compare(side(left), side(right)).equal
    assert not compare(side(left), side(right), Options(everything=True)).equal
    keys = compare(side(left), side(right)).keys()["variables"]
    assert keys["changed"] == []
    (entry_,) = keys["volatile"]["changed"]
    assert (entry_["name"], entry_["class"]) == ("MTC", "boot-counter")
    assert "counter" in entry_["reason"]
