"""A frozen backbone that answers with prompts: one for all rows, or another for every row."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ept.api.prompt import Prompt
from ept.api.share import download
from ept.backbones.backbone import Backbone
from ept.backbones.files import backbone_identity
from ept.backbones.load import load_backbone
from ept.config.settings import BaselineSettings
from ept.data.tokenizer import Pieces, load_pieces
from ept.demo.identity import BACKBONE_FOLDER
from ept.errors import InputError
from ept.evaluation.predict import INVALID, generate, read_candidates, score_candidates
from ept.evaluation.score import MAX_ANSWER_PIECES
from ept.files import canonical_json
from ept.methods.build import build_weight_module, prompt_class
from ept.methods.prompt import PromptOutput, combine
from ept.methods.registry import get_method
from ept.tasks.record import Row
from ept.vision.projection import PROJECTION, SavedImages

DEMO = "demo-t5"
Text = str | Row
AnyImage = Any
"""A Pillow image, a path, the bytes of a file, an array, or Hugging Face's struct of bytes and path."""
Prompts = Prompt | Sequence[Prompt]


@dataclass(frozen=True)
class _Batch:
    """Rows that go through the backbone together."""

    places: list[int]
    """Their numbers among the texts."""
    prompts: list[Prompt]
    embeddings: Tensor
    """[rows, positions, hidden], prompt, text and image."""
    mask: Tensor
    """[rows, positions], 1 at prompt, text and image."""


@dataclass(frozen=True)
class _Row:
    """A text, and its image where one was passed with it."""

    text: Text
    image: AnyImage = None

    def image_in(self, column: str) -> AnyImage:
        """The image, or the content of the text's `column`."""
        found = self.text.get(column) if self.image is None and isinstance(self.text, dict) else self.image
        return (found.get("bytes") or found.get("path")) if isinstance(found, dict) else found


