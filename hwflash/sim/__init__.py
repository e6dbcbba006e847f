"""Simulated hardware: a virtual clock, a SPI NOR die, and an FT232H seen from PyUSB."""
