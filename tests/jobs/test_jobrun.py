"""Units of a job on simulated chips: what stands on them, and who holds which number."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import Notes
from uefi.volumes import GUID, OVMF_2M, some_variables, volume_bytes

from hwflash.errors import ChipStateUnknown, Interrupted
from hwflash.jobs.history import open_history
from hwflash.jobs.job_result import UnitResult
from hwflash.jobs.jobfile import load_job
from hwflash.jobs.jobrun import Run, run_batch, run_unit
from hwflash.jobs.opening import Request
from hwflash.jobs.serials import SerialStore
from hwflash.progress import CancelToken, NullReporter, Progress
from hwflash.uefi.find import find_stores
from hwflash.units import KIB, MIB

#: Locks, files on disk and killed processes take their time.
pytestmark = pytest.mark.slow

SMALL = 256 * KIB
VOLUME = bytes(volume_bytes(some_variables(), OVMF_2M))
JOB = f"""
[job]
name = "gizmo"
[image]
file = "fw.bin"
[[variable]]
name = "Serial"
guid = "{GUID}"
attributes = "NV+BS+RT"
string = "{{serial}}"
[[variable]]
name = "Variable3"
guid = "{GUID}"
delete = true
[[bytes]]
at = "0x30000"
length = 16
fill = 0
string = "{{serial}}"
[serial]
source = "counter"
format = "SN{{n:04}}"
start = 1
policy = "POLICY"
"""
BYTES = """
[job]
name = "gizmo"
[[bytes]]
at = 0
length = 8
string = "{serial}"
[serial]
source = "counter"
format = "SN{n:04}"
start = 1
policy = "POLICY"
"""


@dataclass
class Bench:
    """A folder with a job, and chips that are told apart by their seeds."""

    folder: Path
    part: str = "w25q80"
    reporter: Any = field(default_factory=NullReporter)
    cancel: CancelToken = field(default_factory=CancelToken)

    @property
    def environ(self) -> dict[str, str]:
        return {"HWFLASH_STATE_DIR": str(self.folder / "state"), "HOME": str(self.folder)}

    def job(self, text: str, policy: str = "reuse") -> None:
        (self.folder / "job.toml").write_text(text.replace("POLICY", policy))

    def image(self, size: int = MIB) -> bytes:
        content = VOLUME.ljust(size, b"\xff")
        (self.folder / "fw.bin").write_bytes(content)
        return content

    def chip(self, name: object) -> Path:
        return self.folder / f"chip-{name}.bin"

    def url(self, name: object, **options: object) -> str:
        options = {"image": self.chip(name), "seed": sum(str(name).encode()), **options}
        return f"sim://{self.part}?" + "&".join(f"{k}={v}" for k, v in options.items())

    def run(self, *names: object, **options: Any) -> list[UnitResult]:
        """Run the job on chips, one after the other."""
        urls = [self.url(name, **options) for name in names]
        batch = load_job(self.folder / "job.toml", self.environ)
        state = self.folder / "state"
        state.mkdir(exist_ok=True)

        def request(unit: int) -> Request:
            return Request(programmer=urls[unit - 1], environ=self.environ, board=batch.board)

        with SerialStore(state) as store:
            run = Run(batch, request, store, state, self.reporter, self.cancel)
            return list(run_batch(run, len(urls)))

    def states(self) -> list[tuple[str | None, str, list[str]]]:
        with SerialStore(self.folder / "state") as store:
            return [
                (unit.chip, unit.state, [item.value for item in unit.numbers])
                for unit in store.units()
            ]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def variables(content: bytes) -> dict[str, bytes]:
    (found,) = find_stores(content)
    assert found.store is not None
    return {record.name: record.data for record in found.store.live}


def test_image_bytes_and_variables_of_each_unit(bench: Bench) -> None:
    image = bench.image()
    bench.job(JOB)
    results = bench.run("a", "b")
    assert [item.values.serial for item in results] == ["SN0001", "SN0002"]
    for name, result in zip("ab", results, strict=True):
        serial = result.values.serial or ""
        assert result.ok
        assert result.changed
        content = bench.chip(name).read_bytes()
        assert content[0x30000:0x30010] == serial.encode().ljust(16, b"\0")
        assert content[0x20000:0x30000] == image[0x20000:0x30000]
        found = variables(content)
        assert found.pop("Serial") == serial.encode() + b"\0"
        assert sorted(found) == ["Variable0", "Variable1", "Variable2", "Variable4"]
        data = result.as_dict()
        assert [step["step"] for step in data["steps"]] == ["image", "variables"]
        assert all(Path(step["backup"]).exists() for step in data["steps"])
        with open_history(bench.folder / "state", create=False) as history:
            *steps, unit = history.with_parts([data["history"]])
        assert [step.kind for step in steps] == ["job", "job"]
        assert (unit.kind, unit.outcome, unit.unique_id) == ("job run", "ok", steps[0].unique_id)
        assert {entry.details["unit"]["serial"] for entry in (*steps, unit)} == {serial}
        assert unit.seconds == pytest.approx(sum(step.seconds for step in steps), abs=0.01)
        assert [item["change"] for item in data["variables"]] == ["new", "deleted"]
        assert data["chip"]["part"] == "W25Q80DV"
        assert data["error"] is None
    assert [state for _, state, _ in bench.states()] == ["done", "done"]


def test_the_same_chip_twice_is_refused_or_keeps_its_number(bench: Bench) -> None:
    bench.job(BYTES)
    first, second = bench.run("a", "a")
    assert first.ok
    assert second.error is not None
    assert second.error.code == "serial.unit-done"
    assert not second.changed
    bench.job(BYTES.replace('name = "gizmo"', 'name = "gizmo"\nagain = "same"'))
    again, other = bench.run("a", "b")
    assert (again.values.serial, again.origin) == ("SN0001", "same")
    assert not again.changed
    assert other.values.serial == "SN0002"


def test_chips_without_a_unique_id_get_a_new_number_each_time(bench: Bench) -> None:
    bench.part = "p25q21h"
    bench.job(BYTES)
    assert [item.values.serial for item in bench.run("a", "a", "a")] == [
        "SN0001", "SN0002", "SN0003",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "same", "other"), [("reuse", "SN0001", "SN0002"), ("burn", "SN0002", "SN0002")]
)
def test_a_unit_that_lost_power_while_it_was_written(
    bench: Bench, policy: str, same: str, other: str
) -> None:
    bench.image()
    bench.job(JOB, policy)
    (failed,) = bench.run("a", power_cut=2)
    assert isinstance(failed.error, ChipStateUnknown)
    assert failed.changed
    assert failed.error.context["backup"]
    before = bench.states()
    assert before == [(before[0][0], "failed", ["SN0001"])]
    for name, expected in (("a", same), ("b", other if policy == "reuse" else "SN0003")):
        (result,) = bench.run(name)
        assert result.ok
        assert result.values.serial == expected
        assert bench.chip(name).read_bytes()[0x30000:0x30006] == expected.encode()


def test_a_failure_between_image_and_variables_is_no_unchanged_chip(bench: Bench) -> None:
    """The store is on the chip only, and there is none."""
    bench.job(JOB.replace('[image]\nfile = "fw.bin"\n', ""))
    (failed,) = bench.run("a")
    assert isinstance(failed.error, ChipStateUnknown)
    assert failed.error.context["cause"] == "uefi.no-store"
    assert "image was written" in failed.error.message
    assert bench.states()[0][1] == "failed"
    (other,) = bench.run("b")
    assert other.values.serial == "SN0002"


def test_nothing_written_and_no_store_leaves_the_number_free(bench: Bench) -> None:
    text = JOB.replace('[image]\nfile = "fw.bin"\n', "")
    at = text.index("[[bytes]]")
    bench.job(text[:at] + text[text.index("[serial]") :])
    (failed,) = bench.run("a")
    assert failed.error is not None
    assert failed.error.code == "uefi.no-store"
    assert bench.states()[0][1] == "unchanged"
    bench.chip("b").write_bytes(VOLUME.ljust(MIB, b"\xff"))
    (good,) = bench.run("b")
    assert (good.values.serial, good.origin, good.ok) == ("SN0001", "reused", True)
    assert variables(bench.chip("b").read_bytes())["Serial"] == b"SN0001\0"


def test_a_chip_of_another_size_costs_no_number(bench: Bench) -> None:
    bench.image(MIB)
    bench.job(JOB, "burn")
    bench.part = "p25q21h"
    (failed,) = bench.run("a")
    assert failed.error is not None
    assert failed.error.code == "image.larger-than-chip"
    assert bench.states() == []


def test_an_image_changed_in_the_middle_of_a_batch(bench: Bench) -> None:
    bench.image()
    bench.job(
        JOB.replace('name = "gizmo"', 'name = "gizmo"\non_failure = "go-on"')
        + "[[after]]\ncommand = ['sh', '-c', 'printf x >> fw.bin']\n"
    )
    results = bench.run("a", "b", "c")
    assert [item.ok for item in results] == [True, False]
    error = results[1].error
    assert error is not None
    assert error.code == "job.image-changed"
    assert not bench.chip("b").exists(), "the programmer was not even opened"


def test_what_exit_codes_of_after_steps_mean(bench: Bench) -> None:
    notes = Notes()
    bench.reporter = notes
    bench.job(
        BYTES.replace('name = "gizmo"', 'name = "gizmo"\non_failure = "go-on"')
        + """