class Prompted:
    """A frozen backbone, loaded once, that answers with any number of prompts.

    Make one with `from_pretrained`. Every method takes one prompt for all texts or a list with a prompt for each text;
    the prompts of a list may come from different methods and have different lengths.
    """

    def __init__(self, backbone: Backbone, folder: Path, name: str, *, allow_mismatch: bool = False) -> None:
        """Wrap a loaded backbone; `folder` holds its tokenizer, `name` is what messages call it."""
        self.backbone = backbone
        self.folder = folder
        self.name = name
        self.allow_mismatch = allow_mismatch
        self._identity = backbone_identity(folder)
        self._pieces: dict[str, Pieces] = {}
        self._outputs: dict[int, tuple[Prompt, PromptOutput]] = {}
        self._images: dict[str, SavedImages] = {}

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: str | Path = DEMO,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        quantization: Literal["none", "nf4", "int8"] = "none",
        allow_mismatch: bool = False,
    ) -> Self:
        """Load a frozen backbone.

        Args:
            path_or_repo: A folder with config.json, safetensors and the tokenizer; a Hub repository; or `demo-t5`, the
                small T5 that ships with this package (unless a folder of that name exists).
            revision: Commit, tag or branch of the repository.
            token: Access token for a private repository.
            cache_dir: Folder for downloads.
            local_files_only: Use what was downloaded before and never the network.
            device: For example `cuda`; by default a GPU if there is one, else the CPU.
            dtype: Precision of the frozen weights.
            quantization: `nf4` or `int8` quantize the linear layers (needs the extra `quantized`).
            allow_mismatch: Warn instead of refusing a prompt that was trained on another backbone.

        Returns:
            The backbone, ready to predict.

        Raises:
            InputError: The backbone is missing, damaged or of an unsupported kind.
        """
        folder = _folder(path_or_repo, revision, token, cache_dir, local_files_only)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        backbone = load_backbone(folder, dtype=dtype, device=device, quantization=quantization)
        return cls(backbone, folder, str(path_or_repo), allow_mismatch=allow_mismatch)

    def predict(
        self,
        texts: Iterable[Text],
        prompt: Prompts,
        *,
        images: Iterable[AnyImage] | None = None,
        decoding: Literal["closed", "open"] = "closed",
        batch_size: int = 32,
    ) -> list[Any]:
        """The answer to every text: a label (str), a score (float) for regression, or free text for extraction.

        Args:
            texts: Strings, or dictionaries of the template's columns.
            prompt: One prompt, or a prompt for each text.
            images: An image for each text, for prompts that read images: a Pillow image, a path, bytes or an array
                [height, width, 3]; None takes the text's column of the task's image, which may hold the same.
            decoding: `closed` takes the likeliest of the prompt's labels. `open` takes what greedy decoding over the
                whole vocabulary would write, as the result tables do, and gives None where that is no label.
            batch_size: Texts in one pass.

        Returns:
            One answer for each text, in order.

        Raises:
            InputError: A prompt does not fit this backbone, a text lacks a column of the template, or an image is
                missing or cannot be read.
        """
        if decoding not in ("closed", "open"):
            raise InputError(f"decoding is {decoding!r}; use 'closed' or 'open'")
        asked, prompts = _pair(texts, prompt, images)
        answers: list[Any] = [None] * len(asked)
        with self._attached(prompts):
            # Free text is generated piece by piece; labels and scores of any prompts are read off one pass.
            for written, rows in _by(prompts, lambda one: one.task.kind == "extraction").items():
                for batch in self._batches([asked[row] for row in rows], [prompts[row] for row in rows], batch_size):
                    found = self._free_text(batch) if written else self._answers(batch, decoding)
                    for place, answer in zip(batch.places, found, strict=True):
                        answers[rows[place]] = answer
        return answers

    def predict_proba(
        self,
        texts: Iterable[Text],
        prompt: Prompts,
        *,
        images: Iterable[AnyImage] | None = None,
        batch_size: int = 32,
    ) -> np.ndarray:
        """The probability of every label, renormalized over the labels.

        Args:
            texts: Strings, or dictionaries of the template's columns.
            prompt: One prompt, or a prompt for each text; all with the same labels.
            images: As for `predict`.
            batch_size: Texts in one pass.

        Returns:
            Array [texts, labels], float32; columns as `prompt.labels`, every row sums to 1.

        Raises:
            InputError: As `predict`; and for prompts without labels, or with different ones.
        """
        asked, prompts = _pair(texts, prompt, images)
        if len({tuple(one.labels) for one in prompts}) > 1:
            raise InputError("the prompts have different labels; ask for one set of labels at a time")
        if prompts and not prompts[0].labels:
            raise InputError(
                f"{prompts[0].origin} has no labels (kind {prompts[0].task.kind}); use predict or generate"
            )
        found = np.zeros((len(asked), len(prompts[0].labels) if prompts else 0), dtype=np.float32)
        with self._attached(prompts):
            self._probabilities(asked, prompts, batch_size, found)
        return found

    def _probabilities(self, asked: list[_Row], prompts: list[Prompt], batch_size: int, found: np.ndarray) -> None:
        for batch in self._batches(asked, prompts, batch_size):
            scores = score_candidates(self.backbone, batch.embeddings, batch.mask, self._label_ids(batch.prompts[0]))
            found[batch.places] = scores.softmax(1).cpu().numpy()

    def generate(
        self,
        texts: Iterable[Text],
        prompt: Prompts,
        *,
        images: Iterable[AnyImage] | None = None,
        max_new_tokens: int = 20,
        batch_size: int = 32,
    ) -> list[str]:
        """What greedy decoding writes for every text.

        Args:
            texts: Strings, or dictionaries of the template's columns.
            prompt: One prompt, or a prompt for each text.
            images: As for `predict`.
            max_new_tokens: At most this many tokens are written.
            batch_size: Texts in one pass.

        Returns:
            One string for each text, in order.

        Raises:
            InputError: As `predict`.
        """
        asked, prompts = _pair(texts, prompt, images)
        written = [""] * len(asked)
        with self._attached(prompts):
            for batch in self._batches(asked, prompts, batch_size):
                found = generate(self.backbone, batch.embeddings, batch.mask, max_new_tokens)
                for place, one, tokens in zip(batch.places, batch.prompts, found, strict=True):
                    written[place] = self._tokenizer(one).text(tokens)
        return written

    def inputs_embeds(
        self, texts: Iterable[Text], prompt: Prompts, *, images: Iterable[AnyImage] | None = None
    ) -> dict[str, Tensor]:
        """Prompt, text and image as input embeddings, for `generate(**...)` of transformers' models and for vLLM.

        Args:
            texts: Strings, or dictionaries of the template's columns.
            prompt: One prompt, or a prompt for each text.
            images: As for `predict`.

        Returns:
            `inputs_embeds` [texts, positions, hidden] and `attention_mask` [texts, positions]. Shorter rows are padded
            at the end for an encoder-decoder, and at the front for a decoder-only model, as its `generate` wants.

        Raises:
            InputError: As `predict`.
        """
        asked, prompts = _pair(texts, prompt, images)
        if not asked:
            raise InputError("there are no texts; pass at least one")
        (batch,) = self._batches(asked, prompts, len(asked))
        embeddings, mask = torch.empty_like(batch.embeddings), torch.empty_like(batch.mask)
        places = torch.tensor(batch.places)
        embeddings[places], mask[places] = batch.embeddings, batch.mask
        if not self.backbone.family.encoder_decoder:
            shifts = mask.shape[1] - mask.sum(1)
            embeddings = torch.stack([row.roll(int(n), 0) for row, n in zip(embeddings, shifts, strict=True)])
            mask = torch.stack([row.roll(int(n), 0) for row, n in zip(mask, shifts, strict=True)])
        return {"inputs_embeds": embeddings, "attention_mask": mask}

    def _free_text(self, batch: _Batch) -> list[str]:
        """What greedy decoding writes for the rows of a batch."""
        found = generate(self.backbone, batch.embeddings, batch.mask, MAX_ANSWER_PIECES)
        return [self._tokenizer(one).text(tokens) for one, tokens in zip(batch.prompts, found, strict=True)]

    def _answers(self, batch: _Batch, decoding: str) -> list[Any]:
        """Labels and scores for the rows of a batch, in one pass also where the prompts' labels differ."""
        # The pieces of every label of any row, each once.
        candidates: dict[tuple[int, ...], int] = {}
        columns: dict[int, list[int]] = {}
        for one in batch.prompts:
            if id(one) not in columns:
                ids = [tuple(pieces) for pieces in self._label_ids(one)]
                columns[id(one)] = [candidates.setdefault(pieces, len(candidates)) for pieces in ids]
        found = read_candidates(self.backbone, batch.embeddings, batch.mask, list(candidates))
        written, scores = found[0].tolist(), found[1].cpu().numpy()
        answers: list[Any] = []
        for row, one in enumerate(batch.prompts):
            own = columns[id(one)]
            if one.task.kind == "classification" and decoding == "open":
                # What is a label of another row alone is none of this one.
                place = own.index(written[row]) if written[row] in own else INVALID
            else:
                place = int(scores[row, own].argmax())
            label = None if place == INVALID else one.labels[place]
            answers.append(float(label) if label is not None and one.task.kind == "regression" else label)
        return answers

    def _label_ids(self, prompt: Prompt) -> list[list[int]]:
        pieces = self._tokenizer(prompt)
        return [pieces.label(label) for label in prompt.labels]

    def _tokenizer(self, prompt: Prompt) -> Pieces:
        cue = prompt.task.cue
        if cue not in self._pieces:
            self._pieces[cue] = load_pieces(self.folder, cue)
        return self._pieces[cue]

    def _output(self, prompt: Prompt) -> PromptOutput:
        """What the prompt adds to its inputs, on the backbone's device; computed once."""
        if id(prompt) not in self._outputs:
            self._check(prompt)
            tensors = {name: tensor.to(self.backbone.device) for name, tensor in prompt.saved.collapsed.items()}
            # The prompt is kept too, so that its id is not given to another one.
            output = prompt_class(prompt.method).served(tensors)
            if (images := self._reader(prompt)) is not None:
                output = images.reading(output, tensors)
            self._outputs[id(prompt)] = prompt, output
        return self._outputs[id(prompt)][1]

    def _reader(self, prompt: Prompt) -> SavedImages | None:
        """How the prompt reads images; None for a prompt of texts. Prompts of one encoder share it."""
        values = prompt.saved.metadata.get("vision")
        if values is None:
            return None
        from ept.plan.packs import encoder_identity

        key = canonical_json(values)
        if key not in self._images:
            images = SavedImages(values, self.backbone.embedding, prompt.origin)
            found = encoder_identity(values["source"], values["id"], values["revision"])
            if found != values.get("encoder", found):
                raise InputError(
                    f"{prompt.origin} was trained with another image encoder than {values['id'] or DEMO} is now; "
                    "use the version of ept, or the folder, that it was trained with"
                )
            self._images[key] = images
        return self._images[key]

    def _check(self, prompt: Prompt) -> None:
        """Refuse a prompt of another backbone, or warn with `allow_mismatch`."""
        hidden = prompt.saved.collapsed["prompt"].shape[-1] if "prompt" in prompt.saved.collapsed else None
        if hidden not in (None, self.backbone.hidden_size):
            raise InputError(
                f"{prompt.origin} has hidden size {hidden}, the backbone {self.name} has {self.backbone.hidden_size}; "
                "use a prompt that was trained on this backbone"
            )
        try:
            prompt.saved.check_backbone(self.name, self._identity, prompt.origin)
        except InputError as error:
            if not self.allow_mismatch:
                raise InputError(f"{error} (allow_mismatch=True warns instead)") from error
            import warnings

            warnings.warn(str(error), stacklevel=5)

    @contextmanager
    def _attached(self, prompts: list[Prompt]) -> Iterator[None]:
        """Within it the backbone holds the weights of a run of LoRA, Adapter and the like, if the prompts are such."""
        weights = {id(one): one for one in prompts if not get_method(one.method).packed}
        if not weights:
            yield
            return
        one = next(iter(weights.values()))
        if len({id(other) for other in prompts}) > 1:
            raise InputError(
                f"{one.origin} holds weights of {one.title}, which change the backbone for every row; use one at a time"
            )
        self._check(one)
        settings = BaselineSettings(**one.metadata.get("settings", {}).get("baselines", {}))
        module = build_weight_module(one.method, self.backbone, settings, seed=0)
        try:
            images = self._reader(one)
            tensors = dict(one.saved.tensors)
            if images is not None:
                tensors.pop(PROJECTION, None)
            module.load_tensors(0, tensors, one.origin)
            with torch.no_grad():
                output = module() if images is None else images.reading(module(), one.saved.tensors)
                self._outputs[id(one)] = one, output
            yield
        finally:
            self._outputs.pop(id(one), None)
            module.close()

    def _batches(self, asked: list[_Row], prompts: list[Prompt], batch_size: int) -> Iterator[_Batch]:
        """Batches of prompt and text as the backbone reads them, by length; out of memory halves a batch."""
        ids: list[list[int]] = [[] for _ in asked]
        for _, rows in _by(prompts, id).items():
            one = prompts[rows[0]]
            found, _ = self._tokenizer(one).sources([one.text(asked[row].text) for row in rows], one.source_length)
            for row, tokens in zip(rows, found, strict=True):
                ids[row] = tokens
        order = sorted(range(len(asked)), key=lambda row: len(ids[row]))
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            yield self._batch(places, asked, [ids[row] for row in places], [prompts[row] for row in places])

    @torch.inference_mode()
    def _batch(self, places: list[int], asked: list[_Row], ids: list[list[int]], prompts: list[Prompt]) -> _Batch:
        """One batch: every row has its own prompt before its text, and padding only at its end."""
        joined: list[tuple[Tensor, Tensor]] = [None] * len(places)  # type: ignore[list-item]
        for _, rows in _by(prompts, id).items():
            longest = max(len(ids[row]) for row in rows)
            tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
            mask = torch.zeros(len(rows), longest, dtype=torch.int64)
            for place, row in enumerate(rows):
                tokens[place, : len(ids[row])] = torch.tensor(ids[row])
                mask[place, : len(ids[row])] = 1
            tokens, mask = tokens.to(self.backbone.device), mask.to(self.backbone.device)
            output = self._output(prompts[rows[0]])
            features = self._features(prompts[rows[0]], [places[row] for row in rows], asked)
            parts = combine(output, self.backbone.embed(tokens)[None], mask[None], features)
            for row, embeddings, kept in zip(rows, *parts, strict=True):
                joined[row] = embeddings, kept
        longest = max(len(kept) for _, kept in joined)
        embeddings = self.backbone.embedding.new_zeros(len(places), longest, self.backbone.hidden_size)
        mask = torch.zeros(len(places), longest, dtype=torch.int64, device=self.backbone.device)
        for row, (own, kept) in enumerate(joined):
            embeddings[row, : len(own)] = own
            mask[row, : len(kept)] = kept
        return _Batch(places, prompts, embeddings, mask)

    def _features(self, prompt: Prompt, places: list[int], asked: list[_Row]) -> Tensor | None:
        """The features of the images of some rows with this prompt; None for a prompt of texts."""
        reader = self._reader(prompt)
        if reader is not None:
            found = reader.features([asked[place].image_in(reader.column) for place in places], places)
            return found.to(self.backbone.device)
        if any(asked[place].image is not None for place in places):
            raise InputError(f"{prompt.origin} reads no images; leave them out, or use a prompt of a task with images")
        return None


