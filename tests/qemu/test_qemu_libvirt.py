from __future__ import annotations

from dataclasses import replace

import pytest
from descriptions import machines
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import ImageError, UsageError
from hwflash.qemu.autoselect import Wish, make_wish
from hwflash.qemu.libvirt import DEPTH_LIMIT, SIZE_LIMIT, from_xml, parse_xml, to_auto_xml, to_xml
from hwflash.qemu.machine import FlashFile, Machine, make_machine

SECURE = make_machine(
    "/fw/code.fd", "/fw/vars.fd", "/guest/vars.fd", secure=True, machine="pc-q35-7.2"
)
PLAIN = make_machine("/fw/code.fd", "/fw/vars.fd", "/guest/vars.fd")


def test_the_manual_form():
    root = parse_xml(to_xml(SECURE))
    kind, loader, nvram = root.find("os/type"), root.find("os/loader"), root.find("os/nvram")
    assert kind.attrib == {"arch": "x86_64", "machine": "pc-q35-7.2"}
    assert kind.text == "hvm"
    assert loader.attrib == {"readonly": "yes", "secure": "yes", "type": "pflash"}
    assert loader.text == "/fw/code.fd"
    assert nvram.attrib == {"template": "/fw/vars.fd"}
    assert nvram.text == "/guest/vars.fd"
    assert root.find("features/smm").attrib == {"state": "on"}


def test_the_plain_build_has_neither_secure_nor_smm():
    root = parse_xml(to_xml(PLAIN))
    assert root.find("os/loader").attrib == {"readonly": "yes", "type": "pflash"}
    assert root.find("features/smm") is None


def test_formats_and_modes():
    other = Machine(
        FlashFile("/c.qcow2", "qcow2", readonly=True), FlashFile("/v.qcow2", "qcow2"),
        FlashFile("/t.qcow2", "qcow2", readonly=True), machine="virt", architecture="arm",
    )  # fmt: skip
    root = parse_xml(to_xml(other))
    assert root.find("os/type").get("arch") == "armv7l"
    assert root.find("os/loader").get("format") == "qcow2"
    assert root.find("os/nvram").attrib == {
        "template": "/t.qcow2", "templateFormat": "qcow2", "format": "qcow2",
    }  # fmt: skip
    assert from_xml(to_xml(other)) == other
    nothing = make_machine("/c", None, None)
    assert parse_xml(to_xml(nothing)).find("os/loader").get("stateless") == "yes"
    one = make_machine("/c", None, "/own")
    assert parse_xml(to_xml(one)).find("os/loader").get("readonly") == "no"
    assert from_xml(to_xml(one)) == one.for_guest()


@pytest.mark.slow
@given(machine=machines(for_libvirt=True))
def test_the_manual_form_is_read_back(machine):
    expected = machine if machine.vars else machine.for_guest()
    assert from_xml(to_xml(machine)) == expected
    assert from_xml(to_xml(machine).encode()) == expected


wishes = st.builds(
    Wish,
    st.sampled_from(["x86_64", "i386", "aarch64", "arm"]),
    st.sampled_from(["q35", "pc", "virt", "pc-q35-7.2"]),
    st.sampled_from(["uefi", "bios"]),
    st.dictionaries(st.sampled_from(["secure-boot", "enrolled-keys"]), st.booleans()).map(
        lambda found: tuple(sorted(found.items()))
    ),
    st.sampled_from([None, True, False]),
)


@given(wishes)
def test_the_autoselection_form_is_read_back(wish):
    assert from_xml(to_auto_xml(wish)) == wish


def test_the_autoselection_form():
    wish = make_wish(wanted=["secure-boot"], unwanted=["enrolled-keys"], smm=True)
    root = parse_xml(to_auto_xml(wish))
    assert root.find("os").get("firmware") == "efi"
    assert [item.attrib for item in root.findall("os/firmware/feature")] == [
        {"enabled": "no", "name": "enrolled-keys"}, {"enabled": "yes", "name": "secure-boot"},
    ]  # fmt: skip
    assert root.find("os/loader") is None
    assert root.find("features/smm").get("state") == "on"


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (make_machine("code.fd", "/t", "/v"), "absolute"),
        (make_machine("/c", "t.fd", "/v"), "absolute"),
        (replace(PLAIN, max_firmware_size=1 << 24), "max-fw-size"),
        (replace(PLAIN, vars=FlashFile("/v", readonly=True)), "read-only"),
    ],
)
def test_what_libvirt_has_no_words_for(machine, text):
    with pytest.raises(UsageError, match=text) as caught:
        to_xml(machine)
    assert caught.value.code == "usage.qemu-xml"


def test_wishes_that_libvirt_has_no_words_for():
    with pytest.raises(UsageError, match="acpi-s3"):
        to_auto_xml(make_wish(wanted=["acpi-s3"]))
    with pytest.raises(UsageError, match="uboot"):
        to_auto_xml(make_wish(interface="uboot"))


# --- XML of others --------------------------------------------------------------------------

