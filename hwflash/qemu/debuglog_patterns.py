"""The messages of EDK2 firmware that `hwflash.qemu.debuglog` understands.

A message is found by a literal part of it, the *marker*, anywhere in a line: other output may
stand before it on a serial console. Then the rules of that marker are tried in order.

Ref: edk2 MdeModulePkg/Core/{Pei,Dxe,PiSmmCore}, StandaloneMmPkg/Core,
MdeModulePkg/Universal/{FaultTolerantWriteDxe,FaultTolerantWritePei,Variable/RuntimeDxe},
MdeModulePkg/Library/{VariablePolicyLib,PiDxeS3BootScriptLib}, OvmfPkg/{Sec,AcpiPlatformDxe,
QemuFlashFvbServicesRuntimeDxe,EmuVariableFvbRuntimeDxe,VirtNorFlashDxe},
UefiCpuPkg/Library/CpuExceptionHandlerLib, ArmPkg/Library/DefaultExceptionHandlerLib; checked
against logs of OVMF 2022.11.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hwflash.qemu import debuglog_events as events
from hwflash.qemu.debuglog_rules import Rule, rule, say

_Table = dict[str, tuple[Rule, ...]]

# --- the cores --------------------------------------------------------------------------------

_IMAGE: Final = (
    r"at 0x<x:address>(?:\s+EntryPoint=0x<x:entry_point>)?(?:\s+(?P<name>[\w.+-]+?)\.efi)?"
)


def _loads(word: str, phase: str) -> tuple[Rule, ...]:
    return (
        rule(f"Loading {word} <g:guid>", "file", phase=phase),
        rule(f"Loading {word} {_IMAGE}", "image", phase=phase),
    )


def _installs(word: str, space: str) -> tuple[Rule, ...]:
    # A PPI is printed without an address.
    return (rule(f"{word}: <g:guid>(?: <x:address>)?", events.ProtocolInstall, space=space),)


_CORES: Final[_Table] = {
    "SecCoreStartupWithStack(": (rule(r"SecCoreStartupWithStack\(", "start"),),
    "UEFI firmware (version": (rule(r"UEFI firmware \(version", "start"),),
    "SEC: S3 resume": (rule("SEC: S3 resume", "resume"),),
    "Loading PEIM ": _loads("PEIM", "PEI"),
    "Loading driver ": _loads("driver", "DXE"),
    "Loading SMM driver ": _loads("SMM driver", "SMM"),
    "Loading MM driver ": _loads("MM driver", "MM"),
    "Error: Image at ": (rule("Error: Image at <x:address> start failed: <status>$", "failed"),),
    "Error: SMM image at ": (
        rule("Error: SMM image at <x:address> start failed: <status>$", "failed"),
    ),
    "InstallProtocolInterface: ": _installs("InstallProtocolInterface", "DXE"),
    "SmmInstallProtocolInterface: ": _installs("SmmInstallProtocolInterface", "SMM"),
    "MmInstallProtocolInterface: ": _installs("MmInstallProtocolInterface", "MM"),
    "Install PPI: ": _installs("Install PPI", "PPI"),
    "Reinstall PPI: ": (rule("Reinstall PPI: <g:guid>", "nothing"),),
}

# --- flash, FTW and the variable driver -------------------------------------------------------

_FLASH: Final[_Table] = {
    "QEMU Flash: ": (
        say(
            "flash", "probe", "QEMU Flash: Attempting flash detection at <x:address>",
            "flash probed at 0x{address:X}", places="address",
        ),
        say(
            "flash", "no-probe-location", "QEMU Flash: Failed to find probe location",
            "no byte of the flash can be probed", wrong=True,
        ),
        say(
            "flash", "header-not-written", "QEMU Flash: Unable to initialize variable FV header",
            "the volume's header cannot be written", wrong=True,
        ),
    ),
    "QemuFlashDetected => ": (
        say(
            "flash", "behaves",
            "QemuFlashDetected => FD behaves as (?P<behaves>[A-Z]+(?:, [a-z-]+)?)",
            "flash behaves as {behaves}",
        ),
        say("flash", "detected", "QemuFlashDetected => (?P<detected>Yes|No)",
            "flash detected: {detected}"),
    ),
    "QEMU flash was not detected.": (
        say("flash", "absent", r"QEMU flash was not detected\.",
            "no writable flash: no FVB is installed", wrong=True),
    ),
    "Variable FV header is not valid.": (
        say("flash", "reinitialised", r"Variable FV header is not valid\.",
            "the volume's header was not valid: volume erased, spare too, only a header written",
            wrong=True),
    ),
    "The FVB Header is not valid.": (
        say("flash", "header-invalid", r"The FVB Header is not valid\.",
            "the volume's header is not valid", wrong=True),
    ),
    "Installing a correct one for this volume": (
        say("flash", "header-installed", "Installing a correct one for this volume",
            "volume erased and given new headers"),
    ),
    "Installing QEMU flash": (
        say("flash", "fvb-installed", "Installing QEMU flash (?P<space>SMM )?FVB",
            "FVB of the flash installed"),
    ),
    "FV@": (
        say("flash", "checksum", "FV@<x:address> Checksum is <n:found>, expected <n:expected>",
            "FV header checksum 0x{found:X}, expected 0x{expected:X}", wrong=True,
            places="address"),
    ),
    "EMU Variable FVB Started": (
        say("flash", "emu-started", "EMU Variable FVB Started", "FVB in RAM considered"),
    ),
    "Disabling EMU Variable FVB": (
        say("flash", "emu-disabled", "Disabling EMU Variable FVB",
            "FVB in RAM not used: variables are in flash"),
    ),
    "EMU Variable FVB: ": (
        say("flash", "emu-block", "EMU Variable FVB: Using pre-reserved block at <x:address>",
            "FVB in RAM used at 0x{address:X}: variables are lost at power-off", wrong=True,
            places="address"),
        say("flash", "emu-kept", "EMU Variable FVB: Found valid pre-existing FV",
            "FVB in RAM kept over a reset"),
    ),
    "Installing FVB for EMU Variable support": (
        say("flash", "emu-installed", "Installing FVB for EMU Variable support",
            "FVB in RAM installed: variables are lost at power-off", wrong=True),
    ),
    "Reserved variable store memory: ": (
        say("flash", "emu-reserved",
            r"Reserved variable store memory: <n:address>; size: <d:kib>kb",
            "{kib} KiB of RAM reserved for a store", places="address"),
    ),
}  # fmt: skip

_FTW: Final[_Table] = {
    "Ftw: ": (
        say("ftw", "work-space",
            r"Ftw: FtwWorkSpaceLba\s+- <n:lba>, WorkBlockSize\s+- <n:block_size>, "
            r"FtwWorkSpaceBase - <n:offset>",
            "FTW work space: block 0x{lba:X} of {block_size:,} bytes, offset 0x{offset:X}"),
        say("ftw", "spare", r"Ftw: FtwSpareLba\s+- <n:lba>, SpareBlockSize - <n:block_size>",
            "FTW spare: from block 0x{lba:X} of {block_size:,} bytes"),
        say("ftw", "work-block", "Ftw: NumberOfWorkBlock - <n:blocks>, FtwWorkBlockLba - <n:lba>",
            "FTW working block: from block 0x{lba:X}, blocks: {blocks}"),
        say("ftw", "work-space-in-spare",
            "Ftw: WorkSpaceLbaInSpare - <n:lba>, WorkSpaceBaseInSpare - <n:offset>",
            "FTW work space in the spare: block 0x{lba:X}, offset 0x{offset:X}"),
        # How full the queue is depends on what the store went through.
        say("ftw", "remaining", "Ftw: Remaining work space size - <x:bytes>",
            "FTW work space: {bytes:,} bytes left", places="bytes"),
        say("ftw", "header-mismatch", "Ftw: Work block header check mismatch",
            "FTW work space: header not valid", wrong=True),
        say("ftw", "initialised", "Ftw: Both working and spare blocks are invalid",
            "FTW work space not valid in the spare either: a new one is made", wrong=True),
        say("ftw", "aborted", r"Ftw: Init\.\. find first record not SpareCompleted",
            "FTW write not complete in the spare: dropped"),
        say("ftw", "finished", r"Ftw: Init\.\. find last record completed but header not",
            "FTW write complete but not marked so: marked"),
        say("ftw", "work-block-restored",
            r"Ftw: Restart working block update in \w+\(\) - <status>$",
            "FTW working block restored from the spare: {status}"),
        say("ftw", "boot-block-restored", "Ftw: Restart boot block update - <status>$",
            "FTW boot block update replayed: {status}"),
        say("ftw", "replayed", "Ftw: Restart last write - <status>$",
            "FTW write replayed from the spare: {status}"),
        say("ftw", "reclaim", "Ftw: start to reclaim work space",
            "FTW work space: reclaim begins"),
        say("ftw", "reclaimed", "Ftw: reclaim work space successfully",
            "FTW work space: reclaimed"),
        say("ftw", "allocated", r"Ftw: Allocate\(\) success, Caller: ?<g:caller>, # <n:writes>",
            "FTW: writes allocated for {caller}: {writes}"),
        say("ftw", "too-large", "Ftw: Allocate() request exceed Workspace".replace("()", r"\(\)"),
            "FTW: more writes wanted than the work space has room for", wrong=True),
        say("ftw", "write", r"Ftw: Write\(\), BlockSize - <n:block_size>, "
            "NumberOfWriteBlock - <n:blocks>", "FTW: a write begins, blocks: {blocks}"),
        say("ftw", "written", r"Ftw: Write\(\) success, \(Lba:Offset\)=\(<x:lba>:<n:offset>\), "
            "Length: <n:length>", "FTW: {length:,} bytes written at block 0x{lba:X}+0x{offset:X}"),
        say("ftw", "other", "Ftw: <text>$", "FTW: {text}"),
    ),
    "FtwPei: ": (say("ftw", "pei", "FtwPei: <text>$", "FTW in PEI: {text}", places="text"),),
    "FtwRestart(): success": (
        say("ftw", "restarted", r"FtwRestart\(\): success", "FTW: target written from the spare"),
    ),
    "FtwAbort(): success": (
        say("ftw", "abort", r"FtwAbort\(\): success", "FTW: last write marked complete"),
    ),
}  # fmt: skip

_VARIABLE: Final[_Table] = {
    "Variable driver common space: ": (
        say("variable", "space",
            "Variable driver common space: <n:common> <n:user> <n:runtime>",
            "variable store: {common:,} bytes for variables"),
    ),
    "Variable driver will ": (
        say("variable", "authenticated-format",
            "Variable driver will work with auth variable format",
            "variable store: authenticated format"),
        say("variable", "authentication",
            r"Variable driver will (?:continue to )?work (?P<authentication>with\w*) auth "
            "variable support", "variable driver works {authentication} authentication"),
    ),
    "AuthVariableLibInitialize() returns ": (
        say("variable", "library", r"AuthVariableLibInitialize\(\) returns (?P<status>[\w ]+)",
            "authentication library: {status}"),
    ),
    "Firmware Volume for Variable Store is corrupted": (
        say("variable", "volume-corrupted", "Firmware Volume for Variable Store is corrupted",
            "variable driver: the firmware volume is not valid", wrong=True),
    ),
    "Variable Store header is corrupted": (
        say("variable", "store-corrupted", "Variable Store header is corrupted",
            "variable driver: the store's header is not valid", wrong=True),
    ),
    "RecordVarErrorFlag ": (
        say("variable", "error-flag",
            r"RecordVarErrorFlag \(<n:flag>\) <name>:<g:guid> - <n:attributes> - <n:size>",
            "variable {name} of {size:,} bytes found no room", wrong=True),
    ),
    "[Variable]END_OF_DXE is signaled": (
        say("variable", "end-of-dxe", r"\[Variable\]END_OF_DXE", "end of DXE"),
    ),
    "ValidateSetVariable - Variable (": (
        rule(r"ValidateSetVariable - Variable \(<g:guid>:<name>\) returning <status>\.",
             events.SetVariable),
    ),
}  # fmt: skip

STORE: Final[Mapping[str, tuple[Rule, ...]]] = {**_CORES, **_FLASH, **_FTW, **_VARIABLE}
