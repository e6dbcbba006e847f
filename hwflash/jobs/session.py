"""A programmer opened and its chip identified: where every job begins."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hwflash.boards import Board
from hwflash.bus.url import parse_url
from hwflash.chip import catalog
from hwflash.chip.model import Chip, DieAccess
from hwflash.chip.protection import ProtectionState, locked
from hwflash.chip.twins import same_blocks
from hwflash.errors import (
    ChipError,
    ChipProtected,
    ChipUnsupported,
    HwflashError,
    ImageError,
    UsageError,
)
from hwflash.flash.identify import Identity, identify
from hwflash.flash.nor import NorFlash
from hwflash.flash.protection import ProtectionAccess
from hwflash.flash.steady import until_steady
from hwflash.jobs.opening import Request, open_programmer, remembered_clock
from hwflash.jobs.programmer import Programmer
from hwflash.jobs.regions import ChipLayout, read_layout_file, volume_region
from hwflash.jobs.voltage import require_board_voltage, require_chip_voltage
from hwflash.layout.regions import Region, RegionMap
from hwflash.progress import NullReporter, Reporter
from hwflash.units import Range, format_hz, subtract_ranges

_log = logging.getLogger(__name__)


class Session:
    """A programmer and the chip on it.

    Attributes:
        programmer: the programmer.
        identity: what the chip answered.
        flash: the chip as a flash device.
        board: the board, or None.
        layout: what the chip tells of its regions itself.
    """

    def __init__(
        self,
        programmer: Programmer,
        identity: Identity,
        board: Board | None,
        reporter: Reporter | None = None,
    ) -> None:
        self.programmer = programmer
        self.identity = identity
        self.board = board
        self.flash = NorFlash(programmer.bus, identity.chip)
        self._regions: RegionMap | None = None
        self._layout_file = False
        self.layout = ChipLayout(self.flash)
        self._reporter = reporter or NullReporter()
        self._started = programmer.bus.clock.now()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def chip(self) -> Chip:
        """What the chip is."""
        return self.identity.chip

    @property
    def seconds(self) -> float:
        """Time since the chip was identified: real, or modelled on a simulated programmer."""
        return self.programmer.bus.clock.now() - self._started

    def use_layout(self, file: Path | None) -> None:
        """Take the regions from a layout file of flashrom, when one is named.

        Such a file cannot say what is protected: that stays what board or chip says.

        Raises:
            ImageError: see `hwflash.jobs.regions.read_layout_file`.
        """
        if file is not None:
            self._regions = read_layout_file(file, self.chip.size)
            self._layout_file = True

    def regions(self) -> RegionMap:
        """The regions of the chip: by a layout file, the board file, or the chip itself.

        Raises:
            ImageError: the board says that the chip tells them, and it does not.
            BusUnstable: two reads of what tells them differ at any clock.
        """
        if self._regions is None:
            # Asked for before a job begins, too, which would slow down by itself.
            self._regions = until_steady(self.programmer.bus, self._reporter, self._told)
        return self._regions

    def guarded(self, named: frozenset[str], *, chip: bool = True) -> tuple[Region, ...]:
        """The regions, and what else is protected: by the board file, and by the chip itself.

        Args:
            named: what the user named: what lies in such a region is left out of the rest.
            chip: with what the chip itself protects.

        Raises:
            BusUnstable: two reads of the start of the chip differ.
        """
        regions = self._known_regions()
        others = list(self.layout.protected()) if chip else []
        if self._layout_file:
            others += [item for item in self._by_board() if item.protected]
        left = [
            replace(item, range=piece)
            for item in others
            if item not in regions.regions
            for piece in self.unnamed(item.range, named)
        ]
        return (*regions, *left)

    def unnamed(self, place: Range, named: frozenset[str]) -> list[Range]:
        """What of a range lies in no region that was named."""
        meant = [item.range for item in self._known_regions() if item.name in named]
        return subtract_ranges([place], meant)

    def _known_regions(self) -> RegionMap:
        return self.regions() if self._layout_file else self._by_board()

    def _by_board(self) -> RegionMap:
        """The regions without a layout file; none where the chip does not tell them as it should.

        What the board says and the chip lacks is found in `hwflash.jobs.expectations`.
        """
        try:
            return self._told()
        except ImageError:
            return RegionMap((), self.chip.size)

    def _told(self) -> RegionMap:
        board = self.board
        if board is not None and board.region:
            return board.region_map()
        return self.layout.regions(board)

    def region(self, name: str) -> Range:
        """Where a region is, or a firmware volume by its GUID, or an area of the chip's FMAP.

        Raises:
            UsageError: there is none of that name (``usage.region``), or nothing tells any
                (``usage.region-board``).
            ImageError: the chip's descriptor cannot be used.
        """
        found = self.regions()
        if name not in found:
            volume = volume_region(name, lambda: self.flash.read(0, self.chip.size))
            if volume is not None:
                return volume.range
            areas = self.layout.areas() if self.board is None else None
            if areas is not None and name in areas:
                return areas[name].range
        if not found.regions:
            if self.layout.problem is not None:
                raise self.layout.problem
            raise UsageError(
                f"region {name} needs a board or a layout that says where it is",
                code="usage.region-board",
                region=name,
            )
        return found[name].range

    def protection(self) -> ProtectionState:
        """Which bytes are locked at present."""
        return self._protection(self.chip, self.flash.registers(), self.flash.block_protection())

    def _protection(
        self,
        chip: Chip,
        registers: dict[int, int],
        bpr: bytes | None = None,
        places: list[Range] | None = None,
    ) -> ProtectionState:
        """What registers lock, with the locks that registers do not tell (of some places)."""
        access = ProtectionAccess(self.flash)
        sectors = access.sectors(places)
        state = locked(chip, registers, bpr, security=access.security(), sectors=sectors)
        if state.individual and chip.protection.wps is not None:
            return locked(chip, registers, individual=access.read().individual)
        return state

    def unique_id(self) -> str | None:
        """The chip's unique id in hex, or None when it has none that can be told."""
        return self.flash.unique_id()

    def stats(self) -> dict[str, Any]:
        """Transfers, erases, programs and retries so far; modelled time where it is."""
        found: dict[str, Any] = dict(self.programmer.bus.stats.as_dict())
        found["erases"] = {str(size): count for size, count in sorted(self.flash.erases.items())}
        found["programs"] = self.flash.pages.programs
        found["retries"] = self.flash.pages.retries
        found["page_wait"] = round(self.flash.pages.wait.seconds, 9)
        found["frequency"] = self.programmer.bus.frequency
        if self.programmer.simulated:
            found["modelled_seconds"] = round(self.seconds, 6)
        return found

    def require_writable(self) -> None:
        """Refuse to write by facts that are in doubt.

        Raises:
            ChipUnsupported: SFDP and catalog contradict each other on size or erase blocks
                (``chip.conflict``); parts that answer alike have other erase blocks
                (``chip.ambiguous``); a die must be selected, and no source confirms how
                (``chip.stacked``).
        """
        resolved = self.identity.resolved
        if self.chip.dies.access is DieAccess.SELECT and resolved.source != "override":
            raise ChipUnsupported(
                f"{self.chip.part} is a stack whose dies are selected one by one, and how is an "
                "assumption",
                code="chip.stacked",
                part=self.chip.part,
            )
        others = [twin.part for twin in resolved.twins if not same_blocks(self.chip, twin)]
        if others and resolved.source == "catalog":
            raise ChipUnsupported(
                f"the chip may be {self.chip.part} or {', '.join(others)}, and their erase blocks "
                "differ",
                code="chip.ambiguous",
                parts=[self.chip.part, *others],
            )
        dangerous = [str(item) for item in resolved.doubts]
        if dangerous:
            raise ChipUnsupported(
                f"SFDP and catalog disagree about {self.chip.part}: {'; '.join(dangerous)}",
                code="chip.conflict",
                part=self.chip.part,
                conflicts=dangerous,
            )

    def require_unlocked(self, changed: list[Range]) -> None:
        """Refuse to change bytes that the chip's protection covers.

        Where the chip cannot be told from its twins, what any of them would lock is locked.
        Locks that are volatile by nature (SST26) are lifted by the write itself.

        Raises:
            ChipProtected: some byte is locked.
        """
        if self.flash.block_protection() is not None:
            return
        for chip in (self.chip, *self.identity.resolved.twins):
            state = self._protection(chip, self.flash.registers(chip), places=changed)
            hit = [span for span in state.ranges if any(span.overlaps(item) for item in changed)]
            if not hit:
                continue
            raise ChipProtected(
                f"the chip's protection covers {', '.join(map(str, hit))}, which is to be changed",
                part=chip.part,
                ranges=[{"address": item.address, "length": item.length} for item in hit],
                summary=state.summary,
            )

    def close(self) -> None:
        """Leave the chip as it was found and release the programmer."""
        try:
            self.flash.close()
        except HwflashError as exc:
            # No error of its own: what the job did or did not do stands.
            _log.error("the chip could not be put back into 3-byte addressing: %s", exc)
        finally:
            self.programmer.release()


