"""What all tests share. Its folder comes first on the path, so tests can import `support`."""

import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from support import Rig, RigFactory

#: A bench of its own, with settings of its own; see testing/test_testing_examples.py.
collect_ignore = ["examples"]


@pytest.fixture
def rig() -> Iterator[RigFactory]:
    """Makes simulated programmers with a bus and a flash on them; closes them afterwards."""
    made: list[Rig] = []

    def make(*args: object, **options: object) -> Rig:
        made.append(Rig(*args, **options))
        return made[-1]

    yield make
    for item in made:
        item.close()


# What developers run all day looks at fewer random cases; so do tests that say `examples(60)`.
settings.register_profile("quick", max_examples=25, deadline=None)


# Thousands of collected tests are garbage to nobody: look through them seldom.
gc.set_threshold(50_000, 20, 100)


def pytest_configure(config: pytest.Config) -> None:
    # `nohup` and a shell's `&` ignore these; children that are sent them would never end.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
    if "not slow" in config.option.markexpr:
        settings.load_profile("quick")
