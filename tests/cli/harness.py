"""A technician at the command line: runs commands in this process and judges their manners."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from support import pattern

from hwflash.chip import catalog
from hwflash.cli.main import main

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "docs" / "output.schema.json"
KIB = 1024
#: Commands that have to do with no chip say nothing of its state.
NO_CHIP = ("list", "doctor", "bench", "completion", "chips", "boards", "qemu", "history", "tui")


@cache
def validator() -> Any:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    data: bytes
    err: str

    @property
    def out(self) -> str:
        return self.data.decode()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def result(self) -> dict[str, Any]:
        return self.lines[-1]

    @property
    def error(self) -> dict[str, Any]:
        return self.result["error"]

    def printed(self, name: str) -> list[str]:
        """The words of a command that an error printed, without ``hwflash`` itself."""
        found = re.search(rf"^  {name}: (hwflash .*)$", self.err, re.MULTILINE)
        assert found, self.err
        return shlex.split(found[1])[1:]


class FakeTerminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


class _Pipe(io.TextIOWrapper):
    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", newline="")


class Bench:
    """A folder with a chip in it.

    Attributes:
        folder: where files are made.
        part: the chip.
        image: the file that holds the simulated chip's content.
    """

    def __init__(self, folder: Path, part: str = "w25q80") -> None:
        self.folder = folder
        self.part = part
        self.image = folder / "chip of the board.bin"  # a space: printed commands must quote
        self.size = catalog.load().by_name(part).chip.size

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def registers(self) -> Path:
        return Path(f"{self.image}.state.json")

    def url(self, **options: object) -> str:
        options = {"image": self.image, **options}
        return f"sim://{self.part}?" + "&".join(f"{key}={value}" for key, value in options.items())

    def fill(self, content: bytes | int = 1) -> bytes:
        """Give the chip content; a number is the seed of a pattern."""
        data = pattern(self.size, content) if isinstance(content, int) else content
        assert len(data) == self.size
        self.image.write_bytes(data)
        return data

    @property
    def content(self) -> bytes:
        return self.image.read_bytes()

    def set_registers(self, values: dict[int, int]) -> None:
        """Change non-volatile status registers, as another tool might have."""
        if not self.registers.exists():
            self.run("probe", "-p", self.url())
        state = json.loads(self.registers.read_text())
        for number, value in values.items():
            assert str(number) in state["registers"]
            state["registers"][str(number)] = value
        self.registers.write_text(json.dumps(state))

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(
        self, *words: object, stdin: bytes | None = None, typed: str | None = None,
        binary: bool = False,
    ) -> Answer:  # fmt: skip
        """Run a command; ``typed`` is what a person at a terminal answers."""
        out, err = _Pipe(), _Pipe()
        before = sys.stdin
        sys.stdin = FakeTerminal(typed) if typed is not None else _Pipe(stdin or b"")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main([str(word) for word in words])
                except SystemExit as exc:
                    code = exc.code
        finally:
            sys.stdin = before
        out.flush()
        err.flush()
        answer = Answer(int(code or 0), out.buffer.getvalue(), err.buffer.getvalue().decode())
        said = tuple(map(str, words))
        _check_manners(answer, said, binary=binary, json_lines="--json" in said)
        return answer

    def chip(self, command: str, *words: object, url: str | None = None, **options: Any) -> Answer:
        """Run a command on the simulated chip."""
        return self.run(command, *words, "-p", url or self.url(), **options)

    def json(self, *words: object, **options: Any) -> Answer:
        return self.run(*words, "--json", **options)


def nvram_board(bench: Bench, nvram: str) -> str:
    """A board file of the chip, with this in its ``[nvram]``; the SOURCE that names it."""
    text = f"""
name = "bench"
description = "a board for tests"
[flash]
size = "1M"
[programmer]
url = "{bench.url()}"
[nvram]
{nvram}
"""
    return f"board:{bench.file('bench.toml', text)}"


def _check_manners(
    answer: Answer, words: tuple[str, ...], *, binary: bool, json_lines: bool
) -> None:
    assert "\x1b" not in answer.err, "no colours without a terminal"
    assert "\r" not in answer.err
    assert "Traceback" not in answer.err
    if binary:
        return
    assert "\x1b" not in answer.out
    assert "\r" not in answer.out
    if json_lines:
        assert answer.err == "", "with --json everything is on stdout"
        check_json(answer)
    elif answer.code not in (0, 1):
        assert answer.out == "", "errors are talk"
        if not answer.err.startswith("Usage:"):
            assert re.search(
                r"(^|now\? \[y/N\]: |Type \S+ to do it: )error: .*\S \[[a-z.-]+\]$",
                answer.err,
                re.MULTILINE,
            ), answer.err
            assert re.search(r"^hint: \S", answer.err, re.MULTILINE), answer.err
            said = re.search(r"^  chip: \S", answer.err, re.MULTILINE)
            assert bool(said) == (words[0] not in NO_CHIP), answer.err


def check_json(answer: Answer) -> None:
    """JSON Lines: schema-valid, one result, at the end, that agrees with the exit code."""
    kinds = [line["type"] for line in answer.lines]
    assert kinds.count("result") == 1
    assert kinds[-1] == "result"
    for line in answer.lines:
        fault = jsonschema.exceptions.best_match(validator().iter_errors(line))
        assert fault is None, f"{fault.json_path}: {fault.message[:300]}"
    assert answer.result["exit_code"] == answer.code
    assert answer.result["ok"] == (answer.code == 0)


HWFLASH = [sys.executable, "-c", "from hwflash.cli.main import main; main()"]


@contextmanager
def serving(kind: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A server, and its lines up to the one that says where it listens."""
    process = subprocess.Popen(
        [*HWFLASH, "serve", kind, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        while not lines or f"{kind}://" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        yield process, lines
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    return out, err
