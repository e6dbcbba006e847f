"""A stand-in for guests in QEMU, with the output of Debian's firmware."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from firmware_images import store_image

from hwflash.console import Found
from hwflash.errors import ReferenceFailed
from hwflash.qemu.check import store_of
from hwflash.qemu.machine import Machine
from hwflash.qemu.shell import ShellVariable
from hwflash.qemu.trace import OperationLog
from hwflash.uefi.areas import KNOWN
from hwflash.uefi.flashops import Erase, Program
from hwflash.uefi.guids import GLOBAL_VARIABLE, MONOTONIC_COUNTER, SECURE_BOOT_ENABLE
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.secureboot import KeyStore
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window

#: OVMF 2M.
LAYOUT = KNOWN[0]
BASE, CODE = 0xFFE00000, (2 << 20) - LAYOUT.length
NAME = UUID(int=5)

#: As Debian's builds print them, without what is not looked at.
PLAIN = """Handle dump
03: FirmwareVolume2 DevicePath(..F8EB-4F34-AAEA-3EE4AF6516A1)) FirmwareVolumeBlock
09: ImageDevicePath(..B23F-4B92-BC8E-FB01CE5907B7)) LoadedImage(FvbServicesRuntimeDxe)
0A: DevicePath(..d(0xB,0xFFE00000,0xFFE1FFFF)) FirmwareVolumeBlock
2D: ImageDevicePath(..7068-4FF5-B462-9822B4AD8D60)) LoadedImage(VariableRuntimeDxe)
2E: VariableWriteArch 81D1675C-86F6-48DF-BD95-9A6E4F0925C3 VariableArch
41: ImageDevicePath(..4F72-49E8-986F-2CD899DFFE5D)) LoadedImage(FaultTolerantWriteDxe)
42: 3EBD9E82-2C78-4DE6-9786-8D4BFCB7C881
"""
SMM = """Handle dump
03: FirmwareVolume2 DevicePath(..F8EB-4F34-AAEA-3EE4AF6516A1)) FirmwareVolumeBlock
52: LoadedImage(FvbServicesSmm)
53: LoadedImage(VariableSmm)
55: LoadedImage(SmmFaultTolerantWriteDxe)
59: ImageDevicePath(..11EA-448A-A46F-76E003657DD1)) LoadedImage(VariableSmmRuntimeDxe)
5A: VariableWriteArch VariableArch
"""
AAVMF = """Handle dump
3D: ImageDevicePath(..4F72-49E8-986F-2CD899DFFE5D)) LoadedImage(FaultTolerantWriteDxe)
5D: ImageDevicePath(..5FE1-4D97-8161-E80ED6A409A8)) LoadedImage(VirtNorFlashDxe)
5E: FirmwareVolumeBlock DevicePath(..1-4D97-8161-E80ED6A409A8,00))
5F: 3EBD9E82-2C78-4DE6-9786-8D4BFCB7C881
65: ImageDevicePath(..7068-4FF5-B462-9822B4AD8D60)) LoadedImage(VariableRuntimeDxe)
66: VariableWriteArch VariableArch
"""
VOLUMES = """03: FirmwareVolume2(F4E3330) DevicePath(F4E3B18)   Fv(7CB8) FirmwareVolumeBlock(F4E3)
"""
OWN_VOLUME = "0A: DevicePath(F091698)   MemoryMapped(0xB,0x%X,0x%X) FirmwareVolumeBlock(F5EB8B0)\n"
IN_MEMORY = (0xFF58000, 0xFF77FFF)


class Fake:
    """A guest, its firmware and its Shell: hwflash's own services, and a fault if wanted."""

    running = 0
    fault = ""

    def __init__(self, machine: Machine, options: Any, cancel: Any, program: Any) -> None:
        self.machine = machine
        self.flash = b""
        if machine.vars is not None:
            own = Path(machine.vars.path)
            self.flash = (own if own.exists() else Path(machine.template.path)).read_bytes()
        self.log: list[Program | Erase] = []
        self.command = 0
        self.qmp = SimpleNamespace(monitor=self.tree, execute=lambda name: None)
        self.qtest = SimpleNamespace(execute=self.outside)
        Fake.running += 1

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        Fake.running -= 1

    # the firmware

    def set(self, name: str, guid: UUID, attributes: int, data: bytes) -> None:
        nvram = Nvram(Window(self.flash), store_of(self.flash))
        VariableServices(nvram).set_variable(name, guid, attributes, data, force=True)
        self.log += [item for item in nvram.operations if isinstance(item, (Program, Erase))]
        self.flash = nvram.flash.window().data

    def program(self, address: int, *values: bytes) -> None:
        for data in values:
            self.log.append(Program(address, data))
            self.flash = self.flash[:address] + data + self.flash[address + len(data) :]

    def started(self) -> None:
        store = store_of(self.flash).store
        record = store.find("MTC", MONOTONIC_COUNTER)
        count = int.from_bytes(record.data, "little") if record else 0
        if self.fault != "no-count":
            self.set("MTC", MONOTONIC_COUNTER, 7, (count + 1).to_bytes(4, "little"))
        if self.fault == "loses" and store.find("Name", NAME):
            self.set("Name", NAME, 3, b"")
        if self.fault == "changes" and count:
            self.set("Name", NAME, 3, b"another")
        if self.fault == "adds":
            self.set(f"New{count}", NAME, 3, b"x")
        if self.fault == "sets-bits":
            self.program(LAYOUT.spare.address + 0x100, b"\0", b"\xff")
        if self.fault == "spare":
            self.program(LAYOUT.spare.address + 0x100, b"\0")
        if self.fault == "damages":
            self.program(LAYOUT.work.address, bytes(32))

    def wait_for_shell(self, patience: float = 0) -> Fake:
        if self.fault == "crash" or (
            self.flash.strip(b"\0") and store_of(self.flash).store is None
        ):
            raise ReferenceFailed("the firmware crashed", code="reference.guest-crash")
        if self.flash and not self.flash.strip(b"\0"):
            self.flash = store_image(LAYOUT)
        if self.flash:
            self.started()
        return self

    def wait_for(self, patterns: list[Any], patience: float, *, nudge: str = "") -> Found:
        keys = KeyStore.of(store_of(self.flash).store)
        if not keys.enforcing or self.fault == "lax":
            return Found(1, re.match("Shell> ", "Shell> "), "", 0.0)
        self.set("SecureBootEnable", SECURE_BOOT_ENABLE, 3, b"\1")
        return Found(0, re.match(patterns[0], "Security Violation"), "", 0.0)

    # QEMU

    def image(self) -> bytes:
        return self.flash

    def operations(self) -> OperationLog:
        done = self.log[:-1] if self.fault == "forgets" else self.log
        return OperationLog("system.flash1", tuple(done))

    def tree(self, command: str) -> str:
        assert command == "info mtree -f"
        line = "  %016x-%016x (prio 0, romd): system.flash%d\n"
        base = BASE - (0x10000 if self.fault == "elsewhere" else 0)
        own = line % (base, base + LAYOUT.length - 1, 1) if self.flash else ""
        return own + line % (BASE + LAYOUT.length, 0xFFFFFFFF, 0)

    def outside(self, commands: list[bytes]) -> None:
        for item in commands:
            _, address, value = item.decode().split()
            place, data = int(address, 16) - BASE, int(value, 16)
            if self.machine.secure and self.fault != "open":
                continue
            if self.command == 0x40:
                self.program(place, bytes([data]))
                self.command = 0
            elif self.command == 0x20 and data == 0xD0:
                self.flash = b"\xff" * 0x1000 + self.flash[0x1000:]
                self.command = 0
            else:
                self.command = data

    # the Shell

    def variables(self) -> list[ShellVariable]:
        found = [ShellVariable("Volatile", NAME, 6, b"x")]
        for item in store_of(self.flash).store.live:
            data = b"old" if self.fault == "deaf" and item.name == "OffUpd" else item.data
            guid = (
                GLOBAL_VARIABLE if self.fault == "vendor" and item.name == "OffNew" else item.guid
            )
            attributes = 7 if self.fault == "attributes" else item.attributes
            found.append(ShellVariable(item.name, guid, attributes, data))
        return found

    def setvar(self, name: str, data: bytes, guid: UUID, attributes: int = 7) -> None:
        if self.fault != "unsaved":
            self.set(name, guid, attributes if data else 0, data)

    def run(self, command: str) -> str:
        emulated = not self.flash or self.fault == "emulated"
        if self.fault == "no-emulation" and not self.flash:
            return VOLUMES
        if command == "dh":
            text = SMM if self.machine.secure else PLAIN
            if emulated:
                text = text.replace("FvbServicesRuntimeDxe", "EmuVariableFvbRuntimeDxe")
            return text.replace("FaultTolerant", "x") if self.fault == "no-ftw" else text
        assert command == "dh -p FirmwareVolumeBlock -v"
        place = (BASE, BASE + LAYOUT.length - 1)
        if emulated:
            place = IN_MEMORY
        elif self.fault == "moved":
            place = (BASE + 0x1000, BASE + LAYOUT.length)
        own = "" if self.machine.secure else OWN_VOLUME % place
        if self.fault == "two-volumes":
            own += OWN_VOLUME % IN_MEMORY
        return VOLUMES + own

    def peek(self, address: int, width: int = 4) -> int:
        place = address - BASE + (0x20 if self.fault == "shifted" else 0)
        return int.from_bytes(self.flash[place : place + width], "little")

    def power_off(self, shell: Fake) -> int:
        assert shell is self
        return 0
