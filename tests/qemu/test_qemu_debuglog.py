from __future__ import annotations

import re
import tracemalloc
from itertools import pairwise
from uuid import UUID

import pytest
from debug_logs import BLANK, BOOT, NAMES, REPLAY, log, raw
from hypothesis import given, settings
from hypothesis import strategies as st

from hwflash.errors import ImageError
from hwflash.qemu import debuglog
from hwflash.qemu.debuglog import parse, parse_lines, read_log, source_file
from hwflash.qemu.debuglog_acpi import (
    AddChecksum,
    AddPointer,
    Allocate,
    BootScriptStep,
    CondensedPointer,
    WritePointer,
)
from hwflash.qemu.debuglog_events import (
    Assert,
    CpuException,
    DriverLoad,
    Message,
    ProtocolInstall,
    SetVariable,
    Start,
    StartFailed,
)
from hwflash.qemu.debuglog_story import store_role, summary, verdicts

FTW_GUID = UUID("fe5cea76-4f72-49e8-986f-2cd899dffe5d")


def only(name, kind):
    return [event for event in log(name).events if isinstance(event, kind)]


def said(events, area):
    return [event for event in events if isinstance(event, Message) and event.area == area]


def one(*lines):
    (event,) = parse_lines(lines).events
    return event


# --- the recorded logs, held against plain searches in their text ---------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_driver_load_of_the_recorded_logs(name):
    text = raw(name).decode()
    images = re.findall(
        r"^Loading (PEIM|driver) at 0x(\S+) EntryPoint=0x(\S+) (\S+)\.efi$", text, re.M
    )
    files = re.findall(r"^Loading (?:PEIM|driver) ([0-9A-F-]{36})$", text, re.M)
    loads = only(name, DriverLoad)
    assert [(load.phase, load.address, load.entry_point, load.name) for load in loads] == [
        ("PEI" if word == "PEIM" else "DXE", int(address, 16), int(entry, 16), image)
        for word, address, entry, image in images
    ]
    assert [load.guid for load in loads if load.guid] == [UUID(item) for item in files]
    # The Shell is started by a device path: no file GUID is printed for it.
    assert [load.name for load in loads if not load.guid] == ["Shell"] * (name != BLANK)
    assert len(loads) == {BOOT: 99, REPLAY: 92, BLANK: 32}[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_and_every_failed_start(name):
    text = raw(name).decode()
    installs = re.findall(r"^(?:InstallProtocolInterface|Install PPI): (\S+)", text, re.M)
    assert [event.guid for event in only(name, ProtocolInstall)] == [UUID(x) for x in installs]
    failed = re.findall(r"^Error: Image at \S+ start failed: (.+)$", text, re.M)
    found = only(name, StartFailed)
    assert [event.status for event in found] == failed
    assert all(event.name for event in found)
    assert ("EmuVariableFvbRuntimeDxe", "Aborted") in [(item.name, item.status) for item in found]


@pytest.mark.parametrize("name", NAMES)
def test_line_numbers_are_those_of_the_text(name):
    lines = raw(name).decode().split("\n")
    recorded = log(name)
    assert recorded.lines == len(lines) - 1
    assert recorded.damaged == 0
    for event in recorded.events:
        if isinstance(event, DriverLoad) and event.name:
            assert f"{event.name}.efi" in lines[event.line - 1]
        if isinstance(event, ProtocolInstall):
            assert str(event.guid).upper() in lines[event.line - 1]


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_the_store_goes_unnoticed(name):
    wanted = re.compile(
        r"^(?:Ftw: |Ftw\w+\(\)|QemuFlash|QEMU Flash|Installing QEMU|EMU Variable|Disabling EMU"
        r"|Variable (?:FV|driver|Store)|ASSERT|ValidateSetVariable|ProcessCmd|SaveCondensed"
        r"|SaveLockBox|Restore\w*LockBox|EFI_BOOT_SCRIPT|S3_BOOT_SCRIPT)"
    )
    numbers = {
        number
        for number, line in enumerate(raw(name).decode().split("\n"), 1)
        if wanted.match(line) and "OPCODE" not in line
    }
    assert numbers
    assert numbers <= {event.line for event in log(name).events}


def test_the_replay_is_told():
    recorded = log(REPLAY)
    assert [(event.code, event.line) for event in said(recorded.events, "ftw")] == [
        ("work-space", 571), ("spare", 572), ("work-block", 573), ("work-space-in-spare", 574),
        ("remaining", 575), ("remaining", 576), ("restarted", 577), ("replayed", 578),
        ("remaining", 579), ("reclaim", 580), ("reclaimed", 581),
    ]  # fmt: skip
    work, spare = said(recorded.events, "ftw")[:2]
    assert work.values == (("lba", 0x41), ("block_size", 0x1000), ("offset", 0))
    assert spare.value("lba") == 0x42
    remaining = said(recorded.events, "ftw")[4]
    assert (remaining.values, remaining.places) == ((), (("bytes", 0xFE0),))
    assert verdicts(recorded.events) == [
        "variables are in flash",
        "an unfinished write was replayed: Success",
        (
            "VariableRuntimeDxe started before FaultTolerantWriteDxe: it read the store before "
            "the replay, and works on a copy that may be stale"
        ),
    ]


def test_the_blank_store_ends_in_an_assert():
    recorded = log(BLANK)
    last = recorded.events[-1]
    assert last == Assert(
        427, None, "MdeModulePkg/Universal/Variable/RuntimeDxe/VariableNonVolatile.c",
        "VariableStore->Size == VariableStoreLength", 228,
    )  # fmt: skip
    assert [event.code for event in said(recorded.events, "flash")] == [
        "emu-reserved", "probe", "behaves", "detected", "reinitialised", "fvb-installed",
        "emu-started", "emu-disabled",
    ]  # fmt: skip
    assert [event.line for event in recorded.events if event.problem] == [224, 427]
    assert "the volume was erased with its spare: every variable is lost" in verdicts(
        recorded.events
    )


def test_a_good_boot_has_no_problem_and_no_replay():
    recorded = log(BOOT)
    assert not any(event.problem for event in recorded.events)
    assert verdicts(recorded.events) == ["variables are in flash", "no unfinished write was found"]
    assert only(BOOT, Start) == [Start(1), Start(2370, resume=True)]
    assert recorded.boots == 1
    assert only(BOOT, SetVariable)[-5].name == "Foo"
    assert only(BOOT, SetVariable)[-5].guid == UUID("11111111-2222-3333-4444-555555555555")


@pytest.mark.parametrize("name", [BOOT, REPLAY])
def test_order_of_the_store_drivers(name):
    roles = [(load.name, store_role(load)) for load in only(name, DriverLoad) if store_role(load)]
    assert roles == [
        ("FvbServicesRuntimeDxe", "FVB"),
        ("EmuVariableFvbRuntimeDxe", "FVB"),
        ("VariableRuntimeDxe", "variable"),
        ("FaultTolerantWriteDxe", "FTW"),
    ]


def test_the_loader_script_with_its_addresses():
    assert only(BOOT, Allocate) == [
        Allocate(1818, "etc/acpi/rsdp", 0x10, 2, 0x14, 0xF7FE000),
        Allocate(1821, "etc/vmgenid_guid", 0x1000, 1, 0x1000, 0xF7FD000),
        Allocate(1824, "etc/acpi/tables", 0x40, 1, 0x20000, 0xF7DD000),
    ]
    assert only(BOOT, WritePointer) == [
        WritePointer(1834, "etc/vmgenid_addr", "etc/vmgenid_guid", 0, 8, 0x28)
    ]
    assert only(BOOT, CondensedPointer) == [CondensedPointer(1832, 8, 0, 0, 0x2E, 0xF7FD028)]
    assert (len(only(BOOT, AddPointer)), len(only(BOOT, AddChecksum))) == (11, 9)
    assert AddPointer(1835, "etc/acpi/tables", "etc/vmgenid_guid", 0x21FE, 4) in only(
        BOOT, AddPointer
    )
    assert only(BOOT, AddChecksum)[0] == AddChecksum(1825, "etc/acpi/tables", 0x49, 0x40, 0x2028)
    codes = [item.code for item in said(log(BOOT).events, "loader")]
    assert codes[:2] == ["below-4g"] * 2
    found = [item for item in said(log(BOOT).events, "loader") if item.code == "table"]
    assert [item.value("signature") for item in found] == [
        "FACS", "DSDT", "FACP", "APIC", "SSDT", "HPET", "MCFG", "WAET", "RSDT"
    ]  # fmt: skip
    assert [code for code in codes if code not in ("below-4g", "table", "opaque")] == [
        "padding"
    ] * 8 + ["freed"] * 2


def test_the_boot_script_is_carried_out_opcode_by_opcode():
    steps = only(BOOT, BootScriptStep)
    assert [step.opcode for step in steps] == [
        "MEM_WRITE", "IO_WRITE", "MEM_POLL", "MEM_WRITE", "IO_WRITE", "MEM_POLL", "INFORMATION",
        "TERMINATE",
    ]  # fmt: skip
    access, control, poll = steps[:3]
    assert (access.script, access.address, access.count) == (0xF76700D, 0xF76B018, 16)
    # The fw_cfg DMA access: select 0x2E and skip, in big endian.
    assert bytes(value for _, value in access.data) == bytes.fromhex("002e000c" + "00" * 12)
    assert [address for address, _ in access.data] == list(range(0xF76B018, 0xF76B028))
    assert (control.port, control.data) == (0x514, ((0x514, 0), (0x518, 0x18B0760F)))
    assert (poll.address, poll.mask, poll.value) == (0xF76B018, 0xFFFFFFFF, 0)
    pointer = bytes(value for _, value in steps[3].data)[16:]
    assert int.from_bytes(pointer, "little") == only(BOOT, CondensedPointer)[0].address
    assert steps[6].information == bytes.fromhex("deadbeef")
    codes = [event.code for event in said(log(BOOT).events, "s3")]
    assert codes.count("lockbox-saved") == 8
    assert codes.count("lockbox-in-place") == 6
    assert codes[-2:] == ["script-done", "return"]


def test_the_summary_has_it_all():
    text = "\n".join(summary(log(BOOT)))
    assert text.startswith("757 events in 2,590 lines; 1 boot, 1 resume from S3\n")
    assert "82 drivers loaded by DXE, in order" in text
    assert "line 1026: FaultTolerantWriteDxe loaded by DXE" in text
    assert "line 1042: VariableWriteArch protocol installed" in text
    assert "24 ACPI loader commands, 1 pointer kept for S3" in text
    assert "no problems" in text
    assert max(map(len, text.split("\n"))) <= 110
    assert "line 575: FTW work space: 4,064 bytes left (3 times)" in "\n".join(summary(log(REPLAY)))


# --- messages that the recorded logs do not have --------------------------------------------


@pytest.mark.parametrize(
    ("line", "area", "code", "values", "problem"),
    [
        ("QemuFlashDetected => FD behaves as FLASH, write-protected", "flash", "behaves",
         {"behaves": "FLASH, write-protected"}, False),
        ("QEMU flash was not detected. Writable FVB is not being installed.", "flash", "absent",
         {}, True),
        ("EMU Variable FVB: Using pre-reserved block at 7FF7C000", "flash", "emu-block",
         {"address": 0x7FF7C000}, True),
        ("NorFlashFvbInitialize: The FVB Header is not valid.", "flash", "header-invalid", {},
         True),
        ("FV@FFC00000 Checksum is 0x1234, expected 0xAF4", "flash", "checksum",
         {"found": 0x1234, "expected": 0xAF4, "address": 0xFFC00000}, True),
        ("Installing QEMU flash SMM FVB", "flash", "fvb-installed", {"space": "SMM"}, False),
        ("Ftw: Both working and spare blocks are invalid, init workspace", "ftw", "initialised",
         {}, True),
        ("Ftw: Init.. find first record not SpareCompleted, abort()", "ftw", "aborted", {}, False),
        ("Ftw: Restart working block update in InitFtwProtocol() - Success", "ftw",
         "work-block-restored", {"status": "Success"}, False),
        ("Ftw: Write() success, (Lba:Offset)=(0:0x48), Length: 0x3FFB8", "ftw", "written",
         {"lba": 0, "offset": 0x48, "length": 0x3FFB8}, False),
        ("Ftw: Allocate() success, Caller:FE5CEA76-4F72-49E8-986F-2CD899DFFE5D, # 1", "ftw",
         "allocated", {"caller": FTW_GUID, "writes": 1}, False),
        ("Ftw: something new", "ftw", "other", {"text": "something new"}, False),
        ("Variable Store header is corrupted", "variable", "store-corrupted", {}, True),
        ("Variable driver will work without auth variable support!", "variable",
         "authentication", {"authentication": "without"}, False),
        ("RecordVarErrorFlag (0xEF) Big:11111111-2222-3333-4444-555555555555 - 0x00000007 - 0x40",
         "variable", "error-flag",
         {"flag": 0xEF, "name": "Big", "guid": UUID("11111111-2222-3333-4444-555555555555"),
          "attributes": 7, "size": 0x40}, True),
        ("ProcessCmdAllocate: malformed file name", "loader", "refused",
         {"command": "Allocate", "reason": "malformed file name"}, True),
        ("InstallQemuFwCfgTables: unknown loader command: 0x7", "loader", "unknown-command",
         {"command": 7}, True),
        ('BdsDxe: failed to load Boot0002 "UEFI Misc" from PciRoot(0x0)/Pci(0x2,0x2): Not Found',
         "boot", "failed",
         {"what": "load", "number": "0002", "name": "UEFI Misc", "status": "Not Found"}, True),
        ("ASSERT_EFI_ERROR (Status = Device Error)", "fault", "status",
         {"status": "Device Error"}, True),
        ("!!!! Find image based on IP(0xF6C8000) /b/DEBUG/VariableRuntimeDxe.dll (ImageBase=0)",
         "fault", "image", {"image": "VariableRuntimeDxe", "address": 0xF6C8000}, True),
    ],
)  # fmt: skip
def test_messages(line, area, code, values, problem):
    event = one(line)
    assert (event.area, event.code, event.problem) == (area, code, problem)
    assert dict((*event.values, *event.places)) == values
    assert "{" not in event.text
    assert event.keys()["facts"].keys() == values.keys()


def test_faults():
    assert one("!!!! X64 Exception Type - 0E(#PF - Page-Fault)  CPU Apic ID - 00000000 !!!!") == (
        CpuException(1, "#PF - Page-Fault", "X64", 14)
    )
    assert one("Synchronous Exception at 0x000000005F7E6B2C") == CpuException(
        1, "Synchronous", "AArch64", None, 0x5F7E6B2C
    )
    assert one(r"ASSERT [Fvb] c:\b\OvmfPkg\Fvb.c(12): Status == 0").file == "OvmfPkg/Fvb.c"
    assert one("ASSERT [Fvb] c:/b/OvmfPkg/Fvb.c(12): Status == 0").module == "Fvb"
    assert one("DXE_ASSERT!: /b/MdePkg/X.c (7): a == b") == Assert(1, None, "MdePkg/X.c",
                                                                  "a == b", 7)  # fmt: skip
    assert source_file("x.c") == "x.c"
    assert source_file("/home/me/x.c") == "x.c"


def test_smm_drivers_and_drivers_without_names():
    loads = parse_lines(
        [
            "Loading SMM driver at 0x00007F5B000 EntryPoint=0x00007F5D0C1 FvbServicesSmm.efi",
            "SmmInstallProtocolInterface: D326D041-BD31-4C01-B5A8-628BE87F0653 7F5F1C8",
            "Loading MM driver at 0x00007F5B000 EntryPoint=0x00007F5D0C1 ",
            "Loading driver FE5CEA76-4F72-49E8-986F-2CD899DFFE5D",
            "Loading driver at 0x1000 Entr",
        ]
    ).events
    assert loads[0] == DriverLoad(1, "SMM", None, "FvbServicesSmm", 0x7F5B000, 0x7F5D0C1)
    assert (loads[1].space, loads[1].address) == ("SMM", 0x7F5F1C8)
    assert (loads[2].phase, loads[2].name) == ("MM", None)
    assert loads[3] == DriverLoad(5, "DXE", FTW_GUID, None, 0x1000)
    assert store_role(loads[3]) == "FTW"
    assert store_role(loads[2]) is None


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("VariableSmm", "variable"), ("VariableSmmRuntimeDxe", "variable"),
        ("PeiVariable", "variable"), ("VariablePolicyDxe", None), ("VirtNorFlashDxe", "FVB"),
        ("FaultTolerantWritePei", "FTW"), ("EmuVariableFvbRuntimeDxe", "FVB"), ("Fat", None),
    ],
)  # fmt: skip
def test_roles_by_name(name, role):
    assert store_role(DriverLoad(1, "DXE", None, name)) == role


