"""A machine's flash as libvirt's domain XML, and that XML read back.

Two forms: by name (``<loader>`` and ``<nvram>``), and autoselection (``<os firmware='efi'>``),
where libvirt chooses by the firmware descriptors. Only ``<os>``, ``<features>`` and ``<pm>`` are
written, in a ``<domain>`` that lacks the rest.

Ref: libvirt docs/formatdomain.rst (BIOS bootloader), and domains that libvirt itself has written
(formats, ``stateless``, ``<smm>``, ``<pm>``); not tried with a libvirt.
Limits: XML of 1 MiB and 64 levels at most. A document type declaration is refused, so that no
entity can be declared: expansion cannot happen, and no other file is ever read.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Final
from xml.parsers import expat

from hwflash.errors import ImageError, UsageError
from hwflash.qemu.autoselect import Wish
from hwflash.qemu.machine import FlashFile, Machine

SIZE_LIMIT: Final = 1 << 20
DEPTH_LIMIT: Final = 64
#: libvirt's names of architectures where QEMU has others.
_TO_LIBVIRT: Final = {"i386": "i686", "arm": "armv7l"}
_FROM_LIBVIRT: Final = {name: ours for ours, name in _TO_LIBVIRT.items()}
#: Features that ``<firmware>`` knows.
_FEATURES: Final = ("enrolled-keys", "secure-boot")


def to_xml(machine: Machine) -> str:
    """The XML that names the files.

    The template of a ``combined`` image is left out: libvirt has no place for it.

    Raises:
        UsageError: something libvirt has no words for (``usage.qemu-xml``).
    """
    for item in (*machine.units, *((machine.template,) if machine.template else ())):
        if not item.path.startswith("/"):
            raise _cannot(f"libvirt takes absolute file names, not {item.path}", file=item.path)
        if item.part is not None:
            raise _cannot(f"libvirt takes whole files, not a part of {item.path}", file=item.path)
    if machine.max_firmware_size is not None:
        raise _cannot("libvirt has no element for max-fw-size")
    if machine.vars is not None and machine.vars.readonly:
        raise _cannot("libvirt has no read-only <nvram>", file=machine.vars.path)
    domain, system = _domain(machine.architecture, machine.machine)
    loader = ET.SubElement(system, "loader", readonly=_yes(machine.code.readonly))
    if machine.secure:
        loader.set("secure", "yes")
    loader.set("type", "pflash")
    if machine.code.format != "raw":
        loader.set("format", machine.code.format)
    if machine.mode == "stateless":
        loader.set("stateless", "yes")
    loader.text = machine.code.path
    if machine.vars is not None:
        nvram = ET.SubElement(system, "nvram")
        if machine.template is not None:
            nvram.set("template", machine.template.path)
            if machine.template.format != "raw":
                nvram.set("templateFormat", machine.template.format)
        if machine.vars.format != "raw":
            nvram.set("format", machine.vars.format)
        nvram.text = machine.vars.path
    _settings(domain, machine.smm, machine.s3)
    return _text(domain)


def to_auto_xml(wish: Wish) -> str:
    """The XML that leaves the choice of the firmware to libvirt.

    Raises:
        UsageError: a wish that libvirt has no words for (``usage.qemu-xml``).
    """
    firmware = {"uefi": "efi", "bios": "bios"}.get(wish.interface)
    if firmware is None:
        raise _cannot(f"libvirt chooses no firmware with the interface {wish.interface}")
    domain, system = _domain(wish.architecture, wish.machine)
    system.set("firmware", firmware)
    if wish.features:
        list_ = ET.SubElement(system, "firmware")
        for name, wanted in wish.features:
            if name not in _FEATURES:
                raise _cannot(f"libvirt cannot choose by the feature {name}", feature=name)
            ET.SubElement(list_, "feature", enabled=_yes(wanted), name=name)
    _settings(domain, wish.smm, None)
    return _text(domain)


def _domain(architecture: str, machine: str) -> tuple[ET.Element, ET.Element]:
    domain = ET.Element("domain", type="qemu")
    system = ET.SubElement(domain, "os")
    arch = _TO_LIBVIRT.get(architecture, architecture)
    ET.SubElement(system, "type", arch=arch, machine=machine).text = "hvm"
    return domain, system


def _settings(domain: ET.Element, smm: bool | None, s3: bool | None) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    if smm is not None:
        ET.SubElement(features, "smm", state="on" if smm else "off")
    if s3 is not None:
        ET.SubElement(ET.SubElement(domain, "pm"), "suspend-to-mem", enabled=_yes(s3))


def _text(domain: ET.Element) -> str:
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# --- reading ----------------------------------------------------------------------------------


def from_xml(content: str | bytes, copy: str | None = None) -> Machine | Wish:
    """Read a ``<domain>``, or an ``<os>`` alone.

    Args:
        content: the XML.
        copy: the guest's own file where ``<nvram>`` names a template only; libvirt would make
            up a name.

    Returns:
        A machine; a wish, when libvirt is to choose and has not yet written down its choice.

    Raises:
        ImageError: no XML, or not of a domain (``qemu.xml``); ``context["line"]`` where known.
        UsageError: what `Machine` refuses.
    """
    root = parse_xml(content)
    system = root if root.tag == "os" else root.find("os")
    if root.tag not in ("domain", "os") or system is None:
        raise _bad(f"<{_short(root.tag)}> has no <os>")
    kind = system.find("type")
    if kind is None or not kind.get("arch") or not kind.get("machine"):
        raise _bad("<type> does not name architecture and machine")
    arch, machine = kind.get("arch", ""), kind.get("machine", "")
    architecture = _FROM_LIBVIRT.get(arch, arch)
    smm = _smm(root)
    loader = system.find("loader")
    path = _content(loader)
    if loader is None or not path.strip():
        if (chosen := system.get("firmware")) is None:
            raise _bad("<os> has neither a <loader> nor firmware=")
        return _wish(system, chosen, architecture, machine, smm)
    if loader.get("type") != "pflash":
        raise _bad(f"the <loader> is of type {loader.get('type') or 'rom'}, not pflash")
    own, template = _nvram(system.find("nvram"), copy)
    code = FlashFile(path, loader.get("format", "raw"), _is(loader, "readonly"))
    return Machine(
        code, own, template,
        machine=machine, architecture=architecture, secure=_is(loader, "secure"), smm=smm,
        s3=_s3(root),
    )  # fmt: skip


def _wish(
    system: ET.Element, chosen: str, architecture: str, machine: str, smm: bool | None
) -> Wish:
    interface = {"efi": "uefi", "bios": "bios"}.get(chosen)
    if interface is None:
        raise _bad(f"firmware={chosen!r} is neither efi nor bios")
    features: dict[str, bool] = {}
    for item in system.findall("firmware/feature"):
        name = item.get("name", "")
        if name not in _FEATURES:
            raise _bad(f"<feature> names {name!r}, which libvirt does not know")
        features[name] = _is(item, "enabled")
    loader = system.find("loader")
    if loader is not None and loader.get("secure") is not None:
        features.setdefault("secure-boot", _is(loader, "secure"))
    return Wish(architecture, machine, interface, tuple(sorted(features.items())), smm)


def _nvram(nvram: ET.Element | None, copy: str | None) -> tuple[FlashFile | None, FlashFile | None]:
    """The guest's own file and its template."""
    if nvram is None:
        return None, None
    path = _content(nvram)
    if nvram.get("type", "file") != "file":
        raise _bad(f"<nvram> is of type {nvram.get('type')}, not a file")
    source = nvram.find("source")
    if source is not None:
        path = source.get("file", "")
    path = path if path.strip() else copy or ""
    if not path:
        raise _bad("<nvram> does not name the guest's own file")
    master = nvram.get("template")
    template = None
    if master:
        template = FlashFile(master, nvram.get("templateFormat", "raw"), readonly=True)
    return FlashFile(path, nvram.get("format", "raw")), template


