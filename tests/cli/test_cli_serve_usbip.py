"""``hwflash serve usbip`` as a process: what it prints, and that nothing of it stays."""

from __future__ import annotations

import json
import signal
import socket
from typing import Any

import pytest
import usb.core
from harness import Bench, serving, stop, validator
from usbip_client import UsbipBackend, UsbipClient, submit

from hwflash.bus.ftdi import Ft232hBus
from hwflash.chip import catalog
from hwflash.flash.nor import NorFlash


@pytest.mark.slow
def test_json_lines(bench: Bench) -> None:
    with serving("usbip", "-p", "sim://w25q80", "--listen", "127.0.0.1:0", "--json") as (
        process,
        lines,
    ):
        announced = json.loads(lines[-1])
        assert announced["message"] == "listening"
        port: int = announced["context"]["port"]
        assert announced["context"]["busid"] == "1-1"
        assert announced["context"]["url"] == f"usbip://127.0.0.1:{port}/1-1"
        with UsbipClient(port), pytest.raises(usb.core.USBError):
            UsbipClient(port)
        out, err = stop(process)
    assert err == ""
    printed: list[dict[str, Any]] = [json.loads(line) for line in [*lines, *out.splitlines()]]
    for line in printed:
        validator().validate(line)
    last = printed[-1]
    assert (last["type"], last["command"], last["ok"]) == ("result", "serve usbip", True)
    assert (last["connections"], last["imports"], last["refused"]) == (2, 1, 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_client_programs_is_in_the_image(bench: Bench, number: int) -> None:
    bench.fill(b"\xff" * bench.size)
    with serving("usbip", "-p", bench.url(), "--listen", "127.0.0.1:0") as (process, lines):
        port = int(lines[-1].removesuffix("/1-1\n").rpartition(":")[2])
        client = UsbipClient(port)
        backend = UsbipBackend(client)
        bus = Ft232hBus(usb.core.Device(backend, backend))
        NorFlash(bus, catalog.load().by_name(bench.part).chip).program(0x4321, b"firmware" * 99)
        # Stopped in the middle of a message, while the client is there.
        client.link.sendall(submit(9000, 2, bytes(1000))[:700])
        out, err = stop(process, number)
        assert "Traceback" not in err
        bus.close()
        client.close()
    assert out == ""
    assert bench.content[0x4321 : 0x4321 + 792] == b"firmware" * 99
    assert bench.json("probe", "-p", bench.url()).code == 0  # the image's lock is free


@pytest.mark.slow
def test_an_open_address_is_warned_of() -> None:
    with serving("usbip", "-p", "sim://w25q80", "--listen", "0.0.0.0:0", "--json") as (
        process,
        lines,
    ):
        warning = next(json.loads(line) for line in lines if json.loads(line)["type"] == "warning")
        assert warning["context"]["code"] == "serve.open"
        stop(process)


def test_a_port_in_use(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        answer = bench.json("serve", "usbip", "-p", bench.url(), "--listen", where)
    assert answer.code == 3
    assert answer.error["code"] == "environment.port-in-use"
    assert bench.json("probe", "-p", bench.url()).code == 0


@pytest.mark.parametrize("words", [(), ("-p", "ftdi://ftdi:232h/1"), ("-p", "serprog://h:1")])
def test_only_simulated_programmers(
    bench: Bench, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HWFLASH_PROGRAMMER", raising=False)
    answer = bench.json("serve", "usbip", *words)
    assert answer.code == 2
    assert answer.error["code"] == "usage.usbip-programmer"
    assert "usbipd" in answer.error["hint"]


def test_a_part_that_is_not_known(bench: Bench) -> None:
    answer = bench.json("serve", "usbip", "-p", "sim://w25q81")
    assert (answer.code, answer.error["code"]) == (2, "chips.unknown-part")
