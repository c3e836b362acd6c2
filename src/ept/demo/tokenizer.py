"""The backbone's own tokenizer: one piece a word, written in T5's manner (▁ for a blank, </s> at the end)."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ept.files import write_atomically, write_json

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
SENTINELS = 16
"""Number of <extra_id_n> pieces: the most spans that span corruption hides in one text."""

# A word with its blank (digits may follow letters: sentence1), a single digit, or a single other sign.
_PIECE = r"▁?[^\W\d_▁]+\d*|▁?\d|▁?@[a-z]+|▁?[^\w\s▁]|▁"


def normalizer() -> normalizers.Normalizer:
    """Blanks of any kind count as one; marks of a span stand by themselves, however they were written."""
    steps: list[normalizers.Normalizer] = [normalizers.Replace("*", " * "), normalizers.Replace("#", " # ")]
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence(steps)


def splitter() -> pre_tokenizers.PreTokenizer:
    """Words carry the blank before them as ▁; punctuation and digits are pieces of their own."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False),
            pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"),
        ]
    )


def pieces_of(texts: Iterable[str]) -> set[str]:
    """The pieces of which these texts consist."""
    normalize, split = normalizer(), splitter()
    return {piece for text in texts for piece, _ in split.pre_tokenize_str(normalize.normalize_str(text))}


def build_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer that knows every word of the texts, digits and punctuation: <pad> 0, </s> 1, <unk> 2."""
    signs = [sign + mark for sign in ("", "▁") for mark in "0123456789.,?:;/-'@*#"]
    words = sorted(pieces_of(texts) | set(signs) | {"▁"})
    sentinels = [f"<extra_id_{number}>" for number in range(SENTINELS)]
    vocabulary = {piece: number for number, piece in enumerate([PAD, EOS, UNK, *sentinels, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.normalizer = normalizer()
    tokenizer.pre_tokenizer = splitter()
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[(EOS, vocabulary[EOS])]
    )
    tokenizer.add_special_tokens([PAD, EOS, UNK, *sentinels])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and the tokenizer_config.json for transformers' AutoTokenizer."""
    with write_atomically(folder / "tokenizer.json") as temporary:
        temporary.write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, indent=1) + "\n", "utf-8")
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": EOS,
        "unk_token": UNK,
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", configuration)
