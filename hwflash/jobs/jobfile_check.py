"""What can be known of a job before hardware is touched: its files, and what they say together.

Images are laid out, values are made for the first and the last number and for every line of the
CSV file. Whether the variables fit the store is tried in `hwflash.jobs.jobfile_trial`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Final

from hwflash.board_rules import Fault
from hwflash.boards import Board, load_board
from hwflash.bus.url import parse_url
from hwflash.errors import HwflashError, ImageError
from hwflash.jobs.job_numbers import mac_fault, serial_text
from hwflash.jobs.job_values import fault_of, placed_bytes, texts
from hwflash.jobs.jobfile_form import ImageTable, RegionTable, Value, to_mac
from hwflash.jobs.jobfile_rules import Parts, values_of
from hwflash.jobs.placeholders import UnitValues, placeholders
from hwflash.jobs.regions import EVERY, board_lookup, told_by
from hwflash.jobs.selection import RegionChoice, Selection, segments
from hwflash.jobs.unit_sheet import FAULTS_SHOWN, Sheet, read_sheet
from hwflash.layout import ifd
from hwflash.layout.files import Image, load_image
from hwflash.units import Range

#: In place of a number that only a command knows.
UNKNOWN: Final = "0"
BLOB_LIMIT: Final = 16 << 20


@dataclass(slots=True)
class Files:
    """What the files that a job names hold, by the names in it.

    Attributes:
        folder: where names are meant from.
        environ: environment variables, which say where boards are.
    """

    folder: Path
    environ: Mapping[str, str]
    board: Board | None = None
    images: dict[str, Image] = field(default_factory=dict[str, Image])
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    digests: dict[Path, str] = field(default_factory=dict[Path, str])
    sheet: Sheet | None = None

    def load(self, name: str) -> bytes:
        """A file with a value.

        Raises:
            ImageError: it was found to be unusable before (``job.file``).
        """
        if name not in self.blobs:
            raise ImageError(f"{name} cannot be used", code="job.file")
        return self.blobs[name]


def file_faults(parts: Parts, files: Files, identities: Mapping[str, str]) -> list[Fault]:
    """Everything wrong with the files of a job; what they hold goes to ``files``.

    Args:
        parts: the job file's sound tables.
        files: is filled.
        identities: columns of the CSV file that must not repeat.
    """
    faults = [*_board(parts, files), *_images(parts, files), *_blobs(parts, files)]
    faults += _sheet(parts, files, identities)
    faults += _commands(parts, files.folder)
    # A file that is no use is said to be so once, and not again by all that follows from it.
    bad = {fault.path for fault in faults}
    faults += [fault for fault in _places(parts, files) if fault.path not in bad]
    faults += [fault for fault in _values(parts, files) if fault.path not in bad]
    return faults


def samples(parts: Parts, sheet: Sheet | None) -> list[UnitValues]:
    """Values of units: with the first numbers, with the last, and with each line of the CSV."""
    serials, macs = _serials(parts), _macs(parts)
    lines = sheet.lines if sheet is not None else ()
    found: list[UnitValues] = []
    for number in range(max(len(serials), len(macs), len(lines), 1)):
        row: Mapping[str, str] = lines[number].values if number < len(lines) else {}
        serial = serials[min(number, len(serials) - 1)] if serials else None
        first = macs[min(number, len(macs) - 1)] if macs else None
        if parts.serial is not None and parts.serial.source == "csv":
            serial = row.get(parts.serial.column or "")
        if parts.mac is not None and parts.mac.source == "csv":
            first = _mac_of(row.get(parts.mac.column or "", ""))
        span = parts.mac.increment if parts.mac is not None else 1
        addresses = tuple(range(first, first + span)) if first is not None else ()
        found.append(UnitValues(serial, addresses, row, number + 1))
    return found


def _serials(parts: Parts) -> list[str]:
    table = parts.serial
    if table is None or table.source == "csv":
        return []
    if table.source == "command":
        return [UNKNOWN]
    ends = {table.start or 0, table.last if table.last is not None else table.start or 0}
    return [text for end in sorted(ends) if (text := serial_text(table, end)) is not None]


def _macs(parts: Parts) -> list[int]:
    table = parts.mac
    if table is None or table.source == "csv":
        return []
    if table.source == "command":
        return [0x020000000000]
    last = table.last - table.increment + 1 if table.last is not None else None
    return [end for end in (table.start, last) if end is not None]


def _mac_of(text: str) -> int | None:
    try:
        return to_mac(text)
    except ValueError:
        return None


def _board(parts: Parts, files: Files) -> Iterator[Fault]:
    if parts.job is None:
        return
    if parts.job.programmer is not None:
        try:
            parse_url(parts.job.programmer.replace("{unit}", "1"))
        except HwflashError as error:
            yield Fault("job.programmer", error.message)
    name = parts.job.board
    if name is None:
        if (parts.image is not None and parts.image.regions) or parts.region:
            yield Fault("job.board", "is missing: it says where the regions are")
        if parts.job.protected:
            yield Fault("job.protected", "has no use without job.board")
        return
    try:
        is_file = "/" in name or name.endswith(".toml")
        files.board = load_board(files.folder / name if is_file else name, files.environ)
    except HwflashError as error:
        yield Fault("job.board", error.message)
        return
    for index, region in enumerate(parts.job.protected):
        if region != EVERY and not may_have(files.board, region):
            yield Fault(f"job.protected[{index}]", f"is {region}, which the board does not have")


def may_have(board: Board, region: str) -> bool:
    """Whether a board has a region, or one that only its chip tells may have that name."""
    teller = told_by(board)
    return teller == "fmap" or region in (ifd.NAMES if teller == "ifd" else board.region_map())


def _images(parts: Parts, files: Files) -> Iterator[Fault]:
    for path, table in _image_tables(parts):
        name = files.folder / table.file
        if _no_file(name):
            yield Fault(f"{path}.file", f"{name} is no regular file")
            continue
        try:
            image = load_image(name, format=table.format)
        except HwflashError as error:
            yield Fault(f"{path}.file", error.message)
            continue
        files.images[table.file] = image
        files.digests[name] = image.sha256
        if table.sha256 is not None and table.sha256.lower() != image.sha256:
            yield Fault(f"{path}.sha256", f"is another than that of {name}: {image.sha256}")


def _no_file(path: Path) -> bool:
    """A pipe or a device cannot be read again for the next unit."""
    return path.exists() and not path.is_file()


def _image_tables(parts: Parts) -> list[tuple[str, ImageTable | RegionTable]]:
    found: list[tuple[str, ImageTable | RegionTable]] = []
    found += [("image", parts.image)] if parts.image is not None else []
    return found + [(f"region[{index}]", item) for index, item in parts.region]


def _blobs(parts: Parts, files: Files) -> Iterator[Fault]:
    for path, value in values_of(parts):
        named = [("file", value.file)]
        named += [("boot.optional_data", value.boot.optional_data)] if value.boot else []
        for key, name in named:
            if name is None:
                continue
            where = files.folder / name
            if _no_file(where):
                yield Fault(f"{path}.{key}", f"{where} is no regular file")
                continue
            try:
                with where.open("rb") as stream:
                    content = stream.read(BLOB_LIMIT + 1)
            except (OSError, ValueError) as error:
                text = error.strerror if isinstance(error, OSError) else str(error)
                yield Fault(f"{path}.{key}", f"{where} cannot be read: {text}")
                continue
            if not 0 < len(content) <= BLOB_LIMIT:
                what = "is empty" if not content else "is too large for a value"
                yield Fault(f"{path}.{key}", f"{where} {what}")
                continue
            files.blobs[name] = content
            files.digests[where] = hashlib.sha256(content).hexdigest()


def _sheet(parts: Parts, files: Files, identities: Mapping[str, str]) -> Iterator[Fault]:
    if parts.csv is None:
        return
    where = files.folder / parts.csv.file
    if _no_file(where):
        yield Fault("csv.file", f"{where} is no regular file")
        return
    files.sheet = read_sheet(where, identities)
    for fault in files.sheet.faults:
        yield Fault("csv.file", fault)
    if files.sheet.faults:
        return
    mac = parts.mac
    if mac is not None and mac.source == "csv" and mac.column is not None:
        for line in files.sheet.lines:
            address = _mac_of(line.values[mac.column])
            if address is not None and (fault := mac_fault(address, mac)):
                yield Fault("csv.file", f"line {line.number}: {line.values[mac.column]} {fault}")
    for path, value in values_of(parts):
        for key, text in texts(value):
            for name in _known(text):
                column = name.removeprefix("csv.")
                if name.startswith("csv.") and column not in files.sheet.columns:
                    yield Fault(f"{path}.{key}", f"has {{{name}}}, but there is no such column")


def _known(text: str) -> list[str]:
    try:
        return placeholders(text)
    except HwflashError:  # a fault of the rules
        return []


def _commands(parts: Parts, folder: Path) -> Iterator[Fault]:
    every = [(f"after[{index}].command", item.command) for index, item in parts.after]
    for role, table in (("serial", parts.serial), ("mac", parts.mac)):
        if table is not None and table.command:
            every.append((f"{role}.command", table.command))
    for path, words in every:
        program = words[0]
        where = str(folder / program) if "/" in program else program
        if shutil.which(where) is None:
            yield Fault(f"{path}[0]", f"{program} is no program that can be run")


def _places(parts: Parts, files: Files) -> Iterator[Fault]:
    """Where images, regions and bytes come to lie."""
    size = _size(parts, files)
    covered: list[Range] = []
    found: list[tuple[str, list[Range]]] = []
    for path, table in _image_tables(parts):
        image = files.images.get(table.file)
        if image is None or (isinstance(table, ImageTable) and table.at and table.regions):
            continue
        regions = table.regions if isinstance(table, ImageTable) else [table.name]
        at = table.at if isinstance(table, ImageTable) else None
        if regions and files.board is None:
            continue
        if regions and told_by(files.board) is not None:  # where they are is seen on the chip
            yield from _names_on_chip(path, table, files)
            continue
        selection = Selection(at=at, regions=tuple(RegionChoice(name) for name in regions))
        try:
            parts_of_it = segments(selection, image, load_image, size, board_lookup(files.board))
        except HwflashError as error:
            key = "regions" if isinstance(table, ImageTable) and regions else "file"
            yield Fault(f"{path}.{'name' if error.code == 'usage.region' else key}", error.message)
            continue
        ranges = [segment.range for segment in parts_of_it]
        for place in ranges:
            if place.end > size:
                yield Fault(f"{path}.file", f"reaches to 0x{place.end - 1:X}, beyond the flash")
        covered += ranges
        if path != "image":
            found.append((path, ranges))
    for index, item in parts.bytes:
        place = Range(item.at, item.length or 1)
        if place.end > size and files.board is not None:
            yield Fault(f"bytes[{index}].at", f"reaches to 0x{place.end - 1:X}, beyond the flash")
        covered.append(place)
        found.append((f"bytes[{index}]", [place]))
    yield from _overlaps(found)
    yield from _protected(parts, files.board, covered)


def _names_on_chip(path: str, table: ImageTable | RegionTable, files: Files) -> Iterator[Fault]:
    names = (
        {f"regions[{index}]": name for index, name in enumerate(table.regions)}
        if isinstance(table, ImageTable) else {"name": table.name}
    )  # fmt: skip
    for key, name in names.items():
        if files.board is not None and not may_have(files.board, name):
            yield Fault(f"{path}.{key}", f"is {name}, which no flash descriptor has")


def _size(parts: Parts, files: Files) -> int:
    """Size of the flash: the board's, or that of an image that is meant to fill it."""
    if files.board is not None:
        return files.board.flash.size
    table = parts.image
    image = files.images.get(table.file) if table is not None else None
    if table is not None and image is not None and table.at is None and not image.absolute:
        return image.size
    return 1 << 32


