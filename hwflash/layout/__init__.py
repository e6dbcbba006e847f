"""Where things are in an image: regions, descriptors, maps, and the files images come in.

Pure: bytes and files in, objects out. Nothing here knows a chip or a bus.
"""
