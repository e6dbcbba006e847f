"""The fixtures. A fixture of the same name in a test module or conftest.py takes their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwflash.testing.plugin import bench_of

if TYPE_CHECKING:
    from hwflash.layout.files import Image
    from hwflash.testing.board import BenchBoard
    from hwflash.testing.flash import BenchFlash
    from hwflash.testing.power import BenchConsole, BenchPower
    from hwflash.testing.programmer import BenchProgrammer
    from hwflash.testing.reference import RunningReference
    from hwflash.testing.variables import BenchVariables


@pytest.fixture(scope="session")
def board(pytestconfig: pytest.Config) -> BenchBoard:
    """The board that --hwflash-board names."""
    return bench_of(pytestconfig).board


@pytest.fixture(scope="session")
def programmer(pytestconfig: pytest.Config) -> Iterator[BenchProgrammer]:
    """The programmer of this run, open, its chip identified and held against the board."""
    found = bench_of(pytestconfig).programmer
    found.session()
    yield found
    found.release()


@pytest.fixture(scope="session")
def flash(programmer: BenchProgrammer, pytestconfig: pytest.Config) -> BenchFlash:
    """The flash: read, write, verify, erase, transaction."""
    return bench_of(pytestconfig).flash


@pytest.fixture(scope="session")
def variables(flash: BenchFlash) -> BenchVariables:
    """The UEFI variables on the flash: get, set, delete, all, find, check."""
    from hwflash.testing.variables import BenchVariables

    return BenchVariables(flash)


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config) -> Image:
    """The firmware image that --hwflash-image names, loaded."""
    from hwflash.errors import UsageError
    from hwflash.layout.files import load_image

    named = bench_of(pytestconfig).settings.image
    if not named:
        raise UsageError("no image was named", code="usage.bench-image")
    return load_image(Path(named))


@pytest.fixture
def power(pytestconfig: pytest.Config) -> Iterator[BenchPower]:
    """The supply of the board: on, off, cycle, boot. The board is off when the test ends."""
    with bench_of(pytestconfig).board.powered() as found:
        yield found


@pytest.fixture
def console(power: BenchPower) -> BenchConsole:
    """The console of the board: expect, send, text, lines."""
    return power.console


@pytest.fixture
def ovmf(pytestconfig: pytest.Config) -> Iterator[RunningReference]:
    """The simulated reference, just switched on, on files of its own."""
    from hwflash.testing.reference import RunningReference, find_reference

    bench = bench_of(pytestconfig)
    name, found = find_reference(bench.settings.reference, bench.definition)
    with RunningReference(name, found) as running:
        bench.consoles["ovmf"] = running.console
        yield running
