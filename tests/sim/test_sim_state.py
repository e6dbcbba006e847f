import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import usb.core
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_chips import S25FL128, SST26, W25Q128, W25Q256, Bench
from test_sim_ft232h import HIGH, LOW, Host, wr

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.sim.faults import Faults
from hwflash.sim.programmer import SimulatedProgrammer
from hwflash.units import KIB, MIB

SMALL = replace(
    W25Q128,
    size=MIB,
    erase=(replace(W25Q128.erase[0], length=MIB),),
    protection=replace(W25Q128.protection, unit=64 * KIB),
)
PROGRAM = LOW + wr(b"\x06") + HIGH + LOW + wr(b"\x02\x00\x00\x00" + bytes(256)) + HIGH


# --- power cuts -------------------------------------------------------------------------------


def cut(chip, number: int, *commands: bytes, seed: int = 0, before: bytes = b"") -> Bench:
    bench = Bench(chip, power_cut=number, seed=seed)
    bench.die.content[: len(before)] = before
    for command in commands:
        bench.write(command)
    return bench


def test_torn_program_leaves_a_subset_of_the_pending_bits() -> None:
    old, data = bytes(range(256)), bytes(range(255, -1, -1))
    seen = set()
    for seed in range(20):
        bench = cut(SMALL, 1, b"\x02\x00\x00\x00" + data, seed=seed, before=old)
        torn = bytes(bench.die.content[:256])
        seen.add(torn)
        for was, wanted, now in zip(old, data, torn, strict=True):
            assert now & ~was == 0, "no bit rises"
            assert was & wanted & ~now == 0, "no bit falls that was not to fall"
        assert old != torn != bytes(256)
        assert bench.die.content[256:].count(0xFF) == MIB - 256
    assert len(seen) == 20


def test_torn_erase_leaves_random_bits_in_a_prefix() -> None:
    prefixes = []
    for seed in range(30):
        bench = cut(SMALL, 1, b"\x20\x00\x00\x00", seed=seed, before=bytes(8192))
        block = bytes(bench.die.content[:4096])
        assert bench.die.content[4096:8192] == bytes(4096)
        assert block != b"\xff" * 4096
        prefixes.append(len(block.rstrip(b"\x00")))
    assert sum(prefix > 4090 for prefix in prefixes) > 8, "the whole block, half of the time"
    assert min(prefixes) < 2000


def test_torn_status_write_is_done_or_lost() -> None:
    results = {cut(SMALL, 1, b"\x01\x04", seed=seed).die.status.stored[1] for seed in range(20)}
    assert results == {0, 4}


def test_dead_chip_answers_nothing_until_power_is_back() -> None:
    bench = cut(SMALL, 2, b"\x02\x00\x00\x00\x00", b"\x20\x00\x10\x00", b"\x20\x00\x20\x00")
    assert bench.die.cut == {"primitive": 2, "kind": "erase", "address": 0x1000}
    assert bench.die.primitives == 2
    assert bench("9f", 3) == b"\xff" * 3
    assert bench.die.miso() == 1
    assert bench.die.exchange_bits(0, 4) == 15
    bench.die.restore_power()
    assert bench("9f", 3) == b"\xff" * 3, "tVSL is not over"
    bench.wait(30e-6)
    assert bench("9f", 3).hex() == "ef4018"
    assert bench.status() == 0
    bench.program(0x100, b"\x12")
    assert bench("03000100", 1) == b"\x12", "there is no second cut"


def test_power_off_twice_and_on_twice() -> None:
    bench = Bench(SMALL)
    bench.die.restore_power()
    assert bench("9f", 1) == b"\xef"
    bench.die.power_off()
    bench.die.power_off()
    assert bench("9f", 1) == b"\xff"


def test_power_off_loses_volatile_state() -> None:
    bench = Bench(W25Q256)
    bench("b7")
    bench("06")
    bench("50")
    bench("0104")
    bench.die.power_off()
    bench.die.restore_power()
    bench.wait()
    assert bench.status() == 0
    assert not bench.die.four_byte


