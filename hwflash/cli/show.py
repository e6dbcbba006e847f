"""Chips, plans and results as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hwflash.units import Range, format_hz, format_seconds, format_size, merge_ranges


def chip_lines(keys: Mapping[str, Any]) -> list[str]:
    """What a chip is; ``keys`` as `hwflash.jobs.describe.chip_keys` gives them."""
    blocks = ", ".join(
        f"{format_size(block['size'])} ({block['opcode']:02X}h, "
        f"{format_seconds(block['typical_seconds'])})"
        for block in keys["erase_blocks"]
    )
    lines = [
        f"{keys['manufacturer']} {keys['part']}",
        f"  JEDEC id      {keys['jedec_id']}",
        f"  size          {format_size(keys['size'])}",
        f"  programs      {keys['words']['programming']}",
        f"  erase blocks  {blocks}",
    ]
    if len(keys["erase_regions"]) > 1:
        lines += [
            f"    {Range(region['address'], region['length'])}: "
            + ", ".join(format_size(size) for size in region["sizes"])
            for region in keys["erase_regions"]
        ]
    lines.append(f"  erase map     {keys['words']['erase']}")
    lines.append(f"  addresses     {keys['words']['addressing']}")
    if keys["dies"]["count"] > 1:
        lines.append(f"  dies          {keys['words']['dies']}")
    if keys["voltage"]:
        lines.append(f"  supply        {keys['voltage'][0]:g} to {keys['voltage'][1]:g} V")
    if keys["sfdp"]:
        names = ", ".join(table["name"] for table in keys["sfdp"]["tables"])
        lines.append(f"  SFDP          {keys['sfdp']['revision']}: {names}")
        lines += [f"    note: {note['text']}" for note in keys["sfdp"]["notes"]]
    else:
        lines.append("  SFDP          none")
    lines.append(f"  known from    {keys['source']}")
    if keys["quirks"]:
        lines.append(f"  quirks        {', '.join(keys['quirks'])}")
    if keys["datasheet"]:
        lines.append(f"  data sheet    {keys['datasheet']}")
    return lines


def probe_lines(keys: Mapping[str, Any]) -> list[str]:
    """What ``probe`` found."""
    lines = chip_lines(keys)
    if keys["also"]:
        lines.append(f"  same id       {', '.join(keys['also'])}")
    if keys["unique_id"]:
        lines.append(f"  unique id     {keys['unique_id']}")
    registers = " ".join(f"SR{number}={value:02X}h" for number, value in keys["registers"].items())
    lines.append(f"  status        {registers}")
    lines.append(f"  protection    {keys['protection']['summary']}")
    lines.append(f"  programmer    {keys['programmer']} at {format_hz(keys['frequency'])}")
    return lines


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """A plan; ``plan`` as `hwflash.flash.plan.Plan.as_dict` gives it."""
    steps = plan["steps"]
    if not steps:
        return ["plan: nothing to do, the chip holds this already"]
    erases = [step for step in steps if step["kind"] == "erase"]
    programs = [step for step in steps if step["kind"] == "program"]
    lines = [f"plan for {plan['part']}, about {format_seconds(plan['seconds'])}:"]
    for size in sorted({step["length"] for step in erases}):
        blocks = [_range(step) for step in erases if step["length"] == size]
        lines.append(
            f"  erase    {len(blocks)} x {format_size(size)}: " + places_text(merge_ranges(blocks))
        )
    if programs:
        total = sum(step["length"] for step in programs)
        # A few FF bytes between two runs are not worth a line of their own.
        places = merge_ranges([_range(step) for step in programs], gap=256)
        lines.append(f"  program  {format_size(total)}: " + places_text(places))
    return lines


def places_text(places: Iterable[Range], most: int = 4) -> str:
    """A few ranges in words, and how many more there are."""
    found = list(places)
    text = ", ".join(map(str, found[:most]))
    return text + (f" and {len(found) - most} more" if len(found) > most else "")


def _range(step: Mapping[str, Any]) -> Range:
    return Range(step["address"], step["length"])
