"""The simulated reference: what QEMU is given, in every dialect, and what firmware makes of it.

`machine` describes, `args` and `libvirt` translate, `boot` runs it and talks to it, `check` asks
it about what we wrote.
"""
