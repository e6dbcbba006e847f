from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples
from uefi.test_uefi_devicepath import TEXTS

from hwflash.errors import UsageError
from hwflash.uefi import devicepath_names as names
from hwflash.uefi.devicepath import DevicePath, Node, parse_device_path
from hwflash.uefi.devicepath_parse import parse_text
from hwflash.uefi.devicepath_text import _TEXTS, node_text

END = Node(0x7F, 0xFF)
NEXT = Node(0x7F, 1)


def path(*nodes: Node) -> DevicePath:
    return DevicePath((*nodes, END))


def wide(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


@pytest.mark.parametrize(("kind", "subtype", "body", "text"), TEXTS, ids=lambda value: str(value))
def test_every_form_that_is_printed_is_read(kind, subtype, body, text):
    data = bytes.fromhex(body) if isinstance(body, str) else body
    if ",MBR," in text:  # its signature has 4 bytes, the field has 16
        data = data[:24] + bytes(12) + data[36:]
    assert parse_text(text) == path(Node(kind, subtype, data))


# --- every node that is printed without loss ------------------------------------------------


def u(bits: int):
    return st.integers(0, (1 << bits) - 1)


def packed(code: str, *values):
    """Bytes of `struct`, each value from a strategy or as it is."""
    wanted = [item if isinstance(item, st.SearchStrategy) else st.just(item) for item in values]
    return st.tuples(*wanted).map(lambda items: struct.pack("<" + code, *items))


def joined(*parts):
    wanted = [item if isinstance(item, st.SearchStrategy) else st.just(item) for item in parts]
    return st.tuples(*wanted).map(b"".join)


def raw(size: int):
    return st.binary(min_size=size, max_size=size)


LETTERS = "abcXYZ012 .-_:~&=?%+"
WORDS = st.text(LETTERS, min_size=1, max_size=20)
TRIMMED = WORDS.map(str.strip).filter(bool)
LATIN = st.text(LETTERS + ',/"äÿ()', max_size=30).filter(
    lambda text: text.count("(") == text.count(")") == 0
)
FILES = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Cf", "Zl", "Zp"], blacklist_characters="/,"),
    max_size=40,
).map(lambda text: "\\" + text.rstrip())
GUIDS = raw(16).filter(
    lambda data: data not in {guid.bytes_le for guid in (*names.VENDOR_MESSAGES, names.SAS)}
)
EISA = st.builds(lambda low, high: low | high << 16, u(15), u(16))
ACPI_TEXT = st.text("abcXYZ_", min_size=1, max_size=8).map(str.encode)
TOPOLOGIES = st.one_of(
    st.just(0),
    st.builds(lambda bits: 1 | bits << 4, u(3)),
    st.builds(lambda bits, bay: 2 | bits << 4 | bay << 8, u(3), u(8)),
    st.integers(3, 15),
    st.integers(0x80, 0xFFFF).filter(lambda info: info & 0x80 and info & 0x8F),
)
PROTOCOLS = st.one_of(st.sampled_from([6, 17]), u(16))

