"""Chips in words, and what a chip file may say of odd ones."""

import pytest

from hwflash.chip import catalog, chipfile, words
from hwflash.chip.model import Chip
from hwflash.errors import ImageError

ODD = {
    "W25Q256FV": ("only the reads have 4-byte commands", "entered by B7h"),
    "N25Q256A": ("entered by 06h B7h", "chip erase C7h"),
    "MT25QL01G": ("2 dies of 64 MiB", "C4h erases one", "no chip erase", "13h, 0Ch, 12h"),
    "W25M512JV": ("2 dies of 32 MiB", "selected by C2h"),
    "W25Q01JV": ("2 dies of 64 MiB", "whose status register"),
    "S25FL512S": ("pages of 512 bytes", "256 KiB at least"),
    "SST26VF064B": ("other ones at the start and at the end", "3 bytes"),
    "S25HS01GT": ("4 KiB to 256 KiB", "other ones at the start"),
    "EN25B16T": ("other ones at the end", "4 KiB to 64 KiB"),
    "SST25VF016B": ("auto address increment (ADh)", "chip erase 60h", "one die"),
    "SST25VF512A": ("auto address increment (AFh)",),
}


def told(chip: Chip) -> str:
    ways = (
        words.addressing_words, words.programming_words, words.dies_words, words.erase_words,
    )  # fmt: skip
    return "; ".join(way(chip) for way in ways)


def test_odd_chips_in_words() -> None:
    library = catalog.load()
    for part, texts in ODD.items():
        shown = told(library.by_name(part).chip)
        for text in texts:
            assert text in shown, (part, shown)


FILE = """
maker = "Example"
[part.X]
jedec_id = "ab4017"
size = "32M"
page_size = 256
erase.64K = {{ opcode = 0xD8, ms = [150, 2000] }}
page_program_ms = [0.4, 3]
addressing = {{ enter = "ear" }}
status.write_ms = [10, 15]
datasheet = "none"
{more}
"""


@pytest.mark.parametrize(
    ("more", "place", "text"),
    [
        ('programming = "aai-word"', "programming", "pages of one byte"),
        ('programming = "words"', "programming", "'aai-word'"),
        ("dies = { count = 3 }", "dies.count", "power of two"),
        ("dies = { count = 0 }", "dies.count", "greater than or equal to 1"),
        ('dies = { count = 1, access = "select" }', "dies.count", "one die needs neither"),
        ("dies = { count = 2, erase = { opcode = 0xC4 } }", "dies.erase.s", "required"),
        ("id_command = 0xAB", "id_command", "159"),
        ("status.power_up = 300", "status.power_up", "255"),
    ],
)
def test_faults_of_a_chip_file(more: str, place: str, text: str) -> None:
    with pytest.raises(ImageError) as caught:
        chipfile.parse(FILE.format(more=more), "x.toml")
    faults = dict(caught.value.context["faults"])
    assert text in faults[f"part.X.{place}"], faults


def test_a_die_that_is_selected_needs_only_its_own_addresses() -> None:
    text = FILE.replace('addressing = {{ enter = "ear" }}', "").format(
        more='dies = { count = 2, access = "select" }'
    )
    part = chipfile.parse(text, "x.toml")[0]
    assert words.addressing_words(part.chip) == "3 bytes"
    with pytest.raises(ImageError, match="a way to take 4-byte addresses"):
        chipfile.parse(text.replace("select", "status"), "x.toml")
