from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import ReferenceFailed, UsageError
from hwflash.qemu.autoselect import (
    choose,
    machine_for,
    make_wish,
    match,
    mismatches,
    wish_of,
)
from hwflash.qemu.descriptors import (
    FILE_LIMIT,
    Folder,
    parse_descriptor,
    read_folders,
    usual_folders,
)
from hwflash.qemu.libvirt import from_xml, to_auto_xml
from hwflash.qemu.machine import FlashFile


class Store:
    """Three folders, and firmware files that exist."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = tuple(
            Folder(origin, root / origin) for origin in ("distribution", "system", "user")
        )
        for folder in self.folders:
            folder.path.mkdir()

    def file(self, name: str) -> str:
        path = self.root / name
        path.write_bytes(b"firmware")
        return str(path)

    def put(self, folder: str, name: str, **change: object) -> Path:
        content = {
            "description": name,
            "interface-types": ["uefi"],
            "mapping": self.flash(f"{folder}-{name}"),
            "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
            "features": [],
            "tags": [],
            **change,
        }
        path = self.root / folder / name
        path.write_text(json.dumps(content))
        return path

    def flash(self, name: str, **change: object) -> dict[str, object]:
        return {
            "device": "flash",
            "executable": {"filename": self.file(f"{name}.code"), "format": "raw"},
            "nvram-template": {"filename": self.file(f"{name}.vars"), "format": "raw"},
            **change,
        }

    @property
    def entries(self):
        return read_folders(self.folders)

    def chosen(self, **wish: object) -> str:
        entry, _ = choose(self.entries, make_wish(**wish))
        return f"{entry.origin}/{entry.name}"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_the_order_is_that_of_names_whatever_the_folder(store):
    for folder, name in [("distribution", "50-a.json"), ("system", "60-b.json"),
                         ("user", "5-c.json"), ("system", "40-d.json"),
                         ("distribution", "50-B.json"), ("user", "é.json")]:  # fmt: skip
        store.put(folder, name)
    assert [entry.name for entry in store.entries] == [
        "40-d.json", "5-c.json", "50-B.json", "50-a.json", "60-b.json", "é.json",
    ]  # fmt: skip
    assert store.chosen() == "system/40-d.json"


def test_the_more_specific_folder_overrides_a_name(store):
    store.put("distribution", "50-a.json", features=["acpi-s3"])
    store.put("user", "50-a.json")
    first, second = store.entries
    assert (first.origin, first.state) == ("user", "read")
    assert (second.origin, second.state) == ("distribution", "overridden")
    assert str(first.file) in second.reason
    assert store.chosen() == "user/50-a.json"
    with pytest.raises(ReferenceFailed):
        store.chosen(wanted=["acpi-s3"])  # only the overridden one has it


@pytest.mark.parametrize("folder", ["system", "user"])
def test_an_empty_file_masks_a_name(store, folder):
    store.put("distribution", "50-a.json")
    store.put("distribution", "60-b.json")
    (store.root / folder / "50-a.json").touch()
    states = [(entry.origin, entry.state) for entry in store.entries]
    assert states == [(folder, "mask"), ("distribution", "masked"), ("distribution", "read")]
    assert store.chosen() == "distribution/60-b.json"


def test_a_mask_is_lifted_by_a_more_specific_file(store):
    store.put("distribution", "50-a.json")
    (store.root / "system" / "50-a.json").touch()
    store.put("user", "50-a.json")
    assert store.chosen() == "user/50-a.json"


def test_a_broken_file_overrides_too_and_is_skipped(store):
    store.put("distribution", "50-a.json")
    store.put("distribution", "60-b.json")
    (store.root / "user" / "50-a.json").write_text("{")
    assert store.chosen() == "distribution/60-b.json"
    assert [entry.state for entry in store.entries] == ["broken", "overridden", "read"]


def test_only_json_files_count_and_a_missing_folder_is_empty(store):
    (store.root / "user" / "readme.txt").write_text("x")
    (store.root / "user" / "50-a.json").mkdir()
    (store.root / "system").rmdir()
    [entry] = store.entries
    assert (entry.state, "directory" in entry.reason) == ("broken", True)


def test_the_usual_folders(tmp_path):
    found = usual_folders({"HOME": "/home/me"}, tmp_path)
    assert [folder.path for folder in found] == [
        tmp_path / "usr/share/qemu/firmware", tmp_path / "etc/qemu/firmware",
        Path("/home/me/.config/qemu/firmware"),
    ]  # fmt: skip
    for value, path in (("/x", "/x/qemu/firmware"), ("x", "/h/.config/qemu/firmware")):
        found = usual_folders({"HOME": "/h", "XDG_CONFIG_HOME": value})
        assert found[-1].path == Path(path)


# --- matching -------------------------------------------------------------------------------


def test_features_wanted_and_unwanted(store):
    store.put("distribution", "40.json", features=["secure-boot", "enrolled-keys", "requires-smm"])
    store.put("distribution", "50.json", features=["secure-boot", "requires-smm"])
    store.put("distribution", "60.json", features=["acpi-s3", "a-feature-of-tomorrow"])
    assert store.chosen() == "distribution/40.json"
    assert (
        store.chosen(wanted=["secure-boot"], unwanted=["enrolled-keys"]) == "distribution/50.json"
    )
    assert store.chosen(unwanted=["secure-boot"]) == "distribution/60.json"
    assert store.chosen(smm=False) == "distribution/60.json"
    assert store.chosen(wanted=["acpi-s3"]) == "distribution/60.json"
    verdicts = match(store.entries, make_wish(unwanted=["enrolled-keys"], wanted=["acpi-s3"]))
    assert [(item.chosen, item.fits, item.reasons) for item in verdicts] == [
        (False, False, ("it has no acpi-s3", "it has enrolled-keys")),
        (False, False, ("it has no acpi-s3",)),
        (True, True, ()),
    ]


def test_one_that_fits_and_comes_later(store):
    store.put("distribution", "40.json")
    store.put("distribution", "50.json")
    assert [item.reasons for item in match(store.entries, make_wish())] == [
        (), ("40.json comes first",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"architecture": "aarch64", "machine": "virt"}, "it is not for aarch64"),
        ({"machine": "pc"}, "it is for machines pc-q35-*, not pc-i440fx-7.2"),
        ({"machine": "microvm"}, "it is for machines pc-q35-*, not microvm"),
        ({"interface": "bios"}, "its interface is uefi"),
    ],
)
def test_another_machine(store, wish, reason):
    store.put("distribution", "50.json")
    [verdict] = match(store.entries, make_wish(**wish))
    assert verdict.reasons == (reason,)
    with pytest.raises(ReferenceFailed) as caught:
        choose(store.entries, make_wish(**wish))
    assert caught.value.code == "qemu.no-firmware"
    assert caught.value.exit_code == 8
    [fault] = caught.value.context["faults"]
    assert reason in fault


def test_globs_are_of_concrete_names(store):
    targets = [
        {"architecture": "i386", "machines": ["pc-q35-*"]},
        {"architecture": "x86_64", "machines": ["pc-i440fx-[23].?", "pc-q35-7.2"]},
    ]
    store.put("distribution", "50.json", targets=targets)
    assert store.chosen(machine="q35"), "the alias stands for its concrete type"
    assert store.chosen(machine="pc-i440fx-2.9")
    for machine in ("pc-q35-7.1", "pc-i440fx-4.0", "PC-Q35-7.2"):
        with pytest.raises(ReferenceFailed):
            store.chosen(machine=machine)


@pytest.mark.parametrize("which", ["code", "vars"])
def test_a_file_that_does_not_exist(store, which):
    store.put("distribution", "50.json")
    missing = store.root / f"distribution-50.json.{which}"
    missing.unlink()
    [verdict] = match(store.entries, make_wish())
    assert verdict.reasons == (f"{missing} does not exist",)


def test_a_name_too_long_for_any_file_system_does_not_exist(store):
    executable = {"filename": "/" + "x" * 5000, "format": "raw"}
    store.put("distribution", "50.json", mapping=store.flash("a", executable=executable))
    [verdict] = match(store.entries, make_wish())
    assert "does not exist" in verdict.reasons[0]


def test_firmware_that_is_no_flash(store):
    mapping = {"device": "memory", "filename": store.file("bios.bin")}
    store.put("distribution", "50.json", mapping=mapping, **{"interface-types": ["bios"]})
    [verdict] = match(store.entries, make_wish(interface="bios"))
    assert verdict.reasons == ("it is mapped as memory, not into flash",)


@pytest.mark.parametrize(
    "features",
    [
        {"wanted": ["no-such"]},
        {"unwanted": ["SECURE-BOOT"]},
        {"wanted": ["acpi-s3"], "unwanted": ["acpi-s3"]},
    ],
)
def test_a_wish_that_makes_no_sense(features):
    with pytest.raises(UsageError) as caught:
        make_wish(**features)
    assert caught.value.code == "usage.qemu-feature"


# --- reading --------------------------------------------------------------------------------

GOOD = {
    "description": "d", "interface-types": ["uefi"], "targets": [], "features": [],
    "mapping": {"device": "flash", "executable": {"filename": "/c", "format": "raw"},
                "nvram-template": {"filename": "/v", "format": "qcow2"}},
}  # fmt: skip


def test_what_a_descriptor_says():
    found = parse_descriptor(json.dumps(GOOD).encode())
    assert (found.mode, found.files) == ("split", ("/c", "/v"))
    assert found.template == FlashFile("/v", "qcow2", readonly=True)
    assert found.executable.readonly


@pytest.mark.parametrize(("mode", "readonly"), [("combined", False), ("stateless", True)])
def test_modes_without_a_template(mode, readonly):
    mapping = {"device": "flash", "mode": mode, "executable": GOOD["mapping"]["executable"]}
    found = parse_descriptor(json.dumps(GOOD | {"mapping": mapping}).encode())
    assert (found.mode, found.template, found.executable.readonly) == (mode, None, readonly)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mapping": None}, "mapping is missing"),
        ({"mapping": {"device": "tape"}}, "'tape' is not known"),
        ({"mapping": {"device": "flash", "mode": "loose"}}, "'loose' is none of"),
        ({"mapping": {"device": "flash"}}, "mapping.executable is missing"),
        ({"mapping": GOOD["mapping"] | {"nvram-template": {"filename": 7}}}, "template.filename"),
        ({"mapping": GOOD["mapping"] | {"executable": {"filename": "a\0", "format": "raw"}}},
         r"U\+0000"),
        ({"mapping": GOOD["mapping"] | {"executable": {"filename": "a", "format": "a,b"}}},
         "no image format"),
        ({"mapping": {"device": "kernel"}}, "mapping.filename"),
        ({"targets": {}}, "targets is missing or no list"),
        ({"targets": [{"architecture": "x86_64"}]}, r"targets\[0\].machines"),
        ({"features": ["a", 1]}, r"features\[1\]"),
        ({"interface-types": "uefi"}, "interface-types"),
        ({"description": 1}, "description"),
    ],
)  # fmt: skip
def test_what_is_no_descriptor(change, reason):
    with pytest.raises(ValueError, match=reason):
        parse_descriptor(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_hostile_content(content):
    with pytest.raises(ValueError):
        parse_descriptor(content)


def test_a_file_that_is_too_large(store):
    (store.root / "user" / "50.json").write_bytes(b" " * (FILE_LIMIT + 1))
    [entry] = store.entries
    assert entry.reason == "is larger than 1 MiB"


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*GOOD, *GOOD["mapping"], "filename", "format"]), inner),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_read_or_refused(value):
    try:
        parse_descriptor(json.dumps(value).encode())
    except ValueError:
        return


# --- machines -------------------------------------------------------------------------------


def test_a_machine_for_each_mode(store):
    store.put("distribution", "10.json", features=["secure-boot", "requires-smm"])
    _, described = choose(store.entries, make_wish())
    machine = machine_for(described, make_wish(), "/guest/vars.fd")
    assert (machine.mode, machine.secure, machine.smm) == ("split", True, True)
    assert machine.template == described.template
    assert machine.vars == FlashFile("/guest/vars.fd")
    assert machine_for(described, make_wish(), None).mode == "stateless"

    store.put("distribution", "05.json", mapping=store.flash("one", mode="combined"))
    _, described = choose(store.entries, make_wish())
    machine = machine_for(described, make_wish(), "/guest/all.fd")
    assert (machine.mode, machine.code) == ("combined", FlashFile("/guest/all.fd"))
    assert machine.template == FlashFile(described.executable.path, readonly=True)
    with pytest.raises(UsageError):
        machine_for(described, make_wish(), None)

    store.put("distribution", "01.json", mapping=store.flash("none", mode="stateless"))
    _, described = choose(store.entries, make_wish())
    assert machine_for(described, make_wish(), None).mode == "stateless"
    with pytest.raises(UsageError):
        machine_for(described, make_wish(), "/guest/vars.fd")


def test_secure_boot_without_smm_leaves_the_flash_open(store):
    store.put("distribution", "10.json", features=["secure-boot"])
    _, described = choose(store.entries, make_wish())
    assert not machine_for(described, make_wish(), "/v").secure


FEATURE_SETS = {
    "40.json": ["secure-boot", "enrolled-keys", "requires-smm"],
    "50.json": ["secure-boot", "requires-smm"],
    "60.json": ["acpi-s3"],
}


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_from_files_to_a_wish_to_xml_and_back_to_the_same_files(store, name):
    for each, features in FEATURE_SETS.items():
        store.put("distribution", each, features=features)
    [entry] = [entry for entry in store.entries if entry.name == name]
    machine = machine_for(entry.descriptor, make_wish(), "/guest/vars.fd")
    wish = from_xml(to_auto_xml(wish_of(machine, store.entries)))
    again, described = choose(store.entries, wish)
    assert again == entry
    assert machine_for(described, wish, "/guest/vars.fd") == machine


def test_files_that_no_wish_leads_to(store):
    store.put("distribution", "50.json")
    store.put("distribution", "60.json")
    first, second = store.entries
    machine = machine_for(second.descriptor, make_wish(), "/v")
    with pytest.raises(ReferenceFailed, match=r"would take 50\.json") as caught:
        wish_of(machine, store.entries)
    assert caught.value.code == "qemu.other-firmware"
    with pytest.raises(ReferenceFailed) as caught:
        wish_of(machine, [first])
    assert caught.value.code == "qemu.no-descriptor"


def test_mismatches_are_all_told(store):
    store.put("distribution", "50.json", targets=[], features=["requires-smm"])
    [entry] = store.entries
    wish = make_wish(interface="bios", wanted=["acpi-s4"], smm=False)
    assert len(mismatches(entry.descriptor, wish)) == 4
