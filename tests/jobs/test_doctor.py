from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hwflash.errors import EnvironmentFault
from hwflash.jobs import doctor, doctor_host, doctor_usb
from hwflash.jobs.doctor import Check, Host, Status, User, install_udev, run_checks
from hwflash.resources import data_files
from hwflash.units import MIB


@dataclass
class Computer:
    """A made-up computer in a folder."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    programs: dict[str, str] = field(default_factory=dict)  # name: first line of --version
    modules: dict[str, str] = field(default_factory=dict)
    user: User = field(default_factory=lambda: User("tech", 1000, frozenset({1000, 987})))
    libusb: str | None = "libusb-1.0.so.0"
    forbidden: set[str] = field(default_factory=set)
    free: int = 4096 * MIB

    def host(self) -> Host:
        return Host(
            root=self.root,
            environ=self.environ,
            user=self.user,
            which=lambda name: f"/usr/bin/{name}" if name in self.programs else None,
            first_line=lambda command: self.programs[Path(command[0]).name],
            libusb=lambda: self.libusb,
            module_version=self.modules.get,
            access=lambda path: path.exists() and str(path) not in self.forbidden,
            free_bytes=lambda path: self.free,
        )

    def write(self, path: str, content: str = "") -> Path:
        where = self.root / path.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(content)
        return where

    def attach(self, port: str = "3-1.2", number: int = 7, product: str = "6014") -> Path:
        """Plug in a device; returns its node."""
        folder = f"/sys/bus/usb/devices/{port}"
        for name, value in {
            "idVendor": "0403",
            "idProduct": product,
            "busnum": "3",
            "devnum": str(number),
            "product": "Single RS232-HS",
        }.items():
            self.write(f"{folder}/{name}", value + "\n")
        (self.root / folder.lstrip("/") / f"{port}:1.0").mkdir()
        node = self.write(f"/dev/bus/usb/003/{number:03d}")
        node.chmod(0o660)
        return node

    def bind(self, driver: str, port: str = "3-1.2", tty: str = "") -> None:
        interface = self.root / f"sys/bus/usb/devices/{port}/{port}:1.0"
        (interface / "driver").symlink_to(f"../../../../bus/usb/drivers/{driver}")
        if tty:
            (interface / tty).mkdir()

    def process(self, pid: int, name: str, *paths: str) -> None:
        self.write(f"/proc/{pid}/comm", name + "\n")
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir()
        for index, path in enumerate(paths):
            (folder / str(index)).symlink_to(path)

    def check(self, name: str) -> Check:
        found = [check for check in run_checks(self.host()) if check.name == name]
        assert len(found) == 1, [check.name for check in run_checks(self.host())]
        return found[0]


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    """A computer on which everything is as it should be, with nothing attached."""
    made = Computer(
        tmp_path,
        programs=dict.fromkeys(doctor.QEMU_PROGRAMS, "QEMU emulator version 7.2"),
        modules={"serial:pyserial": "3.5"},
    )
    made.programs["flashrom"] = "flashrom v1.3.0"
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    made.environ = {"HWFLASH_STATE_DIR": str(state)}
    made.user = replace(made.user, uid=state.stat().st_uid or 0)
    made.write("/etc/group", "root:x:0:\nhwflash:x:987:tech\nbroken line\n")
    made.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    install_udev(tmp_path)
    made.write("/usr/share/OVMF/CODE.fd")
    made.write("/usr/share/OVMF/VARS.fd")
    descriptor = {
        "mapping": {
            "executable": {"filename": "/usr/share/OVMF/CODE.fd"},
            "nvram-template": {"filename": "/usr/share/OVMF/VARS.fd"},
        },
        "targets": [{"architecture": "x86_64"}],
    }
    made.write("/usr/share/qemu/firmware/60-x86.json", json.dumps(descriptor))
    made.write(
        "/var/lib/dpkg/status",
        "Package: bash\nVersion: 5.2\n\nPackage: ovmf\nStatus: ok\nVersion: 2022.11-6\n",
    )
    return made


def test_all_is_well(computer: Computer) -> None:
    checks = run_checks(computer.host())
    assert [(check.name, check.status, check.code) for check in checks] == [
        ("libusb", Status.OK, ""),
        ("pyserial", Status.OK, ""),
        ("udev-rules", Status.OK, ""),
        ("udev-group", Status.OK, ""),
        ("programmer", Status.INFO, "doctor.no-programmer"),
        ("qemu-system-x86_64", Status.OK, ""),
        ("qemu-system-aarch64", Status.OK, ""),
        ("qemu-system-arm", Status.OK, ""),
        ("ovmf", Status.OK, ""),
        ("flashrom", Status.OK, ""),
        ("state", Status.OK, ""),
        ("disk", Status.OK, ""),
    ]
    found = {check.name: check.found for check in checks}
    assert found["libusb"] == "libusb-1.0.so.0"
    assert found["pyserial"] == "pyserial 3.5"
    assert found["qemu-system-arm"] == "/usr/bin/qemu-system-arm, QEMU emulator version 7.2"
    assert found["ovmf"] == "1 complete (ovmf 2022.11-6)"
    assert found["flashrom"] == "flashrom v1.3.0"
    assert found["disk"].startswith("4 GiB free at ")


def test_this_computer_is_only_looked_at(tmp_path: Path) -> None:
    """The real probes run; what they find depends on the computer."""
    host = replace(Host(), environ={"HWFLASH_STATE_DIR": str(tmp_path / "none")})
    checks = run_checks(host)
    assert {"libusb", "pyserial", "udev-rules", "state", "disk"} <= {item.name for item in checks}
    assert all(item.found for item in checks)
    # Whoever has to act needs a remedy, and an ok check needs none.
    assert all(bool(item.code) != (item.status is Status.OK) for item in checks if item.expected)
    assert not (tmp_path / "none").exists()


class TestLibraries:
    def test_libusb(self, computer: Computer) -> None:
        computer.libusb = None
        check = computer.check("libusb")
        assert (check.status, check.code) == (Status.FAIL, "doctor.libusb")

    def test_pyserial(self, computer: Computer) -> None:
        computer.modules.clear()
        assert computer.check("pyserial").status is Status.WARN

    def test_real_probes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert (doctor_host.module_version("serial:pyserial") or "").startswith("3.")
        assert doctor_host.module_version("no_such_module") is None
        assert doctor_host.first_line(["/bin/sh", "-c", "echo one; echo two"]) == "one"
        assert doctor_host.first_line(["/bin/sh", "-c", "echo one; exit 1"]) == ""
        assert doctor_host.first_line(["/no/such/program"]) == ""
        monkeypatch.setattr("usb.backend.libusb1.get_backend", lambda: None)
        assert doctor_host.find_libusb() is None


class TestUdev:
    def test_rules_missing(self, computer: Computer) -> None:
        (computer.root / "etc/udev/rules.d/70-hwflash.rules").unlink()
        check = computer.check("udev-rules")
        assert (check.status, check.code) == (Status.WARN, "doctor.udev-rules")
        assert check.found == "not installed"

    def test_rules_edited(self, computer: Computer) -> None:
        path = computer.write("/etc/udev/rules.d/70-hwflash.rules", 'MODE="0666"\n')
        check = computer.check("udev-rules")
        assert check.status is Status.WARN
        assert str(path) in check.found
        assert "another version" in check.found

    def test_rules_of_a_package(self, computer: Computer) -> None:
        own = computer.root / "etc/udev/rules.d/70-hwflash.rules"
        packaged = computer.write("/usr/lib/udev/rules.d/70-hwflash.rules", own.read_text())
        own.unlink()
        check = computer.check("udev-rules")
        assert check.status is Status.OK
        assert check.context["path"] == str(packaged)
        # A link to /dev/null in /etc masks the package's file.
        own.symlink_to("/dev/null")
        assert computer.check("udev-rules").status is Status.WARN

    def test_group_missing(self, computer: Computer) -> None:
        computer.write("/etc/group", "root:x:0:\n")
        assert computer.check("udev-group").code == "doctor.group-missing"

    def test_group_needs_a_new_login(self, computer: Computer) -> None:
        computer.user = User("tech", 1000, frozenset({1000}))
        check = computer.check("udev-group")
        assert (check.status, check.code) == (Status.WARN, "doctor.group-login")

    def test_no_member(self, computer: Computer) -> None:
        computer.user = User("guest", 1001, frozenset({1001}))
        check = computer.check("udev-group")
        assert (check.status, check.code) == (Status.INFO, "doctor.group-member")
        assert check.context["user"] == "guest"


class TestProgrammer:
    def test_good(self, computer: Computer) -> None:
        computer.attach()
        computer.attach("3-2", 9, product="6010")
        os.chown(computer.root / "dev/bus/usb/003/007", -1, os.getegid())
        assert [check.name for check in run_checks(computer.host())][4:6] == [
            "node 3-1.2",
            "holder 3-1.2",
        ]
        node = computer.check("node 3-1.2")
        assert node.status is Status.OK
        assert node.found.startswith("/dev/bus/usb/003/007 is 0660 ")
        assert computer.check("holder 3-1.2") == Check(
            "holder 3-1.2",
            Status.OK,
            "free",
            "no process has it open",
            context={"port": "3-1.2", "drivers": {}, "ttys": []},
        )

    def test_not_accessible(self, computer: Computer) -> None:
        node = computer.attach()
        node.chmod(0o664)
        computer.forbidden.add(str(node))
        computer.user = User("guest", 1001, frozenset({1001, 987}))
        check = computer.check("node 3-1.2")
        assert (check.status, check.code) == (Status.FAIL, "doctor.node-access")
        facts = dict(check.context)
        assert facts.pop("owner")
        assert facts.pop("group")
        assert facts == {
            "node": "/dev/bus/usb/003/007",
            "port": "3-1.2",
            "user": "guest",
            "mode": "0664",
            "groups": ["1001", "hwflash"],
        }
        assert "guest may not open it" in check.found

    def test_open_to_the_world(self, computer: Computer) -> None:
        computer.attach().chmod(0o666)
        assert computer.check("node 3-1.2").code == "doctor.node-world"

    def test_node_missing(self, computer: Computer) -> None:
        computer.attach().unlink()
        check = computer.check("node 3-1.2")
        assert (check.status, check.code) == (Status.FAIL, "doctor.node-missing")

    def test_kernel_driver(self, computer: Computer) -> None:
        computer.attach()
        computer.bind("ftdi_sio", tty="ttyUSB0")
        check = computer.check("holder 3-1.2")
        assert (check.status, check.code) == (Status.INFO, "doctor.kernel-driver")
        assert check.found.startswith("kernel driver ftdi_sio (ttyUSB0)")
        assert check.context["drivers"] == {"3-1.2:1.0": "ftdi_sio"}

    @pytest.mark.parametrize("path", ["/dev/bus/usb/003/007", "/dev/ttyUSB0"])
    def test_held_by_a_process(self, computer: Computer, path: str) -> None:
        computer.attach()
        computer.bind("ftdi_sio", tty="ttyUSB0")
        computer.process(41, "bystander", "/dev/bus/usb/003/008", "/dev/ttyUSB1")
        computer.process(4242, "minicom", "/dev/null", path)
        check = computer.check("holder 3-1.2")
        assert (check.status, check.code) == (Status.FAIL, "doctor.device-busy")
        assert check.found == f"minicom (process 4242) has {path} open"
        assert check.context["processes"] == [{"pid": 4242, "name": "minicom", "path": path}]

    def test_held_by_a_process_that_cannot_be_seen(self, computer: Computer) -> None:
        computer.attach()
        computer.bind("usbfs")
        check = computer.check("holder 3-1.2")
        assert check.code == "doctor.device-busy"
        assert "another user" in check.found

    def test_two_programmers(self, computer: Computer) -> None:
        computer.attach("3-1", 4)
        computer.attach("3-2", 5)
        found = doctor_usb.find_ft232h(computer.host())
        assert [(item.port, item.node) for item in found] == [
            ("3-1", "/dev/bus/usb/003/004"),
            ("3-2", "/dev/bus/usb/003/005"),
        ]


class TestReference:
    def test_qemu_missing(self, computer: Computer) -> None:
        del computer.programs["qemu-system-x86_64"]
        del computer.programs["qemu-system-arm"]
        assert computer.check("qemu-system-x86_64").status is Status.WARN
        assert computer.check("qemu-system-arm").status is Status.INFO
        assert computer.check("qemu-system-arm").context == {"program": "qemu-system-arm"}

    def test_qemu_does_not_start(self, computer: Computer) -> None:
        computer.programs["qemu-system-x86_64"] = ""
        check = computer.check("qemu-system-x86_64")
        assert (check.status, check.code) == (Status.WARN, "doctor.qemu")

    def test_firmware_missing(self, computer: Computer) -> None:
        (computer.root / "usr/share/OVMF/VARS.fd").unlink()
        check = computer.check("ovmf")
        assert (check.status, check.code) == (Status.WARN, "doctor.ovmf")
        assert check.context["broken"] == {"60-x86.json": "/usr/share/OVMF/VARS.fd"}
        assert "60-x86.json without its files" in check.found

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", "[" * 100_000, '{"mapping": [], "targets": 7}', "{}"]
    )
    def test_descriptor_masked_or_damaged(self, computer: Computer, content: str) -> None:
        computer.write("/etc/qemu/firmware/60-x86.json", content)
        check = computer.check("ovmf")
        assert check.status is Status.WARN
        assert check.context["complete"] == {}
        assert check.context["broken"] == ({} if not content else {"60-x86.json": ""})

    def test_flashrom_is_optional(self, computer: Computer) -> None:
        del computer.programs["flashrom"]
        assert computer.check("flashrom").status is Status.INFO


class TestState:
    def test_made_when_needed(self, computer: Computer) -> None:
        computer.environ = {"HWFLASH_STATE_DIR": str(computer.root / "new" / "state")}
        check = computer.check("state")
        assert (check.status, check.found) == (
            Status.OK,
            f"{computer.root}/new/state, is made when needed",
        )

    def test_readable_by_others(self, computer: Computer) -> None:
        (computer.root / "state").chmod(0o755)
        check = computer.check("state")
        assert (check.status, check.code) == (Status.WARN, "doctor.state-private")
        assert check.context["mode"] == "0755"

    def test_not_writable(self, computer: Computer) -> None:
        computer.forbidden.add(str(computer.root / "state"))
        assert computer.check("state").code == "doctor.state"

    def test_file_in_the_way(self, computer: Computer) -> None:
        path = computer.write("/file")
        computer.environ = {"HWFLASH_STATE_DIR": str(path / "state")}
        assert computer.check("state").found == f"{path} is no directory"

    def test_no_home(self, computer: Computer) -> None:
        computer.environ = {}
        assert computer.check("state").status is Status.FAIL
        assert computer.check("disk").status is Status.FAIL

    @pytest.mark.parametrize(
        ("free", "status"),
        [(1024 * MIB, Status.OK), (1023 * MIB, Status.WARN), (159 * MIB, Status.FAIL)],
    )
    def test_room(self, computer: Computer, free: int, status: Status) -> None:
        computer.free = free
        check = computer.check("disk")
        assert check.status is status
        assert check.context["free"] == free


class TestInstall:
    def test_writes_both_files(self, tmp_path: Path) -> None:
        rules = tmp_path / "etc/udev/rules.d/70-hwflash.rules"
        sysusers = tmp_path / "etc/sysusers.d/hwflash.conf"
        assert install_udev(tmp_path) == [rules, sysusers]
        assert rules.read_bytes() == data_files("udev")["70-hwflash.rules"].read_bytes()
        assert sysusers.read_bytes() == data_files("udev")["hwflash-sysusers.conf"].read_bytes()
        assert rules.stat().st_mode & 0o777 == 0o644
        rules.write_text("old")
        install_udev(tmp_path)
        assert "hwflash" in rules.read_text()
        assert sorted(item.name for item in rules.parent.iterdir()) == [rules.name]

    def test_group_comes_before_the_rules_are_read(self) -> None:
        assert [command[0] for command in doctor.AFTER_INSTALL] == [
            "systemd-sysusers",
            "udevadm",
            "udevadm",
        ]

    @pytest.mark.parametrize("blocked", ["etc/udev", "etc/sysusers.d"])
    def test_without_permission_nothing_is_written(self, tmp_path: Path, blocked: str) -> None:
        # A file where a folder should be stops root as well.
        (tmp_path / blocked).parent.mkdir(parents=True)
        (tmp_path / blocked).write_text("")
        with pytest.raises(EnvironmentFault) as caught:
            install_udev(tmp_path)
        error = caught.value
        assert (error.code, error.exit_code) == ("doctor.permission", 3)
        target = tmp_path / "etc/udev/rules.d/70-hwflash.rules"
        assert error.context["paths"] == [
            str(target),
            str(tmp_path / "etc/sysusers.d/hwflash.conf"),
        ]
        commands = error.context["commands"]
        assert isinstance(commands, list)
        assert commands[0][:4] == ["install", "-D", "-m", "0644"]
        assert Path(commands[0][4]).read_bytes() == (
            data_files("udev")["70-hwflash.rules"].read_bytes()
        )
        assert commands[0][5] == str(target)
        assert commands[2] == ["systemd-sysusers"]
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / blocked]
