import json
from pathlib import Path

import pytest

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.flash import backup
from hwflash.units import Range

PIECES = [(0x1000, b"one" * 100), (0x4000, b"two!" * 50)]


def save(folder: Path, pieces=PIECES, **changes) -> backup.Backup:
    facts = {"jedec_id": "ef4018", "unique_id": "aabb", "part": "W25Q128JV", "size": 1 << 24}
    return backup.save(folder, pieces, **{**facts, **changes})


def test_a_backup_comes_back(tmp_path: Path) -> None:
    saved = save(tmp_path / "deep" / "backups")
    assert saved.contents() == [
        (Range(0x1000, 300), PIECES[0][1]), (Range(0x4000, 200), PIECES[1][1]),
    ]  # fmt: skip
    assert backup.load(saved.path) == saved
    assert (saved.jedec_id, saved.unique_id, saved.size) == ("ef4018", "aabb", 1 << 24)
    assert saved.path.read_bytes() == PIECES[0][1] + PIECES[1][1]
    assert sorted(p.suffix for p in saved.path.parent.iterdir()) == [".bin", ".json"]
    assert saved.path.parent.stat().st_mode & 0o077 == 0, "firmware may hold secrets"


def test_the_name_tells_part_and_place_and_is_of_what_is_in_it(tmp_path: Path) -> None:
    saved = save(tmp_path)
    assert saved.path.name.startswith("w25q128jv-00001000-")
    assert save(tmp_path).path == saved.path, "the same again is the same file"
    others = [
        save(tmp_path, unique_id="ccdd"), save(tmp_path, unique_id=None),
        save(tmp_path, [(0x1000, b"one" * 100 + b"two!" * 50)]), save(tmp_path, size=1 << 23),
        save(tmp_path, [(0x1000, b"two" * 100), PIECES[1]]), save(tmp_path, part="W25Q128FV"),
    ]  # fmt: skip
    assert len({item.path for item in [saved, *others]}) == 7
    for item in [saved, *others]:
        assert backup.load(item.path) == item, "none took the place of another"


def test_part_names_with_slashes_make_no_folders(tmp_path: Path) -> None:
    saved = save(tmp_path, part="MX25L/12833F ../x")
    assert saved.path.parent == tmp_path
    assert saved.path.name.startswith("mx25l-12833f-..-x-")


def test_a_chip_without_unique_id(tmp_path: Path) -> None:
    assert backup.load(save(tmp_path, unique_id=None).path).unique_id is None


def test_nothing_to_back_up(tmp_path: Path) -> None:
    assert backup.load(save(tmp_path, []).path).contents() == []


def test_damaged_content_is_refused(tmp_path: Path) -> None:
    saved = save(tmp_path)
    data = bytearray(saved.path.read_bytes())
    data[7] ^= 1
    saved.path.write_bytes(data)
    for action in (saved.contents, lambda: backup.load(saved.path)):
        with pytest.raises(ImageError) as caught:
            action()
        assert (caught.value.code, caught.value.exit_code) == ("backup.damaged", 7)


def test_missing_files(tmp_path: Path) -> None:
    saved = save(tmp_path)
    saved.path.unlink()
    with pytest.raises(ImageError) as caught:
        backup.load(saved.path)
    assert caught.value.code == "backup.unreadable"
    with pytest.raises(ImageError) as caught:
        backup.load(tmp_path / "none.bin")
    assert caught.value.code == "backup.unreadable"
    assert "is not a backup" in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"pieces": 3}, {"pieces": [{}]}, {"pieces": [{"address": "x", "length": 1}]},
        {"size": None}, {"size": 1e999}, {"pieces": [{"address": -1, "length": 500}]},
        {"pieces": [{"address": 0, "length": 0}, {"address": 0, "length": 500}]},
        {"pieces": [{"address": 1 << 24, "length": 500}]},
        {"pieces": [{"address": 0, "length": 300}, {"address": 299, "length": 200}]},
        {"pieces": [{"address": 0, "length": 499}]}, {"pieces": [{"address": 0, "length": 501}]},
        {"pieces": []}, {"sha256": "00"},
    ],
)  # fmt: skip
def test_damaged_descriptions_are_refused(tmp_path: Path, change) -> None:
    saved = save(tmp_path)
    describing = saved.path.with_suffix(".json")
    describing.write_text(json.dumps({**json.loads(describing.read_text()), **change}))
    with pytest.raises(ImageError) as caught:
        backup.load(saved.path)
    assert caught.value.code == "backup.damaged"


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"pieces": []}', "\x00"])
def test_descriptions_that_are_none(tmp_path: Path, text: str) -> None:
    saved = save(tmp_path)
    saved.path.with_suffix(".json").write_text(text)
    with pytest.raises(ImageError) as caught:
        backup.load(saved.path)
    assert caught.value.code == "backup.damaged"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("a file")
    with pytest.raises(EnvironmentFault) as caught:
        save(tmp_path / "backups")
    assert (caught.value.code, caught.value.exit_code) == ("backup.unwritable", 3)


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EnvironmentFault, match="No space left") as caught:
        save(tmp_path)
    assert caught.value.code == "backup.unwritable"
    assert list(tmp_path.iterdir()) == []


def test_durable_means_flushed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "a", []
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", lambda _: seen.append(path.read_bytes()))
    backup.write_atomically(path, b"new")
    assert seen == [b"old", b"new"], "the file, then its folder"
    assert path.read_bytes() == b"new"
