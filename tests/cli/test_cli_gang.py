"""Several programmers at the command line: tables, JSON, one question, numbers never twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from harness import HWFLASH, Bench
from support import pattern

from hwflash.jobs.serials import SerialStore

#: Every command starts processes.
pytestmark = pytest.mark.slow

JOB = """
[job]
name = "gizmo"
on_failure = "go-on"
[[bytes]]
at = 0
length = 8
string = "{serial}"
[serial]
source = "counter"
format = "SN{n:04}"
start = 1
policy = "reuse"
"""


@pytest.fixture
def image(bench: Bench) -> Path:
    return bench.file("fw.bin", pattern(1 << 14, 5))


def url(name: str = "chip-{n}", **more: object) -> str:
    return f"sim://w25q80?image={name}.bin&seed={{n}}" + "".join(
        f"&{key}={value}" for key, value in more.items()
    )


def test_standard_streams_that_are_closed(bench: Bench, image: Path) -> None:
    words = [*HWFLASH, "write", str(image), "--at", "0", "-p", url(), "--count", "2", "--yes"]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], timeout=60)
    assert done.returncode == 0
    assert bench.run("verify", image, "--at", 0, "-p", url(), "--count", 2).code == 0


def test_chips_with_one_unique_id_do_not_share_a_file(bench: Bench) -> None:
    old = [bench.file(f"{n}.bin", pattern(1 << 20, n)).read_bytes() for n in (1, 2)]
    programmers = [word for n in (1, 2) for word in ("-p", f"sim://w25q80?image={n}.bin")]
    answer = bench.json("read", "made-{uid}.bin", *programmers)
    assert answer.code == 2
    errors = [unit.get("error") for unit in answer.result["units"]]
    assert [error["code"] for error in errors if error] == ["gang.same-file"]
    (made,) = bench.folder.glob("made-*.bin")
    assert made.read_bytes() == old[errors.index(None)]


def test_write_verify_and_read_of_several(bench: Bench, image: Path) -> None:
    report = bench.folder / "r.html"
    words = ["-p", url(), "--count", 2]
    at = ["--at", 0, *words]
    declined = bench.run("write", image, *at, "--all-or-nothing", typed="n\n")
    assert declined.code == 130
    assert declined.err.count("[y/N]") == 1
    assert "Write to 2 chips" in declined.err
    assert "chip: 2 unchanged" in declined.err
    answer = bench.json("write", image, *at, "--yes", "--report", report)
    assert answer.code == 0
    first, second = answer.result["units"]
    assert first["unique_id"] != second["unique_id"]
    assert (first["state"], first["outcome"], first["sha256"]) == ("done", "ok", second["sha256"])
    assert all("device" in line for line in answer.lines if line["type"] == "progress")
    assert first["unique_id"] in report.read_text()
    assert "2 OF 2 UNITS PASSED" in report.read_text()
    (bench.folder / "chip-2.bin").write_bytes(b"\0" * bench.size)
    differs = bench.run("verify", image, *at)
    assert differs.code == 1
    assert "differs" in differs.out.splitlines()[2]
    assert bench.run("read", "d-{n}-{uid}.bin", *words, "--range", "0:16K").code == 0
    (found,) = bench.folder.glob("d-1-*.bin")
    assert found.read_bytes() == image.read_bytes()
    assert found.name == f"d-1-{first['unique_id']}.bin"


def test_partial_failure_is_a_failure_with_a_table(bench: Bench, image: Path) -> None:
    words = [
        "write", image, "--at", 0, "--yes", "-p", "sim://w25q80?image=a.bin&seed=1",
        "-p", "sim://w25q80?image=b.bin&seed=2&faults=disconnect=60",
        "-p", "sim://w25q80?image=c.bin&faults=stuck=miso-high",
    ]  # fmt: skip
    for name in ("a.bin", "b.bin"):
        bench.file(name, b"\0" * bench.size)
    held = bench.run(*words, "--all-or-nothing")
    assert held.code == 4
    assert "gang.held-back" in held.err
    assert (bench.folder / "a.bin").read_bytes() == b"\0" * bench.size
    answer = bench.run(*words)
    assert answer.code in (3, 6)
    table = [line.split("  ") for line in answer.err.splitlines() if "sim://w25q80 " in line]
    assert any(line[-2:] == ["ok", "done"] or "done" in line[-1] for line in table)
    assert "chip.absent" in answer.err
    assert "3 sim://w25q80 c.bin" in answer.err
    assert "2 sim://w25q80 b.bin" in answer.err
    assert "1 of 3 programmers done, 2 failed" in answer.err
    assert (bench.folder / "a.bin").read_bytes()[: 1 << 14] == image.read_bytes()
    result = bench.json(*words).result
    assert result["units"][0]["outcome"] == "unchanged"
    assert result["error"]["code"] == "gang.failed"
    assert result["units"][2]["error"]["code"] == "chip.absent"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["write", "fw.bin", "-p", url(), "--yes"], "usage.gang"),
        (["write", "fw.bin", "-p", url(), "--count", 2, "--all", "--yes"], "usage.gang"),
        (["write", "--resume", "-p", url(), "--count", 2, "--yes"], "usage.gang"),
        (["erase", "-p", "sim://w25q80", "--all-or-nothing", "--yes"], "usage.gang"),
        (["read", "one.bin", "-p", url(), "--count", 2], "usage.gang"),
        (["write", "fw.bin", "-p", url(), "--count", 2], "usage.confirm"),
        (["verify", "fw.bin", "-p", "sim://w25q80", "-p", "sim://w25q80"], "usage.gang-twice"),
        (["write", "fw.bin", "-p", "sim://w25q80", "--yes", "--report", "a.pdf"],
         "usage.selection"),
        (["write", "fw.bin", "-p", "sim://w25q80", "--yes", "--report", "no/a.xml"],
         "environment.unwritable"),
    ],
)  # fmt: skip
def test_commands_that_make_no_sense(
    bench: Bench, image: Path, words: list[object], code: str
) -> None:
    answer = bench.json(*words)
    assert answer.error["code"] == code
    assert not list(bench.folder.glob("chip-*"))


def test_units_go_to_whoever_is_free(bench: Bench) -> None:
    job = bench.file("job.toml", JOB)
    words = ["job", "run", job, "-p", url("u-{n}-{unit}").replace("seed={n}", "seed={unit}")]
    batch = bench.folder / "b.json"
    answer = bench.json(*words, "--count", 2, "--units", 4, "--yes", "--report", batch)
    assert answer.code == 0
    units = answer.result["units"]
    assert [unit["unit"] for unit in units] == [1, 2, 3, 4]
    assert sorted(unit["serial"] for unit in units) == [f"SN000{n}" for n in (1, 2, 3, 4)]
    content = json.loads(batch.read_text())
    assert content["counts"] == {"units": 4, "passed": 4, "not_passed": 0}
    assert [unit["unit"]["serial"] for unit in content["units"]] == [u["serial"] for u in units]
    found = bench.run("history", "list", "--serial", "SN0003").out
    assert found.count("SN0003") == 2, "the write, and the unit"
    assert "SN0001" not in found
    others = words[4].replace("u-", "v-").replace("seed=", "seed=7")
    asked = bench.run(*words[:4], others, "--count", 2, "--units", 6, typed="y\nq\n")
    assert asked.code == 130
    assert "connect unit" in asked.err
    assert "not begun" in asked.err


def test_a_lost_programmer_gets_no_more_units(bench: Bench) -> None:
    job = bench.file("job.toml", JOB)
    good = "sim://w25q80?image=g-{unit}.bin&seed={unit}"
    bad = "sim://w25q80?image=l-{unit}.bin&seed=9{unit}&faults=disconnect=30"
    answer = bench.json("job", "run", job, "-p", good, "-p", bad, "--units", 4, "--yes")
    assert answer.code in (3, 6)
    units = answer.result["units"]
    assert len(units) == 4
    lost = [unit for unit in units if not unit["ok"]]
    assert [unit["device"] for unit in lost] == [bad]
    assert "programmer.lost" in json.dumps(lost)
    assert all(unit["state"] == "done" for unit in units if unit["ok"])


def test_eight_processes_never_give_one_number_to_two_chips(bench: Bench) -> None:
    job = bench.file("job.toml", JOB)
    chip = url("n-{n}-{unit}").replace("seed={n}", "seed={n}00{unit}")
    words = [*HWFLASH, "job", "run", str(job), "-p", chip, "--count", "8", "--units", "40", "--yes"]
    parent = subprocess.Popen([*words, "--json"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    done = 0
    for line in parent.stdout:
        done += "gang_unit" in line
        if done == 4:  # two of the workers, then the parent
            for worker in children(parent.pid)[:2]:
                os.kill(worker, signal.SIGKILL)
        if done >= 9:
            break
    workers = children(parent.pid)
    parent.kill()
    parent.communicate()
    wait_for(workers)
    holders: dict[str, set[str | None]] = {}
    note_holders(bench, holders)
    again = bench.run("job", "run", job, "-p", chip.replace("n-{n}", "m-{n}").replace("00", "77"),
                      "--count", 2, "--units", 4, "--yes")  # fmt: skip
    assert again.code == 0, again.err
    note_holders(bench, holders)
    assert len(holders) >= 12
    assert all(len(chips) == 1 for chips in holders.values()), holders
    written = [path.read_bytes()[:6] for path in bench.folder.glob("[mn]-*.bin")]
    serials = [text for text in written if text.startswith(b"SN")]
    assert len(serials) == len(set(serials)) >= 12


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(pids: list[int]) -> None:
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end, "a worker goes on without its parent"
        time.sleep(0.05)


def note_holders(bench: Bench, holders: dict[str, set[str | None]]) -> None:
    """Chips that hold, or may hold, a number."""
    with SerialStore(bench.state) as store:
        for unit in store.units():
            if unit.state in ("writing", "done", "failed"):
                number: Any
                for number in unit.numbers:
                    holders.setdefault(number.value, set()).add(unit.chip)
