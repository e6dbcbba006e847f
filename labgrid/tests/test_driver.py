"""The driver in a real lab: coordinator, exporter, ssh, and hwflash on a simulated chip."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import OVMF_VARS, SIZE, pattern
from lab import HWFLASH, Client, Host, Lab, Service, free_port, wait_for
from labgrid.step import steps

from hwflash_labgrid import HwflashError, remote
from hwflash_labgrid.errors import UNCHANGED


def image(folder: Path, size: int = SIZE, seed: int = 1) -> Path:
    path = folder / f"image {seed}.bin"  # the space is meant
    path.write_bytes(pattern(size, seed))
    return path


def test_a_place_is_flashed_and_verified(
    client: Client, alpha: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.acquire("bench")
    driver = client.driver("bench")
    assert driver.probe()["part"] == "P25Q21H"

    seen: list[str] = []
    steps.subscribe(record := lambda event: seen.append(f"{event.data.get('state')} {event.step}"))
    with caplog.at_level(logging.INFO):
        result = driver.load(str(image(tmp_path)))
    steps.unsubscribe(record)
    assert result["bytes"] == SIZE
    assert (alpha.folder / "bench.bin").read_bytes() == pattern(SIZE, 1)
    names = [
        name
        for name in ("read", "backup", "write", "verify")
        if f"'name': '{name}'" in "".join(seen)
    ]
    assert names == ["read", "backup", "write", "verify"]
    assert "write: 100 %" in caplog.text

    assert driver.verify(str(image(tmp_path)))["mismatches"] == []
    part = bytearray(pattern(SIZE, 1))
    part[0x1234] ^= 0xFF
    (tmp_path / "other.bin").write_bytes(part)
    with pytest.raises(HwflashError) as caught:
        driver.verify(str(tmp_path / "other.bin"))
    assert caught.value.code == "differs"
    assert caught.value.result["mismatches"] == [{"address": 0x1234, "length": 1}]
    assert caught.value.unchanged

    driver.read(str(tmp_path / "back.bin"), "--range", "0x1000:64K")
    assert (tmp_path / "back.bin").read_bytes() == pattern(SIZE, 1)[0x1000:0x11000]
    # Who did it is in the history of the computer with the programmer.
    entries = driver.run("history", "list")["entries"]
    assert {entry["operator"] for entry in entries} == {"desk/alice"}
    assert not alpha.running()
    assert not list((alpha.folder / "tmp").iterdir())


def test_a_file_in_another_format_comes_whole_or_not_at_all(
    client: Client, alpha: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a raw file has a hash that tells of a part that is missing."""
    client.acquire("bench")
    driver = client.driver("bench")
    back = tmp_path / "back.hex"
    driver.read(str(back), "--range", "0:4K", "--format=ihex")
    whole = back.read_bytes()
    assert whole.startswith(b":")
    finish = remote.Run.finish

    def cut(self: remote.Run, *patience: Any) -> remote.Answer:
        answer = finish(self, *patience)
        return dataclasses.replace(answer, code=remote.SSH_FAILED, data=answer.data[:100])

    monkeypatch.setattr(remote.Run, "finish", cut)
    with pytest.raises(HwflashError) as caught:
        driver.read(str(back), "--range", "0:4K", "--format", "ihex")
    assert caught.value.code == "labgrid.connection-lost"
    assert caught.value.unchanged
    assert back.read_bytes() == whole


def test_variables(client: Client, alpha: Host) -> None:
    (alpha.folder / "store.bin").write_bytes(OVMF_VARS.read_bytes().ljust(1 << 20, b"\xff"))
    client.acquire("store")
    driver = client.driver("store")
    driver.vars_set("Timeout", b"\x07\x00")
    assert driver.vars_get("Timeout") == b"\x07\x00"
    names = {variable["name"] for variable in driver.vars_list()}
    assert "Timeout" in names
    with pytest.raises(HwflashError) as caught:
        driver.vars_get("NoSuchThing")
    assert caught.value.unchanged


def test_what_hwflash_says_of_an_error_arrives(client: Client, alpha: Host, tmp_path: Path) -> None:
    client.acquire("bench")
    driver = client.driver("bench")
    with pytest.raises(HwflashError) as caught:
        driver.load(str(image(tmp_path, SIZE + 1)))
    error = caught.value
    assert error.code.startswith("image")
    assert error.chip == UNCHANGED
    assert error.hint
    assert f"[{error.code}]\nchip: nothing was changed" in str(error)
    assert not error.job
    with pytest.raises(HwflashError, match="no image is named"):
        driver.load()
    with pytest.raises(HwflashError, match="cannot be read"):
        driver.load(str(tmp_path / "missing.bin"))


