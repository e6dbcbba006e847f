"""What the commands do on a good day, judged by what the chip holds afterwards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from harness import KIB, Bench
from support import mostly_slow, pattern

from hwflash.layout.files import Segment, load_image, save_image
from hwflash.units import Range

BOARD = """
name = "mine"
description = "a board of the test bench"
[flash]
chip = "P25Q21H"
size = "256K"
[layout]
kind = "regions"
[[region]]
name = "boot"
start = 0
length = "64K"
[[region]]
name = "fuse"
start = "64K"
length = "4K"
protected = true
[[region]]
name = "app"
start = "128K"
length = "64K"
"""


@pytest.fixture
def board(small: Bench) -> Path:
    return small.file("mine.toml", BOARD)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def backup_of(answer_backup: str) -> tuple[bytes, dict[str, object]]:
    path = Path(answer_backup)
    return path.read_bytes(), json.loads(path.with_suffix(".json").read_text())


# --- write --------------------------------------------------------------------------------


def test_a_whole_image(bench: Bench) -> None:
    old = bench.fill(1)
    new = pattern(bench.size, 2)
    answer = bench.chip("write", bench.file("new.bin", new), "--yes", "--json")
    assert answer.code == 0
    assert bench.content == new
    result = answer.result
    assert result["bytes"] == bench.size
    assert result["sha256"] == sha(new)
    assert result["changed"] == [{"address": 0, "length": bench.size}]
    assert result["mismatches"] == []
    assert result["dry_run"] is False
    assert result["stats"]["programs"] >= bench.size // 256
    assert result["stats"]["modelled_seconds"] > 1
    data, description = backup_of(result["backup"])
    assert data == old
    assert description["sha256"] == sha(old)
    assert description["jedec_id"] == "ef4014"
    assert Path(result["backup"]).parent == bench.state / "backups"


def test_a_write_is_told_in_words(small: Bench) -> None:
    small.fill(1)
    answer = small.chip("write", small.file("new.bin", pattern(small.size, 2)), "-y")
    assert answer.code == 0
    assert answer.out.startswith("written and verified: 256 KiB in ")
    assert f"sha256 {sha(small.content)}\n" in answer.out
    assert "backup: " in answer.err
    assert "verify: 100 %" in answer.err


def test_only_what_differs_is_touched(small: Bench) -> None:
    old = small.fill(1)
    new = old[:5000] + bytes(10) + old[5010:]
    answer = small.chip("write", small.file("new.bin", new), "-y", "--json")
    assert small.content == new
    assert sum(item["length"] for item in answer.result["changed"]) <= 4 * KIB
    assert sum(answer.result["stats"]["erases"].values()) <= 1


def test_nothing_to_do(small: Bench) -> None:
    old = small.fill(1)
    answer = small.chip("write", small.file("same.bin", old), "-y")
    assert answer.code == 0
    assert answer.out == "nothing to do: the chip holds this already\n"
    assert not (small.state / "backups").exists()
    (entry,) = small.json("history", "list").result["entries"]
    assert (entry["outcome"], entry["backup"]) == ("unchanged", None)


@pytest.mark.parametrize("kind", ["ihex", "srec"])
@pytest.mark.parametrize("named", [True, False])
def test_a_file_with_addresses_of_its_own(small: Bench, kind: str, named: bool) -> None:
    old = bytearray(small.fill(1))
    pieces = [Segment(0x1234, pattern(300, 7)), Segment(0x30000, pattern(5000, 8))]
    name = {"ihex": "data.hex", "srec": "data.s19"}[kind] if named else "data"
    save_image(small.folder / name, pieces, kind)
    answer = small.chip("write", small.folder / name, "-y", "--json")
    assert answer.code == 0
    assert answer.result["bytes"] == 5300
    for piece in pieces:
        old[piece.address : piece.range.end] = piece.data
    assert small.content == old


def test_from_standard_input(small: Bench) -> None:
    small.fill(1)
    new = pattern(small.size, 3)
    assert small.chip("write", "-", "--yes", stdin=new).code == 0
    assert small.content == new


def test_standard_input_cannot_also_answer(small: Bench) -> None:
    old = small.fill(1)
    answer = small.chip("write", "-", stdin=pattern(small.size, 3))
    assert answer.code == 2
    assert "usage.confirm" in answer.err
    assert small.content == old


@pytest.mark.parametrize("where", ["0x1003", "5K", "262043"])
def test_at_an_address(small: Bench, where: str) -> None:
    old = bytearray(small.fill(1))
    data = pattern(101, 4)
    assert small.chip("write", small.file("x.bin", data), "--at", where, "-y").code == 0
    start = {"0x1003": 0x1003, "5K": 5 * KIB, "262043": 262043}[where]
    old[start : start + 101] = data
    assert small.content == old


def test_a_range_takes_its_part_of_a_whole_image(small: Bench) -> None:
    old = small.fill(1)
    new = pattern(small.size, 5)
    answer = small.chip("write", small.file("x.bin", new), "--range", "0x1080:0x333", "-y")
    assert answer.code == 0
    assert small.content == old[:0x1080] + new[0x1080:0x13B3] + old[0x13B3:]


def test_a_region_takes_its_part_of_a_whole_image(small: Bench, board: Path) -> None:
    old, new = small.fill(1), pattern(small.size, 5)
    answer = small.chip("write", small.file("x.bin", new), "-b", board, "--region", "app", "-y")
    assert answer.code == 0
    assert small.content == old[: 128 * KIB] + new[128 * KIB : 192 * KIB] + old[192 * KIB :]


def test_regions_with_files_of_their_own(small: Bench, board: Path) -> None:
    old = small.fill(1)
    boot, app = small.file("boot.bin", bytes(100)), small.file("app.bin", pattern(64 * KIB, 6))
    answer = small.chip(
        "write", "-b", board, "--region", f"app:{app}", "--region", f"boot:{boot}", "-y"
    )
    assert answer.code == 0, answer.err
    assert small.content == (
        bytes(100) + old[100 : 128 * KIB] + pattern(64 * KIB, 6) + old[192 * KIB :]
    )


def test_a_protected_region_must_be_named(small: Bench, board: Path) -> None:
    old = small.fill(1)
    image = small.file("x.bin", pattern(small.size, 5))
    answer = small.chip("write", image, "-b", board, "-y")
    assert answer.code == 2
    assert "usage.protected-region" in answer.err
    assert "fuse" in answer.err
    assert small.content == old
    assert small.chip("write", image, "-b", board, "--region", "fuse", "-y").code == 0
    assert small.content[64 * KIB : 68 * KIB] == image.read_bytes()[64 * KIB : 68 * KIB]


def test_a_dry_run_writes_nothing_anywhere(small: Bench) -> None:
    old = small.fill(1)
    small.chip("probe")
    registers = small.registers.read_bytes()
    image = small.file("x.bin", pattern(small.size, 5))
    answer = small.chip("write", image, "--dry-run")
    assert answer.code == 0
    assert answer.out.endswith("dry run: nothing was written\n")
    assert "plan for P25Q21H, about" in answer.out
    assert small.content == old
    assert small.registers.read_bytes() == registers
    assert sorted(item.name for item in small.state.iterdir()) == ["locks"]
    result = small.chip("write", image, "--dry-run", "--json").result
    assert result["dry_run"] is True
    assert result["changed"] == []
    assert result["plan"]["steps"]


def test_verify_full_reads_everything_the_job_covers(small: Bench) -> None:
    old = small.fill(1)
    image = small.file("x.bin", old[:-1] + bytes([old[-1] & 0x7F ^ 0x01]))
    touched = small.chip("write", image, "-y", "--json").result
    small.fill(1)
    full = small.chip("write", image, "-y", "--json", "--verify", "full").result
    assert small.content == image.read_bytes()
    assert full["stats"]["bytes_in"] - touched["stats"]["bytes_in"] > small.size // 2


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 130), ("\n", 130), ("", 130)])
def test_the_plan_must_be_confirmed(small: Bench, typed: str, code: int) -> None:
    old, new = small.fill(1), pattern(small.size, 2)
    answer = small.chip("write", small.file("x.bin", new), typed=typed)
    assert answer.code == code
    assert "plan for P25Q21H" in answer.err
    assert "Write to P25Q21H now?" in answer.err
    assert small.content == (old if code else new)
    if code:
        assert "[interrupted.declined]" in answer.err
        assert "nothing was changed" in answer.err
        assert list((small.state / "jobs").glob("*")) == []


def test_without_a_person_yes_is_needed_before_anything_is_read(small: Bench) -> None:
    old = small.fill(1)
    image = small.file("x.bin", pattern(small.size, 2))
    # The programmer does not even exist: the question of consent comes first.
    for extra in ([], ["--json"]):
        answer = small.run("write", image, "-p", "ftdi://::/1", *extra, stdin=b"y\n")
        assert answer.code == 2
    assert answer.error["code"] == "usage.confirm"
    assert answer.error["chip"] == "nothing was changed"
    assert small.content == old


def test_another_backup_folder(small: Bench) -> None:
    old = small.fill(1)
    folder = small.folder / "deep" / "backups"
    image = small.file("x.bin", pattern(small.size, 2))
    answer = small.chip("write", image, "-y", "--json", "--backup-dir", folder)
    backup = Path(answer.result["backup"])
    assert backup.parent == folder
    assert backup.read_bytes() == old


def test_history(small: Bench) -> None:
    small.fill(1)
    image = small.file("x.bin", pattern(small.size, 2))
    backup = small.chip("write", image, "-y", "--json").result["backup"]
    cut = small.chip("erase", "-y", url=small.url(power_cut=1))
    assert cut.code == 6
    lines = small.json("history", "list").result["entries"][::-1]
    assert [line["outcome"] for line in lines] == ["ok", "unknown"]
    assert lines[0]["backup"] == backup
    assert lines[0]["image_sha256"] == sha(image.read_bytes())
    assert lines[1]["error"] == "chip.state-unknown"
    assert {line["part"] for line in lines} == {"P25Q21H"}
    assert {line["jedec_id"] for line in lines} == {"856012"}
    assert all(line["time"].endswith("Z") and line["programmer"] for line in lines)


# --- --assume -----------------------------------------------------------------------------


def test_assumed_content_is_not_read_as_a_whole(small: Bench) -> None:
    old = small.fill(1)
    new = old[:9000] + pattern(3000, 2) + old[12000:]
    known, image = small.file("old.bin", old), small.file("new.bin", new)
    answer = small.chip("write", image, "--assume", known, "-y", "--json")
    assert answer.code == 0
    assert small.content == new
    assert answer.result["stats"]["bytes_in"] < small.size // 4
    assert small.chip("write", "--restore", answer.result["backup"], "-y").code == 0
    assert small.content == old


@pytest.mark.parametrize("kind", ["elsewhere", "where it is changed", "everywhere", "too short"])
@pytest.mark.parametrize("full", mostly_slow(1, [[], ["--verify", "full"]]))
def test_a_wrong_assumption_costs_nobodys_data(small: Bench, kind: str, full: list[str]) -> None:
    """Wrong in one byte that no spot check is likely to meet, or in all of them."""
    old = small.fill(1)
    assumed = bytearray(old)
    if kind == "everywhere":
        assumed[:] = pattern(small.size, 9)
    elif kind == "too short":
        del assumed[1000:]
    else:
        assumed[200_000 if kind == "elsewhere" else 10_003] ^= 0xFF
    data = small.file("data.bin", pattern(100_000, 3))
    new = old[:100] + data.read_bytes() + old[100_100:]
    if kind == "elsewhere":
        data = small.file("data.bin", new)  # the image says what the chip holds there already
    where = [] if kind == "elsewhere" else ["--at", "100"]
    known = small.file("assumed.bin", bytes(assumed))
    answer = small.chip("write", data, *where, "--assume", known, "-y", "--json", *full)
    assert answer.code == 0
    assert small.content == new
    warned = [line for line in answer.lines if line["type"] == "warning"]
    if kind in ("everywhere", "where it is changed") and not full:
        assert [line["context"]["code"] for line in warned] == ["assume.wrong"]
    assert small.chip("write", "--restore", answer.result["backup"], "-y").code == 0
    assert small.content == old


def test_what_was_assumed_does_not_get_into_a_resume(small: Bench) -> None:
    old = small.fill(1)
    assumed = bytearray(old)
    assumed[62_000] ^= 0xFF  # beside the image, in the same 64 KiB block, never changed
    image = small.file("x.bin", pattern(9000, 3) + old[9000:60_000])
    words = ["write", image, "--at", "0", "--assume", small.file("a", bytes(assumed)), "-y"]
    assert small.run(*words, "-p", small.url(power_cut=20)).code == 6
    assert small.run("write", "--resume", "-y").code == 0
    assert small.content == pattern(9000, 3) + old[9000:]


# --- restore and resume -------------------------------------------------------------------


def test_restore(bench: Bench) -> None:
    old = bench.fill(1)
    image = bench.file("x.bin", pattern(bench.size, 2))
    backup = bench.chip("write", image, "-y", "--json").result["backup"]
    answer = bench.chip("write", "--restore", backup, "-y")
    assert answer.code == 0, answer.err
    assert bench.content == old


def test_restore_puts_back_only_what_the_backup_holds(small: Bench) -> None:
    old = small.fill(1)
    backup = small.chip("erase", "--range", "4K:4K", "-y", "--json").result["backup"]
    assert Path(backup).stat().st_size < small.size
    other = small.chip("write", small.file("y", b"later"), "--at", "128K", "-y")
    assert other.code == 0
    assert small.chip("write", "--restore", backup, "-y").code == 0
    assert small.content == old[: 128 * KIB] + b"later" + old[128 * KIB + 5 :]


def test_a_backup_of_another_chip_is_refused(bench: Bench, small: Bench) -> None:
    bench.fill(1)
    backup = bench.chip("erase", "-y", "--json").result["backup"]
    other = Bench(small.folder, "p25q21h")
    other.image = small.folder / "other.bin"
    other.fill(3)
    answer = other.chip("write", "--restore", backup, "-y", "--json")
    assert answer.code == 4
    assert answer.error["code"] == "backup.other-chip"
    assert other.content == pattern(other.size, 3)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "backup.damaged"),
        (lambda path: path.unlink(), "backup.unreadable"),
        (lambda path: path.with_suffix(".json").write_text("{"), "backup.damaged"),
        (lambda path: path.with_suffix(".json").unlink(), "backup.unreadable"),
    ],
)
def test_a_damaged_backup_is_refused(small: Bench, spoil: object, code: str) -> None:
    small.fill(1)
    backup = Path(small.chip("erase", "-y", "--json").result["backup"])
    spoil(backup)  # type: ignore[operator]
    answer = small.chip("write", "--restore", backup, "-y", "--json")
    assert (answer.code, answer.error["code"]) == (7, code)
    assert small.content == b"\xff" * small.size


def test_a_name_that_is_no_backup(small: Bench) -> None:
    small.fill(1)
    answer = small.chip("write", "--restore", small.folder / "none.bin", "-y", "--json")
    assert (answer.code, answer.error["code"]) == (7, "backup.unreadable")


def test_nothing_to_resume(small: Bench) -> None:
    for name in ("--resume", "--resume=20260101-000000-abcdef"):
        answer = small.chip("write", name, "-y", "--json")
        assert (answer.code, answer.error["code"]) == (2, "usage.resume")


def test_resume_takes_the_only_unfinished_write_and_its_programmer(small: Bench) -> None:
    small.fill(1)
    new = pattern(small.size, 2)
    image = small.file("x.bin", new)
    assert small.chip("write", image, "-y", url=small.url(power_cut=30)).code == 6
    image.unlink()  # the target is kept with the job
    dry = small.run("write", "--resume", "--dry-run", "--json")
    assert dry.result["plan"]["steps"]
    assert small.content != new
    answer = small.run("write", "--resume", "--yes", "--json")
    assert answer.code == 0
    assert answer.result["sha256"] == sha(new)
    assert small.content == new
    assert small.run("write", "--resume", "--yes").code == 2


def test_two_unfinished_writes_must_be_told_apart(small: Bench) -> None:
    small.fill(1)
    cut = small.url(power_cut=3)
    first = small.chip("write", small.file("a", pattern(9000, 2)), "--at", "0", "-y", url=cut)
    other = small.chip("write", small.file("b", pattern(9000, 3)), "--at", "64K", "-y", url=cut)
    assert (first.code, other.code) == (6, 6)
    answer = small.run("write", "--resume", "-y", "--json")
    assert (answer.code, answer.error["code"]) == (2, "usage.resume")
    names = [first.printed("resume")[-1], other.printed("resume")[-1]]
    assert answer.error["context"]["unfinished"] == names
    for name in names:
        assert small.run("write", "--resume", name, "-y").code == 0
    assert small.content[:9000] == pattern(9000, 2)
    assert small.content[64 * KIB : 64 * KIB + 9000] == pattern(9000, 3)


def test_resume_refuses_another_chip(bench: Bench) -> None:
    bench.fill(1)
    data = bench.file("x.bin", pattern(9000, 2))
    cut = bench.chip("write", data, "--at", "0", "-y", url=bench.url(power_cut=3))
    assert cut.code == 6
    bench.image = bench.folder / "other.bin"
    bench.fill(5)
    answer = bench.chip("write", "--resume", "-y", "--json", url=bench.url(seed=99))
    assert (answer.code, answer.error["code"]) == (4, "journal.other-chip")
    assert bench.content == pattern(bench.size, 5)


# --- erase, verify, read ------------------------------------------------------------------


def test_erase_everything(small: Bench) -> None:
    small.fill(1)
    answer = small.chip("erase", "-y")
    assert answer.code == 0
    assert answer.out.startswith("erased and verified: 256 KiB")
    assert small.content == b"\xff" * small.size


@pytest.mark.parametrize(("start", "length"), [(4096, 4096), (100, 5), (65536, 70000), (4095, 2)])
def test_erase_keeps_the_neighbours(bench: Bench, start: int, length: int) -> None:
    old = bench.fill(1)
    answer = bench.chip("erase", "--range", f"{start}:{length}", "-y")
    assert answer.code == 0
    assert bench.content == old[:start] + b"\xff" * length + old[start + length :]


def test_erase_takes_no_files(small: Bench, board: Path) -> None:
    old = small.fill(1)
    answer = small.chip("erase", "-b", board, "--region", "app:x.bin", "-y")
    assert (answer.code, small.content) == (2, old)
    assert small.chip("erase", "-b", board, "--region", "app", "-y").code == 0
    assert small.content == old[: 128 * KIB] + b"\xff" * 64 * KIB + old[192 * KIB :]


def test_verify(small: Bench) -> None:
    old = small.fill(1)
    same = small.chip("verify", small.file("same.bin", old), "--json")
    assert same.code == 0
    assert same.result["sha256"] == sha(old)
    assert same.result["changed"] == []
    other = old[:77] + bytes([old[77] ^ 1]) + old[78:]
    answer = small.chip("verify", small.file("other.bin", other), "--json")
    assert answer.code == 1
    assert answer.result["mismatches"] == [{"address": 77, "length": 1}]
    words = small.chip("verify", small.folder / "other.bin")
    assert words.out.startswith("differs in 1 byte: 0x00004D-0x00004D\n")
    assert small.content == old


def test_verify_a_part(small: Bench, board: Path) -> None:
    old = small.fill(1)
    piece = small.file("piece.bin", old[0x2000:0x2100])
    assert small.chip("verify", piece, "--at", "0x2000").code == 0
    assert small.chip("verify", piece, "--at", "0x2001").code == 1
    whole = small.file("whole.bin", old[:0x20000] + bytes(0x20000))
    assert small.chip("verify", whole, "--range", "0:128K").code == 0
    assert small.chip("verify", whole, "-b", board, "--region", "boot").code == 0
    assert small.chip("verify", whole, "-b", board, "--region", "app").code == 1
    assert small.chip("verify", "-", stdin=old).code == 0


def test_read(small: Bench, board: Path) -> None:
    old = small.fill(1)
    answer = small.chip("read", "out.bin", "--json")
    assert answer.code == 0
    assert Path("out.bin").read_bytes() == old
    assert answer.result["sha256"] == sha(old)
    assert answer.result["bytes"] == small.size
    small.chip("read", "part.bin", "--range", "0x100:0x200")
    assert Path("part.bin").read_bytes() == old[0x100:0x300]
    small.chip("read", "tail.bin", "--at", "255K")
    assert Path("tail.bin").read_bytes() == old[255 * KIB :]
    small.chip("read", "-b", board, "--region", "boot:b.bin", "--region", "app:a.bin")
    assert Path("b.bin").read_bytes() == old[: 64 * KIB]
    assert Path("a.bin").read_bytes() == old[128 * KIB : 192 * KIB]
    assert small.content == old


@pytest.mark.parametrize("words", [["x.hex"], ["x", "--format", "ihex"], ["x.s19"]])
def test_read_as_text_keeps_addresses(small: Bench, board: Path, words: list[str]) -> None:
    old = small.fill(1)
    answer = small.chip("read", *words, "-b", board, "--region", "boot", "--region", "app")
    assert answer.code == 0
    found = load_image(Path(words[0]))
    assert [item.range for item in found] == [
        Range(0, 64 * KIB),
        Range(128 * KIB, 64 * KIB),
    ]
    assert [item.data for item in found] == [old[: 64 * KIB], old[128 * KIB : 192 * KIB]]
    assert small.chip("verify", words[0]).code == 0


def test_two_regions_do_not_fit_into_one_raw_file(small: Bench, board: Path) -> None:
    small.fill(1)
    answer = small.chip("read", "x.bin", "-b", board, "--region", "boot", "--region", "app")
    assert answer.code == 2
    assert not Path("x.bin").exists()


def test_read_to_standard_output_gives_nothing_but_bytes(small: Bench) -> None:
    old = small.fill(1)
    answer = small.chip("read", "-", binary=True)
    assert answer.code == 0
    assert answer.data == old
    assert sha(old) in answer.err
    assert small.chip("read", "-", "--json", binary=True).code == 2


def test_repeated_reads_agree_or_say_where_they_do_not(small: Bench) -> None:
    old = small.fill(1)
    good = small.chip("read", "good.bin", "--repeat", "3")
    assert good.code == 0
    assert "all 3 reads agree" in good.out
    noisy = small.url(faults="flip=1e-6", seed=3)
    answer = small.chip("read", "bad.bin", "--repeat", "5", "--json", url=noisy)
    assert answer.code == 1
    found = answer.result["mismatches"]
    assert found
    bad = Path("bad.bin").read_bytes()
    wrong = {index for index in range(small.size) if bad[index] != old[index]}
    said = {at for item in found for at in range(item["address"], item["address"] + item["length"])}
    assert wrong <= said, "whatever is wrong in the file is among the disagreements"
    words = small.chip("read", "bad.bin", "--repeat", "5", url=noisy)
    assert "5 reads disagree within " in words.out


# --- which programmer ---------------------------------------------------------------------


def test_the_programmer_of_the_environment(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    old = small.fill(1)
    monkeypatch.setenv("HWFLASH_PROGRAMMER", small.url())
    assert small.run("read", "x.bin").code == 0
    assert Path("x.bin").read_bytes() == old


def test_the_programmer_of_the_board(small: Bench) -> None:
    old = small.fill(1)
    image = small.folder / "plain.bin"
    small.image.rename(image)
    url = f'[programmer]\nurl = "sim://p25q21h?image={image}"\nfrequency = "15M"\n[layout]'
    board = small.file("b.toml", BOARD.replace("[layout]", url))
    assert small.run("read", "x.bin", "-b", board).code == 0
    assert Path("x.bin").read_bytes() == old
    assert small.run("probe", "-b", board, "--json").result["frequency"] == 15e6
    answer = small.run("probe", "-b", board, "-f", "1M", "--json")
    assert answer.result["frequency"] == 1e6