[[after]]
command = ["sh", "-c", 'echo "{serial} $HWFLASH_SERIAL $HWFLASH_UNIT"; exit $(({unit} + 1))']
ok = [0, 2]
warning = [3]
meaning = { "3" = "the label is crooked", "4" = "no paper" }
[[after]]
command = ["sh", "-c", "test -e chip-a.bin"]
"""
    )
    good, warned, failed = bench.run("a", "b", "c")
    assert good.after[0]["out"] == "SN0001 SN0001 1\n"
    assert [step["outcome"] for step in good.after] == ["ok", "ok"]
    assert warned.ok
    assert warned.after[0]["text"] == "ended with 3: the label is crooked"
    assert any("the label is crooked" in str(said) for said in notes.warnings)
    assert failed.error is not None
    assert failed.error.code == "job.after"
    assert "ended with 4: no paper" in failed.error.message
    assert [step["outcome"] for step in failed.after] == ["failed"]
    assert bench.states()[2][1:] == ("failed", ["SN0003"])
    assert bench.chip("c").read_bytes()[:6] == b"SN0003"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("sleep 60 & sleep 60", "did not end within 0.3 s"),
        ("yes", "printed more than 1 MiB"),
        ("kill -SEGV $$", "was ended by SIGSEGV"),
    ],
)
def test_after_steps_that_do_not_end_well(bench: Bench, command: str, problem: str) -> None:
    timeout = 0.3 if "sleep" in command else 20
    step = f"[[after]]\ntimeout = {timeout}\ncommand = ['sh', '-c', '{command}']\n"
    bench.job(BYTES + step)
    (failed,) = bench.run("a")
    assert failed.error is not None
    assert failed.error.message.endswith(problem)


def test_a_background_child_does_not_hold_a_step(bench: Bench) -> None:
    bench.job(BYTES + "[[after]]\ncommand = ['sh', '-c', 'sleep 1 & echo done']\ntimeout = 5.0\n")
    (good,) = bench.run("a")
    assert good.ok
    assert good.after[0]["seconds"] < 0.9


def test_numbers_from_a_command(bench: Bench) -> None:
    text = BYTES.replace('source = "counter"\nformat = "SN{n:04}"\nstart = 1', 'source = "command"')
    bench.job(text + "command = ['sh', 'next.sh', '{chip}']\n")
    script = bench.folder / "next.sh"
    script.write_text("echo $HWFLASH_JOB >> calls; echo X$(wc -l < calls)\n")
    assert [item.values.serial for item in bench.run("a", "b")] == ["X1", "X2"]
    script.write_text("echo X2\n")
    (twice,) = bench.run("c")
    assert twice.error is not None
    assert twice.error.code == "serial.duplicate"
    for body, said in (
        ("exit 3", "ended with 3"), ("true", "is empty"), ("printf 'a\\nb'", "cannot be printed"),
        ("printf '\\377'", "no UTF-8"),
    ):  # fmt: skip
        script.write_text(body)
        (bad,) = bench.run("c")
        assert bad.error is not None
        assert bad.error.code == "serial.command"
        assert said in bad.error.message
    script.write_text("echo far too long for it")
    (long,) = bench.run("c")
    assert long.error is not None
    assert "have room for 8" in long.error.message
    assert bench.states()[-1][1] == "burned"
    script.write_text("echo X9")
    (good,) = bench.run("c")
    assert good.values.serial == "X9"


def test_lines_of_a_csv_file_and_mac_addresses(bench: Bench) -> None:
    bench.job(
        """
