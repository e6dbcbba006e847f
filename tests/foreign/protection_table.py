"""Protection of six families as hwflash and as flashrom tell it: docs/protection-flashrom.md.

``python tests/foreign/protection_table.py`` sets a range by flashrom, another by hwflash, and
writes down what both then say of the chip.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serving import ServedPart
from test_flashrom_serprog import PROTECTED, Flashrom

PAGE = Path(__file__).parents[2] / "docs" / "protection-flashrom.md"
#: A part of each family, with a range for flashrom and one for us.
FAMILIES = {
    "W25Q128JV": ("0x8000,0xFF8000", "0xFC0000:256K"),
    "W25Q256JV": ("0x0,0x10000", "0x1F00000:1M"),
    "GD25Q64C": ("0x0,0x7FF000", "0x7E0000:128K"),
    "GD25LQ128D": ("0x4000,0xFFC000", "0:8M"),
    "S25FL128L": ("0x0,0x40000", "0xF00000:1M"),
    "XM25QH128C": ("0xC00000,0x400000", "0:256K"),
}
HEAD = """# Protection, beside flashrom

Six families on the simulated programmer. The first range was set by flashrom (`--wp-range`) and is
told by both; the second by `hwflash protect set`. flashrom reaches the same chip through
`hwflash serve serprog`. Made by `python tests/foreign/protection_table.py`;
`tests/foreign/test_flashrom_serprog.py` compares every setting of fourteen parts.
"""


def ours(*words: str) -> str:
    """What ``hwflash protect`` prints."""
    from hwflash.cli.main import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(["protect", *words])
    return out.getvalue().rstrip()


def theirs(flashrom: Flashrom, name: str) -> str:
    """What flashrom says of the protection, without the rest."""
    lines = flashrom.ok(name, "--wp-status").splitlines()
    return "\n".join(line for line in lines if line.startswith("Protection "))


def sections(folder: Path) -> Iterator[str]:
    """The page, part by part."""
    yield HEAD
    names = dict(PROTECTED)
    for part, (first, second) in FAMILIES.items():
        served = ServedPart(part)
        try:
            flashrom = Flashrom(served, folder)
            where = ("-p", served.url, "-c", part, "--allow-voltage")
            flashrom.ok(names[part], "--wp-range", first)
            told = [(f"flashrom --wp-range {first}", ours("status", *where))]
            told[0] = (*told[0], theirs(flashrom, names[part]))
            ours("set", second, "--yes", *where)
            told.append((
                f"hwflash protect set {second}", ours("status", *where),
                theirs(flashrom, names[part]),
            ))  # fmt: skip
        finally:
            served.close()
        yield f"\n## {part}\n"
        for command, mine, their in told:
            yield f"\nAfter `{command}`:\n\n```\n{mine}\n```\n\n```\n{their}\n```\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PAGE.write_text("".join(sections(Path(scratch))), encoding="utf-8")
    sys.stderr.write(f"{PAGE}\n")