def test_a_driver_whose_load_line_is_lost_is_still_there():
    recorded = parse_lines(
        ["Loading driver FE5CEA76-4F72-49E8-986F-2CD899DFFE5D", "Loading driver a"]
    )
    assert recorded.events == (DriverLoad(1, "DXE", FTW_GUID, None),)
    assert (recorded.damaged, recorded.first_damaged) == (1, 2)
    assert "1 message cannot be read, first in line 2" in summary(recorded)


def test_variables_in_ram_only_are_told():
    lines = ["EMU Variable FVB Started", "Installing FVB for EMU Variable support"]
    assert verdicts(parse_lines(lines).events) == [
        "variables are in RAM only: the flash is not written"
    ]


def test_boots_are_counted_and_chosen():
    twice = raw(BOOT) + raw(BLANK)
    assert parse([twice]).boots == 2
    assert parse([twice], 1).events == log(BOOT).events
    second = parse([twice], 2).events
    assert [event.key() for event in second] == [event.key() for event in log(BLANK).events]
    # A capture that begins late has the rest of that boot as its first.
    late = raw(BLANK)[1000:] + raw(BLANK)
    assert parse([late]).boots == 2


# --- serial lines ---------------------------------------------------------------------------


def keys(recorded):
    return [event.key() for event in recorded.events]


