"""JSON Lines by the published schema; progress that does not flood; words on the right stream."""

from __future__ import annotations

import json
from io import StringIO
from itertools import pairwise
from typing import Any

import click
import jsonschema
import pytest
from harness import Bench, validator
from support import pattern

from hwflash.advice import ADVICE
from hwflash.cli.main import COMMANDS, root
from hwflash.cli.output import Console
from hwflash.diagnostics import advice_for, as_lines, chip_state, commands_for
from hwflash.errors import (
    ChipAbsent,
    ChipStateUnknown,
    HwflashError,
    Interrupted,
    ProgrammerBusy,
    UsageError,
)
from hwflash.progress import Progress


def commands() -> dict[str, click.Command]:
    """Every command that takes ``--json``, by the name it has in results."""
    found: dict[str, click.Command] = {}
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        children = command.commands if isinstance(command, click.Group) else {"": command}
        nested = {
            f"{child} {word}": other
            for child, item in children.items()
            for word, other in getattr(item, "commands", {}).items()
        }
        for child, item in {**children, **nested}.items():
            if any("--json" in option.opts for option in item.params):
                found[f"{name} {child}".strip()] = item
    return found


def test_every_command_has_its_place_in_the_schema() -> None:
    result = validator().schema["$defs"]["result"]["else"]
    assert set(result["properties"]["command"]["enum"]) == set(commands())
    assert {item["if"]["properties"]["command"]["const"] for item in result["allOf"]} == set(
        commands()
    )


@pytest.mark.parametrize("name", sorted(commands()))
def test_a_result_needs_the_keys_of_its_command(name: str) -> None:
    """The schema can fail: an empty result of each command is refused."""
    line = {"v": 1, "type": "result", "command": name, "ok": True, "exit_code": 0}
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(line)


@pytest.mark.parametrize(
    "line",
    [
        {"v": 2, "type": "info", "message": "x", "context": {}},
        {"v": 1, "type": "gossip", "message": "x", "context": {}},
        {"v": 1, "type": "info", "context": {}},
        {"v": 1, "type": "progress", "phase": "read", "done": -1, "total": 2, "address": None},
        {"v": 1, "type": "result", "command": "read", "ok": False, "exit_code": 9, "error": {}},
        {"type": "info", "message": "x", "context": {}},
    ],
)
def test_the_schema_refuses(line: dict[str, object]) -> None:
    assert not validator().is_valid(line)


def test_the_lines_of_a_write(small: Bench) -> None:
    small.fill(1)
    image = small.file("x.bin", pattern(small.size, 2))
    lines = small.chip("write", image, "-y", "--json").lines
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "task_begin"
    assert kinds[-1] == "result"
    assert {"progress", "info"} <= set(kinds)
    progress = [line for line in lines if line["type"] == "progress"]
    phases = list(dict.fromkeys(line["phase"] for line in progress))
    assert phases == ["read", "backup", "erase", "plan", "program", "verify"]
    for phase in phases:
        steps = [line for line in progress if line["phase"] == phase]
        assert steps[-1]["done"] == steps[-1]["total"]
        assert all(one["done"] < other["done"] for one, other in pairwise(steps))
        assert len(steps) <= 12


@pytest.mark.parametrize("json_lines", [True, False])
def test_phases_that_take_turns_do_not_flood(json_lines: bool) -> None:
    """A plan of many blocks erases and programs by turns: a line per tenth, not per block."""
    out, err = StringIO(), StringIO()
    console = Console("write", json_lines=json_lines, out=out, err=err)
    for block in range(1, 1001):
        console.progress(Progress("erase", block, 1000, block))
        console.progress(Progress("program", block, 1000, block))
    said = (out if json_lines else err).getvalue().splitlines()
    assert 20 <= len(said) <= 26
    assert sum("erase" in line for line in said) == len(said) / 2


def test_a_slow_phase_says_something_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    err = StringIO()
    now = [0.0]
    monkeypatch.setattr("hwflash.cli.output.time.monotonic", lambda: now[0])
    console = Console("read", json_lines=False, out=StringIO(), err=err)
    for second in range(61):
        now[0] = float(second)
        console.progress(Progress("read", second, 10_000, None))
    assert 12 <= err.getvalue().count("\n") <= 14


def test_talk_and_data_go_their_ways(small: Bench) -> None:
    small.fill(1)
    image = small.file("x.bin", pattern(small.size, 2))
    answer = small.chip("write", image, "-y")
    assert "%" not in answer.out
    assert "%" in answer.err
    assert "backup: " in answer.err
    assert answer.out.count("\n") == 3


def test_debugging_shows_where_an_error_came_from(
    small: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HWFLASH_DEBUG", "1")
    with pytest.raises(AssertionError, match="Traceback"):  # the harness minds
        small.run("chips", "show", "nope")


def test_an_error_nobody_thought_of(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("hwflash.chip.catalog.load", explode)
    answer = small.json("chips", "list")
    assert (answer.code, answer.error["code"]) == (70, "internal")
    assert "boom" in answer.error["message"]
    assert "report" in answer.error["hint"]


# --- diagnostics --------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(ADVICE))
def test_advice_has_both_halves(code: str) -> None:
    assert advice_for(code).blame
    assert advice_for(code).hint
    assert advice_for(f"{code}.something-new") == advice_for(code)


def test_advice_for_a_code_nobody_knows() -> None:
    assert "report" in advice_for("xyzzy.plugh").hint


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UsageError("x"), "nothing was changed"),
        (Interrupted(), "nothing was changed"),
        (ChipAbsent("x"), "nothing was changed"),
        (ProgrammerBusy("x"), "nothing was changed"),
        (ChipStateUnknown("x"), "the chip is in an unknown state"),
        (HwflashError("x"), "the chip was not being written"),
    ],
)
def test_what_is_said_of_the_chip(error: HwflashError, said: str) -> None:
    assert chip_state(error) == said
    assert f"  chip: {said}" in as_lines(error)


def test_printed_commands_can_be_pasted() -> None:
    hostile: dict[str, Any] = {
        "programmer": "sim://w25q80?image=it's here",
        "options": ["-b", "a board; rm -rf x.toml"],
        "resume": "20260101-000000-abcdef",
        "backup": "/some where/$HOME.bin",
    }
    found = commands_for(ChipStateUnknown("x", **hostile))
    import shlex

    assert shlex.split(found["resume"]) == [
        "hwflash", "write", "-p", hostile["programmer"], *hostile["options"],
        "--resume", hostile["resume"],
    ]  # fmt: skip
    assert shlex.split(found["restore"])[-2:] == ["--restore", hostile["backup"]]
    assert "resume" in commands_for(ChipAbsent("x", **hostile)), "a resume that could not begin"
    del hostile["resume"]
    assert commands_for(ChipAbsent("x", **hostile)) == {}


def test_places_are_ranges_for_people() -> None:
    places = [{"address": 0xF0000, "length": 0x10000}, {"address": 0, "length": 0x1000}]
    lines = as_lines(HwflashError("no", code="chip.protected", ranges=places))
    assert "  where: ranges=0x0F0000-0x0FFFFF 0x000000-0x000FFF" in lines


def test_context_becomes_json(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console("probe", json_lines=True)
    console.failure(
        HwflashError("x", code="a.b", raw=b"\x01", many={1: {2}}, odd=object(), none=None)
    )
    context = json.loads(capsys.readouterr().out)["error"]["context"]
    assert context["raw"] == "01"
    assert context["many"] == {"1": [2]}
    assert context["none"] is None
    assert isinstance(context["odd"], str)
