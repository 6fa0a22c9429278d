"""Colours of things, as they are named: red, green, blue."""

Color = tuple[int, int, int]
"""0 to 255 each."""