@pytest.mark.parametrize(
    "end", [b"\r\n", b"\n\r", b"\r\r\n", b"\x1b[0m\n", b"\x1b[24;01H\n", b"\0\n"]
)
def test_any_end_of_line(end):
    recorded = parse([raw(BOOT).replace(b"\n", end)])
    assert recorded.events == log(BOOT).events
    assert recorded.damaged == 0


def test_utf_16():
    recorded = parse([raw(BLANK).decode().encode("utf-16")])
    assert keys(recorded) == keys(log(BLANK))


def test_a_console_between_the_messages():
    noise = (
        b"\x1b[2J\x1b[01;01H\x1b[1m\x1b[33m\x1b[40mShell> \x1b[0mset\x1b[0K\r",
        b"\xff\xfe garbage \x80 ",
        b"[12:34:56.789] ",
        b"\x1b]0;window title\x07",
    )
    lines = raw(BOOT).split(b"\n")
    mixed = b"\n".join(noise[i % 4] + line for i, line in enumerate(lines))
    assert keys(parse([mixed])) == keys(log(BOOT))


def test_nothing_that_moves_a_cursor_reaches_the_words():
    text = "[Bds]Booting a\x9b2J\x08\x7f\x00b\n"
    (event,) = parse([text.encode()]).events
    assert event.text == "boot option a2Jb"


