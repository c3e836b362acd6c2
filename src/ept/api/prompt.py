"""A trained prompt as a Python object: loaded from a file, a folder or the Hub, saved and shared."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor

from ept.api.share import Score, card, download, one_sentence
from ept.errors import InputError, listed
from ept.files import parse_json, write_text
from ept.methods.prompt_file import SavedPrompt, read_prompt, save_prompt
from ept.methods.registry import get_method
from ept.tasks.define import METRICS
from ept.tasks.record import Row, Task, is_missing, named_columns
from ept.tasks.registry import TASKS

PROMPT_FILE = "prompt.safetensors"
CONFIG_FILE = "config.json"
# What is downloaded of a Hub repository.
FILES = (PROMPT_FILE, CONFIG_FILE, "adapter_config.json", "adapter_model.safetensors", "README.md")
# What inference needs besides the tensors. Prompt files of version 1 lack it; a shipped task's record then fills it in.
NEEDED = ("template", "labels", "kind", "cue", "source_length")


@dataclass(frozen=True, repr=False)
class Prompt(ModelHubMixin):
    """One trained prompt (or the weights of one run of LoRA, Adapter and the like) with everything needed to use it.

    Make one with `from_pretrained` or `ept.train`. Saving and sharing are those of huggingface_hub's `ModelHubMixin`.
    """

    # config.json holds the prompt's metadata; the mixin keeps no configuration of its own.
    _hub_mixin_config: ClassVar[dict[str, Any]] = {"library_name": "ept"}  # type: ignore[misc]

    saved: SavedPrompt
    """The tensors and the metadata of the file."""
    task: Task
    """How rows are written as text, and what is predicted."""
    source_length: int
    """Longest source text in tokens; longer texts are cut at their end."""
    origin: str = field(default="the prompt", compare=False)
    """Where it came from, for messages."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        path_or_repo: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> Self:
        """Load a prompt.

        Args:
            path_or_repo: A prompt file (`….safetensors`), a folder with one, an adapter folder of PEFT (prompt tuning)
                or of DePT's released code, or a Hub repository (`owner/name`). What exists on disk comes first.
            revision: Commit, tag or branch of the repository.
            token: Access token for a private repository; by default the one of the Hub's login.
            cache_dir: Folder for downloads.
            local_files_only: Use what was downloaded before and never the network.
            force_download: Download again what the cache holds.

        Returns:
            The prompt.

        Raises:
            InputError: Nothing was found there, a file is damaged, or it lacks something that inference needs.
        """
        path = Path(path_or_repo)
        if path.is_file():
            return cls._read(path)
        if path.is_dir():
            return cls._of_folder(path)
        if path.is_absolute() or str(path_or_repo).count("/") != 1 or path.suffix:
            raise InputError(f"{path_or_repo}: no such file or folder; check the path")
        return cls._from_pretrained(
            model_id=str(path_or_repo),
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
    ) -> Self:
        """The mixin's hook: the prompt in a Hub repository, all files of one revision."""
        folder = download(
            model_id,
            FILES,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        return cls._of_folder(folder)

    @classmethod
    def _of_folder(cls, folder: Path) -> Self:
        named = [folder / PROMPT_FILE] if (folder / PROMPT_FILE).is_file() else sorted(folder.glob("seed*.safetensors"))
        if (folder / "adapter_config.json").is_file():
            return cls._of_adapter(folder)
        if not named:
            raise InputError(f"{folder}: no {PROMPT_FILE} and no seed*.safetensors; name a prompt file")
        return cls._read(named[0] if len(named) == 1 else _best_seed(folder, named))

    @classmethod
    def _read(cls, path: Path) -> Self:
        return cls._of_saved(read_prompt(path), str(path))

    @classmethod
    def _of_adapter(cls, folder: Path) -> Self:
        return cls._of_saved(_read_adapter(folder), str(folder))

    @classmethod
    def _of_saved(cls, saved: SavedPrompt, origin: str) -> Self:
        known = TASKS.get(str(saved.metadata.get("task", "")))
        values: dict[str, Any] = {name: saved.metadata.get(name, getattr(known, name, None)) for name in NEEDED}
        # A prompt runs no code: of its metrics those of the library `evaluate` are left out.
        named = saved.metadata.get("metrics")
        known_names = METRICS.get(values["kind"], ())
        values["metrics"] = [name for name in named if name in known_names] if isinstance(named, list) else []
        name = str(saved.metadata.get("task") or "task")
        if values["source_length"] is None:
            values["source_length"] = len(saved.collapsed["A"]) if "A" in saved.collapsed else 256
        missing = [key for key in ("template", "kind") if values[key] is None]
        if values["kind"] is not None and values["kind"] not in METRICS:
            raise InputError(f"{origin}: kind is {values['kind']!r}; use {', '.join(METRICS)}")
        if missing:
            raise InputError(
                f"{origin} lacks {' and '.join(missing)}, which inference needs; set them with "
                "`Prompt.with_task(path, template=..., labels=...)`, or load a prompt of format 2"
            )
        task = _task(name, known, values)
        return cls(saved, task, int(values["source_length"]), origin)

    @classmethod
    def with_task(
        cls, path: str | Path, *, template: str, labels: list[str] | None = None, kind: str = "classification"
    ) -> Self:
        """Load a prompt that does not say what it is for, such as one of another program.

        Args:
            path: A prompt file, an adapter folder of PEFT or DePT, or an .npy file of google's prompt-tuning.
            template: Source text as a format string over a row's columns, for example `"sentence: {sentence}"`.
            labels: What is written for each class, in the order of the classes.
            kind: `classification`, `regression` or `extraction` (free text).

        Raises:
            InputError: As `from_pretrained`.
        """
        path = Path(path)
        saved = _read_adapter(path) if path.is_dir() or path.suffix == ".npy" else read_prompt(path)
        added = {"template": template, "labels": list(labels or []), "kind": kind}
        return cls._of_saved(SavedPrompt(saved.tensors, saved.collapsed, {**saved.metadata, **added}), str(path))

    @property
    def method(self) -> str:
        """The name of the method that trained it, for example `ept`."""
        return str(self.saved.metadata.get("method", "pt"))

    @property
    def title(self) -> str:
        """The method's name as tables print it."""
        return get_method(self.method).title

    @property
    def labels(self) -> list[str]:
        """What the backbone writes for each class, in the order of the classes."""
        return list(self.task.labels)

    @property
    def template(self) -> str:
        """Source text, a format string over a row's columns."""
        return self.task.template

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything saved with the tensors: method, task, backbone and its identity, scores, data fingerprint."""
        return dict(self.saved.metadata)

    @property
    def lacks(self) -> list[str]:
        """What a prompt file of version 1 does not say and the task's record filled in."""
        return [name for name in NEEDED if name not in self.saved.metadata]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that inference needs, on the CPU: `prompt` [tokens, hidden] for prompt methods, else others."""
        return dict(self.saved.collapsed)

    def text(self, row: str | Row) -> str:
        """The source text of a row.

        Args:
            row: The template's columns as a dictionary, or the only column's text as a string.

        Raises:
            InputError: A column is missing, or a string is given for a template of several columns.
        """
        return source_text(self.task, row)

    def with_card(
        self, *, scores: Mapping[str, Score] | None = None, data_license: str | None = None, note: str | None = None
    ) -> Self:
        """The same prompt with more on its card; the tensors stay as they are.

        Args:
            scores: What `ept.evaluate` returned, shown with intervals in place of the scores of its training.
            data_license: License of the rows that it was trained on, as the Hub names it, for example `cc-by-4.0`.
            note: A paragraph for the reader: what it is good for, what it is not.
        """
        added: dict[str, Any] = {"data_license": data_license, "note": note}
        if scores is not None:
            added["scores"] = {
                name: {"value": one.value, "ci_low": one.low, "ci_high": one.high} for name, one in scores.items()
            }
        metadata = {**self.saved.metadata, **{key: value for key, value in added.items() if value is not None}}
        return replace(self, saved=SavedPrompt(self.saved.tensors, self.saved.collapsed, metadata))

    def save_pretrained(self, folder: str | Path, **options: Any) -> str | None:  # type: ignore[override]
        """Write `prompt.safetensors` (all metadata in its header), `config.json` and the card `README.md`.

        Args:
            folder: Where to write; made if it does not exist.
            options: `push_to_hub=True` and `repo_id="owner/name"` upload the folder too, as `push_to_hub` does.

        Returns:
            The commit's address where it was uploaded, else None.

        Raises:
            InputError: The folder cannot be written.
        """
        try:
            return super().save_pretrained(folder, **options)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({error.strerror or error}); choose another folder"
            ) from error

    def _save_pretrained(self, save_directory: Path) -> None:
        """The mixin's hook. A card of another prompt is removed; the mixin then writes this one's."""
        metadata = {**self.saved.metadata, **_record(self.task), "source_length": self.source_length}
        save_prompt(save_directory / PROMPT_FILE, self.saved.tensors, self.saved.collapsed, metadata)
        write_text(save_directory / CONFIG_FILE, json.dumps(metadata, indent=2, sort_keys=True) + "\n")
        (save_directory / "README.md").unlink(missing_ok=True)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, token: str | None = None, **options: Any
    ) -> str:
        """Upload the prompt with its card to the Hub and return the commit's address.

        Args:
            repo_id: Repository, `owner/name`; created if it does not exist.
            private: Whether a new repository is private; by default as the owner's settings say.
            token: Access token with the right to write; by default the one of the Hub's login.
            options: `commit_message`, `branch`, `create_pr` and others of huggingface_hub's `ModelHubMixin`.

        Raises:
            InputError: The Hub refuses the upload or cannot be reached.
        """
        options = {"commit_message": "Upload a prompt", "model_card_kwargs": {"repo_id": repo_id}, **options}
        with one_sentence(repo_id):
            return str(super().push_to_hub(repo_id, private=private, token=token, **options))

    def generate_model_card(self, repo_id: str = "path/or/repo", **_: Any) -> ModelCard:
        """The model card: task, template, scores, data, use. `repo_id` appears in its example."""
        return card({**self.saved.metadata, **_record(self.task), "task": self.task.name}, self.title, repo_id)

    def __repr__(self) -> str:
        backbone = self.saved.metadata.get("backbone", "an unnamed backbone")
        shape = (
            "x".join(map(str, self.saved.collapsed["prompt"].shape)) if "prompt" in self.saved.collapsed else "weights"
        )
        return f"Prompt({self.title}, task={self.task.name!r}, {shape}, backbone={backbone!r})"


# Once for each template, not for each row.
_columns = functools.cache(named_columns)


def source_text(task: Task, row: str | Row) -> str:
    """The source text that a task's template makes of a row; see `Prompt.text`."""
    if isinstance(row, str):
        columns = _columns(task.template)
        if len(columns) != 1:
            raise InputError(
                f"the template {task.template!r} has the columns {', '.join(columns)}, but a row is one string; pass a "
                "dictionary with these columns"
            )
        row = {columns[0]: row}
    try:
        row = task.prepare(dict(row)) if task.prepare else row
        for name in _columns(task.template):
            if is_missing(row[name]):
                raise InputError(f"the column {name!r} is empty; fill it in or remove the row")
        text = task.template.format_map(row)
        text.encode()
        return text
    except UnicodeEncodeError as error:
        raise InputError("the text is not valid Unicode (half a character); correct it") from error
    except KeyError as error:
        raise InputError(
            f"the column {error.args[0]!r} of the template {task.template!r} is missing (found: "
            f"{listed(ascii(name)[1:-1] for name in row)})"
        ) from error


def _record(task: Task) -> dict[str, Any]:
    names = ("template", "kind", "cue")
    return {
        "labels": list(task.labels),
        "metrics": list(task.metrics),
        **{name: getattr(task, name) for name in names},
    }


def _task(name: str, known: Task | None, values: Mapping[str, Any]) -> Task:
    """The shipped task where the prompt's template and labels are its own, else a task made of what the file says."""
    labels = tuple(str(label) for label in values["labels"] or ())
    if known is not None and (known.template, known.labels) == (values["template"], labels):
        return known
    return Task(
        name=name,
        suite="own",
        config="",
        title=name,
        kind=values["kind"],
        columns=dict.fromkeys(named_columns(values["template"]), "text"),
        template=values["template"],
        labels=labels,
        metrics=tuple(values["metrics"] or METRICS[values["kind"]][:2]),
        split="carve",
        cue=values["cue"] or Task.cue,
        source_length=int(values["source_length"]),
    )


def _read_adapter(folder: Path) -> SavedPrompt:
    """The prompt in an adapter folder of PEFT or of DePT's released code, or in an .npy file."""
    from ept.exchange.formats import read_foreign

    foreign = read_foreign(folder)
    base = foreign.base_model.get("base_model_name_or_path")
    metadata = {"method": foreign.method, **({"backbone": base} if base else {})}
    return SavedPrompt(foreign.tensors, foreign.tensors, metadata)


def _best_seed(folder: Path, files: list[Path]) -> Path:
    """The prompt with the best validation score that settings.json names; the first where it names none."""
    try:
        scores = parse_json((folder / "settings.json").read_text(encoding="utf-8"))["best_validation"]
        named = {folder / f"seed{seed}.safetensors": score for seed, score in scores.items() if score is not None}
    except (OSError, ValueError, KeyError, AttributeError):
        return files[0]
    return max(files, key=lambda file: named.get(file, float("-inf")))
