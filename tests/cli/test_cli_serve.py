"""``hwflash serve serprog`` as a process: what it prints, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import HWFLASH, Bench, serving, stop, validator


@pytest.mark.slow
def test_json_lines(bench: Bench) -> None:
    with serving("serprog", "-p", "sim://w25q80", "--listen", "127.0.0.1:0", "--json") as (
        process,
        lines,
    ):
        announced = json.loads(lines[-1])
        url: str = announced["context"]["url"]
        port: int = announced["context"]["port"]
        assert announced["message"] == "listening"
        assert url == f"serprog://127.0.0.1:{port}"
        probed = bench.json("probe", "-p", url)
        assert probed.result["part"] == "W25Q80DV"
        assert bench.json("probe", "-p", url, "-f", "1M").result["ok"]
        out, err = stop(process)
    assert err == ""
    printed: list[dict[str, Any]] = [json.loads(line) for line in [*lines, *out.splitlines()]]
    for line in printed:
        validator().validate(line)
    last = printed[-1]
    assert (last["type"], last["command"], last["ok"]) == ("result", "serve serprog", True)
    assert (last["clients"], last["refused"]) == (2, 0)
    assert last["operations"] > 5
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.slow
def test_what_is_written_through_it_is_on_the_chip(bench: Bench) -> None:
    bench.fill(3)
    data = bench.file("data", b"through the wire" * 300)
    with serving("serprog", "-p", bench.url(), "--listen", "127.0.0.1:0") as (process, lines):
        url = lines[-1].strip()
        assert bench.run("write", "-p", url, "--yes", "--at", "0x4321", data).code == 0
        assert bench.run("verify", "-p", url, "--at", "0x4321", data).code == 0
        out, err = stop(process, signal.SIGTERM)
    assert out == ""
    assert "client at 127.0.0.1:" in err
    assert bench.content[0x4321 : 0x4321 + 4800] == b"through the wire" * 300


@pytest.mark.slow
def test_pty(bench: Bench) -> None:
    with serving("serprog", "-p", "sim://w25q80", "--pty") as (process, lines):
        url = lines[-1].strip()
        node = Path(url.removeprefix("serprog://"))
        assert node.is_char_device()
        assert bench.json("probe", "-p", url).result["part"] == "W25Q80DV"
        stop(process)
    assert not node.exists()


@pytest.mark.slow
def test_an_open_address_is_warned_of() -> None:
    with serving("serprog", "-p", "sim://w25q80", "--listen", "0.0.0.0:0", "--json") as (
        process,
        lines,
    ):
        warning = next(json.loads(line) for line in lines if json.loads(line)["type"] == "warning")
        assert warning["context"]["code"] == "serve.open"
        stop(process)


def test_a_port_in_use(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        answer = bench.json("serve", "serprog", "-p", bench.url(), "--listen", where)
    assert answer.code == 3
    assert answer.error["code"] == "environment.port-in-use"
    # The programmer was let go of: its lock is free.
    assert bench.json("probe", "-p", bench.url()).code == 0


@pytest.mark.parametrize("where", ["127.0.0.1", "6475", ":6475", "localhost:http", "h:70000"])
def test_addresses_that_are_none(bench: Bench, where: str) -> None:
    answer = bench.run("serve", "serprog", "-p", "sim://w25q80", "--listen", where)
    assert answer.code == 2
    assert "HOST:PORT" in answer.err


def test_nobody_serves_there(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    answer = bench.json("probe", "-p", f"serprog://127.0.0.1:{port}")
    assert (answer.code, answer.error["code"]) == (3, "programmer.serprog-unreachable")
    assert "ssh -L" in answer.error["hint"]
    answer = bench.json("probe", "-p", "serprog:///dev/no-such-port?baud=9600")
    assert (answer.code, answer.error["code"]) == (3, "programmer.absent")


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_of_a_write(bench: Bench) -> None:
    """Exit 6 or 3, never 0, and the message says what is known of the chip."""
    bench.fill(3)
    data = bench.file("data", os.urandom(512 * 1024))
    with serving("serprog", "-p", bench.url(), "--listen", "127.0.0.1:0") as (process, lines):
        url = lines[-1].strip()
        writer = subprocess.Popen(
            [*HWFLASH, "write", "-p", url, "--yes", "--at", "0", str(data),
             "--json"], stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        assert writer.stdout is not None
        for line in writer.stdout:
            if json.loads(line).get("phase") == "program":
                process.kill()
                break
        out = writer.communicate(timeout=60)[0]
    error = json.loads(out.splitlines()[-1])["error"]
    assert writer.returncode == 6
    assert error["context"]["cause"] in ("programmer.serprog-closed", "programmer.lost")
    assert "resume" in error