BODIES = {
    (1, 1): raw(2),
    (1, 2): raw(1),
    (1, 3): raw(20),
    (1, 4): st.binary(min_size=16, max_size=40),
    (1, 5): raw(4),
    (1, 6): raw(9),
    (2, 1): st.one_of(
        packed("II", st.sampled_from([n << 16 | 0x41D0 for n in names.ACPI_NAMES]), u(32)), raw(8)
    ),
    (2, 2): st.one_of(
        joined(packed("III", EISA.filter(bool), u(32).filter(bool), EISA.filter(bool)), bytes(3)),
        joined(packed("III", EISA, 0, EISA), b"\0", ACPI_TEXT, b"\0\0"),
        joined(packed("III", EISA.filter(bool), 0, 0), b"\0", ACPI_TEXT, b"\0", ACPI_TEXT, b"\0"),
        joined(bytes(12), ACPI_TEXT, b"\0", ACPI_TEXT, b"\0", ACPI_TEXT, b"\0"),
    ),
    (2, 3): st.lists(raw(4), min_size=1, max_size=4).map(b"".join),
    (3, 1): packed("BBH", u(1), u(1), u(16)),
    (3, 2): raw(4),
    (3, 3): joined(bytes(4), raw(16)),
    (3, 4): joined(bytes(4), raw(8)),
    (3, 5): raw(2),
    (3, 6): raw(4),
    (3, 9): raw(44),
    (3, 10): st.one_of(
        joined(GUIDS, st.binary(max_size=20)),
        st.sampled_from([guid.bytes_le for guid in names.VENDOR_MESSAGES]),
        joined(names.UART_FLOW.bytes_le, packed("I", st.integers(0, 2))),
        joined(names.SAS.bytes_le, packed("IQQHH", u(32), u(64), u(64), TOPOLOGIES, u(16))),
    ),
    (3, 11): st.one_of(
        joined(raw(6), bytes(26), packed("B", u(1))),
        joined(raw(32), packed("B", st.integers(2, 255))),
    ),
    (3, 12): st.one_of(
        joined(raw(8), packed("4xHB", PROTOCOLS, u(1))),
        joined(raw(8), packed("4xHB", PROTOCOLS, u(1)), raw(8)),
    ),
    (3, 13): st.one_of(
        joined(raw(32), packed("4xHB", PROTOCOLS, st.integers(0, 2))),
        joined(raw(32), packed("4xHB", PROTOCOLS, st.integers(0, 2)), raw(17)),
    ),
    (3, 14): packed("4xQBBB", u(64), u(8), st.integers(0, 5), st.integers(0, 3)),
    (3, 15): st.one_of(
        raw(7),
        packed("HHBBB", u(16), u(16), st.sampled_from(list(names.USB_CLASSES)), u(8), u(8)),
        packed("HHBBB", u(16), u(16), 0xFE, st.integers(0, 4), u(8)),
    ),
    (3, 16): joined(raw(6), st.text(LETTERS + "(,/é", max_size=20).map(lambda t: wide(t)[:-2])),
    (3, 17): raw(1),
    (3, 18): raw(6),
    (3, 19): joined(
        packed("HH", u(1), st.builds(
            lambda header, data, login: header * 2 | data * 8 | login, u(1), u(1),
            st.sampled_from([0, 0x800, 0x1000]))),
        raw(10), st.text("iqn.:,20-", min_size=1).map(str.strip).map(str.encode), b"\0",
    ),
    (3, 20): raw(2),
    (3, 21): joined(bytes(4), raw(16)),
    (3, 22): joined(raw(16), packed("HH", TOPOLOGIES, u(16))),
    (3, 23): raw(12),
    (3, 24): LATIN.map(lambda text: text.encode("latin-1")),
    (3, 25): raw(2),
    (3, 26): raw(1),
    (3, 27): raw(6),
    (3, 28): LATIN.map(lambda text: text.encode("latin-1").ljust(32, b"\0")),
    (3, 29): raw(1),
    (3, 30): raw(7),
    (3, 31): st.one_of(
        joined(b"\0", st.lists(joined(raw(4), bytes(12)), min_size=1, max_size=3).map(b"".join)),
        joined(b"\1", st.lists(raw(16), min_size=1, max_size=3).map(b"".join)),
    ),
    (4, 1): st.one_of(
        joined(raw(36), b"\2\2"),
        joined(raw(24), bytes(12), b"\1\1"),
        joined(raw(20), bytes(16), b"\0", st.sampled_from([b"\0", b"\3", b"\xff"])),
    ),
    (4, 2): raw(20),
    (4, 3): st.binary(min_size=16, max_size=40),
    (4, 4): FILES.map(wide),
    (4, 5): raw(16),
    (4, 6): raw(16),
    (4, 7): raw(16),
    (4, 8): joined(bytes(4), raw(16)),
    (4, 9): joined(
        raw(16), st.one_of(raw(16), st.sampled_from([g.bytes_le for g in names.RAM_DISKS])), raw(2)
    ),
    (5, 1): joined(raw(4), LATIN.map(lambda text: text.encode("latin-1")), b"\0"),
}  # fmt: skip
GENERIC = st.builds(
    Node, st.integers(0, 0x7E), st.integers(0x40, 0xFF), st.binary(max_size=20)
) | st.builds(Node, st.integers(6, 0x7E), u(8), st.binary(max_size=20))
NODES = st.one_of(
    *(st.builds(Node, st.just(kind), st.just(sub), body) for (kind, sub), body in BODIES.items()),
    GENERIC,
)


