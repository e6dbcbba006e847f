"""A simulated programmer, as a ``sim://`` URL describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast, get_args

from hwflash.bus.url import ProgrammerUrl
from hwflash.chip import catalog, dumps
from hwflash.jobs.lock import ProgrammerLock
from hwflash.sim.die_timing import Timing
from hwflash.sim.faults import Faults
from hwflash.sim.programmer import SimulatedProgrammer
from hwflash.state import state_dir


def simulate(
    url: ProgrammerUrl, environ: Mapping[str, str]
) -> tuple[SimulatedProgrammer, Callable[[], None]]:
    """Make it.

    Args:
        url: a ``sim`` URL.
        environ: environment variables: they say where locks are kept.

    Returns:
        The programmer, and what closes it, writes its image and gives the image free.

    Raises:
        UsageError: a bad option.
        ChipError: there is no such part.
        ProgrammerBusy: another process has the image.
        ImageError: the image does not fit.
    """
    part = catalog.load().by_name(url.target)
    faults = Faults.parse(url.options.get("faults", ""))
    second = catalog.load().by_name(faults.second) if faults.second else None
    image = url.options.get("image")
    lock = None
    if image:
        lock = ProgrammerLock(state_dir(environ) / "locks", f"sim-{Path(image).resolve()}")
    try:
        simulated = SimulatedProgrammer(
            part.chip,
            sfdp=_sfdp(part),
            image=Path(image) if image else None,
            seed=url.integer("seed", 0, 0, 1 << 32),
            timing=cast("Timing", url.choice("timing", "typical", get_args(Timing))),
            power_cut=url.integer("power_cut", 0, 1, 1 << 32) or None,
            wp=url.integer("wp", 1, 0, 1),
            faults=faults,
            second=(second.chip, _sfdp(second)) if second is not None else None,
        )
    except BaseException:
        if lock is not None:
            lock.release()
        raise

    def release() -> None:
        try:
            simulated.close()
        finally:
            if lock is not None:
                lock.release()

    return simulated, release


def _sfdp(part: catalog.Part) -> bytes | None:
    return dumps.load(part.sfdp_dump).sfdp if part.sfdp_dump else None
