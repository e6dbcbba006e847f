"""A simulated board: real OVMF runs on the content of the simulated chip."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwflash.boards import load_board
from hwflash.errors import ProgrammerBusy
from hwflash.jobs.boot_check import BootOptions, check_boot
from hwflash.jobs.endurance import EnduranceOptions, run_endurance
from hwflash.jobs.opening import Request
from hwflash.jobs.power_qemu import QemuSwitch
from hwflash.jobs.rig import Rig
from hwflash.jobs.session import open_session
from hwflash.progress import CancelToken, NullReporter
from hwflash.qemu.trace import replayed
from hwflash.uefi.find import find_stores
from hwflash.uefi.window import Window

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

QUIET, GO = NullReporter(), CancelToken()
VARS = 0x20000
SHELL = "UEFI Interactive Shell"


@pytest.fixture
def chip(tmp_path: Path, qemu: str, ovmf: tuple[Path, Path]) -> Path:
    """A chip with Debian's 2 MiB OVMF."""
    folder = ovmf[0].parent
    path = tmp_path / "chip.bin"
    path.write_bytes(
        (folder / "OVMF_VARS.fd").read_bytes() + (folder / "OVMF_CODE.fd").read_bytes()
    )
    return path


def request(chip: Path) -> Request:
    environ = {**os.environ, "HWFLASH_STATE_DIR": str(chip.parent / "state")}
    url = f"sim://w25q16jv?image={chip}"
    return Request(programmer=url, board=load_board("sim-ovmf-2m", {}), environ=environ)


def test_a_boot_from_the_chip_and_the_programmer_waits(chip: Path) -> None:
    before, refused = chip.read_bytes(), list[str]()

    def from_elsewhere(_line: str) -> None:
        if not refused:
            code = "from hwflash.cli.main import main; main()"
            words = [sys.executable, "-c", code, "probe", "-p", f"sim://w25q16jv?image={chip}"]
            ran = subprocess.run(
                words, env=dict(request(chip).environ), capture_output=True, text=True
            )
            refused.append(ran.stderr)
            with pytest.raises(ProgrammerBusy) as caught:
                open_session(request(chip), QUIET)
            assert caught.value.code == "power.board-on"

    options = BootOptions(until=(SHELL,), on_line=from_elsewhere)
    with Rig(request(chip), QUIET, GO) as rig:
        result = check_boot(rig, [], options, QUIET, GO)
        switch = rig.power.switch
    assert isinstance(switch, QemuSwitch)
    assert result.ok
    assert "[power.board-on]" in refused[0]
    assert {"MTC", "BootOrder"} <= {item.name for item in result.variables.only_right}
    after = chip.read_bytes()
    assert after[VARS:] == before[VARS:], "the code is as it was"
    assert replayed(Window(before[:VARS]), switch.operations).data == after[:VARS]
    assert switch.impossible == ()


def test_what_the_firmware_wrote_is_there_when_hwflash_is_killed(chip: Path) -> None:
    before = chip.read_bytes()
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_simulated_board import *\n"
        "rig = Rig(request(Path(sys.argv[2])), QUIET, GO)\nrig.on()\n"
        "print(rig.power.switch.guest.process.pid, flush=True)\ntime.sleep(120)\n"
    )
    words = [sys.executable, "-c", code, str(Path(__file__).parent), str(chip)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    machine = int(process.stdout.readline())
    limit = time.monotonic() + 90
    while chip.read_bytes() == before:
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    while Path(f"/proc/{machine}").exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    after = chip.read_bytes()
    assert after[:VARS] != before[:VARS]
    assert after[VARS:] == before[VARS:]
    (found,) = find_stores(after[:VARS])
    assert found.store is not None
    open_session(request(chip), QUIET).close()  # the mark of a dead process counts for nothing
    assert chip.read_bytes() == after


def test_endurance_of_ovmf_cuts_inside_of_its_writes(chip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "state").mkdir(parents=True)
    before = chip.read_bytes()
    # Of this seed both cuts come on a change: in the spare area, in the variables.
    options = EnduranceOptions(2, folder, seed=5, window=9.0, fill=600, state=folder / "state")
    result = run_endurance(request(chip), options, QUIET, GO)
    assert len(result.cycles) == 2
    assert sum(item.operations for item in result.cycles) > 0, "the firmware has written"
    assert all(item.seconds <= 15 for item in result.cycles)
    assert (folder / "before.bin").read_bytes() == before
    assert chip.read_bytes() == before, "the store is as it was"
