"""Comparison methods that train inside the backbone: all of it, or small additions to its layers."""
