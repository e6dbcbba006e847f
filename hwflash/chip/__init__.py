"""What a chip is: opcodes, SFDP, status registers, protection, timings, the catalog.

Pure: bytes in, objects out, no I/O on hardware.
"""
