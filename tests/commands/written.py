"""Files as a training writes them, without a training."""

import json

from ept.files import DIGESTS, sha256_file


def write_pack(pack):
    """Every file of a pack, with any content, and settings files with their digests."""
    for folder in (pack.prompts, pack.folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = [path for path in pack.files if path.parent == folder and path.name != "settings.json"]
        for path in files:
            path.write_text(json.dumps({"made": path.name}))
        settings = {"hash": pack.hash, DIGESTS: {path.name: sha256_file(path) for path in files}}
        (folder / "settings.json").write_text(json.dumps(settings))
