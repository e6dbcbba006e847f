"""How bytes reach a chip: the `SpiBus` protocol and the programmers that satisfy it."""
