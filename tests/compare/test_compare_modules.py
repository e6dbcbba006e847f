from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest
from compare.firmware_sides import (
    DRIVER,
    FREEFORM,
    PAD,
    PE32,
    RAW,
    changed,
    compressed,
    file,
    firmware,
    guid,
    module,
    section,
    side,
    volume,
)

from hwflash.compare import modules, unpack, unpacker
from hwflash.compare.modules import compare_modules, match
from hwflash.compare.report import compare
from hwflash.compare.sides import align
from hwflash.compare.unpack import Module, Unpacked
from hwflash.errors import Interrupted
from hwflash.progress import CancelToken

CODE = [module(1, "First", b"one" * 40), module(2, "Second", b"two" * 40)]


def difference(left: bytes, right: bytes, **options):
    one, other = side(left, "left"), side(right, "right")
    return compare_modules(one, other, align(one, other), **options)


def names(items) -> list[str]:
    return [item.label for item in items]


def unpacked(data: bytes) -> Unpacked:
    ((found,),) = unpack.unpack([[data]])
    return found


# --- unpacking ------------------------------------------------------------------------------


def test_files_of_a_volume_are_its_modules():
    found = unpacked(volume([*CODE, file(guid(9), PAD, b"\xff" * 40)]))
    assert found.fault == ""
    assert [(item.guid, item.name) for item in found.modules] == [
        (str(guid(1)), "First"), (str(guid(2)), "Second"),
    ]  # fmt: skip
    first = found.modules[0]
    assert (first.sections[0].kind, first.sections[0].size) == ("PE32 image", 120)
    assert first.volume == ()


def test_a_compressed_volume_is_looked_into():
    found = unpacked(volume([compressed(volume(CODE, 0x1000))]))
    assert names(found.modules) == ["First", "Second"]
    assert found.modules[0].volume == ("volume",)


def test_a_deleted_file_is_no_module():
    gone = file(guid(3), DRIVER, section(PE32, b"old"), state=0x1F)
    assert names(unpacked(volume([gone, *CODE])).modules) == ["First", "Second"]


def test_padding_of_sections_does_not_count():
    def made(fill: bytes) -> bytes:
        body = section(RAW, fill) + section(PE32, b"code" * 10)
        return volume([file(guid(1), DRIVER, body)])

    one, other = unpacked(made(b"\0" * 4)), unpacked(made(b"\0" * 40))
    assert one.modules[0].sha256 == other.modules[0].sha256
    assert one.modules[0].size != other.modules[0].size
    raw = [unpacked(volume([file(guid(1), FREEFORM, section(RAW, fill))])) for fill in (b"a", b"b")]
    assert raw[0].modules[0].sha256 != raw[1].modules[0].sha256


def test_what_lies_behind_a_damaged_file_is_said():
    broken = bytearray(volume([*CODE, module(3, "Third", b"x")]))
    at = broken.index(guid(3).bytes_le)
    broken[at + 20 : at + 23] = b"\x05\0\0"
    found = unpacked(bytes(broken))
    assert names(found.modules) == ["First", "Second"]
    assert "damaged or large file" in found.fault


def test_a_volume_without_modules():
    assert unpacked(volume([])) == Unpacked(())
    garbage = bytearray(volume([]))
    garbage[0x48:0x100] = bytes(0xB8)
    found = unpacked(bytes(garbage))
    assert found.modules is None
    assert found.fault


def test_a_section_that_does_not_unpack_is_said():
    good = volume([compressed(volume(CODE, 0x1000)), *CODE])
    found = unpacked(changed(good, 0x48 + 24 + 24 + 13 + 8))
    assert "does not unpack" in found.fault
    assert {"First", "Second"} <= set(names(found.modules))


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"_FVH" * 400, volume([])[:0x40]],
                         ids=["empty", "erased", "signatures", "cut"])  # fmt: skip
def test_no_volume_is_no_traceback(data: bytes):
    found = unpacked(data)
    assert not found.modules
    assert bool(found.fault) == (found.modules is None)


def test_any_damage_ends_in_an_answer():
    """Bytes of a real structure inverted one by one: the process answers each."""
    good = volume([compressed(volume(CODE, 0x1000)), *CODE], 0x2000)
    batch = [changed(good, place) for place in range(0x48, 0x48 + 200, 3)]
    (found,) = unpack.unpack([batch])
    assert len(found) == len(batch)
    assert all(item.modules is not None or item.fault for item in found)
    assert sum(item.modules is not None for item in found) > len(batch) // 2


# --- a package that does not do what it should ----------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts another package of that name in front of the real one, for the process."""

    def make(code: str, top: str = "") -> None:
        folder = tmp_path / "uefi_firmware"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        body = textwrap.indent(textwrap.dedent(code).strip(), " " * 8)
        (folder / "uefi.py").write_text(
            f"import os, sys, time\n{top}\n"
            "class FirmwareVolume:\n"
            "    firmware_filesystems = ()\n"
            "    valid_header = True\n"
            "    def __init__(self, data): self.data = data\n"
            f"    def process(self):\n{body}\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


@pytest.mark.slow
def test_a_package_that_never_ends_is_ended(package):
    package("while self.data[0] == 1: pass")
    begin = time.monotonic()
    ((first, second, third),) = unpack.unpack([[b"\xff", b"\1", b"\xff"]], seconds=1.5)
    assert time.monotonic() - begin < 10
    assert first == Unpacked(())  # what it had done counts
    assert second == third == Unpacked(None, "not unpacked after 1.5 s")


def test_what_a_package_prints_goes_nowhere(package, capfd: pytest.CaptureFixture[str]):
    package("""
        print("hello")
        os.write(1, b"world")
        os.write(2, b"noise")
        sys.stderr.write("more")
    """)
    done = Unpacked(())
    assert unpack.unpack([[b"\xff"], [b"\xff", b"\xff"]]) == [[done], [done, done]]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("raise KeyError('x')", "KeyError while it was unpacked"),
        ("self.process()", "RecursionError while it was unpacked"),
        ("bytearray(1 << 40)", "MemoryError while it was unpacked"),
        ("os.kill(os.getpid(), 11)", "the unpacking process ended with status -11"),
        ("os._exit(3)", "the unpacking process ended with status 3"),
        ("raise SystemExit(4)", "the unpacking process ended with status 4"),
    ],
)
def test_a_package_that_fails_costs_only_the_volume(package, code: str, fault: str):
    package(code)
    ((found,),) = unpack.unpack([[b"x"]])
    assert found == Unpacked(None, fault)


