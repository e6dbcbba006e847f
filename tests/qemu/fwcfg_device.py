"""A fw_cfg device on qtest, written from its specification."""

from __future__ import annotations

import base64

from platform_data import Ram, items


class Device:
    """A fw_cfg device on qtest: ports of a PC or registers of virt, and RAM.

    Ref: QEMU docs/specs/fw_cfg.txt.
    """

    def __init__(self, mapped: bool = False) -> None:
        self.ram = Ram(8 << 30)
        self.items = {0: b"QEMU", 1: b"\3\0\0\0"}
        self.files: dict[str, tuple[int, bytes]] = dict(items())
        self.mapped = mapped
        self.fault = ""
        self.high = 0
        self.select, self.offset, self.chosen = 0, 0, b""
        self.lines: list[bytes] = []

    def directory(self) -> bytes:
        found = len(self.files).to_bytes(4, "big")
        for name, (select, data) in self.files.items():
            found += len(data).to_bytes(4, "big") + select.to_bytes(2, "big") + bytes(2)
            found += name.encode().ljust(56, b"\0")
        return found

    def content(self) -> bytes:
        if self.select == 0x19:
            return self.items.get(0x19, self.directory())
        for select, data in self.files.values():
            if select == self.select:
                return data
        return self.items.get(self.select, b"")

    def next(self, count: int) -> bytes:
        data = self.chosen[self.offset : self.offset + count]
        self.offset += count
        return data.ljust(count, b"\0")

    def execute(self, commands: list[bytes]) -> list[bytes]:
        self.lines += commands
        return [self.one(*line.decode().split()) for line in commands]

    def one(self, word: str, *rest: str) -> bytes:
        address, *values = (int(item, 16) for item in rest[:2])
        if word == "b64read":
            return base64.b64encode(self.ram.read(address, values[0]))
        if word == "b64write":
            data = base64.b64decode(rest[2])
            assert len(data) == values[0]
            self.ram.write(address, data)
        elif (word, address) == (("writew", 0x9020008) if self.mapped else ("outw", 0x510)):
            value = values[0]
            self.select = (
                int.from_bytes(value.to_bytes(2, "little"), "big") if self.mapped else value
            )
            self.offset, self.chosen = 0, self.content()
        elif (word, address) == (("readb", 0x9020000) if self.mapped else ("inb", 0x511)):
            data = b"\xff" if self.fault == "absent" else self.next(1)
            return b"0x%04x" % data[0]
        elif word in ("inl", "readl"):
            signature = {0x514: b"QEMU", 0x518: b" CFG", 0x9020010: b"QEMU", 0x9020014: b" CFG"}
            return b"0x%x" % int.from_bytes(signature[address], "little")
        elif address in (0x514, 0x9020010):
            self.high = int.from_bytes(values[0].to_bytes(4, "little"), "big")
        elif address in (0x518, 0x9020014):
            low = int.from_bytes(values[0].to_bytes(4, "little"), "big")
            self.dma(self.high << 32 | low)
        else:
            raise AssertionError(word)
        return b""

    def dma(self, at: int) -> None:
        access = self.ram.read(at, 16)
        control, length, address = (int.from_bytes(access[a:b], "big") for a, b in
                                    ((0, 4), (4, 8), (8, 16)))  # fmt: skip
        if self.fault == "dead":
            return
        if self.fault == "error":
            self.ram.write(at, b"\0\0\0\1")
            return
        if control & 8:
            self.select, self.offset = control >> 16, 0
            self.chosen = self.content()
        if control & 2:
            self.ram.write(address, self.next(length))
        self.ram.write(at, bytes(4))
