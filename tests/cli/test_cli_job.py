"""``hwflash job check`` and ``job run`` as a technician and a script meet them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from harness import Bench
from uefi.volumes import GUID, OVMF_2M, some_variables, volume_bytes

from hwflash.uefi.find import find_stores

JOB = f"""
[job]
name = "gizmo"
description = "what every gizmo gets"
[image]
file = "fw.bin"
[[variable]]
name = "Serial"
guid = "{GUID}"
utf16 = "{{serial}}"
[[bytes]]
at = "0x30000"
length = 16
string = "{{serial}}"
[serial]
source = "counter"
format = "SN{{n:04}}"
start = 1
policy = "reuse"
"""
UNITS = "{unit}"


@pytest.fixture
def job(bench: Bench) -> Path:
    volume = bytes(volume_bytes(some_variables(), OVMF_2M))
    bench.file("fw.bin", volume.ljust(bench.size, b"\xff"))
    return bench.file("job.toml", JOB)


def each(bench: Bench, **options: object) -> str:
    """A chip of its own for each unit."""
    more = "".join(f"&{key}={value}" for key, value in options.items())
    return f"sim://w25q80?image={bench.folder}/unit-{UNITS}.bin&seed={UNITS}{more}"


def test_check_says_what_there_is(bench: Bench, job: Path) -> None:
    answer = bench.run("job", "check", job)
    assert answer.code == 0
    assert answer.out.startswith(f"{job}: no faults\n")
    assert "fw.bin" in answer.out
    keys = bench.json("job", "check", job).result
    assert keys["faults"] == []
    assert len(keys["files"][0]["sha256"]) == 64
    assert not bench.state.exists()


def test_check_lists_every_fault_and_exits_with_1(bench: Bench, job: Path) -> None:
    job.write_text(JOB.replace("length = 16", "length = 2\nfil = 3").replace("start = 1", ""))
    answer = bench.run("job", "check", job)
    assert answer.code == 1
    assert answer.out.splitlines() == [
        f"{job} has 3 faults",
        "  bytes[0].fil: is not known; did you mean 'fill'?",
        "  serial.start: is missing: where the counter begins",
        "  bytes[0].string: 6 bytes at 0x030000 have room for 2",
    ]
    keys = bench.json("job", "check", job).result
    assert [fault["path"] for fault in keys["faults"]] == [
        "bytes[0].fil", "serial.start", "bytes[0].string",
    ]  # fmt: skip
    assert bench.run("job", "check", bench.folder / "none.toml").code == 1


def test_run_does_unit_after_unit(bench: Bench, job: Path) -> None:
    answer = bench.run("job", "run", job, "-p", each(bench), "--units", 3, "--yes")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == "job gizmo: 3 of 3 done"
    for number in (1, 2, 3):
        serial = f"SN{number:04}"
        assert re.fullmatch(rf"unit {number} {serial}: done, .* bytes touched, .* s", lines[number])
        assert f"unit {number} {serial}: done" in answer.err
        content = (bench.folder / f"unit-{number}.bin").read_bytes()
        assert content[0x30000:0x30006] == serial.encode()
        (found,) = find_stores(content)
        assert found.store is not None
        (record,) = found.store.named("Serial")
        assert record.data == (serial + "\0").encode("utf-16-le")


def test_json_has_a_line_for_each_unit(bench: Bench, job: Path) -> None:
    answer = bench.json("job", "run", job, "-p", each(bench), "--units", 2, "--yes")
    told = [
        line["context"]["unit_result"]
        for line in answer.lines
        if line["type"] == "info" and "unit_result" in line["context"]
    ]
    assert [unit["serial"] for unit in told] == ["SN0001", "SN0002"]
    result = answer.result
    assert (result["wanted"], result["done"], result["failed"]) == (2, 2, 0)
    assert result["units"] == told


def test_run_refuses_a_file_with_faults(bench: Bench, job: Path) -> None:
    job.write_text(JOB.replace("length = 16", "length = 2"))
    answer = bench.run("job", "run", job, "-p", each(bench), "--yes")
    assert answer.code == 7
    assert "[job.faults]" in answer.err
    assert "bytes[0].string: 6 bytes at 0x030000 have room for 2" in answer.err
    assert not (bench.folder / "unit-1.bin").exists()


def test_run_asks_first_and_between_units(bench: Bench, job: Path) -> None:
    words = ["job", "run", job, "-p", each(bench), "-n", 2]
    nobody = bench.run(*words)
    assert nobody.code == 2
    assert "[usage.job-confirm]" in nobody.err
    declined = bench.run(*words, typed="n\n")
    assert declined.code == 130
    assert "what every gizmo gets" in declined.err
    assert "Write to 2 units now?" in declined.err
    assert not (bench.folder / "unit-1.bin").exists()
    once = bench.run(*words, "--report", bench.folder / "r.json", typed="y\nn\n")
    assert once.code == 130
    assert "chip: 1 done" in once.err
    assert "done=1, failed=0, wanted=2" in once.err
    assert json.loads((bench.folder / "r.json").read_text())["passed"]
    assert "Connect unit 2 of 2" in once.err
    assert "stopped before unit 2 of 2" in once.err
    assert (bench.folder / "unit-1.bin").exists()
    assert not (bench.folder / "unit-2.bin").exists()


def test_a_half_written_unit_tells_how_to_go_on_and_keeps_its_serial(
    bench: Bench, job: Path
) -> None:
    words = ["job", "run", job, "--yes"]
    answer = bench.run(*words, "-p", each(bench, power_cut=3))
    assert answer.code == 6
    assert "unit 1 SN0001: failed" in answer.err
    resume = answer.printed("resume")
    restore = answer.printed("restore")
    assert resume[:2] == restore[:2] == ["write", "-p"]
    assert bench.run(*restore, "--yes").code == 0
    again = bench.run(*words, "-p", each(bench))
    assert again.code == 0
    assert "unit 1 SN0001 (reused numbers): done" in again.out


@pytest.mark.slow
def test_a_cut_while_the_store_is_changed_names_the_recovery(bench: Bench, job: Path) -> None:
    whole = bench.json("job", "run", job, "-p", each(bench), "--yes").result["units"][0]
    assert [step["executed"] for step in whole["steps"]] == [True, True]
    (bench.folder / "unit-1.bin").unlink()
    (bench.folder / "unit-1.bin.state.json").unlink()
    job.write_text(JOB.replace('name = "gizmo"', 'name = "gizmo-2"\nverify = "full"'))
    found = None
    for cut in range(2, 40):
        url = each(bench, power_cut=cut).replace("unit-{unit}", f"cut-{cut}")
        answer = bench.run("job", "run", job, "-p", url, "--yes")
        if answer.code == 6 and "recover: " in answer.err:
            found = answer
            break
    assert found is not None
    recover = found.printed("recover")
    assert recover[:2] == ["ftw", "recover"]
    assert bench.run(*recover, "--yes").code == 0


def test_a_unit_that_failed_says_nothing_of_those_before_it(bench: Bench, job: Path) -> None:
    job.write_text(JOB.replace("start = 1", "start = 1\nlast = 2"))
    error = bench.json("job", "run", job, "-p", each(bench), "-n", 3, "--yes").error
    assert error["code"] == "serial.exhausted"
    assert error["chip"] == "2 done, 1 unchanged"


def test_the_same_chip_again_is_refused(bench: Bench, job: Path) -> None:
    answer = bench.run("job", "run", job, "-p", bench.url(), "--units", 2, "--yes")
    assert answer.code == 7
    assert "[serial.unit-done]" in answer.err
    assert "unit 1 SN0001: done" in answer.err
    error = bench.json("job", "run", job, "-p", bench.url(), "--yes").error
    assert error["context"]["done"] == 0
    assert error["chip"] == "nothing was changed"


def test_an_after_step_that_fails_is_exit_1(bench: Bench, job: Path) -> None:
    job.write_text(
        JOB + "[[after]]\ncommand = ['sh', '-c', 'exit 5']\nmeaning = {5 = 'no label'}\n"
    )
    answer = bench.run("job", "run", job, "-p", each(bench), "-n", 3, "--yes")
    assert answer.code == 1
    assert answer.out.startswith("job gizmo: 0 of 3 done, 1 failed, 2 not begun\n")
    assert "ended with 5: no label [job.after]" in answer.out
    (unit,) = bench.json("job", "run", job, "-p", each(bench), "--yes").result["units"]
    assert unit["serial"] == "SN0001"
    assert unit["after"][0]["exit_code"] == 5
    assert "rejected" in bench.run("history", "list", "--serial", "SN0001").out


@pytest.mark.parametrize("cut", [3, None])
def test_reports_of_a_batch_however_it_ends(bench: Bench, job: Path, cut: int | None) -> None:
    files = [bench.folder / name for name in ("r.html", "r.json", "r.xml")]
    words = [word for path in files for word in ("--report", path)]
    url = each(bench, **({"power_cut": cut} if cut else {}))
    answer = bench.json("job", "run", job, "-p", url, "-n", 2, "--yes", *words)
    assert answer.code == (6 if cut else 0)
    content = json.loads(files[1].read_text())
    (first, *_) = [content] if cut else content["units"]
    assert first["unit"]["serial"] == "SN0001"
    assert first["passed"] == (cut is None)
    assert first["backup"]["sha256"]
    for path in files:
        assert "SN0001" in path.read_text()


def test_a_report_into_a_pipe_is_refused_before_anything_is_done(bench: Bench, job: Path) -> None:
    os.mkfifo(bench.folder / "pipe.json")
    words = ["--yes", "--report", bench.folder / "pipe.json"]
    error = bench.json("job", "run", job, "-p", each(bench), *words).error
    assert error["code"] == "environment.unwritable"
    assert not (bench.folder / "unit-1.bin").exists()


def test_an_image_changed_during_a_batch(bench: Bench, job: Path) -> None:
    job.write_text(JOB + "[[after]]\ncommand = ['sh', '-c', 'echo >> fw.bin']\n")
    answer = bench.json("job", "run", job, "-p", each(bench), "-n", 3, "--yes")
    assert answer.code == 7
    assert answer.error["code"] == "job.image-changed"
    assert answer.error["context"]["done"] == 1
    assert not (bench.folder / "unit-2.bin").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_broken_store_of_numbers(bench: Bench, job: Path, content: bytes) -> None:
    words = ["job", "run", job, "-p", each(bench), "--yes"]
    assert bench.run(*words).code == 0
    (bench.state / "serials" / "numbers.sqlite3").write_bytes(content)
    check = bench.run("job", "check", job)
    assert check.code == 1
    assert "cannot be used" in check.out
    assert bench.run(*words).code == 7
    job.write_text(JOB[: JOB.index("[serial]")].replace("{serial}", "none"))
    assert bench.run(*words).code == 0, "a job without numbers needs no store"


def test_the_programmer_of_the_job_and_of_the_environment(
    bench: Bench, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f'programmer = "{each(bench)}"'
    job.write_text(JOB.replace('name = "gizmo"', f'name = "gizmo"\n{line}'))
    assert bench.run("job", "run", job, "--yes").code == 0
    assert (bench.folder / "unit-1.bin").exists()
    monkeypatch.setenv("HWFLASH_PROGRAMMER", "sim://p25q21h")
    answer = bench.run("job", "run", job, "--yes")
    assert answer.code == 7
    assert "[image.larger-than-chip]" in answer.err


def test_the_example_of_the_manual_is_a_good_job(bench: Bench) -> None:
    text = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    rows = re.search(r"```csv\n(.*?)```", text, re.DOTALL)
    assert example
    assert rows
    volume = bytes(volume_bytes(some_variables(), OVMF_2M))
    bench.file("firmware.fd", volume.ljust(bench.size, b"\xff"))
    bench.file("units.csv", rows[1])
    label = bench.file("print-label", "#!/bin/sh\necho $* > label\n")
    label.chmod(0o755)
    path = bench.file("gizmo.toml", example[1])
    assert bench.run("job", "check", path).out.startswith(f"{path}: no faults\n")
    answer = bench.run("job", "run", path, "-n", 2, "--yes")
    assert answer.code == 0, answer.err
    assert (bench.folder / "label").read_text() == "GZ-000002 02:00:5e:10:00:02\n"
