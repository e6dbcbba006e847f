"""What the bytes of UEFI firmware mean: volumes, variable stores, fault-tolerant writes.

Pure: bytes in, objects out, and back. Every offset is an offset in the image.
"""
