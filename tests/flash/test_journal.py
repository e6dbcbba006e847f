import json
from pathlib import Path

import pytest

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.flash import journal as journals
from hwflash.flash.journal import Journal
from hwflash.flash.plan import Plan, Step, content_hash
from hwflash.units import Range

TARGET = [b"a" * 4096, b"b" * 4096]
ERASE = Step("erase", Range(0x1000, 4096), 0.045)
OTHER = Step("erase", Range(0x8000, 4096), 0.045)
PROGRAM = Step("program", Range(0x1000, 4096), 0.01)
PLAN = Plan(
    "PART", 1 << 24, (Range(0x1000, 4096), Range(0x8000, 4096)), (ERASE, PROGRAM, OTHER),
    content_hash(TARGET),
)  # fmt: skip
FACTS = {"programmer": "sim://x", "jedec_id": "ef4018", "unique_id": None, "backup": "/b.bin"}


def make(jobs: Path) -> Journal:
    return Journal.create(jobs, PLAN, TARGET, FACTS)


def lines(journal: Journal) -> list[dict]:
    text = (journal.folder / journals.JOURNAL).read_text()
    return [json.loads(line) for line in text.splitlines() if line]


def test_a_job_is_remembered(tmp_path: Path) -> None:
    journal = make(tmp_path / "state" / "jobs")
    journal.begin(ERASE)
    journal.done(ERASE)
    journal.begin(PROGRAM)
    assert lines(journal) == [
        {"event": "begin", "kind": "erase", "address": 0x1000, "length": 4096},
        {"event": "done", "kind": "erase", "address": 0x1000, "length": 4096},
        {"event": "begin", "kind": "program", "address": 0x1000, "length": 4096},
    ]  # fmt: skip
    journal.close()
    record = journals.load(journal.folder)
    assert record.name == journal.name == journal.folder.name
    assert record.plan == PLAN
    assert (record.programmer, record.jedec_id, record.unique_id, record.backup) == (
        "sim://x", "ef4018", None, "/b.bin",
    )  # fmt: skip
    assert (record.begun, record.finished, record.unfinished) == (True, False, ())
    assert record.target() == [
        (Range(0x1000, 4096), TARGET[0]), (Range(0x8000, 4096), TARGET[1]),
    ]  # fmt: skip
    assert [found.name for found in journals.unfinished_jobs(journal.folder.parent)] == [
        journal.name
    ]


def test_erases_that_began_and_did_not_end(tmp_path: Path) -> None:
    journal = make(tmp_path)
    for event in (journal.begin, journal.done):
        event(ERASE)
    journal.begin(OTHER)
    journal.close()
    assert journals.load(journal.folder).unfinished == (OTHER.range,)
    again = Journal.reopen(journal.folder)
    again.begin(ERASE)
    again.close()
    assert journals.load(journal.folder).unfinished == (ERASE.range, OTHER.range)
    third = Journal.reopen(journal.folder)
    third.done(ERASE)
    third.begin(OTHER)
    third.done(OTHER)
    third.finish()
    third.close()
    record = journals.load(journal.folder)
    assert (record.unfinished, record.finished) == ((), True)
    assert journals.unfinished_jobs(tmp_path) == []


