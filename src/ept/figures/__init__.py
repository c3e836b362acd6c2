"""Figures of a finished experiment. One figure is one small module with `draw`, and one entry in registry.py."""
