"""The simulated reference: what QEMU is given, in every dialect, and what it makes of it.

Nothing here prints or runs a program; `machine` describes, the other modules translate.
"""
