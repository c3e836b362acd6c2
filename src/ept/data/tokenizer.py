"""The backbone's tokenizer, made ready to encode whole texts."""

import base64
import contextlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from ept.backbones.families import family_of
from ept.backbones.files import read_config
from ept.errors import InputError, reason_of
from ept.tasks.record import Task

END, PAD = "</s>", "<pad>"
# A character for private use, which no vocabulary holds.
UNKNOWN = "\ue000"
# How many times longer than a text its normalized form may be; published tokenizers stay below 3.
MAX_GROWTH = 100
# [ours] How many characters of a text are read for each piece that is kept, and how many at least. A piece stands for
# about 4 characters of English: except for texts of blanks, the pieces that are kept are those of the whole text.
CHARACTERS_PER_PIECE = 64
SHORT_TEXT = 2**14


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of an encoder-decoder's folder: it encodes texts whole, without padding, and adds `</s>`.

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
    """The tokenizer of a backbone's folder: it encodes texts whole, without padding.

    From tokenizer.json (whose own truncation and padding are switched off: T5's cuts at 20 pieces), or else
    from spiece.model. Raises InputError where neither is there or can be read, for replacements that multiply a text,
    and where it has no piece for unknown characters.
    """
    tokenizer = _read(folder)
    with _clear_errors(f"{folder}: the tokenizer cannot encode a short text"):
        tokenizer.decode(tokenizer.encode(UNKNOWN).ids)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if path.is_file():
        _check_growth(path)
        with _clear_errors(f"{path}: not a valid tokenizer file"):
            return Tokenizer.from_file(str(path))
    path = folder / "spiece.model"
    if path.is_file():
        from transformers import AutoTokenizer

        with _clear_errors(f"{path}: not a valid tokenizer file for config.json's model"):
            return AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
    raise InputError(f"{folder}: there is no tokenizer.json and no spiece.model; copy the model's there")