def open_session(request: Request, reporter: Reporter) -> Session:
    """Open the programmer, identify the chip, hold it against the board.

    Raises:
        ProgrammerError: no programmer, several, busy, or not accessible.
        ChipError: no chip, an unknown one, or not the one the board expects.
        UsageError: a bad URL or chip name.
    """
    require_board_voltage(request)
    override = _override(request)
    programmer = open_programmer(request)
    try:
        _tell_clock(request, programmer, reporter)
        library = catalog.load()
        identity = until_steady(
            programmer.bus,
            reporter,
            lambda: identify(
                programmer.bus,
                lambda jedec_id: [part.chip for part in library.by_jedec_id(jedec_id)],
                override=override,
                size=request.size,
            ),
        )
        _report(identity, reporter)
        _require_board_chip(request, identity)
        require_chip_voltage(request, identity.chip)
        return Session(programmer, identity, request.board, reporter)
    except BaseException:
        programmer.release()
        raise


def _tell_clock(request: Request, programmer: Programmer, reporter: Reporter) -> None:
    if remembered_clock(request, parse_url(programmer.url)) is not None:
        hertz = programmer.bus.frequency
        reporter.info(
            f"SCK is {format_hz(hertz)}: the contact test found no faster one good",
            frequency=hertz,
        )


