import re

import pytest

from hwflash import errors
from hwflash.errors import HwflashError, Interrupted
from hwflash.progress import CancelToken, NullReporter, Progress

TREE = re.findall(r"[├└]── (\w+) .*?(\d+)?$", errors.__doc__ or "", re.MULTILINE)
ALL = [
    item for item in vars(errors).values()
    if isinstance(item, type) and issubclass(item, HwflashError) and item is not HwflashError
]  # fmt: skip


def test_the_tree_in_the_text_is_the_tree_in_the_code() -> None:
    assert sorted(name for name, _ in TREE) == sorted(kind.__name__ for kind in ALL)
    for name, exit_code in TREE:
        if exit_code:
            assert getattr(errors, name).exit_code == int(exit_code), name


def test_children_exit_as_their_parents() -> None:
    for kind in ALL:
        parent = kind.__mro__[1]
        if parent is not HwflashError:
            assert kind.exit_code == parent.exit_code, kind


def test_codes_are_stable_and_different() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(\.[a-z-]+)*", code) for code in codes)
    assert {kind.code: kind.exit_code for kind in ALL}.items() >= {
        "usage": 2, "programmer.absent": 3, "programmer.inaccessible": 3, "programmer.busy": 3,
        "programmer.lost": 3, "environment": 3, "chip.absent": 4, "chip.unknown": 4,
        "chip.unsupported": 4, "chip.unstable": 4, "chip.timeout": 4, "chip.protected": 5,
        "chip.state-unknown": 6, "image": 7, "sfdp": 7, "board": 7, "reference": 8,
        "interrupted": 130,
    }.items()  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
def test_an_error_carries_facts(kind: type[HwflashError]) -> None:
    plain = kind("what happened")
    assert (plain.message, str(plain), plain.code, dict(plain.context)) == (
        "what happened", "what happened", kind.code, {},
    )  # fmt: skip
    full = kind("it", code="a.b", address=5, message_="x")
    assert full.code == "a.b"
    assert full.context == {"address": 5, "message_": "x"}
    assert kind.code != "a.b", "the class is not changed"


def test_interrupted_speaks_for_itself() -> None:
    assert str(Interrupted()) == "stopped on request"
    token = CancelToken()
    token.check()
    assert not token.cancelled
    token.cancel()
    assert token.cancelled
    with pytest.raises(Interrupted, match="stopped on request"):
        token.check()


def test_the_reporter_that_tells_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = NullReporter()
    nobody.progress(Progress("read", 1, 2))
    nobody.info("x", a=1)
    nobody.warning("y", b=2)
    assert capsys.readouterr() == ("", "")
