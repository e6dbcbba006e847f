"""What a run was told: options of pytest's command line, its ini file, the environment.

An option wins over the ini file. For the programmer the order goes on as everywhere in hwflash:
``HWFLASH_PROGRAMMER``, the board's own, the only one attached.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hwflash.errors import UsageError

#: What stands for the worker of pytest-xdist in a programmer URL, and its name without xdist.
WORKER: Final = "{worker}"
ALONE: Final = "main"
#: A day, in seconds.
WAIT_LIMIT: Final = 86_400
#: Programmers whose chip is a model.
MODELS: Final = frozenset({"sim", "qemu", "replay"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run was told.

    Attributes:
        board: name or file, or None.
        programmers: URLs; of several, each worker of pytest-xdist takes its own, and a run
            without workers the first.
        image: firmware image, or None.
        reference: as ``hwflash compare`` takes it after ``ovmf:``, or None.
        destructive: tests that may lose a real board run on it.
        wait: how long to wait for a programmer that another process holds, as it was given.
        worker: name of this worker, ``gw0`` and so on, or `ALONE`.
        folder: of this run, for chips that are only simulated, and for logs.
        environ: environment variables.
    """

    board: str | None = None
    programmers: Sequence[str] = ()
    image: str | None = None
    reference: str | None = None
    destructive: bool = False
    wait: str | None = None
    worker: str = ALONE
    folder: Path = field(default_factory=Path)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def patience(self) -> float:
        """Seconds to wait for a programmer.

        Raises:
            UsageError: what was given is no number of seconds (``usage.bench-wait``).
        """
        try:
            seconds = float(self.wait or 0)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= WAIT_LIMIT:
            raise UsageError(
                f"--hwflash-wait {self.wait} is no number of seconds",
                code="usage.bench-wait", text=self.wait,
            )  # fmt: skip
        return seconds

    def programmer(self, of_board: str | None) -> str | None:
        """The URL for this worker; None means the only one attached.

        Args:
            of_board: what the board file names, or None.

        Raises:
            UsageError: there are fewer programmers than workers (``usage.bench-workers``).
        """
        named = self.programmers
        if not named:
            usual = self.environ.get("HWFLASH_PROGRAMMER") or of_board
            return usual.replace(WORKER, self.worker) if usual else None
        place = 0
        if len(named) > 1 and self.worker != ALONE:
            place = int(self.worker.lstrip("gw") or 0)
            if place >= len(named):
                raise UsageError(
                    f"worker {self.worker} has no programmer: {len(named)} are named",
                    code="usage.bench-workers", worker=self.worker, programmers=list(named),
                )  # fmt: skip
        # An empty one is a mistake of a script, not the wish for any programmer.
        return named[place].replace(WORKER, self.worker)


def is_model(url: str) -> bool:
    """Whether a programmer URL names a chip that is only a model."""
    return url.removeprefix("record+").partition(":")[0] in MODELS
