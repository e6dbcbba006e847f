"""OVMF judges the keys we enrol: what it starts, and what it refuses."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from conftest import OVMF, require
from test_secureboot_keys import tools  # noqa: F401 - a fixture
from uefi.keys import OWNER, T1, T2, hash_list, make_key, signed_update

from hwflash.uefi import guids
from hwflash.uefi.authenticode import image_sha256
from hwflash.uefi.enrolment import (
    KeyChange,
    apply_signed,
    enrol_certificate,
    enrol_hash,
    remove,
)
from hwflash.uefi.find import find_stores
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.secureboot import KeyStore
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

#: Seconds a boot may take; a healthy one takes about 15 of CPU under TCG.
PATIENCE = 180.0
#: What HelloWorld.efi shows, and what the boot manager says of a program it may not start.
HELLO, REFUSED = b"HelloWorld", b"Access Denied"


class Machine:
    """A variable store made from Debian's blank one, and OVMF with SMM that boots from it."""

    def __init__(self, folder: Path, qemu: str) -> None:
        self.folder, self.qemu = folder, qemu
        self.code = OVMF / "OVMF_CODE_4M.secboot.fd"
        blank = OVMF / "OVMF_VARS_4M.fd"
        require(self.code.exists() and blank.exists(), "package ovmf")
        self.path = folder / "vars.fd"
        shutil.copy(blank, self.path)

    @property
    def keys(self) -> KeyStore:
        """The keys in the store as it is now."""
        (found,) = find_stores(self.path.read_bytes())
        return KeyStore.of(found.store)

    def write(self, change: KeyChange) -> None:
        """Make a change in the store."""
        image = self.path.read_bytes()
        (found,) = find_stores(image)
        nvram = Nvram(Window(image), found)
        VariableServices(nvram).set_variable(
            change.name, change.guid, change.attributes, change.data,
            timestamp=change.timestamp, force=True,
        )  # fmt: skip
        self.path.write_bytes(nvram.flash.window().data)

    def boot(self) -> bytes:
        """What the console shows until a program runs or is refused."""
        disk = f"if=none,id=disk,format=raw,snapshot=on,file=fat:{self.folder / 'disk'}"
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            port = listener.getsockname()[1]
            process = subprocess.Popen(
                [
                    self.qemu, "-nodefaults", "-no-user-config", "-display", "none",
                    "-machine", "q35,smm=on", "-accel", "tcg", "-m", "256", "-net", "none",
                    "-global", "driver=cfi.pflash01,property=secure,value=on",
                    "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={self.code}",
                    "-drive", f"if=pflash,unit=1,format=raw,file={self.path}",
                    "-drive", disk, "-device", "ide-hd,drive=disk",
                    "-chardev", f"socket,id=s,host=127.0.0.1,port={port}",
                    "-serial", "chardev:s",
                ],
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                listener.settimeout(30)
                console, _ = listener.accept()
                with console:
                    return self._watch(console, process)
            finally:
                process.terminate()
                process.communicate(timeout=20)

    def _watch(self, console: socket.socket, process: subprocess.Popen[bytes]) -> bytes:
        console.settimeout(1)
        seen = b""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            try:
                got = console.recv(4096)
                assert got, "QEMU ended"
                seen += got
            except TimeoutError:
                assert process.poll() is None, "QEMU ended"
            plain = re.sub(rb"\x1b\[[0-9;=]*[A-Za-z]", b"", seen)
            if HELLO in plain or REFUSED in plain or b"Shell>" in plain:
                return plain
        pytest.fail(f"the machine never came to boot anything: {seen[-800:]!r}")


def test_ovmf_starts_what_is_enrolled(tmp_path: Path, qemu: str, tools: Path) -> None:  # noqa: F811
    (program,) = (tools / "lib/efitools").rglob("HelloWorld.efi")
    boot = tmp_path / "disk/EFI/BOOT"
    boot.mkdir(parents=True)
    shutil.copy(program, boot / "BOOTX64.EFI")
    digest = image_sha256(program.read_bytes())
    platform, exchange = make_key("Platform"), make_key("Exchange")
    machine = Machine(tmp_path, qemu)

    # Setup mode: everything starts.
    assert HELLO in machine.boot()
    assert machine.keys.setup_mode
    assert machine.keys.secure_boot_enable is None

    # A platform key and a db that does not know the program.
    machine.write(enrol_certificate(machine.keys, "PK", platform.der, OWNER, T1))
    machine.write(enrol_certificate(machine.keys, "KEK", exchange.der, OWNER, T1))
    machine.write(enrol_hash(machine.keys, "db", bytes(32), OWNER, T1))
    assert "creates SecureBootEnable" in machine.keys.state[0]
    assert REFUSED in machine.boot()
    assert machine.keys.state == ("user mode: Secure Boot is on",), (
        "the firmware has created SecureBootEnable"
    )

    # Its hash goes into db, and it starts; it goes into dbx by a signed update, and does not.
    machine.write(enrol_hash(machine.keys, "db", digest, OWNER, T2))
    assert HELLO in machine.boot()
    update = signed_update("dbx", hash_list(digest), exchange, append=True)
    change = apply_signed(machine.keys, "dbx", update)
    assert change.report is not None
    assert change.report.valid
    machine.write(change)
    assert REFUSED in machine.boot()
    assert machine.keys.keys("dbx").data == hash_list(digest)
    (found,) = find_stores(machine.path.read_bytes())
    assert found.store is not None
    assert found.store.find("CustomMode", guids.CUSTOM_MODE).data == b"\0"


def test_ovmf_starts_what_an_enrolled_certificate_signed(
    tmp_path: Path,
    qemu: str,
    tools: Path,  # noqa: F811
) -> None:
    (program,) = (tools / "lib/efitools").rglob("HelloWorld.efi")
    boot = tmp_path / "disk/EFI/BOOT"
    boot.mkdir(parents=True)
    vendor, platform = make_key("Vendor"), make_key("Platform")
    (tmp_path / "key.pem").write_bytes(vendor.private_pem)
    (tmp_path / "cert.pem").write_bytes(vendor.pem)
    subprocess.run(
        [tools / "bin/sbsign", "--key", tmp_path / "key.pem", "--cert", tmp_path / "cert.pem",
         "--output", boot / "BOOTX64.EFI", program],
        check=True, capture_output=True,
    )  # fmt: skip
    machine = Machine(tmp_path, qemu)
    machine.write(enrol_certificate(machine.keys, "db", vendor.pem, OWNER, T1))
    machine.write(enrol_hash(machine.keys, "db", bytes(32), OWNER, T1))
    machine.write(enrol_certificate(machine.keys, "PK", platform.der, OWNER, T1))
    assert HELLO in machine.boot()
    assert machine.keys.enforcing
    machine.write(remove(machine.keys, "db", "CN=Vendor", T2))
    assert REFUSED in machine.boot()
