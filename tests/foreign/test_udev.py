"""The udev and sysusers files, judged by udev and systemd-sysusers themselves.

udev is shown a made-up /sys in a mount namespace, so that its own parser and matcher say what
happens to a device; nothing of the real system is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hwflash.resources import data_files

pytestmark = pytest.mark.foreign

RULES = "70-hwflash.rules"
GID = 987

# $1: a scratch folder with sys/ (device tree), rules and group; $2: the device to test.
SCRIPT = f"""
set -e
mount -t tmpfs none /sys
cp -a "$1/sys/." /sys
mount -t tmpfs none "$1/dev"
touch "$1/dev/null"
mount --bind /dev/null "$1/dev/null"
mount --rbind "$1/dev" /dev
mount --bind "$1/group" /etc/group
mount -t tmpfs none /run
mkdir -p /run/udev/rules.d
cp "$1/rules" "/run/udev/rules.d/{RULES}"
exec udevadm test "$2" 2>&1
"""


def unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and this is CI")
    pytest.skip(reason)


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        unavailable(f"{name} is not installed")
        raise AssertionError
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SYSTEMD_DEVICE_VERIFY_SYSFS": "0", "LC_ALL": "C"},
    )


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """The command prefix that runs a program in a mount namespace of its own."""
    program("udevadm")
    program("unshare")
    for options in ("-rm", "-m"):
        if run("unshare", options, "sh", "-c", "mount -t tmpfs none /run").returncode == 0:
            return ["unshare", options]
    unavailable("mount namespaces are not allowed here")
    raise AssertionError


@dataclass
class Verdict:
    """What udev did with a device."""

    output: str
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def seat(self) -> bool:
        return ":uaccess:" in self.properties.get("TAGS", "")

    @property
    def mode(self) -> str | None:
        found = re.findall(r"(?i)\bmode:? +(0[0-7]{3})\b", self.output)
        return found[-1] if found else None

    @property
    def group(self) -> bool:
        return re.search(rf"(?i)\b(?:group|gid):? +(?:hwflash.*)?{GID}\b", self.output) is not None


@dataclass
class Machine:
    """A made-up machine with one USB device."""

    folder: Path
    prefix: list[str]

    def test(self, attributes: dict[str, str], tty: str = "", rules: str | None = None) -> Verdict:
        sys = self.folder / "sys"
        device = sys / "devices/pci0000:00/usb3/3-1"
        uevent = "MAJOR=189\nMINOR=262\nDEVNAME=bus/usb/003/007\nDEVTYPE=usb_device\n"
        self._device(device, "bus/usb", uevent, attributes)
        path = device
        if tty:
            path = device / "3-1:1.0/tty" / tty
            self._device(path, "class/tty", f"MAJOR=166\nMINOR=0\nDEVNAME={tty}\n", {})
        text = rules or data_files("udev")[RULES].read_text("utf-8")
        (self.folder / "rules").write_text(text)
        (self.folder / "group").write_text(f"root:x:0:\ndialout:x:20:\nhwflash:x:{GID}:\n")
        (self.folder / "dev").mkdir(exist_ok=True)
        where = "/" + str(path.relative_to(self.folder))
        done = run(*self.prefix, "sh", "-c", SCRIPT, "sh", str(self.folder), where)
        assert done.returncode == 0, done.stdout + done.stderr
        found = dict(re.findall(r"(?m)^(?:E: )?([A-Z_]+)=(.*)$", done.stdout))
        return Verdict(done.stdout, found)

    @staticmethod
    def _device(path: Path, subsystem: str, uevent: str, attributes: dict[str, str]) -> None:
        path.mkdir(parents=True)
        (path / "uevent").write_text(uevent)
        for name, value in attributes.items():
            (path / name).write_text(value + "\n")
        root = next(parent for parent in path.parents if parent.name == "devices").parent
        (root / subsystem).mkdir(parents=True, exist_ok=True)
        (path / "subsystem").symlink_to(os.path.relpath(root / subsystem, path))


@pytest.fixture
def machine(tmp_path: Path, namespace: list[str]) -> Machine:
    return Machine(tmp_path, namespace)


FT232H = {"idVendor": "0403", "idProduct": "6014", "bcdDevice": "0900"}


class TestRules:
    def test_udev_takes_every_line(self, machine: Machine, tmp_path: Path) -> None:
        help_text = run("udevadm", "--help").stdout
        if "verify" in help_text:
            copy = tmp_path / RULES
            copy.write_bytes(data_files("udev")[RULES].read_bytes())
            done = run("udevadm", "verify", "--resolve-names=never", str(copy))
            assert done.returncode == 0, done.stdout + done.stderr
        output = machine.test(FT232H).output
        assert f"/run/udev/rules.d/{RULES}" in output
        complaints = [line for line in output.splitlines() if re.search(rf"{RULES}:\d+ ", line)]
        assert [
            line
            for line in complaints
            if re.search(r"(?i)invalid|ignor|unknown|fail|no effect|unused|expected", line)
        ] == []

    def test_a_bad_rule_would_be_noticed(self, machine: Machine) -> None:
        text = data_files("udev")[RULES].read_text("utf-8").replace('MODE="0660"', 'MOD="0660"')
        output = machine.test(FT232H, rules=text).output
        assert re.search(rf"{RULES}:\d+ .*(?i:invalid|ignor)", output)

    @pytest.mark.parametrize(
        "strings",
        [
            {"manufacturer": "FTDI", "product": "Single RS232-HS"},
            {"manufacturer": "FTDI", "product": "USB <-> Serial Converter", "serial": "FT123"},
            {"manufacturer": "Adafruit", "product": "FT232H"},
            {"manufacturer": ""},
            {},
        ],
        ids=["blank", "programmed", "adafruit", "empty", "unreadable"],
    )
    def test_programmer_is_opened(self, machine: Machine, strings: dict[str, str]) -> None:
        verdict = machine.test({**FT232H, **strings})
        assert verdict.seat
        assert verdict.mode == "0660"
        assert verdict.group
        assert verdict.properties["ID_MM_DEVICE_IGNORE"] == "1"

    @pytest.mark.parametrize(
        "attributes",
        [
            {**FT232H, "manufacturer": "Digilent", "product": "Digilent USB Device"},
            {**FT232H, "idProduct": "6010", "manufacturer": "FTDI"},
            {**FT232H, "idVendor": "1209", "manufacturer": "FTDI"},
        ],
        ids=["fpga-cable", "ft2232h", "other-vendor"],
    )
    def test_other_devices_are_left_alone(
        self, machine: Machine, attributes: dict[str, str]
    ) -> None:
        verdict = machine.test(attributes)
        assert not verdict.seat
        assert not verdict.group
        assert verdict.mode != "0660"
        assert "ID_MM_DEVICE_IGNORE" not in verdict.properties

    def test_serprog_port(self, machine: Machine) -> None:
        attributes = {"idVendor": "cafe", "idProduct": "4001", "product": "pico-serprog"}
        verdict = machine.test(attributes, tty="ttyACM0")
        assert verdict.seat
        assert verdict.properties["ID_MM_DEVICE_IGNORE"] == "1"
        assert not verdict.group

    def test_serial_port_of_an_ft232h_is_kept_from_modemmanager(self, machine: Machine) -> None:
        verdict = machine.test({**FT232H, "manufacturer": "FTDI"}, tty="ttyUSB0")
        assert verdict.properties["ID_MM_DEVICE_IGNORE"] == "1"
        assert not verdict.seat

    def test_ordinary_serial_port_is_left_alone(self, machine: Machine) -> None:
        verdict = machine.test({"idVendor": "2341", "product": "Arduino Uno"}, tty="ttyACM0")
        assert not verdict.seat
        assert "ID_MM_DEVICE_IGNORE" not in verdict.properties

    def test_sorts_before_the_rule_that_uses_the_tag(self, machine: Machine) -> None:
        assert RULES < "73-seat-late.rules"
        if Path("/usr/lib/udev/rules.d/73-seat-late.rules").exists():
            assert re.search(r"(?m)RUN.*uaccess", machine.test(FT232H).output)


def test_sysusers_creates_a_system_group(tmp_path: Path) -> None:
    command = program("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    folder = tmp_path / "usr/lib/sysusers.d"
    folder.mkdir(parents=True)
    (folder / "hwflash.conf").write_bytes(data_files("udev")["hwflash-sysusers.conf"].read_bytes())
    done = run(command, f"--root={tmp_path}")
    assert done.returncode == 0, done.stderr
    groups = (tmp_path / "etc/group").read_text().splitlines()
    assert len(groups) == 1
    name, _, gid, members = groups[0].split(":")
    assert (name, members) == ("hwflash", "")
    assert 0 < int(gid) < 1000
