"""What a chip says of its own regions protects it, whatever a board file or a job file adds."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Notes
from test_expectations import AREAS, MAP, PLACES, SIZE, Desk, content, descriptor, table

from hwflash.errors import HwflashError, UsageError
from hwflash.jobs.jobfile import check_job, load_job
from hwflash.jobs.jobrun import Run, run_unit
from hwflash.jobs.opening import Request
from hwflash.jobs.prepare import require_regions
from hwflash.jobs.regions import EVERY
from hwflash.jobs.session import open_session
from hwflash.jobs.write import WriteOptions, write
from hwflash.layout.files import Segment
from hwflash.layout.regions import Region
from hwflash.progress import CancelToken
from hwflash.units import Range

BARE = 'name = "b"\ndescription = "x"\n[flash]\nchip = "W25Q80DV"\nsize = "1M"\n'
REGIONS = BARE + '[[region]]\nname = "low"\nstart = 0x2000\nlength = 0x2000\n'
GOOD = content()
UNUSABLE = content(fd=bytes(descriptor(1, {**PLACES, 1: (0, SIZE - 1)}, density=(1,))))
BOOT_ONLY = [("WP_RO", 0x80000, 0x80000, 4), *AREAS]
MAPPED = content(fd=b"", map=table(BOOT_ONLY, SIZE))
DECOY = table([("A", 0x1000, 0x1000, 0)], SIZE)
BROKEN = table([("A", 0x1000, SIZE, 0)], SIZE)


def attempt(desk: Desk, old: bytes, at: int, *named: str, length: int = 4) -> str | None:
    """Write into a region; the code of the refusal, or None."""
    desk.image.write_bytes(old)
    how = WriteOptions(desk.state, named_regions=frozenset(named))
    with open_session(desk.request, desk.notes) as session:
        try:
            write(session, [Segment(at, bytes(length))], how, desk.notes, CancelToken())
        except HwflashError as error:
            assert desk.image.read_bytes() == old
            return f"{error.code} {error.context.get('region', '')}".strip()
    new = old[:at] + bytes(length) + old[at + length :]
    assert desk.image.read_bytes() == new
    return None


ME, GBE, FD = (f"usage.protected-region {name}" for name in ("me", "gbe", "fd"))
CASES = [
    # Regions of a board file are added to what the descriptor protects; named ones open it.
    (REGIONS, GOOD, 0x3010, (), ME),
    (REGIONS, GOOD, 0x3010, ("low",), None),
    (REGIONS, GOOD, 0x4010, ("low",), ME),
    (REGIONS, GOOD, 0x2010, (), GBE),
    (REGIONS, GOOD, 0x50000, (), None),
    (REGIONS, GOOD, 0x10, (EVERY,), None),
    # No board kind opens the descriptor either.
    (BARE + '[layout]\nkind = "fmap"\n', GOOD, 0x3010, (), ME),
    # A descriptor that cannot be used: nothing is known but that it is there.
    (BARE, UNUSABLE, 0x10, (), "usage.unusable-descriptor"),
    (BARE, UNUSABLE, 0x10, (EVERY,), None),
    (BARE, UNUSABLE, 0x50000, (), None),
    (BARE + '[[region]]\nname = "fd"\nstart = 0\nlength = 0x1000\n', UNUSABLE, 0x10, ("fd",), None),
    (BARE + '[layout]\nkind = "ifd"\n', UNUSABLE, 0x10, (EVERY,), "board.other-descriptor"),
    # Read-only areas of an FMAP, with any kind of board and with none.
    (BARE, MAPPED, 0x90000, (), "usage.protected-region WP_RO"),
    (REGIONS, MAPPED, 0x70000, (), None),
    (BARE, MAPPED, 0x90000, (EVERY,), None),
    # A map that comes before it, of whatever kind, takes none of that away.
    (BARE, DECOY + MAPPED[len(DECOY) :], 0x90000, (), "usage.protected-region WP_RO"),
    (BARE, BROKEN + MAPPED[len(BROKEN) :], 0x90000, (), "usage.protected-region WP_RO"),
]  # fmt: skip


def test_who_protects_what(tmp_path: Path) -> None:
    for board, old, at, named, expected in CASES:
        assert attempt(Desk(tmp_path, board), old, at, *named) == expected, (board, at, named)


def test_a_protected_region_belongs_to_who_names_it(tmp_path: Path) -> None:
    board = Desk(tmp_path, REGIONS).board
    for name, owner in (("me", "the chip's layout"), ("low", f"board {board.name}")):
        place = Range(0x3000, 0x1000)
        with pytest.raises(UsageError, match=f"region {name} .* of {owner} is protected"):
            require_regions([Region(name, place, True)], board, [place], frozenset())


@pytest.mark.slow
def test_a_whole_chip_with_an_unusable_descriptor(tmp_path: Path) -> None:
    desk = Desk(tmp_path, BARE)
    assert attempt(desk, UNUSABLE, 0, length=SIZE) == "usage.unusable-descriptor"
    assert attempt(desk, UNUSABLE, 0, EVERY, length=SIZE) is None


def test_a_map_that_is_read_anyway_protects_too(tmp_path: Path) -> None:
    """It is not at a multiple of 64 KiB."""
    data = bytearray(content(fd=b"", map=b""))
    data[MAP + 0x1000 : MAP + 0x1200] = table(BOOT_ONLY, SIZE).ljust(0x200, b"\xff")
    desk = Desk(tmp_path, BARE)
    assert attempt(desk, bytes(data), MAP + 0x1800) == "usage.protected-region WP_RO"


def test_a_layout_file_does_not_open_a_map_that_the_board_says_is_there(tmp_path: Path) -> None:
    data = bytearray(content(fd=b"", map=b""))
    data[MAP + 0x1000 : MAP + 0x1200] = table(BOOT_ONLY, SIZE).ljust(0x200, b"\xff")
    desk = Desk(tmp_path, BARE + '[layout]\nkind = "fmap"\n')
    desk.image.write_bytes(data)
    (tmp_path / "x.layout").write_text("90000:9ffff mine\na0000:affff other\n")
    with open_session(desk.request, desk.notes) as session:
        session.use_layout(tmp_path / "x.layout")
        found = session.guarded(frozenset({"mine"}))
    places = [str(item.range) for item in found if item.name == "WP_RO"]
    assert places == ["0x080000-0x08FFFF", "0x0A0000-0x0FFFFF"]


def test_a_bad_bit_in_the_descriptor_is_read_again_more_slowly(tmp_path: Path) -> None:
    desk = Desk(tmp_path, BARE)
    desk.image.write_bytes(GOOD)
    url = f"sim://w25q80?image={desk.image}&faults=flip=0.0002@20M"
    request = Request(url, desk.board, environ=desk.request.environ)
    with open_session(request, desk.notes) as session:
        how = WriteOptions(desk.state)
        write(session, [Segment(0x50000, b"new")], how, desk.notes, CancelToken())
    assert any(told.get("code") == "chip.unstable-read" for _, told in desk.notes.warnings)
    assert desk.image.read_bytes()[0x50000:0x50003] == b"new"


def test_a_region_that_is_named_slows_the_bus_down_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path, BARE)
    desk.image.write_bytes(GOOD)
    url = f"sim://w25q80?image={desk.image}&faults=flip=0.0002@20M"
    with open_session(Request(url, None, environ=desk.request.environ), desk.notes) as session:
        assert str(session.region("me")) == "0x003000-0x03FFFF"
    assert any(told.get("code") == "chip.unstable-read" for _, told in desk.notes.warnings)


JOB = '[job]\nname = "j"\nboard = "bench.toml"\n[[region]]\nname = "{}"\nfile = "part.bin"\n'


@pytest.mark.parametrize(
    ("kind", "name", "faults", "code", "at"),
    [
        ("ifd", "me", [], None, 0x3000),
        ("ifd", "pd", [], "usage.region", 0),
        ("ifd", "nvram", ["region[0].name: is nvram, which no flash descriptor has"], None, 0),
        ("fmap", "COREBOOT", [], None, MAP + 0x1000),
        ("fmap", "nvram", [], "usage.region", 0),
    ],
)
def test_a_job_names_regions_that_only_the_chip_tells(
    tmp_path: Path, kind: str, name: str, faults: list[str], code: str | None, at: int
) -> None:
    desk = Desk(tmp_path, f'{BARE}[layout]\nkind = "{kind}"\n')
    desk.image.write_bytes(GOOD)
    (tmp_path / "part.bin").write_bytes(b"part")
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(name))
    environ = desk.request.environ
    checked = check_job(job, environ)
    assert [str(fault) for fault in checked.faults] == faults
    if faults:
        return
    assert any("only the chip tells" in note for note in checked.notes)
    batch = load_job(job, environ)
    run = Run(batch, lambda _: desk.request, None, desk.state, Notes(), CancelToken())
    result = run_unit(run, 1)
    assert (result.error.code if result.error else None) == code
    new = GOOD[:at] + b"part" + GOOD[at + 4 :] if code is None else GOOD
    assert desk.image.read_bytes() == new


def test_a_job_may_name_every_region(tmp_path: Path) -> None:
    desk = Desk(tmp_path, BARE)
    (tmp_path / "part.bin").write_bytes(b"part")
    job = tmp_path / "job.toml"
    text = '[job]\nname = "j"\nboard = "bench.toml"\n{}[image]\nfile = "part.bin"\nat = 0\n'
    for protected, code in (("", "usage.unusable-descriptor"), ('protected = ["*"]\n', None)):
        desk.image.write_bytes(UNUSABLE)
        job.write_text(text.format(protected))
        batch = load_job(job, desk.request.environ)
        run = Run(batch, lambda _: desk.request, None, desk.state, Notes(), CancelToken())
        error = run_unit(run, 1).error
        assert (error.code if error else None) == code
