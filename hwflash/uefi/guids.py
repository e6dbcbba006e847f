"""GUIDs and their well-known names.

Ref: edk2 MdePkg, MdeModulePkg, SecurityPkg, NetworkPkg and OvmfPkg .dec files and headers;
UEFI 2.10 §3.3, §32.4.1. A GUID is stored mixed endian: three little-endian groups, then bytes.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from hwflash.errors import UsageError

NV_VOLUME: Final = UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
AUTHENTICATED_STORE: Final = UUID("aaf32c78-947b-439a-a180-2e144ec37792")
PLAIN_STORE: Final = UUID("ddcf3616-3275-4164-98b6-fe85707ffe7d")
WORK_SPACE: Final = UUID("9e58292b-7c68-497d-a0ce-6500fd9f1b95")
GLOBAL_VARIABLE: Final = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY: Final = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SECURE_BOOT_ENABLE: Final = UUID("f0a30bc7-af08-4556-99c4-001009c93a44")
CUSTOM_MODE: Final = UUID("c076ec0c-7028-4399-a072-71ee5c448b9f")
VENDOR_KEYS_NV: Final = UUID("9073e4e0-60ec-4b6e-9903-4c223c260f3c")
CERT_DB: Final = UUID("d9bee56e-75dc-49d9-b4d7-b534210f637a")
MONOTONIC_COUNTER: Final = UUID("eb704011-1402-11d3-8e77-00a0c969723b")
SHIM_LOCK: Final = UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
MEMORY_TYPE_INFORMATION: Final = UUID("4c19049f-4137-4dd3-9c10-8b97a83ffdfa")

CERT_X509: Final = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
CERT_SHA256: Final = UUID("c1c41626-504c-4092-aca9-41f936934328")

_NAMES: Final[dict[UUID, str]] = {
    NV_VOLUME: "EfiSystemNvDataFv",
    AUTHENTICATED_STORE: "EfiAuthenticatedVariable",
    PLAIN_STORE: "EfiVariable",
    WORK_SPACE: "EdkiiWorkingBlockSignature",
    GLOBAL_VARIABLE: "EfiGlobalVariable",
    IMAGE_SECURITY: "EfiImageSecurityDatabase",
    SECURE_BOOT_ENABLE: "EfiSecureBootEnableDisable",
    CUSTOM_MODE: "EfiCustomModeEnable",
    VENDOR_KEYS_NV: "EfiVendorKeysNv",
    CERT_DB: "EfiCertDb",
    MONOTONIC_COUNTER: "MtcVendor",
    SHIM_LOCK: "ShimLock",
    MEMORY_TYPE_INFORMATION: "EfiMemoryTypeInformation",
    CERT_X509: "EfiCertX509",
    CERT_SHA256: "EfiCertSha256",
    **{
        UUID(text): name
        for text, name in (
            ("826ca512-cf10-4ac9-b187-be01496631bd", "EfiCertSha1"),
            ("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd", "EfiCertSha224"),
            ("ff3e5307-9fd0-48c9-85f1-8ad56c701e01", "EfiCertSha384"),
            ("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a", "EfiCertSha512"),
            ("3c5766e8-269c-4e34-aa14-ed776e85b3b6", "EfiCertRsa2048"),
            ("e2b36190-879b-4a3d-ad8d-f2e7bba32784", "EfiCertRsa2048Sha256"),
            ("67f8444f-8743-48f1-a328-1eaab8736080", "EfiCertRsa2048Sha1"),
            ("3bd2a492-96c0-4079-b420-fcf98ef103ed", "EfiCertX509Sha256"),
            ("7076876e-80c2-4ee6-aad2-28b349a6865b", "EfiCertX509Sha384"),
            ("446dbf63-2502-4cda-bcfa-2465d2b0fe9d", "EfiCertX509Sha512"),
            ("4aafd29d-68df-49ee-8aa9-347d375665a7", "EfiCertTypePkcs7"),
            ("77fa9abd-0359-4d32-bd60-28f4e78f784b", "MicrosoftOwner"),
            ("59324945-ec44-4c0d-b1cd-9db139df070c", "EfiIScsiInitiatorNameProtocol"),
            ("4b47d616-a8d6-4552-9d44-ccad2e0f4cf9", "IScsiConfig"),
            ("04b37fe8-f6ae-480b-bdd5-37d98c5e89aa", "EdkiiVarErrorFlag"),
            ("5b446ed1-e30b-4faa-871a-3654eca36080", "EfiIp4Config2Protocol"),
            ("937fe521-95ae-4d1a-8929-48bcd90ad31a", "EfiIp6ConfigProtocol"),
            ("d79df6b0-ef44-43bd-9797-43e93bcf5fa8", "VlanConfig"),
            ("fd2340d0-3dab-4349-a6c7-3b4f12b48eae", "EfiTlsCaCertificate"),
            ("fab7e9e1-39dd-4f2b-8408-e20e906cb6de", "HdBootDevicePath"),
            ("7235c51c-0c80-4cab-87ac-3b084a6304b1", "OvmfPlatformConfig"),
            ("e20939be-32d4-41be-a150-897f85d49829", "EfiMemoryOverwriteControlData"),
            ("bb983ccf-151d-40e1-a07b-4a17be168292", "EfiMemoryOverwriteRequestControlLock"),
            ("aeb9c5c1-94f1-4d02-bfd9-4602db2d3c54", "Tcg2PhysicalPresence"),
            ("39b68c46-f7fb-441b-b6ec-16b0f69821f3", "EfiCapsuleReport"),
            ("158def5a-f656-419c-b027-7a3192c079d2", "ShellVariable"),
            ("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "SystemdLoader"),
            ("8cf2644b-4b0b-428f-9387-6d876050dc67", "Systemd"),
            ("0abba7dc-e516-4167-bbf5-4d9d1c739416", "FwupdateVariable"),
            ("7c436110-ab2a-4bbb-a880-fe41995c9f82", "AppleBootVariable"),
            ("4d1ede05-38c7-4a6a-9cc6-4bcca8b38c14", "AppleVendorVariable"),
            ("8c8ce578-8a3d-4f1c-9935-896185c32dd3", "EfiFirmwareFileSystem2"),
            ("5473c07a-3dcb-4dca-bd6f-1e9689e7349a", "EfiFirmwareFileSystem3"),
            ("fe5cea76-4f72-49e8-986f-2cd899dffe5d", "FaultTolerantWriteDxe"),
            ("470cb248-e8ac-473c-bb4f-81069a1fe6fd", "FaultTolerantWriteSmm"),
        )
    },
}


def guid_name(guid: UUID) -> str | None:
    """The well-known name of a GUID, or None."""
    return _NAMES.get(guid)


def describe(guid: UUID) -> str:
    """The well-known name, or the GUID itself."""
    return _NAMES.get(guid) or str(guid)


def from_bytes(data: bytes) -> UUID:
    """A GUID from its 16 bytes as stored."""
    return UUID(bytes_le=data)


def parse_guid(text: str) -> UUID:
    """Read a GUID: its text form, with or without braces, or its well-known name.

    Raises:
        UsageError: neither (``usage.guid``).
    """
    wanted = text.strip().strip("{}")
    for guid, name in _NAMES.items():
        if name.lower() == wanted.lower():
            return guid
    parts = wanted.split("-")
    if [len(part) for part in parts] == [8, 4, 4, 4, 12]:
        try:
            return UUID(wanted)
        except ValueError:
            pass
    raise UsageError(f"{text!r} is not a GUID", code="usage.guid", text=text)