[job]
name = "gizmo"
[csv]
file = "units.csv"
policy = "reuse"
[serial]
source = "csv"
column = "sn"
[mac]
source = "counter"
local = true
start = "02:00:00:00:00:10"
last = "02:00:00:00:00:13"
increment = 2
[[bytes]]
at = 0
string = "{serial} {csv.colour} {mac} {MAC+1:-}"
"""
    )
    (bench.folder / "units.csv").write_text("sn,colour\nA,red\nB,blue\nC,green\n")
    first, second, third = bench.run("a", "b", "c")
    assert bench.chip("b").read_bytes()[:42] == b"B blue 02:00:00:00:00:12 02-00-00-00-00-13"
    assert first.as_dict()["macs"] == ["02:00:00:00:00:10", "02:00:00:00:00:11"]
    assert first.as_dict()["row"] == {"sn": "A", "colour": "red"}
    assert second.ok
    assert third.error is not None
    assert third.error.code == "serial.exhausted"


def test_a_stop_between_units_and_before_the_first_byte(bench: Bench) -> None:
    bench.job(BYTES)

    class Stopping(NullReporter):
        def progress(self, event: Progress, /) -> None:
            if event.phase == "backup":
                bench.cancel.cancel()

    bench.reporter = Stopping()
    (stopped,) = bench.run("a", "b")
    assert isinstance(stopped.error, Interrupted)
    assert bench.states()[0][1] == "unchanged"
    with pytest.raises(Interrupted):
        bench.run("a")


def test_a_store_that_fails_at_the_end_is_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the unit is done: it is written, and its number stays its own."""
    bench.job(BYTES)
    whole = SerialStore.end

    def end(self: SerialStore, claim: Any, state: Any, note: str = "") -> None:
        self._database.execute("PRAGMA query_only = 1")
        whole(self, claim, state, note)

    monkeypatch.setattr(SerialStore, "end", end)
    (failed,) = bench.run("a")
    assert failed.error is not None
    assert failed.error.code == "serial.unrecorded"
    assert failed.error.exit_code == 6
    monkeypatch.undo()
    assert bench.states()[0][1] == "writing"
    (other,) = bench.run("b")
    assert other.values.serial == "SN0002"
    (same,) = bench.run("a")
    assert (same.values.serial, same.origin) == ("SN0001", "reused")


