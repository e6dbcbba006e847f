"""virt-firmware judges what we read, and reads what we build.

It is GPL and therefore only run as a program, from an environment of its own that is kept in
pytest's cache. It keys variables by name alone and keeps added records only, so it is asked
about stores without two variables of one name and without records in deleted transition.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from uefi.volumes import AAVMF as AAVMF_LAYOUT
from uefi.volumes import GUID, NV_BS, OVMF_2M, OVMF_4M, variable, volume_bytes

from hwflash.uefi import guids
from hwflash.uefi.decode import decode
from hwflash.uefi.find import Found, find_stores
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.rewrite import reclaim
from hwflash.uefi.services import VariableServices
from hwflash.uefi.siglist import Signature, SignatureList

pytestmark = pytest.mark.foreign

PINNED = "virt-firmware==26.10"
SHARE = Path("/usr/share")
TEMPLATES = [
    "OVMF/OVMF_VARS.fd", "OVMF/OVMF_VARS.ms.fd", "OVMF/OVMF_VARS_4M.fd",
    "OVMF/OVMF_VARS_4M.ms.fd", "OVMF/OVMF_VARS_4M.snakeoil.fd",
    "AAVMF/AAVMF_VARS.ms.fd", "AAVMF/AAVMF_VARS.snakeoil.fd",
]  # fmt: skip

Program = Callable[..., str]
#: (name, GUID) to (attributes, data).
Variables = dict[tuple[str, str], tuple[int, bytes]]


def give_up(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def template(name: str) -> bytes:
    path = SHARE / name
    if not path.exists():
        give_up(f"{path} is missing: packages ovmf, qemu-efi-aarch64 and qemu-efi-arm")
    return path.read_bytes()


@pytest.fixture(scope="session")
def virt_fw_vars(request: pytest.FixtureRequest) -> Iterator[Program]:
    """Runs ``virt-fw-vars``; its environment is made once and kept."""
    cache = getattr(request.config, "cache", None)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(cache.mkdir("virt-firmware")) if cache is not None else Path(scratch)
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of -n 2 share the cache
            install(home)

        def run(*words: object) -> str:
            done = subprocess.run(
                [home / "venv" / "bin" / "virt-fw-vars", *map(str, words)],
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


def install(home: Path) -> None:
    done = home / f"installed {PINNED}"
    if done.exists():
        return
    python = home / "venv" / "bin" / "python"
    for words in (
        [sys.executable, "-m", "venv", "--clear", home / "venv"],
        [python, "-m", "pip", "install", "--quiet", PINNED],
    ):
        made = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        if made.returncode:
            give_up(f"{PINNED} cannot be installed: {made.stderr[-500:]}")
    done.touch()


def theirs(virt_fw_vars: Program, image: Path) -> Variables:
    found = json.loads(virt_fw_vars("-i", image, "--output-json", "-"))
    return {
        (item["name"], item["guid"]): (item["attr"], bytes.fromhex(item["data"]))
        for item in found["variables"]
    }


def only(image: bytes) -> Found:
    (found,) = find_stores(image)
    return found


def ours(image: bytes) -> Variables:
    return {
        (record.name, str(record.guid)): (record.attributes, record.data)
        for record in only(image).store.live
    }


@pytest.mark.parametrize("name", TEMPLATES)
def test_we_agree_on_the_templates_of_debian(name, virt_fw_vars):
    image = template(name)
    found = ours(image)
    assert found == theirs(virt_fw_vars, SHARE / name)
    assert only(image).healthy
    assert only(image).ftw.verdict == "idle"
    if "_VARS.fd" not in name and "_4M.fd" not in name:
        assert len(found) > 20
        assert ("PK", str(guids.GLOBAL_VARIABLE)) in found


@pytest.mark.parametrize("name", ["AAVMF/AAVMF_VARS.fd", "AAVMF/AAVMF32_VARS.fd"])
def test_blank_templates_have_no_store(name):
    assert find_stores(template(name)) == []


def test_the_certificates_of_the_enrolled_template_are_named():
    store = only(template("OVMF/OVMF_VARS_4M.ms.fd")).store
    summaries = {
        record.name: decode(record.name, record.guid, record.data).summary
        for record in store.live
        if record.name in ("PK", "KEK", "db", "dbx")
    }
    assert summaries["db"] == (
        "Microsoft Windows Production PCA 2011; Microsoft Corporation UEFI CA 2011"
    )
    assert "Microsoft Corporation KEK CA 2011" in summaries["KEK"]
    assert summaries["PK"].startswith("Debian UEFI Secure Boot (PK/KEK key)")
    assert summaries["dbx"].endswith("x SHA-256")


@pytest.mark.parametrize(
    "name", ["OVMF/OVMF_VARS.fd", "OVMF/OVMF_VARS_4M.ms.fd", "AAVMF/AAVMF_VARS.ms.fd"]
)
def test_we_read_the_stores_it_writes(name, virt_fw_vars, tmp_path):
    target = tmp_path / "written.fd"
    template(name)
    virt_fw_vars(
        "-i", SHARE / name, "-o", target,
        "--enroll-redhat", "--sb", "--set-true", "SecureBootEnable",
        "--set-boot-uri", "https://boot.example/x.efi", "--set-shim-verbose",
    )  # fmt: skip
    found = ours(target.read_bytes())
    assert found == theirs(virt_fw_vars, target)
    assert only(target.read_bytes()).healthy
    values = {
        record.name: decode(record.name, record.guid, record.data)
        for record in only(target.read_bytes()).store.live
    }
    assert values["SecureBootEnable"].summary == "on"
    assert "Red Hat" in values["PK"].summary
    assert "Microsoft" in values["db"].summary
    uris = [
        value.facts["device_path"]
        for key, value in values.items()
        if key.startswith("Boot0") and value.kind == "load-option"
    ]
    assert any(text.endswith("Uri(https://boot.example/x.efi)") for text in uris)


@pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M, AAVMF_LAYOUT], ids=["2M", "4M", "AAVMF"])
def test_it_reads_the_stores_we_build(layout, virt_fw_vars, tmp_path):
    hashes = SignatureList(guids.CERT_SHA256, (Signature(GUID, bytes(32)),))
    records = [
        variable("Überall", bytes(range(200)), attributes=NV_BS | 4),
        variable("Empty", b"\0"),
        *(variable(f"V{index}", bytes([index]) * index) for index in range(1, 60)),
        variable("dbx", hashes.build(), guids.IMAGE_SECURITY, attributes=0x27),
    ]
    image = bytes(volume_bytes(records, layout))
    path = tmp_path / "built.fd"
    path.write_bytes(image)
    assert theirs(virt_fw_vars, path) == ours(image)
    assert len(ours(image)) == len(records)


@pytest.mark.parametrize(
    ("store", "code"),
    [("OVMF_VARS.ms.fd", "OVMF_CODE.secboot.fd"), ("OVMF_VARS_4M.ms.fd", "OVMF_CODE_4M.fd")],
    ids=["2M", "4M"],
)
@pytest.mark.parametrize("at", [0, 0xC00000], ids=["unified", "in a dump"])
def test_code_volumes_are_no_stores(store, code, at):
    image = b"\xff" * at + template(f"OVMF/{store}") + template(f"OVMF/{code}")
    found = only(image)
    assert found.base == at
    assert found.healthy
    assert len(found.store.live) == 31
    assert found.store.build() == image[found.store.base : found.store.end]
    assert find_stores(template(f"OVMF/{code}")) == []


def test_a_dump_of_16_mib_is_searched_as_it_does(virt_fw_vars, tmp_path):
    volume = template("OVMF/OVMF_VARS_4M.ms.fd")
    image = b"\xff" * 0x700000 + volume + b"\xff" * (0x900000 - len(volume))
    path = tmp_path / "dump.bin"
    path.write_bytes(image)
    assert theirs(virt_fw_vars, path) == ours(image) == ours(volume)


@pytest.mark.parametrize("order", ["suffix", "edk2"])
@pytest.mark.parametrize(
    "name", ["OVMF/OVMF_VARS.ms.fd", "OVMF/OVMF_VARS_4M.ms.fd", "AAVMF/AAVMF_VARS.ms.fd"]
)
def test_it_reads_what_our_changes_leave(name, order, virt_fw_vars, tmp_path):
    """Every kind of change on a real store, and a reclaim in the end."""
    path = tmp_path / "vars.fd"
    path.write_bytes(template(name))
    start = only(path.read_bytes())
    nvram = Nvram(start.window, start)
    services = VariableServices(nvram, order=order)
    services.set_variable("Timeout", guids.GLOBAL_VARIABLE, 7, b"\5\0")
    services.set_variable("Own", GUID, NV_BS, bytes(range(256)) * 8)
    services.set_variable("Own", GUID, NV_BS | 0x40, b"and more")
    services.set_variable("PK", guids.GLOBAL_VARIABLE, 0x27, b"", force=True)
    for number in range(40):
        services.set_variable("Often", GUID, NV_BS, bytes([number]) * 700)
    path.write_bytes(nvram.flash.window().data)
    assert theirs(virt_fw_vars, path) == ours(path.read_bytes())
    reclaim(nvram, order=order)
    path.write_bytes(nvram.flash.window().data)
    found = ours(path.read_bytes())
    assert theirs(virt_fw_vars, path) == found
    assert found["Own", str(GUID)] == (NV_BS, bytes(range(256)) * 8 + b"and more")
    assert found["Often", str(GUID)] == (NV_BS, bytes([39]) * 700)
    assert ("BootOrder", str(guids.GLOBAL_VARIABLE)) not in found
    before = {record.name for record in start.store.live}
    assert {key[0] for key in found} == (before - {"PK"}) | {"Own", "Often", "Timeout"}