def _overlaps(found: Sequence[tuple[str, list[Range]]]) -> Iterator[Fault]:
    """Bytes may lie in a region, but not two of a kind over each other."""
    for (one, first), (two, second) in combinations(found, 2):
        if one[:5] == two[:5] and any(a.overlaps(b) for a in first for b in second):
            yield Fault(two, f"overlaps {one}")


def _protected(parts: Parts, board: Board | None, covered: Sequence[Range]) -> Iterator[Fault]:
    if board is None or parts.job is None:
        return
    named = {*parts.job.protected, *(item.name for _, item in parts.region)}
    named |= set(parts.image.regions) if parts.image is not None else set()
    for region in board.region_map():
        touched = any(item.overlaps(region.range) for item in covered)
        if region.protected and touched and not {region.name, EVERY} & named:
            text = f"does not name {region.name}, which the board protects and the job writes"
            yield Fault("job.protected", text)


def _values(parts: Parts, files: Files) -> Iterator[Fault]:
    """Each value for each sample; the first fault of each is enough."""
    units = samples(parts, files.sheet)
    unsure = _unsure(parts, files.sheet)
    said = 0
    for path, value in values_of(parts):
        if not _judgeable(value, unsure):
            continue
        for number, unit in enumerate(units):
            fault = fault_of(value, unit, files.load)
            if fault is None:
                continue
            key, message = fault
            line = files.sheet.lines[number].number if files.sheet and files.sheet.lines else None
            where = f" (line {line} of the CSV file)" if line is not None else ""
            yield Fault(f"{path}.{key}" if key else path, message + where)
            said += 1
            break
        if said >= FAULTS_SHOWN:
            return
    yield from _outgrown(parts, files, units)