# --- kill -9 ------------------------------------------------------------------------------------


def killed(bench: Bench, kill_at: int | None) -> tuple[int, bool]:
    """Run a unit in a child that dies at an event; events seen, and whether it began to write."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0

        def event(*_: object) -> None:
            nonlocal seen
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        def audit(name: str, args: tuple[Any, ...]) -> None:
            named = name == "open" and str(bench.folder) in str(args[0])
            if named or name in ("fcntl.flock", "os.rename", "os.remove", "subprocess.Popen"):
                event()

        class Told(NullReporter):
            def progress(self, update: Progress, /) -> None:
                if update.phase in ("program", "erase"):
                    os.write(writer, b"w")
                event()

        try:
            sys.addaudithook(audit)
            bench.reporter = Told()
            results = bench.run("a")
            os.write(writer, b"%d" % seen)
            os._exit(0 if results[0].ok else 98)
        except BaseException:  # the test's own machinery must not run in a child
            os._exit(99)
    os.close(writer)
    status = os.waitpid(child, 0)[1]
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()
    assert status == 0 if kill_at is None else os.WTERMSIG(status) == signal.SIGKILL, status
    return int(said.strip(b"w") or 0), b"w" in said


@pytest.mark.parametrize("policy", ["reuse", "burn"])
def test_killed_at_every_step_no_number_goes_to_two_boards(tmp_path: Path, policy: str) -> None:
    def fresh(name: str) -> Bench:
        folder = tmp_path / name
        folder.mkdir()
        made = Bench(folder)
        made.job(BYTES + "[[after]]\ncommand = ['true']\n", policy)
        return made

    events, wrote = killed(fresh("whole"), None)
    assert wrote
    assert events > 40
    began = 0
    for at in range(0, events, 2 if policy == "reuse" else 3):
        bench = fresh(str(at))
        _, wrote = killed(bench, at)
        began += wrote
        (other,) = bench.run("b")
        assert other.ok
        if wrote or policy == "burn":
            taken = [numbers for _, _, numbers in bench.states() if numbers]
            assert len(taken) == len({numbers[0] for numbers in taken})
        if wrote:
            assert other.values.serial == "SN0002", f"event {at}: board a may hold SN0001"
        (same,) = bench.run("a")
        if same.error is not None:  # it was killed after it had been recorded as done
            assert same.error.code == "serial.unit-done"
        else:
            assert same.values.serial != other.values.serial
            assert wrote <= (policy == "burn" or same.values.serial == "SN0001")
    assert began > 3


def test_run_unit_alone_is_what_a_gang_calls(bench: Bench) -> None:
    bench.job(BYTES)
    batch = load_job(bench.folder / "job.toml", bench.environ)
    state = bench.folder / "state"
    state.mkdir()
    request: Callable[[int], Request] = lambda _: Request(  # noqa: E731
        programmer=bench.url("a"), environ=bench.environ
    )
    with SerialStore(state) as store:
        run = Run(batch, request, store, state, NullReporter(), CancelToken())
        result = run_unit(run, 7)
    assert (result.unit, result.values.serial) == (7, "SN0001")
    assert str(result).startswith("unit 7 SN0001: done, 6 bytes touched, 0.")