def _pair(texts: Iterable[Text], prompt: Prompts, images: Iterable[AnyImage] | None) -> tuple[list[_Row], list[Prompt]]:
    if isinstance(texts, str | dict):
        raise InputError("texts is one text; pass a list of texts")
    if hasattr(texts, "iterrows"):
        # Its elements would be the names of its columns.
        raise InputError("texts is a table; pass a list of texts or rows, for example table.to_dict('records')")
    texts = list(texts)
    prompts = [prompt] * len(texts) if isinstance(prompt, Prompt) else list(prompt)
    if len(prompts) != len(texts):
        raise InputError(
            f"there are {len(texts)} texts but {len(prompts)} prompts; pass one prompt, or one for each text"
        )
    passed = [None] * len(texts) if images is None else list(images)
    if len(passed) != len(texts):
        raise InputError(f"there are {len(texts)} texts but {len(passed)} images; pass one for each text")
    return [_Row(text, image) for text, image in zip(texts, passed, strict=True)], prompts


def _by(values: Sequence[Any], key: Any) -> dict[Any, list[int]]:
    """The places of the values by their key, in the order in which keys first occur."""
    found: dict[Any, list[int]] = {}
    for place, value in enumerate(values):
        found.setdefault(key(value), []).append(place)
    return found


def _folder(
    path_or_repo: str | Path, revision: str | None, token: str | None, cache_dir: Any, local_files_only: bool
) -> Path:
    path = Path(path_or_repo)
    if path.is_dir():
        return path
    if str(path_or_repo) == DEMO:
        return BACKBONE_FOLDER
    if path.is_absolute() or str(path_or_repo).count("/") > 1:
        raise InputError(f"{path_or_repo}: no such folder; check the path")
    patterns = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json", "spiece.model"]
    return download(
        str(path_or_repo),
        patterns,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
