"""More messages that `hwflash.qemu.debuglog` understands: ACPI linker/loader, S3, boot, faults.

Ref: as `hwflash.qemu.debuglog_patterns`; edk2 OvmfPkg/AcpiPlatformDxe and its fw_cfg boot
script, UefiCpuPkg/Universal/Acpi/S3Resume2Pei, MdeModulePkg/Library/PiDxeS3BootScriptLib/
BootScriptExecute.c, MdeModulePkg/Universal/StatusCodeHandler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hwflash.qemu import debuglog_acpi as acpi
from hwflash.qemu import debuglog_events as events
from hwflash.qemu.debuglog_rules import Rule, rule, say

_Table = dict[str, tuple[Rule, ...]]

_LOOKED_AT: Final = (
    r'Process2ndPassCmdAddPointer: checking for ACPI header in "<file>" at <n:address> '
    r"\(remaining: <n:remaining>\): "
)
_LOADER: Final[_Table] = {
    "ProcessCmd": (
        rule('ProcessCmdAllocate: File="<file>" Alignment=<n:alignment> Zone=<n:zone> '
             "Size=<n:size> Address=<n:address>", acpi.Allocate),
        rule('ProcessCmdAddPointer: PointerFile="<pointer_file>" PointeeFile="<pointee_file>" '
             "PointerOffset=<n:pointer_offset> PointerSize=<n:pointer_size>", acpi.AddPointer),
        rule('ProcessCmdAddChecksum: File="<file>" ResultOffset=<n:result_offset> '
             "Start=<n:start> Length=<n:length>", acpi.AddChecksum),
        rule('ProcessCmdWritePointer: PointerFile="<pointer_file>" PointeeFile="<pointee_file>" '
             "PointerOffset=<n:pointer_offset> (?:PointeeOffset=<n:pointee_offset> )?"
             "PointerSize=<n:pointer_size>", acpi.WritePointer),
        say("loader", "refused", r"ProcessCmd(?P<command>\w{1,64}): (?P<reason>[a-z].*)",
            "loader command {command} refused: {reason}", wrong=True),
    ),
    "SaveCondensedWritePointerToS3Context: ": (
        rule(r"SaveCondensedWritePointerToS3Context: <n:item>/\[<n:offset>\+<d:size>\] := "
             r"<n:address> \(<d:index>\)", acpi.CondensedPointer),
    ),
    "CollectAllocationsRestrictedTo32Bit: ": (
        say("loader", "below-4g", 'CollectAllocationsRestrictedTo32Bit: restricting blob "<file>"',
            "{file} goes below 4 GiB"),
    ),
    "Process2ndPassCmdAddPointer: ": (
        say("loader", "table", _LOOKED_AT + 'found "<signature>" size <n:size>',
            "table {signature} in {file}, {size} bytes", places="address remaining"),
        say("loader", "opaque", _LOOKED_AT + "not found", "no table in {file} there",
            places="address remaining"),
        rule("Process2ndPassCmdAddPointer: .*already processed", "nothing"),
        say("loader", "other", "Process2ndPassCmdAddPointer: <text>$", "loader: {text}",
            places="text"),
    ),
    "InstallQemuFwCfgTables: ": (
        say("loader", "padding", "InstallQemuFwCfgTables: unknown loader command: 0x0(?!\\w)",
            "padding of the loader script"),
        say("loader", "unknown-command",
            "InstallQemuFwCfgTables: unknown loader command: <n:command>",
            "loader command {command} is not known", wrong=True),
        say("loader", "freed", 'InstallQemuFwCfgTables: freeing "<file>"', "{file} freed"),
        say("loader", "other", "InstallQemuFwCfgTables: <text>$", "loader: {text}",
            places="text"),
    ),
}  # fmt: skip

_S3: Final[_Table] = {
    "S3 support was detected on QEMU": (
        say("s3", "supported", "S3 support was detected", "S3 is offered"),
    ),
    "AppendFwCfgBootScript: ": (
        say("s3", "fragment-saved", "AppendFwCfgBootScript: boot script fragment saved",
            "boot script fragment for fw_cfg saved"),
        say("s3", "fragment-failed", "AppendFwCfgBootScript: <text>$",
            "boot script fragment: {text}", wrong=True),
    ),
    "S3SaveStateInstalledNotify: ": (
        say("s3", "fragment-buffers",
            r"S3SaveStateInstalledNotify: DmaAccess@<n:dma> "
            r"ScratchBuffer@\[<n:scratch>\+<n:size>\]",
            "boot script buffers: DMA access 0x{dma:X}, scratch 0x{scratch:X}",
            places="dma scratch"),
    ),
    "AcpiS3ContextSave!": (say("s3", "context-saved", "AcpiS3ContextSave!", "S3 context saved"),),
    "AcpiS3Context: ": (
        say("s3", "context", r"AcpiS3Context: <field> is 0x\s*<x:address>",
            "S3 context: {field} 0x{address:X}", places="address"),
    ),
    "AcpiS3Context->": (
        say("s3", "context-found", r"AcpiS3Context->(?P<field>\w+) = <x:address>",
            "S3 context found: {field} 0x{address:X}", places="address"),
    ),
    "Waking Vector = ": (
        say("s3", "waking-vector", "Waking Vector = <x:address>",
            "waking vector 0x{address:X}", places="address"),
    ),
    **{
        f"{name}: Guid=": (
            say("s3", code, rf"{name}: Guid=<g:guid> (?:Buffer=<x:buffer>)?"
                r"(?: Length=<n:length>)?", words, places="buffer length"),
        )
        for name, code, words in (
            ("SaveLockBox", "lockbox-saved", "lock box {guid} saved"),
            ("RestoreLockBox", "lockbox-restored", "lock box {guid} read"),
            ("RestoreAllLockBoxInPlace", "lockbox-in-place", "lock box {guid} restored in place"),
        )
    },
    "Enter S3 PEIM": (say("s3", "resume", "Enter S3 PEIM", "S3 resume driver entered"),),
    "S3ResumeExecuteBootScript()": (
        say("s3", "execute", r"S3ResumeExecuteBootScript\(\)", "boot script is to be carried out"),
    ),
    "TableHeader.TableLength - ": (
        say("s3", "table-length", "TableHeader.TableLength - <n:length>",
            "boot script of {length} bytes"),
    ),
    "S3BootScriptDone - ": (
        say("s3", "script-done", "S3BootScriptDone - <status>$", "boot script done: {status}"),
    ),
    "Call SwitchStack() to return to S3 Resume": (
        say("s3", "return", r"Call SwitchStack\(\)", "back from the boot script"),
    ),
    "ExecuteBootScript - ": (rule("ExecuteBootScript - <x:address>", "script-entry"),),
    "EFI_BOOT_SCRIPT_": (
        rule(r"EFI_BOOT_SCRIPT_(?P<opcode>[A-Z0-9_]{1,64}?)_OPCODE", "script-opcode"),
    ),
    "S3_BOOT_SCRIPT_LIB_": (
        rule(r"S3_BOOT_SCRIPT_LIB_(?P<opcode>[A-Z0-9_]{1,64}?)_OPCODE", "script-opcode"),
    ),
    "S3BootScriptExecute:": (rule("S3BootScriptExecute:", "nothing"),),
    "BootScriptExecute": (
        rule("BootScriptExecuteIo(?:Write|ReadWrite) - <n:port>(?:, <n:count>)?", "script-facts"),
        rule("BootScriptExecuteMemoryWrite - <n:address>, <n:count>", "script-facts"),
        rule("BootScriptExecuteMemoryReadWrite - <n:address>", "script-facts"),
        rule("BootScriptExecuteMemPoll - <n:address>, <n:mask>, <n:value>", "script-facts"),
        rule(r"BootScriptExecutePciCfg2?Write - <n:address>, <n:count>", "script-facts"),
        rule(r"BootScriptExecute\w", "nothing"),
    ),
    "BootScriptInformation: ": (
        rule(r"BootScriptInformation: (?P<information>(?:[0-9A-F]{2}(?: |$))+)", "script-facts"),
    ),
    "S3BootScriptWidthUint": (
        rule(r"S3BootScriptWidthUint<d:bits> - <n:address> \(<n:data>\)", "script-data"),
        rule(r"S3BootScriptWidthUint\d+ - <n:address>", "nothing"),
    ),
}  # fmt: skip

_BOOT: Final[_Table] = {
    "[Bds]Booting ": (
        say("boot", "option", r"\[Bds\]Booting <name>$", "boot option {name}"),
    ),
    "BdsDxe: ": (
        say("boot", "loading", r'BdsDxe: loading Boot(?P<number>[0-9A-F]{4}) "<name>" from',
            "boot option {name} is loaded", places="number"),
        say("boot", "starting", r'BdsDxe: starting Boot(?P<number>[0-9A-F]{4}) "<name>" from',
            "boot option {name} is started", places="number"),
        say("boot", "failed",
            r'BdsDxe: failed to (?P<what>load|start) Boot(?P<number>[0-9A-F]{4}) "<name>".*?: '
            r"(?P<status>[A-Z][A-Za-z ]+)$",
            "boot option {name}: {what} failed: {status}", wrong=True, places="number"),
        say("boot", "nothing", "BdsDxe: No bootable option or device was found",
            "nothing to boot", wrong=True),
        rule("BdsDxe: ", "nothing"),
    ),
}  # fmt: skip

_SOURCE: Final = r"<file>\s?\(<d:source_line>\): <expression>$"

_FAULTS: Final[_Table] = {
    "ASSERT_EFI_ERROR (Status = ": (
        say("fault", "status", r"ASSERT_EFI_ERROR \(Status = <status>\)",
            "ASSERT: status {status}", wrong=True),
    ),
    "ASSERT [": (rule(rf"ASSERT \[<module>\] {_SOURCE}", "assert"),),
    "ASSERT ": (rule(f"ASSERT {_SOURCE}", "assert"),),
    "_ASSERT!: ": (rule(f"_ASSERT!: {_SOURCE}", "assert"),),
    **{
        f"!!!! {name} Exception Type - ": (
            rule(rf"!!!! {name} Exception Type - <x:vector>\(<name>\)(?:  |$)",
                 events.CpuException, architecture=name),
        )
        for name in ("X64", "IA32")
    },
    "Synchronous Exception at ": (
        rule("(?P<name>Synchronous) Exception at <n:address>", events.CpuException,
             architecture="AArch64"),
    ),
    "SError Exception at ": (
        rule("(?P<name>SError) Exception at <n:address>", events.CpuException,
             architecture="AArch64"),
    ),
    "!!!! Find image based on IP(": (
        say("fault", "image",
            r"!!!! Find image based on IP\(<n:address>\) (?:\S*[/\\])?(?P<image>[^/\\\s]+?)"
            r"\.(?:dll|pdb|efi|debug) ", "the exception is in {image}", wrong=True,
            places="address"),
        rule("!!!! Find image", "nothing"),
    ),
    "ERROR: C": (
        say("fault", "status-code",
            r"ERROR: C(?P<type>[0-9A-Fa-f]+):V(?P<code_value>[0-9A-Fa-f]+) I[0-9A-Fa-f]+"
            r"(?: <g:caller>)?", "error status code {code_value}", wrong=True),
    ),
}  # fmt: skip

PLATFORM: Final[Mapping[str, tuple[Rule, ...]]] = {**_LOADER, **_S3, **_BOOT, **_FAULTS}
