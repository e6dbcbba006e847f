"""The whole result: what scripts get, the page, the time it takes."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from xml.dom.minidom import parseString

import pytest
from compare.firmware_sides import MIB, changed, firmware, guid, module, side
from support import mostly_slow, pattern
from uefi.volumes import GUID, variable

from hwflash.compare import html
from hwflash.compare.html import HEX_ROWS, REGION_ROWS, render
from hwflash.compare.picture import draw
from hwflash.compare.report import RUNS_TOLD, Options, compare
from hwflash.compare.sides import Side
from hwflash.uefi import guids
from hwflash.uefi.window import Window

HOSTILE = "<script>alert('x')</script>&\"\x1b[31m"
CODE = [module(1, "First", b"one" * 40), module(2, "Second", b"two" * 40)]


def report(left: bytes, right: bytes, *names: str, **options):
    one, other = names or ("left.fd", "right.fd")
    return compare(side(left, one), side(right, other), Options(**options))


# --- data -----------------------------------------------------------------------------------


def test_a_side_and_itself_are_identical():
    image = firmware([variable("Mine")], CODE)
    found = report(image, image)
    assert (found.equal, found.identical) == (True, True)
    keys = json.loads(json.dumps(found.keys()))
    assert keys["equal"] is True
    assert keys["regions"][0] == {
        "name": "vars", "equal": True, "bytes_differing": 0, "bytes_significant": 0,
        "length": 0x40000, "left": 0, "right": 0,
        "description": "UEFI variables, with the volume header",
    }  # fmt: skip
    for part in ("variables", "modules"):
        assert [keys[part][name] for name in ("only_left", "only_right", "changed")] == [[]] * 3
    assert keys["left"]["sha256"] == keys["right"]["sha256"]


def test_keys_of_what_differs():
    left = firmware([variable("Mine", b"1")], CODE)
    right = firmware([variable("Mine", b"2"), variable("New")], CODE[:1])
    keys = json.loads(json.dumps(report(left, right).keys()))
    assert keys["equal"] is False
    assert [item["name"] for item in keys["variables"]["changed"]] == ["Mine"]
    assert [item["name"] for item in keys["variables"]["only_right"]] == ["New"]
    assert [item["name"] for item in keys["modules"]["only_left"]] == ["Second"]
    assert keys["bytes_differing"] == sum(item["bytes_differing"] for item in keys["regions"])
    assert sum(item["bytes_differing"] for item in keys["ranges"]) == keys["bytes_differing"]


def test_a_part_equals_the_whole_as_far_as_it_goes():
    image = firmware([variable("Mine")], CODE)
    found = report(image[:0x84000], image)
    assert (found.equal, found.identical) == (True, False)
    (out,) = found.keys()["left_out"]
    assert (out["side"], out["offset"], out["length"]) == ("right", 0x84000, 0x37C000)
    assert any("left out (fvmain-compact, seccode)" in note for note in found.notes)


def test_more_of_something_unknown_is_a_difference_and_padding_is_none():
    assert not report(b"abc" * 10, b"abc" * 11).equal
    assert report(b"abc" * 10, b"abc" * 10 + b"\xff" * 100).equal
    assert not report(b"", b"abc").equal


def test_parts_that_do_not_meet_are_different():
    image = firmware([variable("Mine")], CODE)
    found = report(image[:0x84000], image[0x84000:])
    assert (found.equal, found.identical) == (False, False)
    assert (found.regions, found.variables.stores, found.modules.level) == ((), 0, "none")
    assert "the two have nothing in common" in found.notes
    assert "≠ Different: nothing of one is in the other" in render(found)


def test_one_region_only():
    image = firmware([variable("Mine", b"1")], CODE)
    other = firmware([variable("Mine", b"2")], CODE[:1])
    found = report(image, other, regions=("seccode",))
    assert found.equal
    assert [item.name for item in found.regions] == ["seccode"]
    found = report(image, other, regions=("vars",))
    assert found.modules.level == "none"
    assert len(found.variables.difference.changed) == 1


def test_what_is_told_is_bounded():
    left = pattern(1 << 16) * 16
    right = bytes(byte ^ (at % 64 == 0) for at, byte in enumerate(left))
    found = report(left, right)
    assert found.runs.total == len(left) // 64
    assert len(found.keys()["ranges"]) == RUNS_TOLD
    assert found.keys()["ranges_total"] == found.runs.total
    assert len(list(found.rows(100))) == 100


def test_rows_are_those_that_differ():
    left = bytes(range(256))
    found = report(left, changed(left, 3, 4, 40, 255))
    rows = list(found.rows(100))
    assert [(row.left_offset, row.skipped) for row in rows] == [
        (0, False), (0x20, True), (0xF0, True),
    ]  # fmt: skip
    assert rows[0].left == left[:16]
    assert rows[0].right[3] == 3 ^ 0xFF
    assert [row.left_offset for row in found.rows(2)] == [0, 0x20]


def test_rows_of_images_that_lie_otherwise():
    image = firmware([], CODE)
    found = report(changed(image, 0x84100)[0x84000:], image)
    (row,) = found.rows(10)
    assert (row.left_offset, row.right_offset) == (0x100, 0x84100)
    assert row.right == image[0x84100:0x84110]


@pytest.mark.slow
@pytest.mark.parametrize("kind", mostly_slow(1, ["scattered", "equal", "random", "erased"]))
def test_16_mib_in_less_than_two_seconds(kind: str):
    image = b"\xff" * (12 * MIB) + firmware([variable("Mine")], CODE)
    other = {
        "equal": image,
        "scattered": changed(image, *range(0, 16 * MIB, 4099)),
        "random": pattern(1 << 16) * 256,
        "erased": b"\xff" * (16 * MIB),
    }[kind]
    begin = time.process_time()
    found = report(image, other)
    found.keys()
    render(found)
    assert time.process_time() - begin < 2.0
    assert found.identical == (kind == "equal")


# --- the page -------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what a page refers to."""

    VOID = frozenset({"meta", "br", "rect", "path", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    left = firmware([variable("Mine", b"1"), variable(HOSTILE, b"<b>bold</b>")], CODE)
    other = [module(1, HOSTILE, b"ONE" * 40), module(3, None, b"three")]
    right = firmware(
        [variable("Mine", b"2"), variable("MTC", b"\1\0\0\0", guids.MONOTONIC_COUNTER)], other
    )
    return render(report(left, right, f"board {HOSTILE}.fd", "reference.fd"))


def test_the_page_needs_nothing_else(page: str):
    found = Page(page)
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(found.tags)
    names = {name for name, _ in found.attributes}
    assert not {"src", "href", "xlink:href", "style", "srcset", "action"} & names
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import|javascript:", page)
    policy = dict(found.attributes)
    assert "content" in policy
    assert "default-src 'none'" in page


def test_what_comes_from_images_is_escaped(page: str):
    assert "<script" not in page
    assert "<b>bold" not in page
    assert "\x1b" not in page
    text = Page(page).text
    assert "<script>alert('x')</script>&\"\\u001b[31m" in text
    assert "<b>bold</b>" in text


def test_the_page_shows_every_kind_of_difference(page: str):
    text = Page(page).text
    assert "≠ Different" in text
    for word in ("Mine", "Second", str(guid(3)), "fvmain-compact", "1 that change by themselves",
                 "the monotonic counter goes up"):  # fmt: skip
        assert word in text
    assert "prefers-color-scheme: dark" in page
    assert re.search(r"<td>[0-9A-F]{6}  .*<b>[0-9a-f]{2}", page)


def test_the_pictures_are_well_formed(page: str):
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 7  # the map, and a bar for each region
    for picture in pictures:
        parseString(picture)  # noqa: S318 - of our own making
    shapes = parseString(pictures[0])  # noqa: S318
    titles = [item.firstChild.data for item in shapes.getElementsByTagName("title")]
    assert sum(title.startswith("vars: 0x000000-0x03FFFF") for title in titles) == 2
    marks = [item for item in shapes.getElementsByTagName("path")
             if item.getAttribute("class") == "mark"]  # fmt: skip
    assert len(marks) == 2


def test_the_map_links_what_belongs_together():
    image = firmware([], CODE)
    drawn = draw(report(image[0x84000:], image))
    assert "0x000000-0x37BFFF of A belongs to 0x084000-0x3FFFFF of B" in drawn


def test_pages_of_anything():
    for left, right in (
        (b"", b""), (b"", b"abc"), (b"a", b"b"), (b"\xff" * 10, b"\xff" * 10),
        (b"abc" * 7, b"abd" * 70),
    ):  # fmt: skip
        Page(render(report(left, right)))
    Page(render(compare(Side("x", Window(b"ab", 0x1000)), Side("y", Window(b"ac", 0x1000)))))


def test_a_page_is_bounded(monkeypatch: pytest.MonkeyPatch):
    noise = pattern(1 << 16) * 64
    text = render(report(noise, noise[::-1]))
    assert len(text) < 400_000
    assert text.count("<tr><td>0") <= HEX_ROWS
    assert f"at most {REGION_ROWS} of a region" in text
    assert "and more rows" in text
    monkeypatch.setattr(html, "ENTRIES", 3)
    many = firmware([variable(f"V{number}", b"x", GUID) for number in range(10)])
    text = Page(render(report(firmware(), many))).text
    assert "and 7 more" in text
    assert "V2" in text
    assert "V9" not in text
