"""Runs of pytest in processes of their own, as an author of bench scripts has them."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import pattern

#: 256 KiB, without a unique id: quick.
SMALL = "p25q21h"
SIZE = 256 * 1024


@dataclass
class Answer:
    """What a run of pytest said."""

    counts: dict[str, int]
    text: str
    code: int
    cases: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


class Desk:
    """A folder with bench scripts, and a simulated chip whose content is in a file."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.folder = pytester.path
        self.image = self.folder / "chip.bin"
        self.state = self.folder / "state"

    def url(self, part: str = SMALL, **options: object) -> str:
        query = "".join(f"&{name}={value}" for name, value in options.items())
        return f"sim://{part}?image={self.image}{query}"

    def fill(self, size: int = SIZE, seed: int = 1) -> bytes:
        self.image.write_bytes(pattern(size, seed))
        return self.image.read_bytes()

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def protect(self, register: int) -> None:
        """Change the non-volatile status register, as another tool might have."""
        path = self.image.with_name(f"{self.image.name}.state.json")
        state = json.loads(path.read_text())
        state["registers"]["1"] = register
        path.write_text(json.dumps(state))

    def run(self, script: str, *words: str, programmer: str | None = "") -> Answer:
        """Run a script; an empty programmer is the chip in `image`, None is none."""
        self.pytester.makepyfile(test_bench=script)
        options = [] if programmer is None else [f"--hwflash-programmer={programmer or self.url()}"]
        junit = self.folder / "junit.xml"
        done = self.pytester.runpytest_subprocess(
            "-p", "hwflash.testing.plugin", "-p", "no:cacheprovider", "-W", "error",
            "--strict-markers", f"--junitxml={junit}", *options, *words, timeout=120,
        )  # fmt: skip
        text = done.stdout.str() + done.stderr.str()
        counts = done.parseoutcomes() if done.ret in (0, 1) and " in " in done.outlines[-1] else {}
        return Answer(counts, text, int(done.ret), properties(junit) if junit.exists() else {})


def properties(junit: Path) -> dict[str, list[tuple[str, str]]]:
    """The properties of each test in a JUnit file."""
    root = ET.fromstring(junit.read_text())  # noqa: S314 - written by pytest a moment ago
    return {
        str(case.get("name")): [
            (str(item.get("name")), str(item.get("value"))) for item in case.iter("property")
        ]
        for case in root.iter("testcase")
    }


def section(text: str, name: str) -> str:
    """A part of what pytest printed, up to the next ruler."""
    found = re.search(rf"^[-=_]+ {re.escape(name)} [-=_]+\n(.*?)(?=^[-=_]{{5}})", text, re.M | re.S)
    assert found, text
    return found[1]
