"""``hwflash keys``: the Secure Boot databases PK, KEK, db and dbx, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner
from hwflash.cli.stores import (
    GUID,
    edit_options,
    edit_outcome,
    edit_store,
    read,
    source_options,
)
from hwflash.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from hwflash.jobs.uefi_edit import EditOptions
    from hwflash.uefi.enrolment import KeyChange, KeyStore
    from hwflash.uefi.nvram import Nvram

_DATABASE = click.Choice(["PK", "KEK", "db", "dbx", "dbt", "dbr"], case_sensitive=False)
#: hwflash itself, as the owner of what it enrols when nobody else is named.
OWNER = "b4a0f3a1-52f5-4b43-9c0e-27d3c3f0a8d6"


@click.group("keys")
def command() -> None:
    """List, enrol and remove Secure Boot keys in the variable store of SOURCE.

    An offline edit needs no signature: it goes past the check that firmware would make.
    """


@command.command("list")
@source_options
@runner.command("keys list")
def list_(
    run: runner.Run, source: str, store: int | None, full: bool, **options: Any
) -> runner.Outcome:
    """List the entries of all databases, and what firmware makes of them."""
    from hwflash.jobs.uefi_edit import one_store
    from hwflash.jobs.uefi_export import store_of
    from hwflash.jobs.uefi_keys import database_keys
    from hwflash.jobs.uefi_others import one_other
    from hwflash.uefi.enrolment import KeyStore

    reading, chip = read(run, source, options, full, others=True)
    other = one_other(reading.others, store, usual=bool(reading.found))
    if other is not None:
        keys = KeyStore.found_by(other.find)
    else:
        keys = KeyStore.of(store_of(one_store(reading, store)))
    databases = database_keys(keys)
    lines: list[str] = []
    for item in databases:
        stamp = f", time stamp {item['timestamp']}" if item["timestamp"] else ""
        lines.append(f"{item['name']}: {len(item['entries'])} entries{stamp}")
        if item["fault"]:
            lines.append(f"  damaged: {item['fault']}")
        for entry in item["entries"]:
            lines.append(f"  {entry['index']:>3}  {entry['title']}")
            if entry["subject"]:
                lines += [
                    f"       issued by {entry['issuer']}",
                    f"       valid {entry['not_before']} to {entry['not_after']}",
                    f"       fingerprint {entry['fingerprint']}",
                ]
    # What other firmware makes of them, and where it keeps its switches, is its own affair.
    state = keys.state if other is None else ()
    lines += [f"state: {text}" for text in state]
    facts = {"databases": databases, "setup_mode": keys.setup_mode, "state": list(state)}
    return runner.Outcome(facts | chip, lines)


@command.command("enroll")
@edit_options
@click.argument("database", type=_DATABASE)
@click.option("--certificate", type=params.PATH, help="X.509 certificate, DER or PEM.")
@click.option("--sha256", metavar="HASH", help="SHA-256 of an image, in hexadecimal digits.")
@click.option("--image", type=params.PATH, help="UEFI program whose hash is to be enrolled.")
@click.option("--lists", type=params.PATH, help="Signature lists, such as an .esl file.")
@click.option("--owner", type=GUID, default=OWNER, help="Who enrols it. Default: hwflash.")
@click.option("--replace", is_flag=True, help="Remove all other entries of the database.")
@runner.command("keys enroll")
def enroll(
    run: runner.Run,
    source: str,
    database: str,
    certificate: Path | None,
    sha256: str | None,
    image: Path | None,
    lists: Path | None,
    owner: UUID,
    replace: bool,
    **options: Any,
) -> runner.Outcome:
    """Add a certificate, the hash of a program, or signature lists to DATABASE."""
    from hwflash.jobs.uefi_keys import load_file, now
    from hwflash.uefi import enrolment
    from hwflash.uefi.authenticode import image_sha256
    from hwflash.uefi.values import from_hex

    if sum(word is not None for word in (certificate, sha256, image, lists)) != 1:
        raise UsageError(
            "enroll takes one of --certificate, --sha256, --image and --lists",
            code="usage.selection",
        )
    if replace and (sha256 is not None or image is not None):
        raise UsageError("--replace goes with a certificate or lists", code="usage.selection")
    moment = now()
    file = certificate or image or lists
    content = load_file(file) if file is not None else from_hex(sha256 or "")
    if image is not None:
        content = image_sha256(content)

    def made(keys: KeyStore) -> KeyChange:
        if certificate is not None:
            return enrolment.enrol_certificate(
                keys, database, content, owner, moment, replacing=replace
            )
        if lists is not None:
            return enrolment.enrol_lists(keys, database, content, moment, replacing=replace)
        return enrolment.enrol_hash(keys, database, content, owner, moment)

    return _change(run, source, options, made)


@command.command("remove")
@edit_options
@click.argument("database", type=_DATABASE)
@click.argument("entry", required=False)
@click.option("--all", "every", is_flag=True, help="Delete the whole database.")
@runner.command("keys remove")
def remove(
    run: runner.Run,
    source: str,
    database: str,
    entry: str | None,
    every: bool,
    **options: Any,
) -> runner.Outcome:
    """Remove ENTRY from DATABASE: its number, the start of its fingerprint, or its subject."""
    from hwflash.jobs.uefi_keys import now
    from hwflash.uefi import enrolment

    if (entry is None) != every:
        raise UsageError("name one entry, or --all", code="usage.selection")
    moment = now()

    def made(keys: KeyStore) -> KeyChange:
        if entry is None:
            return enrolment.clear(keys, database, moment)
        return enrolment.remove(keys, database, entry, moment)

    return _change(run, source, options, made)


@command.command("update")
@edit_options
@click.argument("database", type=_DATABASE)
@click.argument("file", type=params.PATH)
@click.option("--force", is_flag=True, help="Take it even if the firmware would not.")
@runner.command("keys update")
def update(
    run: runner.Run, source: str, database: str, file: Path, force: bool, **options: Any
) -> runner.Outcome:
    """Apply a signed update to DATABASE, such as dbxupdate.bin or an .auth file.

    The signature is checked as the firmware would check it, and what it found is said.
    """
    from hwflash.jobs.uefi_keys import load_file
    from hwflash.uefi import enrolment
    from hwflash.uefi.authenticated import parse_update

    signed = parse_update(load_file(file))

    def made(keys: KeyStore) -> KeyChange:
        return enrolment.apply_signed(keys, database, signed, force=force)

    return _change(run, source, options, made)


def _change(
    run: runner.Run, source: str, options: dict[str, Any], made: Callable[[KeyStore], KeyChange]
) -> runner.Outcome:
    from hwflash.jobs.uefi_keys import change_keys, report_keys

    def change(nvram: Nvram, how: EditOptions) -> KeyChange:
        return change_keys(nvram, made, how.order)

    edited, keys = edit_store(run, source, options, change)
    done = edited.value
    keys |= {
        "database": done.name,
        "added": done.added,
        "removed": done.removed,
        "notes": list(done.notes),
        "signature": report_keys(done.report) if done.report is not None else None,
    }
    text = f"{done.name}: {done.added} entries added, {done.removed} removed"
    return edit_outcome(edited, keys, text, tuple(f"note: {note}" for note in done.notes))
