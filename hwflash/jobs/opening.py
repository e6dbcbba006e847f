"""From a programmer URL, a board or nothing at all to an open programmer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hwflash.boards import Board
from hwflash.bus.discovery import FoundProgrammer, find_all, select
from hwflash.bus.ftdi import Ft232hBus
from hwflash.bus.pins import PinUse
from hwflash.bus.url import ProgrammerUrl, parse_url
from hwflash.errors import ProgrammerAbsent, ProgrammerError
from hwflash.jobs import clocks
from hwflash.jobs.lock import ProgrammerLock, require_off
from hwflash.jobs.programmer import Programmer, open_replay, open_serprog, recorded
from hwflash.jobs.qemu_programmer import open_qemu
from hwflash.jobs.simulated import simulate
from hwflash.state import state_dir

ENVIRONMENT: Final = "HWFLASH_PROGRAMMER"
DEFAULT_FREQUENCY: Final = 30e6


@dataclass(frozen=True, slots=True)
class Request:
    """What the user said about programmer and chip.

    Attributes:
        programmer: URL, or None to take the environment's, the board's, or the only one.
        board: the board, or None.
        chip: name of the part the user insists on.
        chip_file: catalog file to look it up in first.
        size: size of the chip the user insists on, in bytes.
        frequency: highest SCK in hertz, or None for the board's or the default.
        any_clock: take no notice of the clock that a contact test found.
        allow_voltage: the user says a chip below 3.3 V is properly level-shifted.
        environ: environment variables.
    """

    programmer: str | None = None
    board: Board | None = None
    chip: str | None = None
    chip_file: Path | None = None
    size: int | None = None
    frequency: float | None = None
    any_clock: bool = False
    allow_voltage: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


def open_programmer(request: Request, *, idle: bool = False) -> Programmer:
    """Open a programmer without looking for a chip.

    Args:
        request: which one.
        idle: leave the bus to the board, and the board without supply; an FT232H only.

    Raises:
        ProgrammerError: no programmer, several, busy, or not accessible; or the board is
            switched on (``power.board-on``).
        UsageError: a bad URL.
    """
    text = programmer_text(request)
    if text is None:
        text = _only_one()
    if request.board is not None and not idle:
        require_off(locks(request), board_key(request.board))
    return _open(parse_url(text), request, idle)


def programmer_key(request: Request) -> str | None:
    """The name under which a programmer is locked; None where none is attached, or it has none.

    Raises:
        UsageError: a bad URL.
    """
    text = programmer_text(request)
    try:
        url = parse_url(text if text is not None else _only_one())
        url = url.inner or url
        if url.scheme == "ftdi":
            return _key_of(select(find_all(), url.selector, url.text))
    except ProgrammerError:
        return None
    image = url.options.get("image")
    return f"sim-{Path(image).resolve()}" if image else None


def clock_key(request: Request) -> str:
    """The name under which the clock is remembered that a contact test found good.

    Raises:
        ProgrammerError: no programmer, or several.
        UsageError: a bad URL.
    """
    text = programmer_text(request)
    name = programmer_key(request) or parse_url(text if text is not None else _only_one()).lasting
    return f"{request.board.name if request.board is not None else 'any board'} on {name}"


def remembered_clock(request: Request, url: ProgrammerUrl) -> float | None:
    """The clock in hertz that a contact test left as the highest, where it is a limit."""
    asked = request.frequency or "frequency" in url.options or request.any_clock
    if asked or not clocks.any_remembered(request.environ):
        return None
    kept = clocks.remembered(request.environ, clock_key(request))
    return kept if kept is not None and kept < _board_frequency(request.board) else None


def board_key(board: Board) -> str:
    """The name under which a board is marked as switched on."""
    return f"board-{board.name}"


def locks(request: Request) -> Path:
    """The folder with the locks of programmers and boards."""
    return state_dir(request.environ) / "locks"


def programmer_text(request: Request) -> str | None:
    """The URL that was given, or the environment's, or the board's; None is the only one."""
    if request.programmer is not None:  # an empty -p is a mistake of a script, not no wish
        return request.programmer
    return request.environ.get(ENVIRONMENT) or _board_url(request.board)


def _open(url: ProgrammerUrl, request: Request, idle: bool) -> Programmer:
    if url.inner is not None:
        return recorded(_open(url.inner, request, idle), Path(url.target))
    match url.scheme:
        case "sim":
            return _open_simulated(url, request, idle)
        case "qemu":
            return open_qemu(url, _frequency(url, request), lambda key: _lock(request, key))
        case "serprog":
            return open_serprog(url, _frequency(url, request))
        case "replay":
            return open_replay(url)
        case _:
            return _open_ftdi(url, request, idle)


def _only_one() -> str:
    found = find_all()
    if not found:
        raise ProgrammerAbsent("no programmer is attached", attached=[])
    if len(found) > 1:
        raise ProgrammerError(
            f"{len(found)} programmers are attached; say which",
            code="programmer.ambiguous",
            attached=[item.url for item in found],
        )
    return found[0].url


def _key_of(found: FoundProgrammer) -> str:
    return f"ftdi-{found.bus}-{'.'.join(map(str, found.path)) or found.address}"


def _open_ftdi(url: ProgrammerUrl, request: Request, idle: bool) -> Programmer:
    found = select(find_all(), url.selector, url.text)
    lock = _lock(request, _key_of(found))
    return _open_bus(url, request, found.device, found.name, lock.release, idle=idle)


def _open_simulated(url: ProgrammerUrl, request: Request, idle: bool) -> Programmer:
    simulated, release = simulate(url, request.environ)
    name = f"simulated FT232H with {simulated.chip.part}"
    return _open_bus(url, request, simulated.device, name, release, simulated.clock, idle=idle)


def _open_bus(
    url: ProgrammerUrl,
    request: Request,
    device: Any,
    name: str,
    release: Callable[[], None],
    clock: Any = None,
    *,
    idle: bool = False,
) -> Programmer:
    try:
        pins = _pins(url, request.board)
        bus = Ft232hBus(
            device,
            frequency=_frequency(url, request),
            pins=pins,
            latency=url.integer("latency", 16, 1, 255),
            timer_waits=url.choice("wait", _board_wait(request.board), ("clock", "timer"))
            == "timer",
            idle=idle,
            clock=clock,
            name=name,
        )
    except BaseException:
        release()
        raise

    def release_all() -> None:
        bus.close()
        release()

    if pins.power is not None and request.board is not None and not idle:
        bus.clock.sleep(request.board.power.settle)
    return Programmer(url.lasting, name, bus, url.scheme == "sim", release_all)


def _frequency(url: ProgrammerUrl, request: Request) -> float:
    wanted = request.frequency or remembered_clock(request, url)
    return wanted or url.frequency(_board_frequency(request.board))


def _board_url(board: Board | None) -> str | None:
    return board.programmer.url if board is not None else None


def _board_frequency(board: Board | None) -> float:
    return (board.programmer.frequency if board is not None else None) or DEFAULT_FREQUENCY


def _board_wait(board: Board | None) -> str:
    return board.programmer.wait if board is not None else "clock"


def _lock(request: Request, key: str) -> ProgrammerLock:
    return ProgrammerLock(locks(request), key)


def _pins(url: ProgrammerUrl, board: Board | None) -> PinUse:
    """Pins as the URL says, else as the board says, else as `PinUse` has them."""
    usual = PinUse()
    wiring = board.programmer if board is not None else None
    named = {
        "wp": wiring.wp if wiring and wiring.wp else usual.wp,
        "hold": wiring.hold if wiring and wiring.hold else usual.hold,
        "reset": wiring.reset if wiring else None,
        "power": wiring.power if wiring else None,
    }
    if url.scheme == "ftdi":  # on a simulated programmer wp is the level of the chip's pin
        for use in named:
            text = url.options.get(use)
            if text is not None:
                named[use] = None if text == "none" else text
    return PinUse(cs=url.integer("cs", 0, 0, 4), **named)
