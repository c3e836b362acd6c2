"""Prompt methods: what is learned at the input of a frozen backbone, for many runs at once.

A prompt is three independent things: a module that makes it (one file a method), an initialiser
(`initialise.py`) and its combination with the text (`combine.py`). `build.py` makes a pack of any method. Importing
this package imports no torch.
"""
