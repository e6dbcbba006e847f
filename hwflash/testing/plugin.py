"""The plugin that pytest loads wherever hwflash is installed.

It must cost nothing where it is not used: what it needs is imported by the fixtures.
See docs/bench.md.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from hwflash.testing.bench import Bench, Scope
    from hwflash.testing.settings import Settings

_OPTIONS: Final = (
    ("board", "NAME", "board: a name or a board file"),
    ("image", "FILE", "firmware image that the fixture `image` gives"),
    ("reference", "WORDS", "firmware of the fixture `ovmf`, as after ovmf: of hwflash compare"),
    ("wait", "SECONDS", "wait so long for a programmer that another process holds"),
)
_MARKERS: Final = (
    "hwflash_hardware: needs a real programmer; skipped with a simulated one, or with none",
    "hwflash_simulated: for simulated programmers only; skipped with a real one",
    "hwflash_destructive: may wear or lose a real board; there only with --hwflash-destructive",
)
_BENCH: Final = pytest.StashKey["Bench"]()
_SCOPES: Final = pytest.StashKey[list["Scope"]]()


def bench_of(config: pytest.Config) -> Bench:
    """The bench of a run; nothing is opened for that."""
    bench = config.stash.get(_BENCH, None)
    if bench is None:
        from hwflash.testing.bench import Bench

        bench = config.stash[_BENCH] = Bench(
            lambda folder: _settings(config, folder), config.stash[_SCOPES]
        )
        config.add_cleanup(bench.close)
    return bench


def _settings(config: pytest.Config, folder: Path) -> Settings:
    from hwflash.testing.settings import ALONE, Settings

    return Settings(
        board=_told(config, "board"),
        programmers=_programmers(config),
        image=_told(config, "image"),
        reference=_told(config, "reference"),
        destructive=bool(config.getoption("--hwflash-destructive")),
        wait=_told(config, "wait"),
        worker=os.environ.get("PYTEST_XDIST_WORKER", ALONE),
        folder=folder,
    )


def _told(config: pytest.Config, name: str) -> str | None:
    """An option, else its ini value; a file that an ini file names is one of its folder."""
    given: str | None = config.getoption(f"--hwflash-{name}")
    if given is not None:
        return given
    value = str(config.getini(f"hwflash_{name}"))
    is_file = name == "image" or (name == "board" and ("/" in value or value.endswith(".toml")))
    if value and is_file and config.inipath is not None:
        return str(config.inipath.parent / value)
    return value or None


def _programmers(config: pytest.Config) -> list[str]:
    return config.getoption("--hwflash-programmer") or config.getini("hwflash_programmer")


# --- what pytest asks for -----------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and their ini names."""
    group = parser.getgroup("hwflash", "hwflash: boards and programmers")
    group.addoption(
        "--hwflash-programmer", action="append", metavar="URL", default=[],
        help="programmer URL; {worker} is the worker of xdist; given again: one for each worker",
    )  # fmt: skip
    parser.addini("hwflash_programmer", "like --hwflash-programmer", type="linelist", default=[])
    for name, metavar, text in _OPTIONS:
        group.addoption(f"--hwflash-{name}", metavar=metavar, help=text)
        parser.addini(f"hwflash_{name}", f"like --hwflash-{name}")
    group.addoption(
        "--hwflash-destructive", action="store_true",
        help="run tests marked hwflash_destructive on real hardware too",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Markers, for --strict-markers; the fixtures."""
    from hwflash.testing import fixtures

    for line in _MARKERS:
        config.addinivalue_line("markers", line)
    config.stash[_SCOPES] = []
    config.pluginmanager.register(fixtures, "hwflash-fixtures")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Board and programmer, where they were named for this run."""
    named = {
        "board": _told(config, "board"),
        "programmer": ", ".join(_programmers(config)) or os.environ.get("HWFLASH_PROGRAMMER"),
        "image": _told(config, "image"),
    }
    words = [f"{name} {value}" for name, value in named.items() if value]
    return f"hwflash: {', '.join(words)}" if words else None


# --- around each test -------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is not for this hardware; begin the record of the test."""
    for mark in item.iter_markers():
        if mark.name.startswith("hwflash_") and (
            reason := bench_of(item.config).reason_to_skip(mark.name)
        ):
            pytest.skip(reason)
    bench = item.config.stash.get(_BENCH, None)
    if bench is not None:
        bench.begin()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """A transaction that a fixture begins ends with that fixture."""
    scopes = request.config.stash[_SCOPES]
    scopes.append(request)
    try:
        return (yield)
    finally:
        scopes.pop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A transaction that a test begins ends with that test."""
    scopes = item.config.stash[_SCOPES]
    scopes.append(item)
    try:
        return (yield)
    finally:
        scopes.pop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Properties for JUnit; failures of the bench without the frames of hwflash."""
    bench = item.config.stash.get(_BENCH, None)
    if bench is None:
        return (yield)
    if call.when == "teardown":
        item.user_properties.extend(bench.properties(getattr(item, "fixturenames", ())))
    elif call.excinfo is not None:
        for title, text in bench.console_sections():
            item.add_report_section(call.when, title, text)
    report = yield
    if report.failed and call.excinfo is not None and not item.config.option.fulltrace:
        from hwflash.testing.failures import explain

        explain(report, call.excinfo)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Chips that were tested, and those that were not put back."""
    reports = (report for reports in terminalreporter.stats.values() for report in reports)
    tests = [
        dict(report.user_properties)
        for report in reports
        if getattr(report, "when", "") == "teardown" and report.user_properties
    ]
    if not tests:
        return
    from hwflash.testing.summary import summary_lines

    lines = summary_lines(tests)
    if lines:
        terminalreporter.section("hwflash")
    for line in lines:
        terminalreporter.line(line)
