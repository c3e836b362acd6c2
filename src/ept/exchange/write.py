"""Write an adapter folder: complete, or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ept.errors import InputError
from ept.exchange.read import CONFIG_FILE
from ept.files import write_folder_atomically, write_json, write_sums
from ept.methods.prompt_file import SavedPrompt

# No program can take this for a model: brackets and blanks are forbidden in names on the hub.
UNNAMED = "<name of the base model>"


def base_model(prompt: SavedPrompt, backbone: str | None) -> dict[str, Any]:
    """What an adapter's configuration says of its base model.

    That is `backbone` where given, else what the folder said from which the prompt was imported, else the backbone that
    it was trained on, else a placeholder. It is an encoder-decoder unless the prompt says otherwise.
    """
    known = prompt.metadata.get("imported", {}).get("base_model", {})
    if backbone is not None and backbone != known.get("base_model_name_or_path"):
        # Layers and revision are another model's.
        known = {key: known[key] for key in ("task_type",) if key in known}
        known["base_model_name_or_path"] = backbone
    return {
        "base_model_name_or_path": prompt.metadata.get("backbone", UNNAMED),
        "revision": None,
        "num_layers": None,
        "num_attention_heads": None,
        "task_type": prompt.metadata.get("task_type", "SEQ_2_SEQ_LM"),
        **known,
    }


def write_adapter(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], save: Callable[[dict[str, Tensor], Path], None]
) -> None:
    """Write adapter_config.json, weights (by `save`, into the folder that it gets) and SHA256SUMS as one new folder.

    Raises InputError where there is something at `folder` already, or nothing can be written there.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} exists already; name a new folder with --to, or remove that one")
    try:
        with write_folder_atomically(folder) as temporary:
            write_json(temporary / CONFIG_FILE, dict(sorted(config.items())))
            save({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
            write_sums(temporary)
    except OSError as error:
        raise InputError(
            f"cannot write the folder {folder} ({error.strerror or error}); name another with --to"
        ) from error