def test_colour_in_the_middle_of_a_message():
    assert one("Ftw: Restart last \x1b[1;31mwrite - Suc\x1b[0mcess").code == "replayed"
    assert one("Ftw: Restart last write - \x1b[32mSuccess\x1b[0m").values == (
        ("status", "Success"),
    )  # fmt: skip


def test_the_key_of_a_driver_has_no_address():
    assert DriverLoad(1, "DXE", FTW_GUID, "Ftw", 2, 3).key() == (
        DriverLoad(4, "DXE", FTW_GUID, "Ftw", 5, 6).key()
    )
    assert DriverLoad(1, "DXE", FTW_GUID, "Ftw").key() != DriverLoad(1, "DXE", FTW_GUID, "F").key()


def test_two_messages_on_one_line():
    events = parse_lines(["SEC: S3 resumeInstall PPI: 88C9D306-0900-4EB5-8260-3E2DBEDA1F89"]).events
    assert events[0] == Start(1, resume=True)
    assert events[1].space == "PPI"


@settings(deadline=None)
@given(st.lists(st.integers(0, len(raw(BLANK))), max_size=8))
def test_pieces_are_cut_anywhere(places):
    cuts = [0, *sorted(places), len(raw(BLANK))]
    chunks = [raw(BLANK)[a:b] for a, b in pairwise(cuts)]
    assert parse(chunks) == log(BLANK)