LIVE = """<?xml version='1.0' encoding='UTF-8'?>
<!-- edited by nobody -->
<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>guest</name>
  <os firmware='efi'>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <firmware><feature enabled='yes' name='secure-boot'/></firmware>
    <loader readonly='yes' secure='yes' type='pflash' format='raw'>
      /fw/code.fd
    </loader>
    <nvram type='file' template='/fw/vars.fd' templateFormat='raw' format='raw'>
      <source file='/guest/vars.fd'/>
    </nvram>
    <boot dev='hd'/>
  </os>
  <features><acpi/><smm><tseg unit='MiB'>48</tseg></smm></features>
  <qemu:commandline><qemu:arg value='-x'/></qemu:commandline>
</domain>
"""


def test_a_domain_in_which_libvirt_wrote_down_its_choice():
    assert from_xml(LIVE) == SECURE


def test_an_os_alone():
    start, end = LIVE.index("<os"), LIVE.index("</os>") + len("</os>")
    assert from_xml(LIVE[start:end]) == replace(SECURE, smm=None)


def test_a_template_without_a_file_of_the_guests_own():
    text = LIVE.replace("<source file='/guest/vars.fd'/>", "")
    assert from_xml(text, "/guest/vars.fd") == SECURE
    with pytest.raises(ImageError, match="own file"):
        from_xml(text)


def test_secure_alone_is_a_wish_for_secure_boot():
    text = (
        "<os firmware='efi'><type arch='x86_64' machine='q35'/><loader secure='yes'/></os>"
    )  # fmt: skip
    assert from_xml(text) == make_wish(wanted=["secure-boot"])


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("<os ", "<so ", "no element|mismatched"),
        ("type='pflash'", "type='rom'", "of type rom"),
        ("type='pflash'", "", "of type rom"),
        ("readonly='yes'", "readonly='on'", "neither yes nor no"),
        ("arch='x86_64'", "", "architecture and machine"),
        ("type='file'", "type='network'", "of type network"),
        ("<smm>", "<smm state='maybe'>", "state 'maybe'"),
        ("</domain>", "", "no element"),
        ("name>guest", "name>&guest;", "undefined entity"),
        ("encoding='UTF-8'", "encoding='nonsense'", "encoding"),
    ],
)
def test_xml_that_is_no_domain(old, new, text):
    content = LIVE.replace(old, new, 1).encode()
    with pytest.raises(ImageError, match=text) as caught:
        from_xml(content)
    assert caught.value.code == "qemu.xml"


STRANGE = """<os firmware='efi'><type arch='x86_64' machine='q35'/>
<firmware><feature enabled='yes' name='x'/></firmware></os>"""


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<domain/>", "has no <os>"),
        ("<network><os/></network>", "<network> has no <os>"),
        ("<os><type arch='x86_64' machine='q35'/></os>", "neither a <loader> nor firmware"),
        ("<os firmware='x'><type arch='x86_64' machine='q35'/></os>", "neither efi nor bios"),
        (STRANGE, "names 'x'"),
        ("", "no element"), ("plain text", "syntax error|not well-formed"), ("\udc80", "UTF-8"),
    ],
)  # fmt: skip
def test_what_is_missing(content, text):
    with pytest.raises(ImageError, match=text) as caught:
        from_xml(content)
    assert caught.value.code == "qemu.xml"


def test_a_machine_that_no_qemu_has():
    with pytest.raises(UsageError):
        from_xml(LIVE.replace("pc-q35-7.2", "q35,accel=kvm"))


# --- hostile XML ----------------------------------------------------------------------------

LAUGHS = "<!DOCTYPE os [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]><os>&b;</os>"
FOREIGN = "<!DOCTYPE os [<!ENTITY a SYSTEM 'file:///etc/hostname'>]><os>&a;</os>"


@pytest.mark.parametrize("content", [LAUGHS, FOREIGN, "\n\n<!DOCTYPE os><os/>"])
def test_no_document_type_no_entities(content):
    with pytest.raises(ImageError, match="document type declaration") as caught:
        parse_xml(content)
    assert caught.value.context["line"] == content[: content.index("<!DOCTYPE")].count("\n") + 1


def test_limits():
    parse_xml("<a>" * DEPTH_LIMIT + "</a>" * DEPTH_LIMIT)
    with pytest.raises(ImageError, match="levels"):
        parse_xml("<a>" * (DEPTH_LIMIT + 1) + "</a>" * (DEPTH_LIMIT + 1))
    parse_xml("<a>" + "x" * (SIZE_LIMIT - 7) + "</a>")
    with pytest.raises(ImageError, match="larger than 1 MiB"):
        parse_xml("<a>" + "x" * (SIZE_LIMIT - 6) + "</a>")
    with pytest.raises(ImageError):
        parse_xml("<a>" * 100_000)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f"<os>{text}</os>"))
def test_any_bytes_are_refused_in_order(content):
    with pytest.raises(ImageError) as caught:
        from_xml(content)
    assert caught.value.code == "qemu.xml"
