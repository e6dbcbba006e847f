"""Device paths: nodes, parsed and built. Their text is in `hwflash.uefi.devicepath_text`.

Ref: UEFI 2.10 §10.3. A node's length counts its 4-byte header. End nodes are kept as nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hwflash.uefi.layouts import DEVICE_PATH_HEADER

HARDWARE: Final = 1
ACPI: Final = 2
MESSAGING: Final = 3
MEDIA: Final = 4
BBS: Final = 5
END: Final = 0x7F
END_ENTIRE: Final = 0xFF
END_INSTANCE: Final = 0x01


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its type, its sub-type, and its body."""

    type: int
    subtype: int
    body: bytes = b""

    @property
    def is_end(self) -> bool:
        """Whether the whole device path ends here."""
        return self.type == END and self.subtype == END_ENTIRE

    @property
    def is_instance_end(self) -> bool:
        """Whether another instance follows."""
        return self.type == END and self.subtype == END_INSTANCE

    def build(self) -> bytes:
        """The node's bytes."""
        size = DEVICE_PATH_HEADER.size + len(self.body)
        return DEVICE_PATH_HEADER.build(type=self.type, subtype=self.subtype, length=size) + (
            self.body
        )


@dataclass(frozen=True, slots=True)
class DevicePath:
    """A device path.

    Attributes:
        nodes: the nodes in order, end nodes included.
        rest: what follows the end node, or could not be taken as nodes.
        fault: why ``nodes`` stop before an end node, or "".
    """

    nodes: tuple[Node, ...]
    rest: bytes = b""
    fault: str = ""

    @property
    def text(self) -> str:
        """The path as edk2 prints it: ``PciRoot(0x0)/Pci(0x1F,0x2)/Sata(0x0,0xFFFF,0x0)``."""
        from hwflash.uefi.devicepath_text import node_text

        parts: list[str] = []
        separator = ""
        for node in self.nodes:
            if node.is_end:
                break
            if node.is_instance_end:
                separator = ","
                continue
            parts.append(separator + node_text(node))
            separator = "/"
        return "".join(parts) + (f" [{self.fault}]" if self.fault else "")

    def build(self) -> bytes:
        """All nodes, and the rest."""
        return b"".join(node.build() for node in self.nodes) + self.rest


def parse_device_path(data: bytes) -> DevicePath:
    """Read nodes up to the end node; never raises."""
    nodes: list[Node] = []
    at = 0
    while at + DEVICE_PATH_HEADER.size <= len(data):
        kind, subtype, length = DEVICE_PATH_HEADER.unpack(data, at)
        if length < DEVICE_PATH_HEADER.size or at + length > len(data):
            fault = f"a node at byte {at} claims {length} bytes, {len(data) - at} are left"
            return DevicePath(tuple(nodes), data[at:], fault)
        nodes.append(Node(kind, subtype, data[at + DEVICE_PATH_HEADER.size : at + length]))
        at += length
        if nodes[-1].is_end:
            return DevicePath(tuple(nodes), data[at:])
    return DevicePath(tuple(nodes), data[at:], f"no end node in {len(data)} bytes")


def looks_like_device_path(data: bytes) -> bool:
    """Whether data is one device path and nothing else."""
    if len(data) < DEVICE_PATH_HEADER.size or not 1 <= data[0] <= BBS:
        return False
    found = parse_device_path(data)
    return not found.fault and not found.rest
