from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.uefi.devicepath import (
    DevicePath,
    Node,
    looks_like_device_path,
    parse_device_path,
)
from hwflash.uefi.devicepath_text import node_text

END = Node(0x7F, 0xFF)
GUID = bytes.fromhex("00112233445566778899aabbccddeeff")
GUID_TEXT = "33221100-5544-7766-8899-AABBCCDDEEFF"
V4 = bytes([192, 168, 1, 2])
V6 = bytes.fromhex("fe80000000000000021122fffe334455")
V6_TEXT = "FE80:0000:0000:0000:0211:22FF:FE33:4455"


def wide(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


# Forms of UEFI 2.10 §10.6.1.6 (table 10-63) and of edk2's DevicePathToText.c.
TEXTS = [
    (1, 1, "021f", "Pci(0x1F,0x2)"),
    (1, 2, "03", "PcCard(0x3)"),
    (1, 3, struct.pack("<IQQ", 11, 0xFFC00000, 0xFFC83FFF),
     "MemoryMapped(0xB,0xFFC00000,0xFFC83FFF)"),
    (1, 4, GUID + b"\1\2", f"VenHw({GUID_TEXT},0102)"),
    (1, 4, GUID, f"VenHw({GUID_TEXT})"),
    (1, 5, "10000000", "Ctrl(0x10)"),
    (1, 6, struct.pack("<BQ", 1, 0xCA2), "BMC(0x1,0xCA2)"),
    (2, 1, struct.pack("<II", 0x0A0341D0, 0), "PciRoot(0x0)"),
    (2, 1, struct.pack("<II", 0x0A0841D0, 1), "PcieRoot(0x1)"),
    (2, 1, struct.pack("<II", 0x060441D0, 1), "Floppy(0x1)"),
    (2, 1, struct.pack("<II", 0x030141D0, 0), "Keyboard(0x0)"),
    (2, 1, struct.pack("<II", 0x050141D0, 2), "Serial(0x2)"),
    (2, 1, struct.pack("<II", 0x040141D0, 2), "ParallelPort(0x2)"),
    (2, 1, struct.pack("<II", 0x030341D0, 0), "Acpi(PNP0303,0x0)"),
    (2, 1, struct.pack("<II", 0x12345678, 5), "Acpi(0x12345678,0x5)"),
    (2, 2, struct.pack("<III", 0x0A0341D0, 1, 0x0A0841D0) + b"\0\0\0",
     "AcpiEx(PNP0A03,PNP0A08,0x1)"),
    (2, 2, struct.pack("<III", 0, 0, 0) + b"HID\0UID\0CID\0", "AcpiEx(HID,CID,UID)"),
    (2, 2, struct.pack("<III", 0x0A0341D0, 0, 0x0A0841D0) + b"\0root\0\0",
     "AcpiExp(PNP0A03,PNP0A08,root)"),
    (2, 3, struct.pack("<II", 0x80010100, 2), "AcpiAdr(0x80010100,0x2)"),
    (3, 1, "01000200", "Ata(Secondary,Master,0x2)"),
    (3, 1, "00010000", "Ata(Primary,Slave,0x0)"),
    (3, 2, "03000100", "Scsi(0x3,0x1)"),
    (3, 3, struct.pack("<IQQ", 0, 0xABC, 1), "Fibre(0xABC,0x1)"),
    (3, 4, struct.pack("<IQ", 0, 0xABC), "I1394(0000000000000ABC)"),
    (3, 5, "0100", "USB(0x1,0x0)"),
    (3, 6, "07000000", "I2O(0x7)"),
    (3, 9, struct.pack("<I16sQQQ", 1, GUID, 2, 3, 4), f"Infiniband(0x1,{GUID_TEXT},0x2,0x3,0x4)"),
    (3, 10, GUID, f"VenMsg({GUID_TEXT})"),
    (3, 10, "5347c1e0bef9d2119a0c0090273fc14d", "VenPcAnsi()"),
    (3, 10, "6560a6df19b4d3119a2d0090273fc14d", "VenVt100()"),
    (3, 10, "0bc7ae7be057764c8e872f9e28088343", "VenVt100Plus()"),
    (3, 10, "d6a015adec8bcf4aa073d01de77e2d88", "VenUtf8()"),
    (3, 10, "d2e8a4eb5838ec41a2812647ba9660d0", "DebugPort()"),
    (3, 10, bytes.fromhex("9d9a49372f54894ca02635da142094e4") + b"\1\0\0\0",
     "UartFlowCtrl(Hardware)"),
    (3, 10, bytes.fromhex("b4dd87d48b00d911afdc001083ffca4d")
     + struct.pack("<IQQHH", 0, 0x5000, 1, 0x0102 | 0x40, 3),
     "SAS(0x5000,0x1,0x3,SAS,Internal,Expanded,0x2,0x0)"),
    (3, 11, bytes.fromhex("525400123456") + bytes(26) + b"\1", "MAC(525400123456,0x1)"),
    (3, 12, V4 + V4 + struct.pack("<HHHB", 0, 0, 6, 1) + V4 + V4,
     "IPv4(192.168.1.2,TCP,Static,192.168.1.2,192.168.1.2,192.168.1.2)"),
    (3, 12, bytes(8) + struct.pack("<HHHB", 0, 0, 17, 0), "IPv4(0.0.0.0,UDP,DHCP,0.0.0.0)"),
    (3, 13, V6 + V6 + struct.pack("<HHHBB", 0, 0, 6, 1, 64) + V6,
     f"IPv6({V6_TEXT},TCP,StatelessAutoConfigure,{V6_TEXT},0x40,{V6_TEXT})"),
    (3, 14, struct.pack("<IQBBB", 0, 115200, 8, 1, 1), "Uart(115200,8,N,1)"),
    (3, 14, struct.pack("<IQBBB", 0, 0, 0, 0, 0), "Uart(DEFAULT,DEFAULT,D,D)"),
    (3, 15, struct.pack("<HHBBB", 0xFFFF, 0xFFFF, 3, 1, 1), "UsbHID(0xFFFF,0xFFFF,0x1,0x1)"),
    (3, 15, struct.pack("<HHBBB", 1, 2, 0xFE, 3, 4), "UsbTestAndMeasurement(0x1,0x2,0x4)"),
    (3, 15, struct.pack("<HHBBB", 1, 2, 0x55, 3, 4), "UsbClass(0x1,0x2,0x55,0x3,0x4)"),
    (3, 16, struct.pack("<HHH", 1, 2, 3) + "S1".encode("utf-16-le"), 'UsbWwid(0x2,0x3,0x1,"S1")'),
    (3, 17, "02", "Unit(0x2)"),
    (3, 18, "0000ffff0000", "Sata(0x0,0xFFFF,0x0)"),
    (3, 19, struct.pack("<HH8sH", 0, 0x100A, bytes(7) + b"\1", 1) + b"iqn.2015-02.x:y\0",
     "iSCSI(iqn.2015-02.x:y,0x1,0x0000000000000001,CRC32C,CRC32C,CHAP_UNI,TCP)"),
    (3, 20, "0a00", "Vlan(10)"),
    (3, 21, bytes(4) + bytes(range(16)), "FibreEx(0x0001020304050607,0x08090A0B0C0D0E0F)"),
    (3, 22, bytes(range(16)) + struct.pack("<HH", 0, 2),
     "SasEx(0x0001020304050607,0x08090A0B0C0D0E0F,0x2,NoTopology,0,0,0)"),
    (3, 23, struct.pack("<I", 1) + bytes(range(8)), "NVMe(0x1,07-06-05-04-03-02-01-00)"),
    (3, 24, b"https://boot.example/x.efi", "Uri(https://boot.example/x.efi)"),
    (3, 25, "0102", "UFS(0x1,0x2)"),
    (3, 26, "01", "SD(0x1)"),
    (3, 27, "aabbccddeeff", "Bluetooth(AABBCCDDEEFF)"),
    (3, 28, b"net" + bytes(29), "Wi-Fi(net)"),
    (3, 29, "00", "eMMC(0x0)"),
    (3, 30, "aabbccddeeff01", "BluetoothLE(AABBCCDDEEFF,0x01)"),
    (3, 31, b"\0" + V4 + bytes(12) + V4 + bytes(12), "Dns(192.168.1.2,192.168.1.2)"),
    (4, 1, struct.pack("<IQQ16sBB", 1, 0x800, 0x32000, GUID, 2, 2),
     f"HD(1,GPT,{GUID_TEXT},0x800,0x32000)"),
    (4, 1, struct.pack("<IQQ16sBB", 2, 0x800, 0x32000, GUID, 1, 1),
     "HD(2,MBR,0x33221100,0x800,0x32000)"),
    (4, 2, struct.pack("<IQQ", 1, 0x5D, 0x1800), "CDROM(0x1,0x5D,0x1800)"),
    (4, 3, GUID + b"\xAB", f"VenMedia({GUID_TEXT},AB)"),
    (4, 4, wide(r"\EFI\debian\shimx64.efi"), r"\EFI\debian\shimx64.efi"),
    (4, 5, GUID, f"Media({GUID_TEXT})"),
    (4, 6, GUID, f"FvFile({GUID_TEXT})"),
    (4, 7, GUID, f"Fv({GUID_TEXT})"),
    (4, 8, struct.pack("<IQQ", 0, 1, 0xFF), "Offset(0x1,0xFF)"),
    (4, 9, struct.pack("<QQ16sH", 1, 2, GUID, 3), f"RamDisk(0x1,0x2,3,{GUID_TEXT})"),
    (4, 9, struct.pack("<QQ", 1, 2) + bytes.fromhex("5a53ab77fc454b625560f7b281d1f96e")
     + b"\0\0", "VirtualDisk(0x1,0x2,0)"),
    (5, 1, struct.pack("<HH", 2, 1) + b"Disk\0", "BBS(HD,Disk,0x1)"),
    (5, 1, struct.pack("<HH", 0x80, 0) + b"Net\0", "BBS(0x80,Net,0x0)"),
    # Neither the specification nor edk2 names these; wrong lengths are no other node.
    (1, 77, "0102", "HardwarePath(77,0102)"),
    (2, 77, "", "AcpiPath(77)"),
    (3, 77, "ff", "Msg(77,FF)"),
    (4, 77, "ff", "MediaPath(77,FF)"),
    (5, 77, "ff", "BbsPath(77,FF)"),
    (9, 1, "ff", "Path(9,1,FF)"),
    (1, 1, "02", "HardwarePath(1,02)"),
    (3, 11, "0011", "Msg(11,0011)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "subtype", "body", "text"), TEXTS, ids=lambda value: str(value))
def test_a_node_is_printed_as_edk2_does(kind, subtype, body, text):
    data = bytes.fromhex(body) if isinstance(body, str) else body
    assert node_text(Node(kind, subtype, data)) == text


#: Types whose body may have any length from some minimum on.
OPEN = {(1, 4), (2, 2), (3, 10), (3, 16), (3, 19), (3, 24), (3, 28), (4, 3), (4, 4), (5, 1)}


@pytest.mark.parametrize(
    ("kind", "subtype", "body"),
    [
        item[:3]
        for item in TEXTS
        if item[:2] not in OPEN and "Path(" not in item[3] and not item[3].startswith("Msg(")
    ],
    ids=lambda value: str(value),
)
def test_a_node_of_a_wrong_length_is_given_as_hexadecimal(kind, subtype, body):
    data = bytes.fromhex(body) if isinstance(body, str) else body
    for wrong in (data[:-1], data + b"\0"):
        text = node_text(Node(kind, subtype, wrong))
        assert text.endswith(f"({subtype},{wrong.hex().upper()})" if wrong else f"({subtype})")


def test_nodes_are_joined_and_instances_parted():
    root, pci = Node(2, 1, struct.pack("<II", 0x0A0341D0, 0)), Node(1, 1, b"\0\x1f")
    path = DevicePath((root, pci, Node(0x7F, 1), root, END))
    assert path.text == "PciRoot(0x0)/Pci(0x1F,0x0),PciRoot(0x0)"
    assert parse_device_path(path.build()) == path


@given(st.binary(max_size=80))
def test_any_bytes_are_parsed_printed_and_built_alike(data):
    path = parse_device_path(data)
    assert path.build() == data
    assert isinstance(path.text, str)
    assert bool(path.fault) == (not path.nodes or not path.nodes[-1].is_end)


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=60))
def test_any_node_has_a_text_that_can_be_printed(kind, subtype, body):
    text = node_text(Node(kind, subtype, body))
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in text)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\1\1\3\0", "claims 3 bytes"),
        (b"\1\1\x20\0\0\0", "claims 32 bytes"),
        (b"\1\1\4\0", "no end node"),
        (b"", "no end node"),
    ],
)
def test_what_is_wrong_is_said(data, fault):
    path = parse_device_path(data)
    assert fault in path.fault
    assert f"[{path.fault}]" in path.text


def test_bytes_behind_the_end_are_kept():
    path = parse_device_path(END.build() + b"more")
    assert (path.nodes, path.rest, path.fault) == ((END,), b"more", "")
    assert not looks_like_device_path(END.build() + b"more")
    assert looks_like_device_path(Node(1, 1, b"\0\0").build() + END.build())
