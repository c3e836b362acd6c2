"""Frozen backbones: loading, identity, download, and the attachment point of prompts."""
