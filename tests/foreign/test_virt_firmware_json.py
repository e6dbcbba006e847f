"""Variables go to virt-firmware and come back from it as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from foreign.test_virt_firmware import (
    SHARE,
    TEMPLATES,
    Program,
    only,
    template,
    virt_fw_vars,
)
from uefi.volumes import GUID, NV_BS, OTHER

from hwflash.errors import ImageError
from hwflash.uefi import guids
from hwflash.uefi.difference import compare
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.exchange import (
    Variable,
    export_json,
    export_virt_firmware,
    import_json,
    variables_of,
    virt_firmware_losses,
)
from hwflash.uefi.values import boot_entry, from_integer, from_string

pytestmark = pytest.mark.foreign
__all__ = ["virt_fw_vars"]

ENROLLED = "OVMF/OVMF_VARS_4M.ms.fd"
BLANK = "OVMF/OVMF_VARS_4M.fd"
TIME = EfiTime(2025, 3, 10, 2, 53, 39)


def their_json(virt_fw_vars: Program, image: Path, target: Path) -> str:
    virt_fw_vars("-i", image, "--output-json", target)
    return target.read_text()


def with_json(virt_fw_vars: Program, content: str, folder: Path) -> list[Variable]:
    """What we find in a store that it filled from this file."""
    template(BLANK)
    (folder / "in.json").write_text(content)
    virt_fw_vars("-i", SHARE / BLANK, "--set-json", folder / "in.json", "-o", folder / "out.fd")
    found = only((folder / "out.fd").read_bytes())
    assert found.healthy
    return variables_of(found.store)


@pytest.mark.parametrize("name", TEMPLATES)
def test_we_read_its_json_of_the_templates_of_debian(name, virt_fw_vars, tmp_path):
    image = template(name)
    found = import_json(their_json(virt_fw_vars, SHARE / name, tmp_path / "out.json"))
    ours = variables_of(only(image).store)
    assert sorted(found, key=lambda item: item.key) == sorted(ours, key=lambda item: item.key)
    assert compare(only(image).store, found).equal


def test_its_json_holds_attributes_and_times(virt_fw_vars, tmp_path):
    template(ENROLLED)
    text = their_json(virt_fw_vars, SHARE / ENROLLED, tmp_path / "out.json")
    found = {item.key: item for item in import_json(text)}
    database = found["db", guids.IMAGE_SECURITY]
    assert (database.attributes, database.timestamp) == (0x27, TIME)
    assert found["PlatformLang", guids.GLOBAL_VARIABLE].data == b"en\0"
    assert found["PlatformLang", guids.GLOBAL_VARIABLE].timestamp.is_zero
    assert len(found) == 31


def test_our_json_in_its_form_is_the_same_as_its_own(virt_fw_vars, tmp_path):
    store = only(template(ENROLLED)).store
    own = json.loads(their_json(virt_fw_vars, SHARE / ENROLLED, tmp_path / "out.json"))
    ours = json.loads(export_virt_firmware(store))
    assert ours["version"] == own["version"]
    assert {item["name"]: item for item in ours["variables"]} == {
        item["name"]: item for item in own["variables"]
    }


def test_it_takes_our_json(virt_fw_vars, tmp_path):
    store = only(template(ENROLLED)).store
    found = with_json(virt_fw_vars, export_virt_firmware(store), tmp_path)
    assert compare(store, found).equal
    assert len(found) == 31


def test_it_takes_variables_that_were_made_here(virt_fw_vars, tmp_path):
    path = r"HD(1,GPT,00112233-4455-6677-8899-AABBCCDDEEFF,0x800,0x32000)/\EFI\x.efi"
    entry = boot_entry("Linux ü", path, optional_data=b"quiet")
    items = [
        Variable("Boot0007", guids.GLOBAL_VARIABLE, 7, entry),
        Variable("BootOrder", guids.GLOBAL_VARIABLE, 7, from_integer("7", 16)),
        Variable("PlatformLang", guids.GLOBAL_VARIABLE, 7, from_string("de")),
        Variable("Überall \U0001f600", GUID, NV_BS, bytes(range(256))),
        Variable("Timed", GUID, 0x27, b"x", EfiTime(1998, 12, 31, 23, 59, 59)),
    ]
    assert virt_firmware_losses(items) == ()
    found = with_json(virt_fw_vars, export_virt_firmware(items), tmp_path)
    assert compare(items, found).equal


def test_what_it_loses_is_told(virt_fw_vars, tmp_path):
    kept = Variable("Kept", GUID, 0x27, b"x", TIME)
    later = Variable("Later", GUID, 0x27, b"x", replace(TIME, nanosecond=5))
    twice = [Variable("Twice", owner, NV_BS, b"x") for owner in (GUID, OTHER)]
    items = [kept, later, *twice]
    found = compare(items, with_json(virt_fw_vars, export_virt_firmware(items), tmp_path))
    assert [item.name for item in found.only_left] == ["Twice"]
    assert [(item.left.name, item.what) for item in found.changed] == [("Later", ("timestamp",))]
    told = virt_firmware_losses(items)
    assert [next(name for name in ("Kept", "Later", "Twice") if name in text) for text in told] == [
        "Later",
        "Twice",
    ]


@pytest.mark.parametrize(
    "item",
    [
        Variable("\ud800", GUID, NV_BS, b"x"),
        Variable("Odd", GUID, 0x27, b"x", replace(TIME, month=13)),
    ],
    ids=["surrogate", "no date"],
)
def test_what_it_refuses_is_told(item, virt_fw_vars, tmp_path):
    assert len(virt_firmware_losses([item])) == 1
    with pytest.raises(AssertionError, match="Error"):
        with_json(virt_fw_vars, export_virt_firmware([item]), tmp_path)


def test_its_reading_of_a_store_filled_by_it_comes_back_in_our_form(virt_fw_vars, tmp_path):
    store = only(template(ENROLLED)).store
    with_json(virt_fw_vars, export_virt_firmware(store), tmp_path)
    back = import_json(their_json(virt_fw_vars, tmp_path / "out.fd", tmp_path / "out.json"))
    assert export_json(back) == export_json(store)


def test_a_damaged_file_of_it_is_refused_with_its_place(virt_fw_vars, tmp_path):
    template(ENROLLED)
    text = their_json(virt_fw_vars, SHARE / ENROLLED, tmp_path / "out.json")
    content = json.loads(text)
    content["variables"][3]["data"] += "x"
    with pytest.raises(ImageError) as caught:
        import_json(json.dumps(content))
    assert caught.value.context["path"] == "variables[3].data"
    with pytest.raises(ImageError, match="no JSON"):
        import_json(text[: len(text) // 2])


def test_templates_with_other_keys_differ_in_their_certificates():
    found = compare(
        only(template(ENROLLED)).store, only(template("OVMF/OVMF_VARS_4M.snakeoil.fd")).store
    )
    changes = {item.left.name: item for item in found.changed}
    assert changes["PK"].what[-1] == "data"
    (added,), (removed,) = changes["PK"].added, changes["PK"].removed
    assert "CN=Debian UEFI Secure Boot (PK/KEK key)" in removed
    assert "Snakeoil" in added or "snakeoil" in added.lower()
    assert len(changes["db"].added) == 1
