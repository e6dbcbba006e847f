"""The main jobs against recorded traffic: what reaches the chip changes only on purpose.

See ``tests/data/traces/README.md`` for how to record anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import pattern

from hwflash.cli.main import main
from hwflash.units import KIB

TRACES = Path(__file__).parents[1] / "data" / "traces"
RECORD = "HWFLASH_RECORD_TRACES" in os.environ


@dataclass(frozen=True)
class Job:
    """A command on a chip; ``content`` is what the chip begins with, padded with FF."""

    name: str
    part: str
    words: tuple[str, ...]
    content: bytes = b""
    data: bytes = b""


JOBS = [
    Job("probe-w25q128jv", "w25q128jv", ("probe",)),
    Job("probe-mx25l25645g", "mx25l25645g", ("probe",)),
    Job("read-w25q256jv", "w25q256jv", ("read", "--range", "0x1ff0000:4K", "OUT")),
    Job(
        "write-blank-w25q128jv", "w25q128jv",
        ("write", "--yes", "--at", "0x1080", "DATA"), data=pattern(400),
    ),
    Job(
        "write-one-byte-w25q80", "w25q80",
        ("write", "--yes", "--at", "0x2010", "DATA"), pattern(16 * KIB), b"\x5a",
    ),
    Job("write-sst26vf016b", "sst26vf016b", ("write", "--yes", "--at", "0", "DATA"), data=b"boot"),
    Job("erase-mt25ql256aba", "mt25ql256aba", ("erase", "--yes", "--range", "0x1000000:64K"),
        b"\0" * 4 * KIB),
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., Any]:
    def command(job: Job, url: str, state: str) -> Any:
        """The last line of the job, run in a state directory of its own."""
        monkeypatch.setenv("HWFLASH_STATE_DIR", str(tmp_path / state))
        (tmp_path / "DATA").write_bytes(job.data)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit):
            main([*job.words, "-p", url, "--json"])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return command


def simulated(job: Job, folder: Path) -> str:
    from hwflash.chip import catalog

    size = catalog.load().by_name(job.part).chip.size
    image = folder / "chip.bin"
    image.write_bytes(job.content.ljust(size, b"\xff"))
    return f"sim://{job.part}?image={image}&timing=datasheet"


def without_times(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("time", None)
    return lines


@pytest.mark.parametrize("job", JOBS, ids=[job.name for job in JOBS])
def test_what_reaches_the_chip(job: Job, run: Callable[..., Any], tmp_path: Path) -> None:
    kept = TRACES / f"{job.name}.jsonl"
    fresh = kept if RECORD else tmp_path / "fresh.jsonl"
    url = simulated(job, tmp_path)
    result = run(job, f"record+{url}&trace={fresh}", "first")
    assert result["ok"], result
    assert without_times(fresh) == without_times(kept)

    again = run(job, f"replay://{kept}", "second")
    assert again["ok"], again
    for key in ("jedec_id", "part", "sha256", "changed", "protection", "unique_id"):
        assert again.get(key) == result.get(key)


def test_no_trace_without_a_job() -> None:
    assert {path.stem for path in TRACES.glob("*.jsonl")} == {job.name for job in JOBS}
    assert sum(path.stat().st_size for path in TRACES.iterdir()) < 200_000


def test_another_job_is_a_difference(run: Callable[..., Any], tmp_path: Path) -> None:
    """The error names line and operations, says that nothing was changed, and what to do."""
    job = JOBS[3]
    other = Job(job.name, job.part, job.words, data=job.data[:-1] + b"\0")
    result = run(other, f"replay://{TRACES / job.name}.jsonl", "state")
    error = result["error"]
    cause = error["context"].get("cause", error["code"])
    assert cause == "trace.mismatch"
    assert "record" in error["hint"]
    assert "line " in json.dumps(error)


def test_a_trace_must_be_named(run: Callable[..., Any]) -> None:
    for url in ("record+sim://w25q80", "record+sim://w25q80?trace=", "record+record+sim://x?trace=a",
                "replay://", "replay://file?frequency=1M"):  # fmt: skip
        error = run(JOBS[0], url, "state")["error"]
        assert error["code"] in ("usage.url", "usage.url-option")


def test_a_trace_that_cannot_be_written(run: Callable[..., Any]) -> None:
    error = run(JOBS[0], "record+sim://w25q80?trace=/nowhere/trace.jsonl", "state")["error"]
    assert error["code"] == "trace.unwritable"