def test_a_job_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    journal = make(tmp_path)
    assert len(list(journal.folder.iterdir())) == 3
    assert journals.unfinished_jobs(tmp_path) == [], "nothing to resume yet"
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_on_the_disk_before_the_chip_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each erase, and whatever comes first: without that line nobody knows of the job."""
    journal = make(tmp_path)
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", lambda _: synced.append(len(lines(journal))))
    journal.begin(PROGRAM)
    journal.done(PROGRAM)
    journal.begin(PROGRAM)
    assert synced == [1]
    journal.begin(ERASE)
    journal.done(ERASE)
    assert synced == [1, 4]
    journal.finish()
    assert synced == [1, 4, 6]
    journal.close()


@pytest.mark.parametrize(
    "torn", ['{"event": "begin", "kind": "er', '{"event": "done"', "[]", "3", '"x"', "\x00\x00",
             '{"event": "begin", "kind": "erase", "address": 1e999, "length": 1}'],
)  # fmt: skip
def test_a_torn_last_line_is_passed_over(tmp_path: Path, torn: str) -> None:
    journal = make(tmp_path)
    journal.begin(ERASE)
    journal.close()
    with (journal.folder / journals.JOURNAL).open("a") as stream:
        stream.write(torn)
    record = journals.load(journal.folder)
    assert record.begun
    assert ERASE.range in record.unfinished
    again = Journal.reopen(journal.folder)
    again.done(ERASE)
    again.close()
    assert journals.load(journal.folder).unfinished == (), "the line after it counts"


def test_a_line_that_is_no_text(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.begin(ERASE)
    journal.close()
    with (journal.folder / journals.JOURNAL).open("ab") as stream:
        stream.write(b"\xff\xfe\x80")
    assert journals.load(journal.folder).unfinished == (ERASE.range,)


@pytest.mark.parametrize("name", [journals.JOB, journals.JOURNAL])
def test_missing_files(tmp_path: Path, name: str) -> None:
    journal = make(tmp_path)
    journal.begin(ERASE)
    journal.close()
    (journal.folder / name).unlink()
    with pytest.raises(ImageError) as caught:
        journals.load(journal.folder)
    assert (caught.value.code, caught.value.exit_code) == ("journal.damaged", 7)
    assert journals.unfinished_jobs(tmp_path) == []


def test_a_damaged_or_missing_target(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.begin(ERASE)
    journal.close()
    path = journal.folder / journals.TARGET
    for damage in (lambda: path.write_bytes(b"".join(TARGET)[:-1]), path.unlink):
        damage()
        with pytest.raises(ImageError) as caught:
            journals.load(journal.folder).target()
        assert caught.value.code == "journal.damaged"
    path.write_bytes(b"".join(TARGET))
    assert len(journals.load(journal.folder).target()) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"plan": None}, {"plan": []}, {"plan": {"steps": []}}, {"jedec_id": ...},
        {"plan": {**PLAN.as_dict(), "size": 1e999}},
    ],
)  # fmt: skip
def test_a_damaged_job(tmp_path: Path, change) -> None:
    journal = make(tmp_path)
    journal.begin(ERASE)
    journal.close()
    path = journal.folder / journals.JOB
    job = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in job.items() if value is not ...}))
    with pytest.raises(ImageError):
        journals.load(journal.folder)
    path.write_text("[1]")
    with pytest.raises(ImageError):
        journals.load(journal.folder)


def test_windows_that_do_not_add_up_to_the_target(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.begin(ERASE)
    journal.close()
    path = journal.folder / journals.JOB
    job = json.loads(path.read_text())
    job["plan"]["windows"][1]["length"] = 8192
    path.write_text(json.dumps(job))
    with pytest.raises(ImageError) as caught:
        journals.load(journal.folder).target()
    assert caught.value.code == "journal.damaged"


def test_jobs_of_the_same_second_get_names_of_their_own(tmp_path: Path) -> None:
    made = [make(tmp_path) for _ in range(5)]
    assert len({journal.name for journal in made}) == 5
    for journal in made:
        journal.begin(ERASE)
        journal.close()
    found = journals.unfinished_jobs(tmp_path)
    assert {record.name for record in found} == {journal.name for journal in made}


def test_other_things_in_the_folder_of_jobs(tmp_path: Path) -> None:
    assert journals.unfinished_jobs(tmp_path / "none") == []
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert journals.unfinished_jobs(tmp_path) == []


# --- disks ------------------------------------------------------------------------------------


def test_a_state_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("x")
    with pytest.raises(EnvironmentFault) as caught:
        make(tmp_path / "jobs")
    assert (caught.value.code, caught.value.exit_code) == ("journal.unwritable", 3)
    with pytest.raises(EnvironmentFault):
        Journal.reopen(tmp_path / "nowhere")


def test_too_many_jobs_of_one_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", lambda self, **how: _exists(self, **how))
    with pytest.raises(EnvironmentFault):
        make(tmp_path)


def _exists(path: Path, **how: object) -> None:
    if "exist_ok" not in how:
        raise FileExistsError(17, "File exists")


def full_disk(journal: Journal) -> None:
    """From now on the disk takes nothing: the journal goes to /dev/full."""
    (journal.folder / journals.JOURNAL).unlink()
    (journal.folder / journals.JOURNAL).symlink_to("/dev/full")


def test_a_full_disk_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent, so nothing began; and `close` must not raise a second time."""
    journal = make(tmp_path)
    journal._stream.close()
    journal._stream = Path("/dev/full").open("a", encoding="utf-8")  # noqa: SIM115
    with pytest.raises(EnvironmentFault, match="No space left") as caught:
        journal.begin(ERASE)
    assert caught.value.code == "journal.unwritable"
    assert not journal.begun
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_resuming(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.begin(ERASE)
    journal.close()
    full_disk(journal)
    again = Journal.reopen(journal.folder)
    with pytest.raises(EnvironmentFault):
        again.begin(OTHER)
    assert again.begun, "the job had begun before"
    with pytest.raises(EnvironmentFault):
        again.finish()
    again.close()
    assert (journal.folder / journals.TARGET).exists()


def test_a_disk_that_fills_while_the_job_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EnvironmentFault) as caught:
        make(tmp_path)
    assert caught.value.code == "journal.unwritable"
    assert journals.unfinished_jobs(tmp_path) == []
