"""pyspiflash on the same simulated hardware, for `hwflash.jobs.bench`.

Unmodified; only the clock its module reads is the virtual one.
"""

from __future__ import annotations

import importlib
import random
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from hwflash.chip import catalog, dumps
from hwflash.errors import EnvironmentFault
from hwflash.jobs.bench import Limits, Row
from hwflash.sim.programmer import SimulatedProgrammer
from hwflash.units import MIB

#: The peer spends three round trips a page; its speed does not depend on the amount.
LENGTH: Final = MIB


def peer_rows(part: str, frequency: float) -> list[Row]:
    """Reading and programming 1 MiB with pyspiflash.

    Args:
        part: part to simulate; pyspiflash must know it.
        frequency: SCK in hertz.

    Raises:
        EnvironmentFault: pyspiflash is not installed (``bench.no-peer``), or does not know
            the part (``bench.peer-unknown``).
    """
    try:
        serialflash: Any = importlib.import_module("spiflash.serialflash")
        spi: Any = importlib.import_module("pyftdi.spi")
    except ImportError as exc:
        raise EnvironmentFault(
            "pyspiflash is not installed", code="bench.no-peer", package="pyspiflash"
        ) from exc
    found = catalog.load().by_name(part)
    table = dumps.load(found.sfdp_dump).sfdp if found.sfdp_dump else None
    simulated = SimulatedProgrammer(found.chip, sfdp=table)
    clock = simulated.clock
    real_time, serialflash.time = (
        serialflash.time,
        SimpleNamespace(sleep=clock.sleep, time=clock.now),
    )
    limits = Limits(found.chip, frequency)
    data = random.Random(1).randbytes(LENGTH)  # noqa: S311 - the same content in every run
    controller = spi.SpiController()
    try:
        controller.configure(simulated.device)
        try:
            flash = serialflash.SerialFlashManager.get_from_controller(controller, freq=frequency)
        except serialflash.SerialFlashUnknownJedec as exc:
            raise EnvironmentFault(
                f"pyspiflash does not know {part}", code="bench.peer-unknown", part=part
            ) from exc
        return [
            _measure(
                simulated, "program blank", limits.program(LENGTH), lambda: flash.write(0, data)
            ),
            _measure(simulated, "read all", limits.read(LENGTH), lambda: flash.read(0, LENGTH)),
        ]
    finally:
        controller.close()
        serialflash.time = real_time
        simulated.close()


def _measure(
    simulated: SimulatedProgrammer, job: str, limit: float, run: Callable[[], object]
) -> Row:
    clock = simulated.clock
    started, transfers = clock.now(), _transfers(simulated)
    cpu = time.process_time()
    run()
    return Row(
        who="pyspiflash",
        part=simulated.die.chip.part,
        job=job,
        bytes=LENGTH,
        seconds=round(clock.now() - started, 6),
        limit=round(limit, 6),
        usb=_transfers(simulated) - transfers,
        erases=0,
        programs=0,
        retries=0,
        cpu=round(time.process_time() - cpu, 3),
    )


def _transfers(simulated: SimulatedProgrammer) -> int:
    return simulated.stats["usb_out"] + simulated.stats["usb_in"]
