"""The flash model: everything that holds firmware bytes is a flash device."""
