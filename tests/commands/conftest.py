"""Fixtures of prompts at random weights."""

from random_prompts import model, prompt_files, save_random_prompt, texts  # noqa: F401