def test_power_cut_over_usb() -> None:
    host = Host(power_cut=1)
    with pytest.raises(usb.core.USBError) as caught:
        host.ask(PROGRAM, 1)
    assert caught.value.errno == errno.ENODEV
    sim = host.sim
    left = bytes(sim.die.content[:256])
    assert left not in (bytes(256), b"\xff" * 256)
    sim.restore_power()
    host.device = sim.device
    host.device.detach_kernel_driver(0)
    host.out(0x0B, 0x0200)
    host.write(HIGH)
    sim.clock.sleep(0.01)
    host.ask(PROGRAM, 0)
    sim.clock.sleep(0.01)
    assert sim.die.content[:256] == bytes(256)


def test_power_cut_during_a_long_write() -> None:
    host = Host(power_cut=3)
    with pytest.raises(usb.core.USBError) as caught:
        host.write((PROGRAM + b"\x8f\xff\x0f") * 40)
    assert caught.value.errno == errno.ENODEV
    host = Host(power_cut=1)
    with pytest.raises(usb.core.USBError) as caught:
        host.write(PROGRAM + (LOW + b"\x20\xff\x0f" + HIGH) * 700, timeout=50)
    assert caught.value.errno == errno.ENODEV


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_whatever_is_cut_the_rest_is_whole(number: int, seed: int) -> None:
    bench = Bench(SMALL, power_cut=number, seed=seed)
    bench.die.content[: 64 * KIB] = bytes(64 * KIB)
    for sector in range(3):
        bench.write(bytes((0x20, 0, sector * 16, 0)))
        bench.write(bytes((0x02, 0, sector * 16, 0)) + bytes(range(256)))
    done = (number - 1) // 2
    page = bytes(range(256)) + b"\xff" * (4096 - 256)
    assert bytes(bench.die.content[: done * 4096]) == page * done
    assert bytes(bench.die.content[(done + 1) * 4096 : 64 * KIB]) == bytes(
        64 * KIB - (done + 1) * 4096
    )


# --- image and state --------------------------------------------------------------------------


def run(sim: SimulatedProgrammer, *commands: bytes) -> None:
    """Carry out write commands on the die of a programmer, each with its time."""
    for command in commands:
        for part in (b"\x06", command):
            sim.die.select()
            sim.die.exchange(part)
            sim.die.deselect()
        sim.clock.sleep(100)
        sim.backend.chip.engine.time = sim.clock.now()


