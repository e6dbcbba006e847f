"""A chip is put back, whatever happens in between; and where it cannot be, it is said how."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench_desk import Desk, section

pytest_plugins = ["pytester"]


@pytest.mark.slow
def test_put_back_after_each_end(desk: Desk) -> None:
    old = desk.fill()
    answer = desk.run(
        """
        import pytest

        OLD = []

        def test_before(flash):
            OLD.append(flash.read())

        def test_passes(flash):
            flash.transaction()
            flash.write(b"x" * 5000, at=100)

        def test_fails(flash):
            assert flash.read() == OLD[0]
            flash.transaction()
            flash.erase()
            assert False

        def test_raises_in_with(flash):
            assert flash.read() == OLD[0]
            with pytest.raises(KeyError):
                with flash.transaction() as begun:
                    flash.erase(0, "4K")
                    raise KeyError
            assert begun.restored
            assert flash.read() == OLD[0]

        def test_nested(flash):
            with flash.transaction():
                flash.write(b"outer", at=0)
                with flash.transaction():
                    flash.write(b"inner", at=0)
                assert flash.read(0, 5) == b"outer"
            assert flash.read() == OLD[0]

        @pytest.fixture(scope="module")
        def flashed(flash):
            flash.transaction()
            flash.write(b"module", at=0)
            yield flash
            assert flash.read(0, 6) == b"module"

        def test_module_one(flashed):
            assert flashed.read(0, 6) == b"module"

        def test_module_two(flashed):
            assert flashed.read(0, 6) == b"module"
        """
    )
    assert answer.counts == {"passed": 6, "failed": 1}, answer.text
    assert desk.image.read_bytes() == old
    assert not list((desk.state / "transactions").iterdir())


@pytest.mark.slow
def test_cable_pulled_in_the_middle(desk: Desk) -> None:
    """It is in again when the test has ended: the chip is put back then."""
    old = desk.fill()
    answer = desk.run(
        """
        def test_pulled(flash):
            flash.transaction()
            for value in range(200):
                flash.write(bytes([value]) * 0x8000, at=0)

        def test_after(flash):
            pass
        """,
        programmer=desk.url(faults="disconnect=1500"),
    )
    assert answer.counts == {"failed": 1, "passed": 1}, answer.text
    shown = section(answer.text, "hwflash: chip.state-unknown")
    assert "chip: the chip is in an unknown state" in shown
    assert "restore: hwflash write -p" in shown
    assert desk.image.read_bytes() == old


@pytest.mark.slow
def test_it_says_how_when_it_cannot_be_put_back(desk: Desk) -> None:
    old = desk.fill()
    answer = desk.run(
        f"""
        from pathlib import Path

        def test_gone(flash, programmer):
            flash.transaction()
            flash.write(b"changed", at=0)
            programmer.release()
            chip = Path({str(desk.image)!r})
            chip.with_name("chip.bin.state.json").write_text("no state")
        """
    )
    assert answer.counts == {"passed": 1, "errors": 1}, answer.text
    shown = section(answer.text, "hwflash: transaction.not-restored")
    command = re.search(r"^restore: (hwflash write .*)$", shown, re.M)
    assert command, shown
    assert "chip: the chip is as the test left it" in shown
    assert "NOT PUT BACK: P25Q21H on sim://" in section(answer.text, "hwflash")
    assert dict(answer.cases["test_gone"])["hwflash.not_restored"] in command[1]
    assert desk.image.read_bytes() != old
    desk.image.with_name("chip.bin.state.json").unlink()
    program = "from hwflash.cli.main import main; main()"
    words = [sys.executable, "-c", program, *shlex.split(command[1])[1:], "--yes"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    assert desk.image.read_bytes() == old


@pytest.mark.slow
def test_put_back_at_the_second_try(desk: Desk) -> None:
    """The end of the test finds the chip again that the ``with`` statement did not."""
    old = desk.fill()
    answer = desk.run(
        f"""
        from pathlib import Path
        import pytest
        from hwflash.errors import EnvironmentFault

        def test_gone_for_a_while(flash, programmer):
            state = Path({str(desk.image)!r}).with_name("chip.bin.state.json")
            with pytest.raises(EnvironmentFault, match="not put back"):
                with flash.transaction():
                    flash.write(b"changed", at=0)
                    programmer.release()
                    kept = state.read_text()
                    state.write_text("no state")
            state.write_text(kept)
        """
    )
    assert answer.counts == {"passed": 1}, answer.text
    assert "NOT PUT BACK" not in answer.text
    assert "hwflash.not_restored" not in dict(answer.cases["test_gone_for_a_while"])
    assert desk.image.read_bytes() == old


@pytest.mark.slow
def test_why_it_failed_is_not_hidden(desk: Desk) -> None:
    desk.fill()
    answer = desk.run(
        """
        from pathlib import Path

        def test_backup_thrown_away(flash):
            with flash.transaction() as begun:
                flash.write(b"changed", at=0)
                Path(begun.backup).unlink()
                assert "this" == "that"
        """
    )
    assert answer.counts == {"failed": 1, "errors": 1}
    shown = section(answer.text, "test_backup_thrown_away")
    assert "AssertionError: assert 'this' == 'that'" in shown
    assert "E           restore: hwflash write -p" in shown


@pytest.mark.slow
def test_a_run_that_was_killed_is_not_forgotten(desk: Desk) -> None:
    old = desk.fill()
    desk.run(
        """
        import os, signal

        def test_killed(flash, programmer):
            flash.transaction()
            flash.write(b"changed", at=0)
            programmer.release()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert desk.image.read_bytes() != old
    script = """
        def test_next(flash):
            with flash.transaction():
                pass
    """
    answer = desk.run(script)
    assert answer.counts == {"failed": 1}, answer.text
    shown = section(answer.text, "hwflash: transaction.unfinished")
    assert "test_bench.py::test_killed (call)" in answer.text
    command = re.search(r"^restore: hwflash write -p .* --restore (.*)$", shown, re.M)
    assert command, shown
    backup = Path(command[1])
    good = backup.read_bytes()
    backup.write_bytes(good[1:])  # a disk that was full: the next run knows less, not more
    damaged = desk.run(script)
    assert damaged.counts == {"failed": 1}, damaged.text
    assert "SHA-256 differs" in damaged.text
    backup.write_bytes(good)
    desk.image.write_bytes(old)
    assert desk.run(script).counts == {"passed": 1}
    assert not list((desk.state / "transactions").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "handler", "busy"),
    [
        pytest.param("SIGINT", "default_int_handler", True, id="SIGINT in a write"),
        pytest.param("SIGTERM", "SIG_IGN", False, id="SIGTERM while it waits"),
        pytest.param("SIGTERM", "SIG_IGN", True, id="SIGTERM in a write"),
        pytest.param("SIGHUP", "default_int_handler", False, id="SIGHUP while it waits"),
    ],
)
def test_interrupted(desk: Desk, number: str, handler: str, busy: bool) -> None:
    """By hand, and by CI where a shell runs pytest in the background and SIGINT is ignored."""
    old = desk.fill()
    work = "flash.write(os.urandom(0x20000), at=0)" if busy else "time.sleep(0.1)"
    desk.pytester.makepyfile(
        test_bench=f"""
        import os, time
        from pathlib import Path

        def test_endless(flash):
            flash.transaction()
            flash.write(b"changed", at=0)
            Path("ready").touch()
            while True:
                {work}
        """
    )
    words = ["-p", "hwflash.testing.plugin", f"--hwflash-programmer={desk.url()}", "-q"]
    program = f"import signal, sys, pytest; signal.signal(signal.SIGINT, signal.{handler}); "
    run = subprocess.Popen(
        [sys.executable, "-c", program + "sys.exit(pytest.main())", *words],
        cwd=desk.folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        limit = time.monotonic() + 60
        while not (desk.folder / "ready").exists():
            assert time.monotonic() < limit
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(run.pid, signal.Signals[number])
        text, _ = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, text
    assert desk.image.read_bytes() == old
    assert not list((desk.state / "transactions").iterdir())


@pytest.mark.slow
def test_only_a_region(desk: Desk) -> None:
    desk.fill()
    desk.file(
        "board.toml",
        'name = "b"\ndescription = "b"\n[flash]\nsize = "256K"\n[layout]\nkind = "regions"\n'
        '[[region]]\nname = "a"\nstart = "64K"\nlength = "64K"\nprotected = true\n',
    )
    answer = desk.run(
        """
        from pathlib import Path

        def test_region(flash):
            before = flash.read()
            with flash.transaction(region="a") as begun:
                assert Path(begun.backup).stat().st_size == 0x10000
                flash.write(b"x" * 0x10000, region="a")
                flash.write(b"stays", at=0)
            assert flash.read() == b"stays" + before[5:]
        """,
        "--hwflash-board=board.toml",
    )
    assert answer.counts == {"passed": 1}, answer.text
