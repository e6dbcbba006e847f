"""A stand-in for a guest that is looked at from outside: fw_cfg, memory, monitor, sleep.

What it holds was recorded of OVMF; see tests/data/README.md. What it does is written anew.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from fwcfg_device import Device
from platform_data import GUID_ADDRESS, GUID_PAGE, RSDP_PAGE, SCRIPT, SCRIPT_COPY, content, tables

from hwflash.errors import ReferenceFailed
from hwflash.qemu.acpi import one
from hwflash.qemu.machine import Machine
from hwflash.qemu.shell import MemoryRange

SSDT = one(tables(), "SSDT", "VMGENID").address
KEPT = GUID_ADDRESS.to_bytes(8, "little")
#: An entry of the directory of the scripts: the write of an address back to fw_cfg.
WRITE_POINTER = next(
    at for at in range(0, 4096, 128) if content("etc/table-loader")[at : at + 4] == b"\4\0\0\0"
)


class FakePlatform(Device):
    """A guest of the bench, with a fault if wanted."""

    running = 0
    wrong = ""

    def __init__(self, machine: Machine, options: Any, cancel: Any, program: Any = None) -> None:
        super().__init__()
        self.machine = machine
        self.options = options
        self.qtest = self
        self.qmp = SimpleNamespace(
            execute=self.command, monitor=self.monitor, wait_event=self.wait_event
        )
        clock = itertools.count()
        self.process = SimpleNamespace(
            folder=Path("/nonexistent"), guest_seconds=lambda: next(clock) / 10
        )
        self.events: list[str] = []
        self.slept = 0
        self.event_status = 0
        self.address = KEPT
        words = " ".join(options.extra)
        self.guid = self.given(words)
        if self.guid is None:
            for name in ("etc/vmgenid_guid", "etc/vmgenid_addr"):
                del self.files[name]
        elif not (self.has("page-empty") or (self.has("old-guid") and "-incoming" in words)):
            self.ram.write(GUID_ADDRESS, self.guid.bytes_le)
        if "-incoming" in words:
            self.event_status = 0 if self.has("quiet") else 0x20
        self.prepare()
        FakePlatform.running += 1

    def has(self, fault: str) -> bool:
        return self.wrong == fault

    def given(self, words: str) -> UUID | None:
        match = re.search(r"vmgenid,guid=([^,]*)", words)
        if match is None:
            return None
        if "dma_enabled=off" in words:
            raise ReferenceFailed("vmgenid requires DMA", code="reference.qemu-start")
        if match[1] == "auto":
            return UUID(int=4 << 76 | 8 << 60) if self.has("same-auto") else uuid4()
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", match[1]):
            if self.has("takes-all"):
                return UUID(int=0)
            if self.has("crashes"):
                raise ReferenceFailed("QEMU ended", code="reference.qemu-ended")
            raise ReferenceFailed("doesn't take value", code="reference.qemu-start")
        return UUID(match[1])

    def prepare(self) -> None:
        """What is wrong with fw_cfg and memory from the begin."""
        file = self.files.get("etc/vmgenid_guid")
        if file is not None and self.guid is not None:
            page = bytearray(file[1])
            page[40:56] = UUID(int=7).bytes_le if self.has("file-guid") else self.guid.bytes_le
            self.files["etc/vmgenid_guid"] = (file[0], bytes(page))
        select, script = self.files["etc/table-loader"]
        if self.has("script-torn"):
            self.files["etc/table-loader"] = (select, script[:-1])
        elif self.has("no-write-pointer"):
            at = WRITE_POINTER
            self.files["etc/table-loader"] = (select, script[:at] + bytes(128) + script[at + 128 :])
        elif self.has("no-files"):
            del self.files["etc/acpi/rsdp"]
        elif self.has("not-written"):
            self.address = bytes(8)
        elif self.has("no-dma-bit"):
            self.items[1] = b"\1\0\0\0"
            # Byte by byte: without the zeros behind the tables.
            number, data = self.files["etc/acpi/tables"]
            self.files["etc/acpi/tables"] = (number, data[:0x2400])
        elif self.has("dma-error"):
            self.fault = "error"
        elif self.has("absent"):
            self.fault = "absent"
        elif self.has("not-offered") or self.machine.s3 is False:
            self.files["etc/system-states"] = (0x2B, bytes.fromhex("800000018280"))
        self.prepare_memory()

    def prepare_memory(self) -> None:
        blank = {"no-rsdp": (RSDP_PAGE, 64), "no-table": (SSDT, 4), "no-copy": (SCRIPT_COPY, 5)}
        if self.wrong in blank:
            address, size = blank[self.wrong]
            self.ram.write(address, bytes(size))
        elif self.has("no-script"):
            self.ram.write(SCRIPT, bytes(5))
            self.ram.write(SCRIPT_COPY, bytes(5))
        elif self.has("two-scripts"):
            self.ram.write(SCRIPT_COPY + 0xED - 4, b"\0")  # the last byte of the information
        elif self.has("checksum"):
            self.ram.write(SSDT + 9, b"\0")
        elif self.has("aml"):
            self.ram.write(SSDT + 36, b"\xcc")

    def content(self) -> bytes:
        if self.select == self.files.get("etc/vmgenid_addr", (-1,))[0]:
            return self.address
        return super().content()

    def one(self, word: str, *rest: str) -> bytes:
        if (word, rest) == ("inb", ("0x620",)):
            return b"0x%x" % self.event_status
        if word == "b64read" and self.has("guid-lost") and self.slept:
            self.ram.write(GUID_ADDRESS, bytes(16))
        return super().one(word, *rest)

    # the monitor

    def command(self, name: str, **arguments: Any) -> Any:
        if name == "query-vm-generation-id":
            if self.guid is None:
                raise ReferenceFailed("device not found", code="reference.qmp-refused")
            return {"guid": str(self.guid)}
        if name == "query-migrate":
            return {"status": "failed" if self.has("no-migration") else "completed"}
        if name == "pmemsave":
            raise AssertionError("too large a piece of memory")
        if name == "system_wakeup" and not self.has("no-wakeup"):
            self.events.append("WAKEUP")
            self.wake()
        return {}

    def monitor(self, line: str) -> str:
        assert line == "info vm-generation-id"
        return f"{UUID(int=1) if self.has('monitor') else self.guid}\n"

    def wait_event(self, *names: str, timeout: float, clock: Any) -> None:
        limit = clock() + timeout
        while clock() < limit:
            for name in names:
                if name in self.events:
                    self.events.remove(name)
                    return
            if self.slept == 2:
                self.resume()
        raise ReferenceFailed("not told", code="reference.qmp-timeout")

    # the firmware

    def wait_for_shell(self, patience: float) -> FakePlatform:
        if self.has("hangs"):
            raise ReferenceFailed("does not get on", code="reference.boot-timeout")
        return self

    def memory_map(self) -> list[MemoryRange]:
        kind = "BS_Data" if self.has("memory-type") else "ACPI_NVS"
        return [
            MemoryRange("Available", 0x1000, 0x9FFFF, 0),
            MemoryRange("ACPI_Recl", 0xF76C000, 0xF77DFFF, 0),
            MemoryRange("ACPI_NVS", 0xF77E000, GUID_PAGE - 1, 0),
            MemoryRange(kind, GUID_PAGE, 0xF7FDFFF, 0),
        ]

    def leave_by(self, port: int, value: int, width: int, space: str) -> None:
        assert (port, value, width, space) == (0x604, 0x2400, 2, "io")
        self.slept = 1
        if self.has("changed-address"):
            self.address = b"\1" * 8
        if not self.has("no-suspend"):
            self.events.append("SUSPEND")

    def wake(self) -> None:
        self.slept = 2
        if not self.has("not-cleared"):
            self.address = bytes(8)

    def resume(self) -> None:
        """The boot script, then the code that the waking vector names."""
        if self.has("no-resume"):
            return
        self.slept = 3
        if not self.has("not-restored"):
            # The last eight bytes of the script's second write to memory.
            self.address = self.ram.read(SCRIPT + 0x95, 8)
        facs = one(tables(), "FACS").address
        vector = int.from_bytes(self.ram.read(facs + 12, 4), "little")
        code = self.ram.read(vector, 16)
        assert code[:3] == b"\x2e\xff\x06"
        assert code[5:12] == b"\xba\x04\x06\xb8\x00\x24\xef"
        place = vector + int.from_bytes(code[3:5], "little")
        self.ram.write(place, b"\2\0" if self.has("twice") else b"\1\0")
        self.events.append("SUSPEND")

    def __enter__(self) -> FakePlatform:
        return self

    def __exit__(self, *_: object) -> None:
        FakePlatform.running -= 1
