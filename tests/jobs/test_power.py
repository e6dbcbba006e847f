"""Supplies: commands, relays and pins, and that nobody drives the bus of a board that runs."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_board import PART, FakeBoard
from support import RigFactory

from hwflash.boards import Power as PowerTable
from hwflash.boards import load_board
from hwflash.bus.pins import PinUse
from hwflash.bus.spi import Transfer
from hwflash.console_port import SerialPort
from hwflash.errors import (
    ChipError,
    EnvironmentFault,
    HwflashError,
    ImageError,
    Interrupted,
    ProgrammerAbsent,
    ProgrammerBusy,
    ProgrammerLost,
    UsageError,
)
from hwflash.jobs.opening import Request
from hwflash.jobs.power import known_state, open_power
from hwflash.jobs.power_switches import RelaySwitch, lcus_message
from hwflash.jobs.rig import Rig
from hwflash.jobs.session import open_session
from hwflash.progress import CancelToken, NullReporter
from hwflash.sim.wiring import PinMap

QUIET, GO = NullReporter(), CancelToken()


class Ears(NullReporter):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def info(self, message: str, /, **context: object) -> None:
        self.heard.append(message)

    def warning(self, message: str, /, **context: object) -> None:
        self.heard.append(f"warning: {message}")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeBoard]:
    board = FakeBoard(tmp_path)
    yield board
    board.close()


def _on_and_then(fake: FakeBoard, ears: NullReporter, error: Exception) -> None:
    with open_power(fake.request(), ears, GO) as power:
        power.on()
        raise error


# --- a relay ------------------------------------------------------------------------------


def test_the_bytes_of_an_lcus_card() -> None:
    assert lcus_message(1, on=True) == bytes.fromhex("a00101a2")
    assert lcus_message(1, on=False) == bytes.fromhex("a00100a1")
    assert lcus_message(2, on=True) == bytes.fromhex("a00201a3")
    assert lcus_message(255, on=True) == bytes.fromhex("a0ff01a0")


@pytest.mark.parametrize(
    ("keys", "on", "off"),
    [
        ({}, "a00101a2", "a00100a1"),
        ({"channel": 4}, "a00401a5", "a00400a4"),
        ({"on_bytes": "FF 01 01", "off_bytes": "ff0100"}, "ff0101", "ff0100"),
    ],
)
def test_a_relay_card_is_sent_its_bytes(keys: dict[str, object], on: str, off: str) -> None:
    master, slave = pty.openpty()
    try:
        table = PowerTable.model_validate({"method": "relay", "port": os.ttyname(slave), **keys})
        relay = RelaySwitch(table)
        relay.switch(True)
        assert os.read(master, 64).hex() == on
        relay.switch(False)
        assert os.read(master, 64).hex() == off
    finally:
        os.close(master)
        os.close(slave)


def test_a_relay_card_that_is_not_there(tmp_path: Path) -> None:
    table = PowerTable(method="relay", port=str(tmp_path / "ttyUSB9"))
    with pytest.raises(ProgrammerAbsent, match=r"the relay card at .*ttyUSB9") as caught:
        RelaySwitch(table).switch(True)
    assert caught.value.code == "power.relay-absent"


def test_a_relay_card_that_is_pulled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()

    def pulled(port: str, baud: int) -> SerialPort:
        opened = SerialPort(port, baud)
        os.close(master)
        return opened

    monkeypatch.setattr("hwflash.jobs.power_switches.open_port", pulled)
    table = PowerTable(method="relay", port=os.ttyname(slave))
    with pytest.raises(ProgrammerLost, match="the relay card at") as caught:
        RelaySwitch(table).switch(True)
    assert caught.value.code == "power.relay-lost"
    os.close(slave)


# --- commands -----------------------------------------------------------------------------


def test_a_command_switches_and_the_programmer_is_kept_off(fake: FakeBoard) -> None:
    request = fake.request()
    with open_power(request, QUIET, GO) as power:
        assert power.state == "unknown"
        power.on()
        power.on()
        assert (power.state, fake.switched) == ("on", ["on"])
        for other in (request, replace(request, board=None, programmer=fake.board.programmer.url)):
            with pytest.raises(ProgrammerBusy, match="fake is switched on") as caught:
                open_session(other, QUIET)
            assert caught.value.code == "power.board-on"
        assert known_state(request)[0] == "on"
        power.off()
        assert (power.state, fake.switched) == ("off", ["on", "off"])
        open_session(request, QUIET).close()
    assert fake.switched == ["on", "off"], "off is off, and not switched again"
    assert known_state(request) == ("unknown", None)


def test_an_exception_leaves_the_board_off(fake: FakeBoard) -> None:
    ears = Ears()
    with pytest.raises(ValueError, match="by the test"):
        _on_and_then(fake, ears, ValueError("by the test"))
    assert fake.switched == ["on", "off"]
    assert ears.heard == ["board fake is switched off"]


def test_an_error_after_the_board_ran_does_not_say_that_nothing_was_changed(
    fake: FakeBoard,
) -> None:
    with pytest.raises(Interrupted) as caught:
        _on_and_then(fake, QUIET, Interrupted())
    assert "may have changed" in str(caught.value.context["chip_state"])


def test_a_board_that_is_kept_on_stays_marked(fake: FakeBoard) -> None:
    request = fake.request()
    with open_power(request, QUIET, GO) as power:
        power.on()
        power.keep()
    assert fake.switched == ["on"]
    with pytest.raises(ProgrammerBusy) as caught:
        open_session(request, QUIET)
    assert caught.value.code == "power.board-on"
    assert caught.value.context["board"] == "fake"
    # A simulated programmer of another name, and the board's name: the mark is found by both.
    with pytest.raises(ProgrammerBusy):
        open_session(replace(request, programmer=f"sim://{PART}"), QUIET)
    with open_power(request, QUIET, GO) as power:
        power.off()
    open_session(request, QUIET).close()


def test_a_programmer_that_is_in_use_keeps_the_board_off(fake: FakeBoard) -> None:
    with (
        open_session(fake.request(), QUIET),
        open_power(fake.request(), QUIET, GO) as power,
        pytest.raises(ProgrammerBusy) as caught,
    ):
        power.on()
    assert caught.value.code == "programmer.busy"
    assert fake.switched == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ('["sh", "-c", "echo no such outlet >&2; exit 3"]', "ended with 3: no such outlet"),
        ('["/no/such/program"]', "cannot be started: No such file or directory"),
        ('["sh", "-c", "kill -9 $$"]', "was ended by SIGKILL"),
        ('["yes"]', "printed more than 1 MiB"),
    ],
)
def test_a_command_that_fails(tmp_path: Path, words: str, said: str) -> None:
    power = f'[power]\nmethod = "command"\non = {words}\noff = ["touch", "{tmp_path}/off"]\n'
    fake = FakeBoard(tmp_path, power=power)
    with (
        open_power(fake.request(), QUIET, GO) as supply,
        pytest.raises(EnvironmentFault, match=said) as caught,
    ):
        supply.on()
    assert caught.value.code == "power.command"
    assert (tmp_path / "off").exists(), "what may be half on is switched off"
    assert known_state(fake.request()) == ("unknown", None)
    fake.close()


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    power = (
        f'[power]\nmethod = "command"\non = ["sh", "-c", "sleep 60 & echo $! > {pid}; wait"]\n'
        'off = ["true"]\ntimeout = 0.3\n'
    )
    fake = FakeBoard(tmp_path, power=power)
    with (
        open_power(fake.request(), QUIET, GO) as supply,
        pytest.raises(EnvironmentFault, match=r"did not end within 0\.3 s"),
    ):
        supply.on()
    limit = time.monotonic() + 5
    while Path(f"/proc/{pid.read_text().strip()}/cmdline").exists():
        if not Path(f"/proc/{pid.read_text().strip()}/cmdline").read_bytes():
            break  # a zombie of somebody else's
        assert time.monotonic() < limit
        time.sleep(0.01)
    fake.close()


def test_a_board_that_cannot_be_switched_off_is_told_of_and_stays_marked(tmp_path: Path) -> None:
    power = '[power]\nmethod = "command"\non = ["true"]\noff = ["false"]\n'
    fake, ears = FakeBoard(tmp_path, power=power), Ears()
    with pytest.raises(KeyError):
        _on_and_then(fake, ears, KeyError())
    assert "could not be switched off and may be on" in ears.heard[0]
    assert known_state(fake.request())[0] == "on"
    with open_power(fake.request(), ears, GO) as supply:
        supply.on()
        with pytest.raises(EnvironmentFault):
            supply.off()
        supply.keep()
    fake.close()


def test_a_stop_ends_switching_on_and_never_switching_off(tmp_path: Path) -> None:
    power = (
        f'[power]\nmethod = "command"\non = ["sleep", "60"]\noff = ["touch", "{tmp_path}/off"]\n'
    )
    fake, cancel = FakeBoard(tmp_path, power=power), CancelToken()
    cancel.cancel()
    with open_power(fake.request(), QUIET, cancel) as supply, pytest.raises(Interrupted):
        supply.on()
    assert (tmp_path / "off").exists()
    fake.close()


@pytest.mark.slow
def test_a_board_outlives_a_killed_hwflash_and_is_known_to(fake: FakeBoard) -> None:
    code = (
        "import sys, time\nfrom hwflash.boards import load_board\n"
        "from hwflash.jobs.opening import Request\nfrom hwflash.jobs.power import open_power\n"
        "from hwflash.progress import CancelToken, NullReporter\n"
        "board = load_board(sys.argv[1])\n"
        "power = open_power(Request(board=board), NullReporter(), CancelToken())\n"
        "power.on()\nprint('on', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(fake.file)],
        stdout=subprocess.PIPE,
        env=dict(fake.request().environ),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    with pytest.raises(ProgrammerBusy, match="fake is switched on") as caught:
        open_session(fake.request(), QUIET)
    assert caught.value.code == "power.board-on"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with pytest.raises(ProgrammerBusy, match="fake is switched on, since"):
        open_session(fake.request(), QUIET)


# --- boards that cannot be switched -------------------------------------------------------


def test_a_board_without_power(tmp_path: Path) -> None:
    for board in (None, load_board("ft232h-w25q128", {})):
        with pytest.raises(UsageError) as caught:
            open_power(Request(board=board, environ={"HOME": str(tmp_path)}), QUIET, GO)
        assert caught.value.code == "power.none"


@pytest.mark.parametrize("url", [None, "ftdi://ftdi:232h/1", "sim://w25q16jv", "qemu://w25q16"])
def test_a_simulated_board_needs_a_simulated_chip_that_is_kept(
    tmp_path: Path, url: str | None
) -> None:
    environ = {"HWFLASH_STATE_DIR": str(tmp_path)}
    request = Request(programmer=url, board=load_board("sim-ovmf-2m", {}), environ=environ)
    with pytest.raises(UsageError) as caught:
        open_power(request, QUIET, GO)
    assert caught.value.code == "power.not-simulated"


def test_a_simulated_chip_of_another_size(tmp_path: Path) -> None:
    request = Request(
        programmer=f"sim://w25q80?image={tmp_path / 'chip.bin'}",
        board=load_board("sim-ovmf-2m", {}),
        environ={"HWFLASH_STATE_DIR": str(tmp_path)},
    )
    with pytest.raises(ChipError) as caught:
        open_power(request, QUIET, GO)
    assert caught.value.code == "board.other-size"


@pytest.mark.parametrize("size", [None, 0, 1000])
def test_a_simulated_board_without_firmware_is_not_switched_on(
    tmp_path: Path, size: int | None
) -> None:
    image = tmp_path / "chip.bin"
    if size is not None:
        image.write_bytes(b"x" * size)
    request = Request(
        programmer=f"sim://w25q16jv?image={image}",
        board=load_board("sim-ovmf-2m", {}),
        environ={"HWFLASH_STATE_DIR": str(tmp_path)},
    )
    with Rig(request, QUIET, GO) as rig:
        with pytest.raises(ImageError) as caught:
            rig.on()
        assert caught.value.code == "power.no-image"
        with pytest.raises(UsageError) as off:
            _ = rig.console
        assert off.value.code == "power.is-off"
    assert known_state(request)[0] != "on"


# --- a pin --------------------------------------------------------------------------------


def test_a_pin_powers_the_board_and_every_other_one_is_let_go(rig: RigFactory) -> None:
    pins = PinUse(power="ACBUS0", reset="ACBUS1")
    desk = rig(flash=False, pins=PinMap(power="ACBUS0"), bus={"pins": pins, "idle": True})
    wires = desk.sim._engine.shifter.wires
    power = 0x100

    def settled() -> tuple[int, int]:
        _ = desk.sim.die  # carries out what the FT232H has taken
        return wires._level & wires._driven, wires._driven

    assert settled() == (0, power), "opened idle: without supply, nothing else driven"
    desk.bus.let_go(supply=True)
    assert settled() == (power, power), "SPI, WP#, HOLD# and reset are the board's"
    with pytest.raises(ProgrammerBusy) as caught:
        desk.bus.execute([Transfer(b"\x9f", 3)])
    assert caught.value.code == "programmer.let-go"
    assert settled() == (power, power), "what was refused drove nothing"
    desk.bus.let_go(supply=False)
    assert settled() == (0, power)
    desk.bus.drive(True)
    assert desk.bus.execute([Transfer(b"\x9f", 3)]) == [desk.chip.jedec_id]
    desk.bus.let_go(supply=True)
    desk.bus.close()
    _ = desk.sim.die
    assert not wires._driven & ~power, "nor does closing drive SPI into a board that runs"


def test_a_pin_switches_through_the_board_file(tmp_path: Path) -> None:
    power = 'power = "ACBUS0"\n[power]\nmethod = "gpio"\n'
    fake = FakeBoard(tmp_path, power=power)
    request = fake.request()
    with open_power(request, QUIET, GO) as supply:
        supply.on()
        with pytest.raises(ProgrammerBusy):
            open_session(request, QUIET)
        supply.off()
        open_session(request, QUIET).close()
        supply.on()
    open_session(request, QUIET).close()
    fake.close()


def test_a_programmer_without_such_a_pin(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    power = 'power = "ACBUS0"\n[power]\nmethod = "gpio"\n'
    fake = FakeBoard(tmp_path, power=power)
    url = f"record+{fake.board.programmer.url}&trace={trace}"
    with (
        open_power(replace(fake.request(), programmer=url), QUIET, GO) as supply,
        pytest.raises(HwflashError) as caught,
    ):
        supply.on()
    assert caught.value.code == "power.pin"
    fake.close()
