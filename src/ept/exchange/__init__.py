"""Prompts from and for other programs: one file a foreign format. Importing this package imports no torch."""