def test_every_node_that_has_a_text_of_its_own_is_tried():
    assert set(BODIES) == set(_TEXTS)


@pytest.mark.parametrize("form", BODIES, ids=str)
@settings(max_examples=examples(40))
@given(data=st.data())
def test_a_node_comes_back_from_its_text(form, data):
    node = Node(*form, data.draw(BODIES[form]))
    assert parse_text(path(node).text) == path(node)


@given(GENERIC)
def test_a_node_without_a_name_comes_back_from_its_text(node):
    assert parse_text(path(node).text) == path(node)


@given(st.lists(st.lists(NODES, min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_path_of_several_instances_comes_back_from_its_text(instances):
    nodes: list[Node] = []
    for instance in instances:
        nodes += [*instance, NEXT]
    whole = path(*nodes[:-1])
    assert parse_text(whole.text).build() == whole.build()


def attempt(text: str) -> tuple[DevicePath | None, UsageError | None]:
    try:
        return parse_text(text), None
    except UsageError as error:
        return None, error


@given(st.sampled_from(sorted(set(_TEXTS) - {(2, 2), (4, 4)})), st.binary(max_size=60))
def test_what_any_node_says_is_said_again_or_refused(form, body):
    text = node_text(Node(*form, body))
    found, error = attempt(text)
    if found is not None:
        assert found.text == text
    else:
        assert error.code == "usage.device-path"
        assert form in {(3, 14), (3, 16), (3, 19), (3, 24), (3, 28), (3, 31), (5, 1)}


@given(st.text(max_size=60) | st.text('Pci(Hd)0x1,/ \\"-GPT', max_size=60))
def test_any_text_is_a_path_or_refused_with_a_column(text):
    found, error = attempt(text)
    if found is not None:
        assert parse_device_path(found.build()) == found
    else:
        assert error.code == "usage.device-path"
        assert 1 <= error.context["column"] <= len(text) + 1
        assert error.message.startswith(f"column {error.context['column']}: ")


# --- what printing loses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "body", "back"),
    [
        ((3, 3), b"\1\2\3\4" + bytes(16), bytes(20)),
        ((3, 4), b"\1\2\3\4" + bytes(8), bytes(12)),
        ((3, 11), b"\1" * 6 + b"\2" * 26 + b"\1", b"\1" * 6 + bytes(26) + b"\1"),
        ((3, 12), bytes(8) + struct.pack("<HHHB", 80, 443, 6, 7),
         bytes(8) + struct.pack("<HHHB", 0, 0, 6, 1)),
        ((3, 14), struct.pack("<IQBBB", 9, 1, 8, 1, 1), struct.pack("<IQBBB", 0, 1, 8, 1, 1)),
        ((3, 1), b"\7\7\0\0", bytes(4)),
        ((3, 19), struct.pack("<HH10s", 9, 0x7F5, b"") + b"x\0more",
         struct.pack("<HH10s", 1, 0, b"") + b"x\0"),
        ((3, 22), bytes(16) + struct.pack("<HH", 0xFF70, 2), bytes(16) + struct.pack("<HH", 0, 2)),
        ((3, 24), b"http://x\0rest", b"http://x"),
        ((3, 16), bytes(6) + wide("S1"), bytes(6) + wide("S1")[:-2]),
        ((3, 10), bytes.fromhex("5347c1e0bef9d2119a0c0090273fc14d") + b"\1",
         bytes.fromhex("5347c1e0bef9d2119a0c0090273fc14d")),
        ((3, 10), names.UART_FLOW.bytes_le + b"\5\1\0\0", names.UART_FLOW.bytes_le + b"\1\0\0\0"),
        ((3, 31), b"\0" + b"\1" * 4 + b"\5" * 12, b"\0" + b"\1" * 4 + bytes(12)),
        ((4, 1), bytes(36) + b"\1\2", bytes(36) + b"\2\2"),
        ((4, 4), wide("\\x")[:-2], wide("\\x")),
        ((4, 4), wide("\\x") + wide("more"), wide("\\x")),
        ((4, 4), wide("\\\1x"), wide("\\\\u0001x")),
        ((4, 4), wide(" \\x "), wide("\\x")),
        ((5, 1), b"\1\0\0\0disk", b"\1\0\0\0disk\0"),
        ((2, 2), struct.pack("<III", 0x0A0341D0 | 0x8000, 1, 0x0A0341D0) + b"H\0U\0C\0",
         struct.pack("<III", 0x0A0341D0, 1, 0x0A0341D0) + b"\0\0\0"),
    ],
)  # fmt: skip
def test_what_printing_drops_comes_back_as_nothing(form, body, back):
    assert body != back
    assert parse_text(node_text(Node(*form, body))) == path(Node(*form, back))


def test_a_file_path_with_a_separator_falls_apart():
    assert parse_text("\\a/b,c").nodes == (
        Node(4, 4, wide("\\a")), Node(4, 4, wide("b")), NEXT, Node(4, 4, wide("c")), END,
    )  # fmt: skip


# --- what people type ------------------------------------------------------------------------

PCI_ROOT = Node(2, 1, struct.pack("<II", 0x0A0341D0, 0))


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        (r"\EFI\BOOT\BOOTX64.EFI", [Node(4, 4, wide(r"\EFI\BOOT\BOOTX64.EFI"))]),
        (r"\EFI\x (copy).efi", [Node(4, 4, wide(r"\EFI\x (copy).efi"))]),
        ("HD(1,GPT,00112233-4455-6677-8899-aabbccddeeff)/\\x.efi",
         [Node(4, 1, struct.pack("<IQQ", 1, 0, 0)
               + bytes.fromhex("33221100554477668899aabbccddeeff0202")),
          Node(4, 4, wide("\\x.efi"))]),
        (" PciRoot() / pci(31,2)/ SATA(0,,0) ",
         [PCI_ROOT, Node(1, 1, b"\2\x1f"), Node(3, 18, bytes.fromhex("0000ffff0000"))]),
        ("Path(2,1,D041030a00000000)", [PCI_ROOT]),
        ("Acpi(PNP0A03,0)", [PCI_ROOT]),
        ("Acpi(0x0A0341D0)", [PCI_ROOT]),
        ("AcpiEx(PNP0A03,0,0,,,root)",
         [Node(2, 2, struct.pack("<III", 0x0A0341D0, 0, 0) + b"\0root\0\0")]),
        ("AcpiExp(PNP0A03,0,root)",
         [Node(2, 2, struct.pack("<III", 0x0A0341D0, 0, 0) + b"\0root\0\0")]),
        ("UsbClass()", [Node(3, 15, b"\xff" * 7)]),
        ("UsbHID(,,1,)", [Node(3, 15, b"\xff\xff\xff\xff\x03\x01\xff")]),
        ("UsbWwid(1,2,3,serial)",
         [Node(3, 16, struct.pack("<HHH", 3, 1, 2) + wide("serial")[:-2])]),
        ('UsbWwid(1,2,3,a)/UsbWwid(4,5,6, "b)/,") /Unit(1)',
         [Node(3, 16, struct.pack("<HHH", 3, 1, 2) + b"a\0"),
          Node(3, 16, struct.pack("<HHH", 6, 4, 5) + wide("b)/,")[:-2]), Node(3, 17, b"\1")]),
        ("MAC(0102030405060708,7)", [Node(3, 11, bytes(range(1, 9)) + bytes(24) + b"\7")]),
        ("IPv6(fe80::1,TCP,Static,::)",
         [Node(3, 13, bytes(16) + b"\xfe\x80" + bytes(13) + b"\1" + struct.pack("<4xHB", 6, 0))]),
        ("Dns(::1)", [Node(3, 31, b"\1" + bytes(15) + b"\1")]),
        ("BBS(HD,A, B/(C) ,0x1)", [Node(5, 1, struct.pack("<HH", 2, 1) + b"A, B/(C) \0")]),
        ("Uri(https://h/a,b(1)?x=/)", [Node(3, 24, b"https://h/a,b(1)?x=/")]),
        ("Uri()", [Node(3, 24)]),
        ("SAS(0x5000,1,3,SATA,1,0,0)",
         [Node(3, 10, names.SAS.bytes_le + struct.pack("<IQQHH", 0, 0x5000, 1, 0x31, 3))]),
    ],
)  # fmt: skip
def test_shorter_and_older_forms_are_read(text, nodes):
    assert parse_text(text) == path(*nodes)