def test_a_package_that_does_not_load(package):
    package("pass", top="raise ImportError('no decompressor')")
    ((one, other),) = unpack.unpack([[b"x", b"y"]])
    assert one == other
    assert one.modules is None
    assert one.fault.endswith("does not load: ImportError: no decompressor")


def test_a_stop_ends_the_process(package, monkeypatch: pytest.MonkeyPatch):
    package("time.sleep(60)")
    started: list[unpack._Worker] = []
    make = unpack._Worker.__init__

    def note(self, batch) -> None:
        started.append(self)
        make(self, batch)

    monkeypatch.setattr(unpack._Worker, "__init__", note)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Interrupted):
        unpack.unpack([[b"x"]], cancel=token)
    assert not started[0].running


def test_a_cut_off_answer_is_read_up_to_its_end():
    assert list(unpacker.lines(['{"a": 1}', '{"b": ', '{"c": 3}'])) == [{"a": 1}]


# --- comparing ------------------------------------------------------------------------------


def test_changed_and_missing_modules_are_named():
    other = [module(1, "First", b"ONE" * 40), module(3, "Third", b"three")]
    found = difference(firmware(code=CODE), firmware(code=other))
    assert found.level == "modules"
    assert names(found.only_left) == ["Second"]
    assert names(found.only_right) == ["Third"]
    (change,) = found.changed
    assert (change.left.label, change.what) == ("First", ("PE32 image",))
    assert found.only_left[0].volume == ("volume",)
    keys = found.keys()
    assert keys["changed"][0]["left"]["sections"][0]["size"] == 120
    assert keys["only_right"][0]["guid"] == str(guid(3))


def test_modules_that_only_moved_are_equal():
    found = difference(firmware(code=CODE), firmware(code=CODE[::-1]))
    assert found.equal
    assert found.level == "modules"


def test_equal_volumes_are_not_unpacked(monkeypatch: pytest.MonkeyPatch):
    batches = []

    def spy(wanted, *_):
        batches.extend(wanted)
        return [[] for _ in wanted]

    monkeypatch.setattr(modules, "unpack", spy)
    image = firmware(code=CODE)
    found = difference(image, changed(image, 0x100))
    assert found.level == "none"
    assert [list(batch) for batch in batches] == [[], []]


def test_without_the_package_volumes_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpack, "find_spec", lambda _: None)
    image = firmware(code=CODE)
    found = difference(image, firmware(code=CODE[:1]))
    assert found.level == "volumes"
    (change,) = found.changed
    assert change.left.kind == "volume"
    assert change.left.size == 0x348000
    assert change.what == ("content",)
    assert all("uefi-firmware is not installed" in note for note in found.notes)
    assert len(found.notes) == 2


@pytest.mark.slow
def test_what_was_not_reached_is_not_told_as_missing():
    inner = compressed(volume([module(5, "Fifth", b"five")], 0x1000))
    image = firmware(code=[inner, *CODE])
    damaged = changed(image, 0x84048 + 24 + 24 + 13 + 8)
    found = difference(image, damaged)
    assert found.level == "volumes"
    assert (found.only_left, found.only_right) == ((), ())
    assert [(item.left.label, item.left.kind) for item in found.changed] == [("volume", "volume")]
    assert any("does not unpack" in note for note in found.notes)
    other = damaged.replace(b"two" * 40, b"TWO" * 40)
    assert names(item.left for item in difference(image, other).changed) == ["Second", "volume"]


def test_a_volume_that_one_side_lost():
    image = firmware(code=CODE, last=module(7, "Sec", b"sec"))
    blank = image[:0x3CC000].ljust(len(image), b"\xff")
    found = difference(image, blank)
    assert [(item.kind, item.size) for item in found.only_left] == [("volume", 0x34000)]
    assert found.only_right == ()


def test_a_part_brings_no_modules_of_the_rest():
    image = firmware(code=CODE)
    assert difference(image[:0x84000], image).level == "none"


def test_several_modules_of_one_guid():
    def made(content: str, where: str) -> Module:
        return Module("g", None, "driver", 1, content, (where,))

    changes, lefts, rights = match(
        [made("1", "PEI"), made("2", "DXE"), made("3", "DXE")],
        [made("4", "DXE"), made("1", "DXE"), made("5", "PEI"), made("6", "PEI")],
    )
    assert [(item.left.sha256, item.right.sha256) for item in changes] == [("2", "4"), ("3", "5")]
    assert lefts == []
    assert [item.sha256 for item in rights] == ["6"]


def test_names_from_images_are_made_printable():
    left = firmware(code=[module(1, "A\x1b[2J", b"one")])
    report = compare(side(left), side(firmware(code=[module(1, "A\x1b[2J", b"two")])))
    assert report.modules.changed[0].left.label == "A\\u001b[2J"
