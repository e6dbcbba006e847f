"""A serprog server in a thread, with a simulated chip behind it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hwflash.bus.ftdi import Ft232hBus
from hwflash.bus.pins import PinUse
from hwflash.bus.spi import SpiBus
from hwflash.chip import catalog, dumps
from hwflash.jobs.serprog_device import SerprogDevice
from hwflash.jobs.serve_serprog import SerprogServer, listen, open_pty
from hwflash.progress import CancelToken
from hwflash.sim.programmer import SimulatedProgrammer


class Heard:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.infos: list[str] = []
        self.warnings: list[str] = []

    def progress(self, event: Any, /) -> None:
        pass

    def info(self, message: str, /, **_context: object) -> None:
        self.infos.append(message)

    def warning(self, message: str, /, **_context: object) -> None:
        self.warnings.append(message)


class Serving:
    """A server over TCP (``url`` is serprog://127.0.0.1:PORT) or over a pty.

    Attributes:
        failure: what ended the server, or None.
    """

    def __init__(self, bus: SpiBus, *, pty: bool = False, stall: float = 30.0) -> None:
        self.device = SerprogDevice(bus)
        self.heard = Heard()
        self.failure: BaseException | None = None
        self._cancel = CancelToken()
        self.server = SerprogServer(self.device, self.heard, self._cancel, stall=stall)
        self.node = ""
        self._close: Callable[[], None]
        serve: Callable[[], object]
        if pty:
            master, self.node = open_pty()
            self.url = f"serprog://{self.node}"
            serve, self._close = (
                lambda: self.server.serve_pty(master, self.node),
                lambda: os.close(master),
            )
        else:
            listener = listen("127.0.0.1", 0)
            self.port: int = listener.getsockname()[1]
            self.url = f"serprog://127.0.0.1:{self.port}"
            serve, self._close = partial(self.server.serve_tcp, listener), listener.close
        self._thread = threading.Thread(target=self._run, args=(serve,))
        self._thread.start()

    def _run(self, serve: Callable[[], object]) -> None:
        try:
            serve()
        except BaseException as exc:  # handed to the test
            self.failure = exc

    def stop(self) -> None:
        self._cancel.cancel()
        self._thread.join(10)
        self._close()
        assert not self._thread.is_alive()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class ServedPart:
    """A simulated FT232H with a part of the catalog, behind a server."""

    def __init__(
        self,
        part: str,
        image: Path | None = None,
        pins: PinUse | None = None,
        pty: bool = False,
        **options: Any,
    ) -> None:
        found = catalog.load().by_name(part)
        self.chip = found.chip
        self.sim = SimulatedProgrammer(
            found.chip,
            sfdp=dumps.load(found.sfdp_dump).sfdp if found.sfdp_dump else None,
            image=image,
            **options,
        )
        self.bus = Ft232hBus(self.sim.device, clock=self.sim.clock, pins=pins, name=part)
        self.serving = Serving(self.bus, pty=pty)

    @property
    def port(self) -> int:
        return self.serving.port

    @property
    def url(self) -> str:
        return self.serving.url

    def close(self) -> None:
        self.serving.stop()
        self.bus.close()
        self.sim.close()

    def __enter__(self) -> ServedPart:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