@pytest.mark.parametrize(
    ("text", "column", "part"),
    [
        ("", 1, "the device path is empty"),
        ("  ", 1, "the device path is empty"),
        ("/Pci(0,0)", 1, "a node is expected"),
        ("Pci(0,0)/", 10, "a node is expected"),
        ("Pci(0,0)//Pci(0,0)", 10, "a node is expected"),
        ("PciRoot(0x0)x", 13, "'/' or ',' is expected behind a node, not 'x'"),
        ("PciRoot(0x0)/Pci(0x1F", 17, "this parenthesis is not closed"),
        ("PciRoot(0x0)/Pcl(0x1F,0x2)", 14, "no node is called 'Pcl'"),
        ("PciRoot", 1, "PciRoot needs arguments in parentheses"),
        ("Pci(0x1F)", 9, "Pci needs a function: a number up to 0xFF, and there is nothing"),
        ("Pci(0x1FF,0)", 5, "Pci needs a device: a number up to 0xFF, not '0x1FF'"),
        ("Pci(-1,0)", 5, "not '-1'"),
        ("Pci(\u0661,0)", 5, "a number up to 0xFF"),
        ("Ctrl(0x" + "1" * 5000 + ")", 6, "..."),
        ("Pci(0, 1, 2)", 11, "Pci has 2 arguments, '2' is one too many"),
        ("HD(1,GPT,xyz,1,2)", 10, "HD needs a GUID, not 'xyz'"),
        ("HD(1,GTP,0)", 6, "HD needs a signature type: MBR, GPT or a number, not 'GTP'"),
        ("IPv4(1.2.3,TCP,DHCP,0.0.0.0)", 6, "a remote address: an IPv4 address, not '1.2.3'"),
        ("IPv6(fe80::1%eth0,TCP,Static,::)", 6, "without a zone"),
        ("IPv4(0.0.0.0,TCP,Sometimes,0.0.0.0)", 18, "an origin: DHCP, Static, not 'Sometimes'"),
        ("VenHw(00112233-4455-6677-8899-AABBCCDDEEFF,123)", 44, "an even number of hexadecimal"),
        ("VenHw(00112233-4455-6677-8899-AABBCCDDEEFF,0x12)", 44, "hexadecimal digits"),
        ("Uart(115200,8,Q,1)", 15, "Uart needs a parity: D, N, E, O, M, S, not 'Q'"),
        ("NVMe(0x1,00-11)", 10, "NVMe needs an EUI-64"),
        ("MAC(5254,0x1)", 5, "an address of 6 bytes, not 2"),
        ("MAC(" + "00" * 33 + ",6)", 5, "an address of 1 to 32 bytes"),
        ("Bluetooth(AABB)", 11, "an address of 6 bytes"),
        ("SAS(0,0,0,SAS,Internal,Direct,0x101,0)", 31, "a drive bay up to 0x100, not 0x101"),
        ("Wi-Fi(" + "x" * 33 + ")", 7, "an SSID of 0 to 32 characters"),
        ("Wi-Fi(\u4f60)", 7, "an SSID of 8-bit characters"),
        ("iSCSI(,0,0,None,None,None,TCP)", 7, "a target name of 1 to 223 characters"),
        ("Dns()", 5, "a server: an IPv4 address"),
        ("AcpiExp(root,0,x)", 9, "a HID such as PNP0A03, not 'root'"),
        ("Acpi(root,0)", 6, "a HID such as PNP0A03, not 'root'"),
        ("Path(0x7F,0xFF)", 6, "an end node cannot be in the middle of a path"),
        ("\\x\0y", 3, "a NUL cannot be in a file path"),
        ("\\" + "x" * 40000, 1, "the node has 80004 bytes"),
    ],
)
def test_the_fault_and_its_column_are_told(text, column, part):
    with pytest.raises(UsageError) as caught:
        parse_text(text)
    assert caught.value.code == "usage.device-path"
    assert caught.value.context["column"] == column
    assert part in caught.value.message
    assert len(caught.value.message) < 200
