"""The backbone's tokenizer, made ready to encode whole texts."""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from ept.errors import InputError

END, PAD = "</s>", "<pad>"
# A character for private use, which no vocabulary holds.
UNKNOWN = "\ue000"


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a backbone's folder: every text whole, without padding, with `</s>` at its end.

    Raises InputError where `</s>` or `<pad>` is unknown, and for what `read_tokenizer` refuses.
    """
    folder = Path(folder)
    tokenizer = read_tokenizer(folder)
    for piece in (END, PAD):
        if tokenizer.token_to_id(piece) is None:
            raise InputError(f"{folder}: the tokenizer does not know {piece}; use that of a T5 model")
    tokenizer.post_processor = TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return tokenizer


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a backbone's folder: every text whole, without padding.

    From tokenizer.json (whose own truncation and padding are switched off: T5's cuts at 20 pieces), or else
    from spiece.model. Raises InputError where neither is there or can be read, or where it has no piece for what it
    does not know.
    """
    tokenizer = _read(folder)
    try:
        tokenizer.encode(UNKNOWN)
    except Exception as error:  # the library raises bare Exception
        raise InputError(
            f"{folder}: the tokenizer cannot encode unknown characters ({error}); copy the model's again"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for a file that it cannot parse
            raise InputError(f"{path}: this is no tokenizer ({error}); copy the model's again") from error
    if (folder / "spiece.model").is_file():
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
        except Exception as error:  # transformers and protobuf raise many kinds
            raise InputError(
                f"{folder / 'spiece.model'}: this is no tokenizer of config.json's model; copy the model's again, or "
                "its tokenizer.json"
            ) from error
    raise InputError(f"{folder}: there is no tokenizer.json and no spiece.model; copy the model's there")