@contextlib.contextmanager
def _clear_errors(what: str) -> Iterator[None]:
    """One sentence for whatever the tokenizers library raises, and no other output.

    It raises bare Exception, and where it panics a BaseException, after it has printed a stack trace to the file
    descriptor of standard error.
    """
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{what} ({reason_of(error)}); copy the model's tokenizer again") from error
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _check_growth(path: Path) -> None:
    """Raise InputError for chained replacements that would make gigabytes of a short text."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        parts = [values.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")]
        growth = max(math.prod(_growths(part)) for part in parts)
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: not a valid tokenizer file ({reason_of(error)}); copy the model's again") from error
    if growth > MAX_GROWTH:
        raise InputError(
            f"{path}: its replacements can make a text {growth:.3g} times as long, at most {MAX_GROWTH} is allowed; "
            "copy the model's again"
        )


def _growths(part: Any) -> Iterator[float]:
    """How many times longer each normalizer or decoder below a part of tokenizer.json can make a text."""
    if isinstance(part, list):
        for below in part:
            yield from _growths(below)
    elif isinstance(part, dict):
        if part.get("type") == "Replace":
            pattern = part["pattern"].get("String")
            # A regular expression can match between any two characters.
            yield max(1.0, len(part["content"]) / len(pattern)) if pattern else 1.0 + len(part["content"])
        elif part.get("type") == "Prepend":
            yield 1.0 + len(part["prepend"])
        elif part.get("type") == "Precompiled":
            yield _charsmap_growth(part["precompiled_charsmap"])
        for below in part.values():
            yield from _growths(below)


def _charsmap_growth(charsmap: str) -> float:
    """The length of the longest text that SentencePiece's map writes for one character.

    In base64: the size of a search tree, the tree, and then the texts, each with a zero at its end.
    """
    content = base64.b64decode(charsmap)
    texts = content[4 + int.from_bytes(content[:4], "little") :].decode(errors="replace")
    return max(1.0, *(float(len(text)) for text in texts.split("\0")))


@dataclass(frozen=True)
class Pieces:
    """How a backbone's family writes texts and labels: `front`, the text and `back`; then the label and the end piece.

    A label is written as it reads after `cue`. A text that is too long is cut at its end; `front` and `back` stay. A
    text of a megabyte costs no more than its beginning: CHARACTERS_PER_PIECE characters are read for each piece.
    `vocabulary` is the number of pieces that the backbone has an embedding of.
    """

    tokenizer: Tokenizer
    front: list[int]
    back: list[int]
    cue: str
    end_id: int
    pad_id: int
    vocabulary: int = 2**31

    def sources(self, texts: Sequence[str], length: int) -> tuple[list[list[int]], int]:
        """The pieces of each text, at most `length` with `front` and `back`, and how many texts were cut."""
        room = length - len(self.front) - len(self.back)
        if room < 1:
            raise InputError(
                f"data.source_length is {length}, but {length - room} pieces of that surround every text; raise it"
            )
        limit = max(SHORT_TEXT, CHARACTERS_PER_PIECE * room)
        with _clear_errors("the tokenizer cannot encode a text of the task"):
            beginnings = [_beginning(text, limit) for text in texts]
            bodies = [found.ids for found in self.tokenizer.encode_batch_fast(beginnings, add_special_tokens=False)]
        cut = sum(len(body) > room or len(text) > limit for body, text in zip(bodies, texts, strict=True))
        return [self.front + body[:room] + self.back for body in bodies], cut

    def checked(self, rows: list[list[int]]) -> list[list[int]]:
        """The rows as they are. Raises InputError for a piece that the backbone has no embedding of."""
        largest = max((max(row, default=0) for row in rows), default=0)
        if largest >= self.vocabulary:
            raise InputError(
                f"the tokenizer writes piece {largest}, but the backbone's config.json has {self.vocabulary} pieces "
                "(vocab_size); use the tokenizer that belongs to the backbone"
            )
        return rows

    def label(self, text: str) -> list[int]:
        """The pieces of a label with the end piece."""
        return [*(following(self.tokenizer, self.cue, f" {text}") if self.cue else self.words(text)), self.end_id]

    def words(self, text: str) -> list[int]:
        """The pieces of a text and nothing else."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def common(self, count: int) -> list[int]:
        """The pieces with the `count` lowest numbers but for special ones: tokenizers number pieces by frequency."""
        special = {piece for piece, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        return [piece for piece in range(min(count, self.tokenizer.get_vocab_size())) if piece not in special]

    def text(self, pieces: Sequence[int]) -> str:
        """Generated pieces as text."""
        return self.tokenizer.decode(pieces, skip_special_tokens=True).strip()


def _beginning(text: str, limit: int) -> str:
    """At most `limit` characters of a text, cut before a blank if there is one in the second half of them."""
    if len(text) <= limit:
        return text
    place = text.rfind(" ", limit // 2, limit)
    return text[: place if place > 0 else limit]


def load_pieces(folder: str | Path, cue: str = Task.cue) -> Pieces:
    """The tokenizer of a backbone's folder and how its family writes the texts and labels of a task with this cue.

    A folder with a tokenizer and no config.json counts as an encoder-decoder's. Raises InputError where the tokenizer
    is missing, cannot be read, or lacks the pieces that the family needs.
    """
    folder = Path(folder)
    config = read_config(folder) if (folder / "config.json").is_file() else None
    if config is None or family_of(config).encoder_decoder:
        tokenizer = load_tokenizer(folder)
        end_id, pad_id = _id(tokenizer, END), _id(tokenizer, PAD)
        pieces = Pieces(tokenizer, [], [end_id], "", end_id, pad_id, _vocabulary(config))
    else:
        pieces = _causal(read_tokenizer(folder), config, folder, f"\n{cue}")
    pieces.checked([[*pieces.front, *pieces.back, pieces.end_id, pieces.pad_id]])
    return pieces


# Of pieces that load_tokenizer has found there.
def _id(tokenizer: Tokenizer, piece: str) -> int:
    return cast(int, tokenizer.token_to_id(piece))


def _vocabulary(config: dict[str, Any] | None) -> int:
    size = (config or {}).get("vocab_size")
    return size if isinstance(size, int) and 0 < size < 2**31 else 2**31


def _causal(tokenizer: Tokenizer, config: dict[str, Any], folder: Path, cue: str) -> Pieces:
    """[ours] The text, a line that asks for the answer, and the label after it.

    [known, PEFT] What the tokenizer puts before a text stays there, after the prompt.
    """
    end_id = config.get("eos_token_id")
    end_id = end_id[0] if isinstance(end_id, list) and end_id else end_id
    if not isinstance(end_id, int) or not 0 <= end_id < 2**31 or tokenizer.id_to_token(end_id) is None:
        raise InputError(
            f"{folder / 'config.json'}: eos_token_id is {end_id}, which the tokenizer does not have; without it no "
            "label ends, so use the tokenizer that belongs to the backbone"
        )
    with _clear_errors(f"{folder}: the tokenizer cannot encode a short text"):
        marked = tokenizer.encode("x").ids
        plain = tokenizer.encode("x", add_special_tokens=False).ids
    front = marked[: marked.index(plain[0])] if plain and plain[0] in marked else []
    pad_id = config.get("pad_token_id")
    # Padding is never looked at.
    pad_id = pad_id if isinstance(pad_id, int) and not isinstance(pad_id, bool) and pad_id >= 0 else end_id
    back = following(tokenizer, "x", cue)
    return Pieces(tokenizer, front, back, cue, end_id, pad_id, _vocabulary(config))


def following(tokenizer: Tokenizer, before: str, text: str) -> list[int]:
    """The pieces of `text` as they are after `before`: some tokenizers put a blank before the first word of a text."""
    first = tokenizer.encode(before, add_special_tokens=False).ids
    both = tokenizer.encode(before + text, add_special_tokens=False).ids
    if both[: len(first)] == first:
        return both[len(first) :]
    return tokenizer.encode(text, add_special_tokens=False).ids
