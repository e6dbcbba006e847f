"""Differences between two flash contents as data: bytes, regions, modules, variables.

Pure on bytes and on what `hwflash.layout` and `hwflash.uefi` make of them, except that modules are
unpacked in a process of their own, see `hwflash.compare.unpack`.
"""
