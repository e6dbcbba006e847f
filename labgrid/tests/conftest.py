from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import HWFLASH, Client, Host, Lab, Service, free_port, wait_for

from hwflash_labgrid.phases import Phases

#: What the chip of place `bench` holds.
SIZE = 1 << 18
CHIPS = {"bench": "p25q21h", "store": "w25q80dv", "big": "w25q32jv"}
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


def pattern(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with one host whose programmers are simulated: bench, store and big."""
    lab = Lab(tmp_path_factory.mktemp("lab"), ["alpha", "stock"])
    environ = dict(os.environ)
    url = f"sim://w25q80dv?image={lab.folder}/served.bin"
    lab.served = free_port()
    listen = f"127.0.0.1:{lab.served}"
    chip = Service(
        [HWFLASH, "serve", "serprog", "-p", url, "--listen", listen],
        lab.folder / "served.log",
        env={**environ, "HWFLASH_STATE_DIR": str(lab.folder / "state-served")},
    )
    try:
        places = [*CHIPS, "served", "usb", "wrong", "nowhere", "telnet"]
        lab.start_coordinator(
            {name: ("alpha", name) for name in places}
            | {name: ("stock", name) for name in ("plain", "mistake")}
        )
        lab.hosts["alpha"].start_sshd()
        start_alpha(lab)
        url = f"sim://{CHIPS['bench']}?image={lab.hosts['alpha'].folder}/plain.bin"
        lab.hosts["stock"].start_exporter(
            {
                "plain": {"NetworkHwflashProgrammer": {"host": "alpha", "url": url}},
                "mistake": {"HwflashProgrammer": {"url": url}},
            },
            program="labgrid-exporter",
        )
        wait_for("the served chip", lambda: chip.said(listen))
        yield lab
    finally:
        lab.stop()
        chip.stop()
        os.environ.clear()
        os.environ.update(environ)


def start_alpha(lab: Lab) -> None:
    folder = lab.hosts["alpha"].folder
    usb = {"host": "alpha", "busnum": 3, "devnum": 9, "path": "3-1.2", "vendor_id": 0x0403}
    lab.hosts["alpha"].start_exporter(
        {
            **{
                name: {
                    "HwflashProgrammer": {
                        "url": f"sim://{part}?image={folder}/{name}.bin",
                        "state_dir": f"{folder}/state-{name}",
                    }
                }
                for name, part in CHIPS.items()
            },
            "served": {"HwflashProgrammer": {"url": f"serprog://127.0.0.1:{lab.served}"}},
            # As the exporter of a computer with these devices would pass them on.
            "usb": {"NetworkUSBDebugger": {**usb, "model_id": 0x6014}},
            "wrong": {"NetworkUSBDebugger": {**usb, "model_id": 0x6010}},
            "nowhere": {"NetworkHwflashProgrammer": {"host": "beta", "url": "sim://w25q80dv"}},
            "telnet": {"NetworkSerialPort": {"host": "alpha", "port": 2001}},
        }
    )


@pytest.fixture
def alpha(running: Lab) -> Host:
    host = running.hosts["alpha"]
    for chip in host.folder.glob("*.bin*"):
        chip.unlink()
    return host


@pytest.fixture
def client(running: Lab) -> Iterator[Client]:
    """A client that gives back what it took."""
    client = Client(running)
    yield client
    mine = "desk/alice"
    if not client.session.stopping.is_set():
        for place in list(client.session.places.values()):
            if place.acquired == mine:
                client.release(place.name)
    client.close()


@pytest.fixture
def at_phase(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], Any]], None]:
    """Do something, once, when a job is in the middle of a phase, or says `task_begin`."""

    def install(phase: str, action: Callable[[], Any]) -> None:
        heard = Phases.heard
        todo = [action]

        def listen(self: Phases, event: Any) -> None:
            heard(self, event)
            if phase == event.get("phase", event["type"]) and todo:
                todo.pop()()

        monkeypatch.setattr(Phases, "heard", listen)

    return install