def _smm(root: ET.Element) -> bool | None:
    found = root.find("features/smm")
    if found is None:
        return None
    state = found.get("state", "on")
    if state not in ("on", "off"):
        raise _bad(f"<smm> has the state {state!r}")
    return state == "on"


def _s3(root: ET.Element) -> bool | None:
    found = root.find("pm/suspend-to-mem")
    return None if found is None else _is(found, "enabled")


def _is(element: ET.Element, name: str) -> bool:
    """A yes/no attribute; one that is not there is no."""
    value = element.get(name, "no")
    if value not in ("yes", "no"):
        raise _bad(f"<{element.tag}> has {name}={value!r}, neither yes nor no")
    return value == "yes"


def _content(element: ET.Element | None) -> str:
    """The text of an element; laid out over several lines, without the white space around it."""
    text = (element.text or "") if element is not None else ""
    return text.strip() if "\n" in text else text


def parse_xml(content: str | bytes) -> ET.Element:
    """Parse XML that may be hostile.

    Raises:
        ImageError: too large, nested too deeply, with a document type declaration, or no XML
            (``qemu.xml``).
    """
    try:
        raw = content.encode() if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        raise _bad("it is no UTF-8 text") from error
    if len(raw) > SIZE_LIMIT:
        raise _bad("it is larger than 1 MiB")
    builder = ET.TreeBuilder()
    # Text that was decoded already is UTF-8 here, whatever its declaration says.
    parser = expat.ParserCreate("utf-8" if isinstance(content, str) else None)
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_LIMIT:
            raise _bad(f"more than {DEPTH_LIMIT} levels", parser.CurrentLineNumber)
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def declaration(*_: object) -> None:
        raise _bad("a document type declaration", parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = declaration
    try:
        parser.Parse(raw, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: its encoding
        line = error.lineno if isinstance(error, expat.ExpatError) else None
        raise _bad(str(error), line) from error
    return builder.close()


# --- errors -----------------------------------------------------------------------------------


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _bad(message: str, line: int | None = None) -> ImageError:
    where = f", line {line}" if line else ""
    return ImageError(f"the domain XML{where}: {message}", code="qemu.xml", line=line)


def _cannot(message: str, **context: object) -> UsageError:
    return UsageError(message, code="usage.qemu-xml", **context)