@settings(deadline=None)
@given(st.integers(0, len(raw(REPLAY))))
def test_a_log_that_is_cut_off_tells_what_came_before(length):
    recorded = parse([raw(REPLAY)[:length]])
    whole = log(REPLAY)
    # The last line may be half there, and a driver may still wait for its name.
    certain = [event for event in recorded.events if event.line < recorded.lines]
    known = {event.line: event for event in whole.events}
    assert all(known.get(event.line) == event or isinstance(event, DriverLoad) for event in certain)
    assert len(recorded.events) <= len(whole.events)


_WORDS = st.sampled_from(
    ["Loading driver ", "Ftw: ", "ASSERT ", "(1): ", "0x", "FFFFFFFFFFFFFFFFFFFF", "\x1b[", "\n",
     "ProcessCmdAllocate: File=\"", "EFI_BOOT_SCRIPT_", "_OPCODE", "BootScriptInformation: DE A",
     "ExecuteBootScript - 0F", "ValidateSetVariable - Variable (", "TableHeader.TableLength - 0x",
     "BootScriptExecuteIoWrite - 0x514, 2", "Ftw: Remaining work space size - "]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.one_of(_WORDS, st.text(max_size=8))).map("".join))
def test_garbage_is_read_without_fault(text):
    recorded = parse([text.encode("utf-8", "replace")])
    for event in recorded.events:
        assert isinstance(event.text, str)
        assert event.keys()["line"] >= 1
        hash(event.key())
    assert summary(recorded)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_bytes_are_read_without_fault(data):
    assert parse([data]).events == ()


# --- files ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(debuglog, "EVENTS", 1000)

    def chunks():
        for _ in range(40):
            yield raw(REPLAY)
        for _ in range(100):
            yield b"x" * 100_000  # a line without an end

    tracemalloc.start()
    recorded = parse(chunks())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert recorded.cut
    assert len(recorded.events) == 1000
    assert recorded.boots == 40
    assert peak < 4_000_000


def test_files(tmp_path):
    file = tmp_path / "board.log"
    file.write_bytes(raw(BLANK))
    assert read_log(file) == log(BLANK)
    assert read_log(file, 1) == log(BLANK)
    with pytest.raises(ImageError, match="no boot 2") as caught:
        read_log(file, 2)
    assert caught.value.code == "log.no-boot"
    with pytest.raises(ImageError) as caught:
        read_log(tmp_path / "missing")
    assert caught.value.code == "log.unreadable"
    with pytest.raises(ImageError) as caught:
        read_log(tmp_path)
    assert caught.value.code == "log.unreadable"
    for content in (b"", b"\xff" * 100_000, b"Linux version 6.1\n"):
        file.write_bytes(content)
        with pytest.raises(ImageError) as caught:
            read_log(file, 1)
        assert caught.value.code == "log.no-events"
