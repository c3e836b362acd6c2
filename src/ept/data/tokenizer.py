"""The backbone's tokenizer, made ready to encode whole texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from ept.backbones.families import family_of
from ept.backbones.files import read_config
from ept.errors import InputError
from ept.tasks.record import Task

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


@dataclass(frozen=True)
class Pieces:
    """A source is `front`, the text and `back`; a label is the text as it reads behind `cue`, and the end piece.

    A text that is too long is cut at its end; `front` and `back` stay.
    """

    tokenizer: Tokenizer
    front: list[int]
    back: list[int]
    cue: str
    end_id: int
    pad_id: int

    def sources(self, texts: Sequence[str], length: int) -> tuple[list[list[int]], int]:
        """The pieces of each text, at most `length` with `front` and `back`, and how many texts were cut."""
        room = length - len(self.front) - len(self.back)
        if room < 1:
            raise InputError(
                f"data.source_length is {length}, but {length - room} pieces of that stand round every text; raise it"
            )
        bodies = [found.ids for found in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        return [self.front + body[:room] + self.back for body in bodies], sum(len(body) > room for body in bodies)

    def label(self, text: str) -> list[int]:
        """The pieces of a label with the end piece."""
        return [*(following(self.tokenizer, self.cue, f" {text}") if self.cue else self.words(text)), self.end_id]

    def words(self, text: str) -> list[int]:
        """The pieces of a text and nothing else."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def text(self, pieces: Sequence[int]) -> str:
        """Generated pieces as text."""
        return self.tokenizer.decode(pieces, skip_special_tokens=True).strip()


def load_pieces(folder: str | Path, cue: str = Task.cue) -> Pieces:
    """The tokenizer of a backbone's folder and how its family writes the texts and labels of a task with this cue.

    A folder with a tokenizer and no config.json counts as an encoder-decoder's. Raises InputError where the tokenizer
    is missing, cannot be read, or lacks the pieces that the family needs.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() or family_of(read_config(folder)).encoder_decoder:
        tokenizer = load_tokenizer(folder)
        end_id, pad_id = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
        return Pieces(tokenizer, front=[], back=[end_id], cue="", end_id=end_id, pad_id=pad_id)
    return _causal(read_tokenizer(folder), read_config(folder), folder, f"\n{cue}")


def _causal(tokenizer: Tokenizer, config: dict, folder: Path, cue: str) -> Pieces:
    """[ours] The text, a line that asks for the answer, and the label behind it; [known, PEFT] what the tokenizer puts
    before a text stays there, behind the prompt.
    """
    end_id = config.get("eos_token_id")
    end_id = end_id[0] if isinstance(end_id, list) and end_id else end_id
    if not isinstance(end_id, int) or tokenizer.id_to_token(end_id) is None:
        raise InputError(
            f"{folder / 'config.json'}: eos_token_id is {end_id}, which is no piece of the tokenizer; without it no "
            "label ends, so use the tokenizer that belongs to the backbone"
        )
    marked = tokenizer.encode("x").ids
    plain = tokenizer.encode("x", add_special_tokens=False).ids
    front = marked[: marked.index(plain[0])] if plain and plain[0] in marked else []
    pad_id = config.get("pad_token_id")
    return Pieces(
        tokenizer,
        front=front,
        back=following(tokenizer, "x", cue),
        cue=cue,
        end_id=end_id,
        # Padding is never looked at.
        pad_id=end_id if pad_id is None else pad_id,
    )


def following(tokenizer: Tokenizer, before: str, text: str) -> list[int]:
    """The pieces of `text` as they are behind `before`: some tokenizers put a blank before whatever is alone."""
    first = tokenizer.encode(before, add_special_tokens=False).ids
    both = tokenizer.encode(before + text, add_special_tokens=False).ids
    if both[: len(first)] == first:
        return both[len(first) :]
    return tokenizer.encode(text, add_special_tokens=False).ids