def _override(request: Request) -> Chip | None:
    if request.chip_file is not None:
        parts = catalog.load_file(request.chip_file)
        if request.chip is None:
            if len(parts) == 1:
                return parts[0].chip
            raise UsageError(
                f"{request.chip_file} describes {len(parts)} parts; say which with --chip",
                code="usage.chip",
                parts=[part.chip.part for part in parts],
            )
        return catalog.Catalog(parts).by_name(request.chip).chip
    return catalog.load().by_name(request.chip).chip if request.chip else None


def _report(identity: Identity, reporter: Reporter) -> None:
    if identity.woken:
        reporter.info("the chip was in deep power-down and was woken (ABh)")
    if identity.ruled_out:
        reporter.info(
            "status register 3 (15h) reads FF, so it is not there: the chip is no "
            + " and no ".join(identity.ruled_out)
        )
    known = identity.chip.jedec_id
    if not identity.extended_id.startswith(known[: len(identity.extended_id)]):
        reporter.warning(
            f"the chip answers id {identity.jedec_id.hex()}, but {identity.chip.part} has "
            f"{known.hex()}",
            found=identity.jedec_id.hex(),
            expected=known.hex(),
        )
    for conflict in identity.resolved.conflicts:
        reporter.warning(
            f"conflict in {conflict}",
            field=conflict.field,
            sfdp=conflict.sfdp,
            catalog=conflict.catalog,
        )
    if identity.problem is not None:
        reporter.warning(
            f"the chip's SFDP tables cannot be used: {identity.problem}",
            code=identity.problem.code,
        )


def board_ids(board: Board) -> set[bytes]:
    """JEDEC ids of the parts that may be fitted on a board; none: any."""
    return {
        *(catalog.load().by_name(name).chip.jedec_id for name in board.flash.chip),
        *([bytes.fromhex(board.flash.jedec_id)] if board.flash.jedec_id else []),
    }


def answers_as(found: bytes, expected: set[bytes]) -> bool:
    """Whether an id that was read is one of those expected, as far as they are given."""
    return any(found.startswith(known[: len(found)]) for known in expected)


def _require_board_chip(request: Request, identity: Identity) -> None:
    board = request.board
    if board is None or request.chip is not None:
        return
    expected = board_ids(board)
    found = identity.extended_id
    if expected and not answers_as(found, expected):
        wanted = sorted(known.hex() for known in expected)
        raise ChipError(
            f"board {board.name} has a chip with id {' or '.join(wanted)}, "
            f"found {identity.jedec_id.hex()} ({identity.chip.part})",
            code="board.other-chip",
            board=board.name,
            expected=wanted,
            found=identity.jedec_id.hex(),
        )
    if identity.chip.size != board.flash.size:
        raise ChipError(
            f"board {board.name} has a chip of {board.flash.size} bytes, "
            f"found {identity.chip.size}",
            code="board.other-size",
            board=board.name,
            expected=board.flash.size,
            found=identity.chip.size,
        )