def _unsure(parts: Parts, sheet: Sheet | None) -> set[str]:
    """What there are no samples of: a command gives it, or it has faults of its own."""
    no_lines = sheet is None or bool(sheet.faults)
    found = {"csv"} if no_lines else set[str]()
    for role, table, known in (
        ("serial", parts.serial, _serials(parts)), ("mac", parts.mac, _macs(parts))
    ):  # fmt: skip
        source = table.source if table is not None else None
        if source in (None, "command") or (no_lines if source == "csv" else not known):
            found.add(role)
    return found


def _judgeable(value: Value, unsure: set[str]) -> bool:
    """Whether a value is known before a command has given its number."""
    if len(value.given()) != 1:
        return False
    names = [name.lower() for _, text in texts(value) for name in _known(text)]
    return not any(name.startswith(role) for name in names for role in unsure)


def _outgrown(parts: Parts, files: Files, units: Sequence[UnitValues]) -> Iterator[Fault]:
    """Bytes without a length whose end depends on the value."""
    size = _size(parts, files)
    if files.board is None:
        return
    for index, item in parts.bytes:
        if item.length is not None or len(item.given()) != 1:
            continue
        try:
            end = max(placed_bytes(item, unit, files.load).range.end for unit in units)
        except HwflashError:
            continue
        if end > size:
            yield Fault(f"bytes[{index}].at", f"reaches to 0x{end - 1:X}, beyond the flash")