def test_image_is_made_and_kept(tmp_path: Path) -> None:
    image = tmp_path / "chip.bin"
    with SimulatedProgrammer(SMALL, image=image) as sim:
        run(
            sim, b"\x20\x00\x10\x00", b"\x02\x00\x10\x00hello", b"\x01\x04",
            b"\x42\x00\x20\x00otp", b"\x31\x10",
        )  # fmt: skip
        assert not image.exists()
        sim.sync()
        assert image.read_bytes()[0x1000:0x1005] == b"hello"
    sim.close()
    state = json.loads((tmp_path / "chip.bin.state.json").read_text())
    assert state["registers"] == {"1": 4, "2": 0x10, "3": 0}
    assert state["wear"][:3] == [0, 1, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chip.bin", "chip.bin.state.json"]
    with SimulatedProgrammer(SMALL, image=image) as again:
        assert again.die.registers == {1: 4, 2: 0x10, 3: 0}
        assert again.die.wear[1] == 1
        assert bytes(again.die.otp.cells[0x2000][:4]) == b"otp\xff"
        assert again.die.content[0x1000:0x1005] == b"hello"
        run(again, b"\x42\x00\x20\x10\x00")
        assert again.die.otp.cells[0x2000][0x10] == 0xFF, "locked for ever"


def test_fill_is_ff_and_factory_state_without_a_state_file(tmp_path: Path) -> None:
    image = tmp_path / "chip.bin"
    image.write_bytes(bytes(MIB))
    with SimulatedProgrammer(SMALL, image=image) as sim:
        assert sim.die.content.count(0) == MIB
        assert sim.die.registers == {1: 0, 2: 0, 3: 0}
    with SimulatedProgrammer(SMALL, image=tmp_path / "new.bin"):
        pass
    assert (tmp_path / "new.bin").read_bytes() == b"\xff" * MIB


def test_power_up_address_mode_is_kept(tmp_path: Path) -> None:
    image = tmp_path / "chip.bin"
    with SimulatedProgrammer(W25Q256, image=image) as sim:
        run(sim, b"\x11\x02")
        assert sim.die.four_byte is False
    with SimulatedProgrammer(W25Q256, image=image) as sim:
        assert sim.die.four_byte is True


def test_power_cut_is_written_at_once_and_can_be_reopened(tmp_path: Path) -> None:
    image = tmp_path / "chip.bin"
    host = Host(power_cut=1, image=image)
    with pytest.raises(usb.core.USBError):
        host.ask(PROGRAM, 1)
    left = image.read_bytes()
    assert left[:256] == bytes(host.sim.die.content[:256]) != bytes(256)
    host.sim.close()
    assert image.read_bytes() == left
    with SimulatedProgrammer(W25Q128, image=image) as again:
        assert again.die.cut == {"primitive": 1, "kind": "program", "address": 0}
        assert again.die.powered


def test_image_of_the_wrong_size(tmp_path: Path) -> None:
    image = tmp_path / "chip.bin"
    image.write_bytes(bytes(1000))
    with pytest.raises(ImageError) as caught:
        SimulatedProgrammer(SMALL, image=image)
    assert caught.value.code == "sim.image-size"
    assert caught.value.context["found"] == 1000
    assert image.read_bytes() == bytes(1000)


def good_state(tmp_path: Path) -> tuple[Path, dict]:
    image = tmp_path / "chip.bin"
    with SimulatedProgrammer(SMALL, image=image):
        pass
    return image, json.loads((tmp_path / "chip.bin.state.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"jedec_id": "c22018"}, {"registers": {"1": 0}}, {"registers": None},
        {"registers": {"1": 999, "2": 0, "3": 0}}, {"wear": [0]}, {"wear": [-1] * 256},
        {"wear": "x"}, {"wear_block": 8192}, {"otp": {"4096": "00"}}, {"otp": {"4096": "zz"}},
        {"power_cut": 7},
    ],
)  # fmt: skip
def test_damaged_state(tmp_path: Path, change: dict) -> None:
    image, state = good_state(tmp_path)
    path = tmp_path / "chip.bin.state.json"
    path.write_text(json.dumps(state | change))
    with pytest.raises(ImageError) as caught:
        SimulatedProgrammer(SMALL, image=image)
    assert caught.value.code == "sim.state"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"v": 1}'])
def test_state_that_is_no_state(tmp_path: Path, text: bytes) -> None:
    image, _ = good_state(tmp_path)
    (tmp_path / "chip.bin.state.json").write_bytes(text)
    with pytest.raises(ImageError) as caught:
        SimulatedProgrammer(SMALL, image=image)
    assert caught.value.code == "sim.state"


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_an_image_without_an_end(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/null")
    if kind == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    with pytest.raises(EnvironmentFault) as caught:
        SimulatedProgrammer(SMALL, image=path)
    assert caught.value.code == "sim.image-unreadable"
    assert "regular file" in caught.value.message


def test_unusable_paths(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        SimulatedProgrammer(SMALL, image=tmp_path)
    assert caught.value.code == "sim.image-unreadable"
    sim = SimulatedProgrammer(SMALL, image=tmp_path / "none" / "chip.bin")
    with pytest.raises(EnvironmentFault) as caught:
        sim.sync()
    assert caught.value.code == "sim.image-unwritable"
    target = tmp_path / "folder"
    target.mkdir()
    sim = SimulatedProgrammer(SMALL, image=tmp_path / "x.bin")
    (tmp_path / "x.bin").mkdir()
    with pytest.raises(EnvironmentFault):
        sim.sync()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "x.bin"], "nothing is left over"


def test_stats() -> None:
    host = Host()
    before = host.sim.stats
    host.ask(PROGRAM, 0)
    host.sim.backend.chip.settle()
    after = host.sim.stats
    assert after["usb_out"] - before["usb_out"] == 1
    assert after["sck_bytes"] - before["sck_bytes"] == 261
    assert after["primitives"] == 1
    assert after["modelled_seconds"] == host.clock.now() > before["modelled_seconds"]


@pytest.mark.parametrize("chip", [SST26, S25FL128])
def test_other_chips_keep_their_state(tmp_path: Path, chip) -> None:
    image = tmp_path / "chip.bin"
    for _ in range(2):
        with SimulatedProgrammer(chip, image=image, faults=Faults()) as sim:
            assert sim.die.content.count(0xFF) == chip.size
