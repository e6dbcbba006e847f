"""The fixtures of the plugin, each as a script uses it."""

from __future__ import annotations

import hashlib
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from bench_desk import SIZE, Desk, section

pytest_plugins = ["pytester"]

DATA = Path(__file__).parents[1] / "data"

BOARD = """
name = "bench"
description = "a board of the tests"
[flash]
chip = "P25Q21H"
size = "256K"
[layout]
kind = "regions"
[[region]]
name = "settings"
start = 0
length = "64K"
[[region]]
name = "boot"
start = "64K"
length = "64K"
protected = true
"""


@pytest.mark.slow
def test_flash_and_image_and_board(desk: Desk) -> None:
    old = desk.fill()
    desk.file("board.toml", BOARD)
    desk.file("new.bin", bytes(range(256)) * 1024)
    answer = desk.run(
        """
        import pytest
        from hwflash.errors import ImageError, UsageError
        from hwflash.testing import BenchFlash, assert_same

        def test_read(flash, programmer):
            assert isinstance(flash, BenchFlash)
            assert flash.size == len(flash.read()) == 256 * 1024
            assert flash.read("4K", 16) == flash.read()[0x1000:0x1010]
            assert flash.read(region="boot") == flash.read(0x10000, "64K", repeat=2)
            assert flash.chip.part == "P25Q21H"
            assert programmer.url.startswith("sim://p25q21h?image=")

        def test_write(flash, image, tmp_path):
            before = flash.read()
            assert flash.write(b"here", at=3).executed
            assert flash.read(0, 8) == before[:3] + b"here" + before[7:8]
            assert not flash.write(b"here", at="3").executed
            flash.write(image, region="settings")
            flash.verify(image, region="settings")
            part = tmp_path / "part.bin"
            part.write_bytes(b"from a file")
            flash.write(part, at="32K", verify="full")
            flash.verify(str(part), at="32K")
            with pytest.raises(AssertionError, match="differs from 2 bytes in 2 bytes of 2 bytes"):
                flash.verify(b"ab", at=0)

        def test_erase_keeps_what_is_around(flash):
            before = flash.read()
            flash.erase(5, 10)
            assert flash.read() == before[:5] + b"\\xff" * 10 + before[15:]
            flash.erase(region="settings")
            assert flash.read(region="settings") == b"\\xff" * 65536

        def test_protected_region_must_be_named(flash):
            with pytest.raises(UsageError, match="protected"):
                flash.write(b"x", at="64K")
            assert flash.write(b"x" * 65536, region="boot").executed

        def test_board(board, flash):
            assert (board.name, board.flash) == ("bench", flash)
            assert [item.name for item in board.definition.region_map()] == ["settings", "boot"]
            assert_same(board, flash.read())

        @pytest.mark.parametrize(("call", "code"), [
            (lambda flash: flash.read(0, 0), "usage.address"),
            (lambda flash: flash.read(-1), "usage.address"),
            (lambda flash: flash.read("256K", 1), "usage.address"),
            (lambda flash: flash.read("lots"), "usage.size"),
            (lambda flash: flash.read(0, 1, region="boot"), "usage.selection"),
            (lambda flash: flash.read(region="nowhere"), "usage.region"),
            (lambda flash: flash.read(0, 4.0), "usage.size"),
            (lambda flash: flash.read(0, 4, repeat=0), "usage.repeat"),
            (lambda flash: flash.write(b"x", at=1.5), "usage.size"),
            (lambda flash: flash.write(b"x", at=True), "usage.size"),
            (lambda flash: flash.erase(5), "usage.selection"),
            (lambda flash: flash.erase(region=[]), "usage.selection"),
            (lambda flash: flash.write(5), "usage.image"),
            (lambda flash: flash.write(b""), "image.empty"),
            (lambda flash: flash.write(b"short"), "image.smaller-than-chip"),
            (lambda flash: flash.write("nowhere.bin", at=0), "image.unreadable"),
            (lambda flash: flash.write(b"x", at=0, verify="yes"), "usage"),
        ])
        def test_bad_words(flash, call, code):
            before = flash.read()
            with pytest.raises((UsageError, ImageError)) as caught:
                call(flash)
            assert caught.value.code == code
            assert flash.read() == before
        """,
        "--hwflash-board=board.toml",
        "--hwflash-image=new.bin",
    )
    assert answer.counts == {"passed": 22}, answer.text
    assert desk.image.read_bytes()[SIZE // 2 :] == old[SIZE // 2 :]
    header = f"hwflash: board board.toml, programmer {desk.url()}, image new.bin"
    assert header in answer.text
    assert "P25Q21H (856012) on sim://p25q21h?image=" in section(answer.text, "hwflash")


@pytest.mark.slow
def test_what_junit_gets(desk: Desk) -> None:
    desk.fill(1 << 20)
    answer = desk.run(
        """
        def test_write(flash):
            flash.write(b"new", at=0)
            assert flash.read(0, 3) == b"new"

        def test_by_hand(programmer):
            assert programmer.session().chip.part

        def test_without_hardware():
            pass

        def test_fails(flash):
            flash.read(0, 1)
            assert False
        """,
        programmer=desk.url("w25q80"),
    )
    assert answer.counts == {"passed": 3, "failed": 1}
    wrote = dict(answer.cases["test_write"])
    digest = hashlib.sha256(b"new").hexdigest()
    assert wrote["hwflash.jedec_id"] == "ef4014"
    assert wrote["hwflash.part"] == "W25Q80DV"
    assert wrote["hwflash.unique_id"] == "eb819e1f3516b5b2"
    assert wrote["hwflash.programmer"] == desk.url("w25q80")
    assert wrote["hwflash.written_sha256"] == wrote["hwflash.read_sha256"] == digest
    assert Path(wrote["hwflash.backup"]).is_file()
    assert 0.04 < float(wrote["hwflash.modelled_seconds"]) < 0.5  # an erase and a page
    looked = dict(answer.cases["test_by_hand"])
    assert looked["hwflash.jedec_id"] == "ef4014"
    assert "hwflash.written_sha256" not in looked
    assert answer.cases["test_without_hardware"] == []
    assert "hwflash.read_sha256" in dict(answer.cases["test_fails"])


@pytest.mark.slow
def test_variables(desk: Desk) -> None:
    store = lzma.decompress((DATA / "ovmf-2m-reclaim.pre.fd.xz").read_bytes())
    desk.image.write_bytes(store.ljust(1 << 20, b"\xff"))
    answer = desk.run(
        """
        import pytest
        from hwflash.errors import HwflashError, UsageError
        from hwflash.testing import assert_same, assert_same_variables

        def test_variables(variables, flash):
            whole = flash.read()
            variables.check()
            assert variables.set("Timeout", b"\\x09\\x00").change in ("new", "updated")
            assert variables.get("Timeout", "EfiGlobalVariable") == b"\\x09\\x00"
            assert "Timeout" in variables
            found = variables.find("Timeout")
            assert found in variables.all()
            assert variables.get("Timeout", found.guid) == found.data
            with pytest.raises(AssertionError, match="Timeout"):
                assert_same_variables(whole, flash)
            assert_same_variables(whole, flash, ignore="Timeout")
            assert_same(whole, flash, ignore=["Time*"])
            variables.set("Mine", b"x", guid="5b8e1d2c-6f0a-4c39-9d17-2a4e8f3b7c60")
            assert variables.delete("Mine").change == "deleted"
            assert "Mine" not in variables
            with pytest.raises(UsageError) as caught:
                variables.get("Timeouts")
            assert caught.value.context["near"] == ["Timeout"]
            for guid in (None, "nobody"):
                with pytest.raises(UsageError) as caught:
                    variables.set("Whose", b"x", guid)
                assert caught.value.code == "usage.guid"
            with pytest.raises(HwflashError) as caught:
                variables.set("Timeout", b"x" * 70000)
            assert caught.value.code.startswith("efi.")

        def test_broken(variables, flash):
            head = flash.read(0x48, 16)
            flash.write(b"\\0" * 16, at=0x48)
            variables.check()
        """,
        programmer=desk.url("w25q80"),
    )
    assert answer.counts == {"passed": 1, "failed": 1}, answer.text
    assert "AssertionError: the variable store at 0x000000 is not sound" in answer.text
    assert "variables.check()" in answer.text
    assert "def check(self)" not in answer.text


@pytest.mark.slow
def test_a_fixture_of_the_script_takes_the_place(desk: Desk) -> None:
    answer = desk.run(
        """
        import pytest

        @pytest.fixture
        def image():
            return b"ours"

        @pytest.fixture(scope="module")
        def flashed(flash):
            flash.write(b"once", at=0)
            return flash

        def test_image(image, flashed):
            assert image == b"ours"
            assert flashed.read(0, 4) == b"once"

        def test_again(flashed):
            assert flashed.read(0, 4) == b"once"
        """,
        programmer="sim://p25q21h",
    )
    assert answer.counts == {"passed": 2}, answer.text


@pytest.mark.slow
def test_ini_file_and_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.file("bench.toml", BOARD)
    desk.file("new.bin", b"firmware")
    desk.file(
        "pytest.ini",
        "[pytest]\nhwflash_board = bench.toml\nhwflash_image = new.bin\nhwflash_wait = 1\n",
    )
    monkeypatch.setenv("HWFLASH_PROGRAMMER", desk.url())
    script = """
        def test_settings(board, image, flash):
            assert board.name == "bench"
            assert image.flat() == b"firmware"
            assert flash.programmer.settings.patience() == 1
    """
    assert desk.run(script, programmer=None).counts == {"passed": 1}
    other = desk.run(script, "--hwflash-board=ft232h-w25q128", programmer=None)
    assert "probably: the wrong board" in section(other.text, "hwflash: board.other-chip")


@pytest.mark.slow
def test_the_plugin_is_found_and_loads_nothing(tmp_path: Path) -> None:
    """By its entry point, in a folder without bench scripts."""
    (tmp_path / "test_loaded.py").write_text(
        "import sys\n"
        "def test_loaded(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.hasplugin('hwflash')\n"
        "    ours = {name for name in sys.modules if name.startswith('hwflash')}\n"
        "    assert ours == {'hwflash', 'hwflash.testing', 'hwflash.testing.plugin',\n"
        "                    'hwflash.testing.same', 'hwflash.testing.fixtures'}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "hwflash:" not in done.stdout


def test_the_package_does_not_load_pytest(tmp_path: Path) -> None:
    program = "import hwflash, hwflash.testing, sys; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, timeout=60)
