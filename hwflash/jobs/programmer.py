"""An open programmer, and the roads to one that are not an FT232H."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hwflash.bus.spi import SpiBus
from hwflash.bus.url import ProgrammerUrl

DEFAULT_BAUD: Final = 115200
BAUD_LIMIT: Final = 12_000_000


@dataclass(slots=True)
class Programmer:
    """An open programmer.

    Attributes:
        url: URL that opens it again.
        name: how messages call it.
        bus: the bus.
        simulated: time is modelled, not real.
        release: closes everything that stands behind the bus.
    """

    url: str
    name: str
    bus: SpiBus
    simulated: bool
    release: Callable[[], None]


def open_serprog(url: ProgrammerUrl, frequency: float) -> Programmer:
    """A serprog device at a serial port or across the network.

    Args:
        url: a ``serprog`` URL.
        frequency: highest SCK in hertz.

    Raises:
        ProgrammerError: absent, busy, not accessible, or not what it should be; see
            `hwflash.bus.serprog.SerprogBus`.
        UsageError: a bad option.
    """
    from hwflash.bus.links import SerialLink, TcpLink
    from hwflash.bus.serprog import SerprogBus

    if url.endpoint is not None:
        link = TcpLink(*url.endpoint)
    else:
        link = SerialLink(url.target, url.integer("baud", DEFAULT_BAUD, 50, BAUD_LIMIT))
    bus = SerprogBus(link, frequency=frequency)
    name = f"{bus.device_name} ({link.name})" if bus.device_name else link.name
    return Programmer(url.lasting, name, bus, simulated=False, release=bus.close)


def open_replay(url: ProgrammerUrl) -> Programmer:
    """A recorded trace in place of a programmer.

    Raises:
        EnvironmentFault: the trace cannot be read.
        ImageError: it is no trace.
    """
    from hwflash.bus.replay import ReplayBus

    bus = ReplayBus(Path(url.target))

    def release() -> None:
        if _all_went_well():
            bus.finish()

    return Programmer(url.lasting, f"trace {url.target}", bus, bus.simulated, release)


def recorded(programmer: Programmer, trace: Path) -> Programmer:
    """The same programmer, with all that goes over its bus written to ``trace``.

    Raises:
        EnvironmentFault: the file cannot be made; the programmer has been released.
    """
    from hwflash.bus.trace import RecordingBus

    try:
        recording = RecordingBus(programmer.bus, trace, simulated=programmer.simulated)
    except BaseException:
        programmer.release()
        raise

    def release() -> None:
        whole = _all_went_well()
        try:
            recording.close()
        finally:
            programmer.release()
        if whole:
            recording.finish()

    return Programmer(programmer.url, programmer.name, recording, programmer.simulated, release)


def _all_went_well() -> bool:
    """Whether no error is on its way up: the reason why a job failed is not to be replaced."""
    return sys.exc_info()[1] is None