def test_second_client_is_refused(running: Lab, client: Client, alpha: Host) -> None:
    client.acquire("bench")
    said = running.client("-p", "bench", "acquire", code=1, LG_USERNAME="bob")
    assert "acquired by desk/alice" in said
    # Neither can it be used without being acquired.
    with pytest.raises(Exception, match="not acquired"):
        client.driver("big")


def test_a_place_that_was_taken_away_is_not_written_to(
    running: Lab, client: Client, alpha: Host, tmp_path: Path
) -> None:
    client.acquire("bench")
    driver = client.driver("bench")
    driver.load(str(image(tmp_path)))
    running.client("-p", "bench", "release", "--kick", LG_USERNAME="bob")
    with pytest.raises(HwflashError) as caught:
        driver.load(str(image(tmp_path, seed=2)))
    assert caught.value.code == "labgrid.not-acquired"
    assert "place bench is not acquired" in caught.value.message
    assert (alpha.folder / "bench.bin").read_bytes() == pattern(SIZE, 1)


def test_a_stock_exporters_usb_debugger(client: Client, alpha: Host) -> None:
    """An FT232H is named by its port path; here there is none, and hwflash says which."""
    client.acquire("usb")
    driver = client.driver("usb", query="frequency=10M")
    assert driver.url == "ftdi:bus=3,path=1.2?frequency=10M"
    with pytest.raises(HwflashError) as caught:
        driver.probe()
    assert caught.value.code == "programmer.absent"
    client.acquire("wrong")
    with pytest.raises(HwflashError, match="0403:6010, not an FT232H"):
        client.driver("wrong").probe()


def test_a_stock_exporter_passes_our_resource_on(client: Client, alpha: Host) -> None:
    client.acquire("plain")
    assert client.driver("plain").probe()["part"] == "P25Q21H"
    client.acquire("mistake")
    with pytest.raises(HwflashError) as caught:  # it must not be looked for on this computer
        client.driver("mistake").probe()
    assert caught.value.code == "labgrid.wrong-exporter"


def test_the_stock_match_rule_takes_an_ft232h() -> None:
    from labgrid.resource.udev import USBDebugger

    class Device:
        properties = {"ID_VENDOR_ID": "0403", "ID_MODEL_ID": "6014"}  # noqa: RUF012

    rule = USBDebugger.filter_match
    assert rule.__get__(type("Any", (USBDebugger,), {"__init__": lambda _: None})())(Device())


def test_what_is_missing_on_the_way_is_named(client: Client, alpha: Host) -> None:
    client.acquire("bench")
    driver = client.driver("bench")
    driver.tool = "/nowhere/hwflash"
    with pytest.raises(HwflashError) as caught:
        driver.probe()
    assert caught.value.code == "labgrid.no-hwflash"
    client.acquire("nowhere")
    with pytest.raises(HwflashError) as caught:
        client.driver("nowhere").probe()
    assert caught.value.code == "labgrid.unreachable"
    client.acquire("telnet")
    with pytest.raises(HwflashError) as caught:
        client.driver("telnet", "HwflashSerprogDriver").probe()
    assert caught.value.code == "labgrid.serial-protocol"


def test_a_serprog_box_over_raw_tcp(
    alpha: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a coordinator, as on one's desk: the resource is in the environment file."""
    from labgrid import Environment

    monkeypatch.setenv("HWFLASH_STATE_DIR", str(tmp_path / "state"))
    port = free_port()
    url = f"sim://p25q21h?image={tmp_path}/box.bin"
    box = Service(
        [HWFLASH, "serve", "serprog", "-p", url, "--listen", f"127.0.0.1:{port}"],
        tmp_path / "box.log",
    )
    try:
        wait_for("serprog", lambda: box.said(str(port)))
        (tmp_path / "env.yaml").write_text(
            "imports: [hwflash_labgrid]\n"
            f"tools: {{hwflash: {HWFLASH}}}\n"
            "images: {part: part.bin}\n"
            "targets:\n  main:\n    resources:\n      NetworkSerialPort:\n"
            f"        host: 127.0.0.1\n        port: {port}\n        protocol: raw\n"
            "    drivers:\n      HwflashSerprogDriver:\n        image: part\n"
        )
        (tmp_path / "part.bin").write_bytes(pattern(SIZE, 3))
        driver = Environment(str(tmp_path / "env.yaml")).get_target().get_driver("HwflashDriver")
        driver.load()
    finally:
        box.stop()
    assert (tmp_path / "box.bin").read_bytes() == pattern(SIZE, 3)


def test_the_folder_labgrid_does_not_hide_the_library() -> None:
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", "import labgrid; print(labgrid.__file__)"]
    said = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout
    assert Path(said.strip()).is_relative_to(sys.prefix)
