"""From a configuration to its packs: what is trained, under which hash, from which files.

Everything here is known when Snakemake parses the workflow: no download, no torch, no data is read.
"""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

from ept.backbones.families import family_of
from ept.backbones.files import backbone_identity, hidden_size, read_config, tokenizer_files
from ept.config.configuration import Configuration, check_backbone
from ept.config.sections import BackboneSettings
from ept.config.settings import MULTITASK, SOURCE, FewShotSettings, MethodSettings, Rates, check_regime
from ept.config.variants import Variant
from ept.data.source import DataSource, identity
from ept.demo.identity import BACKBONE_FOLDER, encoder_folder
from ept.errors import InputError
from ept.files import digest, sha256_file
from ept.methods.registry import METHODS, check_start, get_method
from ept.plan import paths
from ept.plan.pack import Pack

# Raised when a change of the code changes results without any setting having changed.
RESULTS_VERSION = 2
# Fields of a task's record that do not change its tokenized rows, or that the rows' identity has.
_NOT_TOKENIZED = ("metrics", "title", "source_length", "sets", "own", "code", "label", "classes", "note")
# Fields that the first records did not have, with what they say of these.
_LATER = (("test_split", "validation"), ("most_train", 0), ("image", None))


class Packs:
    """The packs of one configuration: which runs train together, from which files, under which hash.

    Raises InputError where the configuration names several local folders that do not exist.
    """

    def __init__(self, config: Configuration):
        self.config = config
        check_local_folders(config)
        self.data = DataSource(kind=config.data.source, path=config.data.path, seed=config.data.seed)
        # Made once each: many rows of tables and all starts from sources ask for the same ones.
        self._plain_packs: dict[tuple[str, str, str, str], Pack] = {}
        self._tokenized: dict[str, Path] = {}

    @cached_property
    def backbone_folder(self) -> Path:
        """The folder that the backbone is loaded from."""
        backbone = self.config.backbone
        if backbone.source == "demo":
            return BACKBONE_FOLDER
        if backbone.source == "hub":
            return paths.hub_backbone_folder(backbone.name, backbone.revision)
        return Path(backbone.id)

    @cached_property
    def backbone_identity(self) -> str:
        """Hub repository and revision, or a digest of the files."""
        backbone = self.config.backbone
        if backbone.source == "hub":
            return f"{backbone.id}@{backbone.revision}"
        return backbone_identity(self.backbone_folder)

    @cached_property
    def hidden_size(self) -> int | None:
        """d, the size of the backbone's embeddings; None before the backbone is downloaded."""
        return hidden_size(self.backbone_folder) if self.backbone_folder.is_dir() else None

    @cached_property
    def backbone_files(self) -> list[Path]:
        """What training reads of the backbone: the downloaded folder, or the files of a local one."""
        if self.config.backbone.source == "hub":
            return [self.backbone_folder]
        return [self.backbone_folder / "config.json", *sorted(self.backbone_folder.glob("*.safetensors"))]

    @cached_property
    def tokenizer_files(self) -> list[Path]:
        """What tokenizing reads of the backbone."""
        if self.config.backbone.source == "hub":
            return [self.backbone_folder]
        return tokenizer_files(self.backbone_folder)

    def data_identity(self, task: str) -> str:
        """The declared identity of a task's data (part of paths and hashes)."""
        return identity(self.data, self.config.tasks.record(task))

    def raw_folder(self, task: str) -> Path:
        """The task's published splits."""
        return paths.raw_folder(self.data_identity(task), task)

    def tokenized_folder(self, task: str) -> Path:
        """The task's tokenized splits."""
        if task not in self._tokenized:
            self._tokenized[task] = self._tokenized_folder(task)
        return self._tokenized[task]

    @cached_property
    def encoder_identity(self) -> str:
        """What the image encoder is known by."""
        vision = self.config.vision
        return encoder_identity(vision.source, vision.id, vision.revision)

    def visual_folder(self, task: str) -> Path | None:
        """The features of the task's images, by published split; None for a task without images."""
        vision = self.config.vision
        if self.config.tasks.record(task).image is None:
            return None
        name = Path(vision.id).name or vision.source
        hash_ = digest([self.data_identity(task), self.encoder_identity, vision.patches])
        return paths.visual_folder(f"{name}-{hash_}", task)

    def _tokenized_folder(self, task: str) -> Path:
        record = {
            key: value
            for key, value in dataclasses.asdict(self.config.tasks.record(task)).items()
            if not callable(value) and key not in _NOT_TOKENIZED and (key, value) not in _LATER
        }
        if code := self.config.tasks.record(task).code:
            record["code"] = code
        parts: list[Any] = [self.data_identity(task), record, self.config.source_length(task), self.backbone_identity]
        if (most_test := self.config.test_rows(task)) is not None:
            parts.append({"test_rows": most_test})
        hash_ = digest(parts)
        return paths.tokenized_folder(self.config.backbone.name, task, hash_)

    def pack(
        self,
        method: str,
        task: str,
        regime: str,
        initialize_from: str,
        variant: Variant | None = None,
        source_task: str | None = None,
        learning_rates: Rates | None = None,
    ) -> Pack:
        """The pack of one method, task and regime.

        Args:
            method: Name of the method. What its record fixes (`Method.overrides`) replaces the settings of `variant`.
            task: The target task, or the source task in the regime `source`.
            regime: full, source, or k<number>.
            initialize_from: scratch or source.
            variant: Settings of the prompts in place of the configuration's own.
            source_task: The only source task, for a method that starts from one.
            learning_rates: The grid in place of the configuration's.

        Raises:
            InputError: A method, task or regime is unknown, the method cannot start so, or the backbone cannot hold its
                parameter budget.
        """
        if variant or source_task or learning_rates:
            return self._pack(method, task, regime, initialize_from, variant, source_task, learning_rates)
        key = (method, task, regime, initialize_from)
        if key not in self._plain_packs:
            self._plain_packs[key] = self._pack(*key)
        return self._plain_packs[key]

    def _pack(
        self,
        method: str,
        task: str,
        regime: str,
        initialize_from: str,
        variant: Variant | None = None,
        source_task: str | None = None,
        learning_rates: Rates | None = None,
    ) -> Pack:
        config = self.config
        variant = variant or Variant("", config.prompt, config.ept)
        prompt, ept = get_method(method).fixed(variant.prompt, variant.ept)
        if with_images := config.tasks.record(task).image is not None:
            # One rank for all tasks, for as many rows of A as the reference text and the patches have.
            prompt = dataclasses.replace(prompt, reference_length=config.vision.rows(prompt.reference_length))
        variant = dataclasses.replace(variant, prompt=prompt, ept=ept)
        check_regime(regime)
        check_start(method, initialize_from)
        check_backbone(config.backbone, method)
        if self.hidden_size is not None:
            check_family(config.backbone, read_config(self.backbone_folder), method)
            check_rank(method, variant, config.method_settings, self.hidden_size)
        candidates = self._candidates(method, task, source_task) if initialize_from == "source" else ()
        check_images(config, method, with_images, candidates)
        if initialize_from == "source" and not candidates:
            raise InputError(f"tasks.source has no task other than {task}; add a source task to start {method} from")
        seeds = config.seeds_of(method, regime)
        settings = {
            "version": RESULTS_VERSION,
            "backbone": backbone_settings(config.backbone, self.backbone_identity, get_method(method).float32),
            "data": self._data_settings(task),
            "task": task,
            "method": method,
            "regime": regime,
            "seeds": list(seeds),
            "initialize_from": {pack.task: pack.hash for pack in candidates} or "scratch",
            **source_order(method, candidates),
            "source_length": config.source_length(task),
            "training": training_settings(config, method, regime, learning_rates, with_images),
            **method_settings(config, method, variant),
            **(self._image_settings() if with_images else {}),
            **({"code": get_method(method).code} if get_method(method).code else {}),
            **choice_settings(config.few_shot, method, initialize_from),
        }
        hash_ = digest(settings)
        where = (config.backbone.name, method, task, regime, hash_)
        return Pack(
            method=method,
            variant=variant,
            task=task,
            record=config.tasks.record(task),
            regime=regime,
            hash=hash_,
            settings=settings,
            seeds=seeds,
            prompts=paths.prompt_folder(*where),
            folder=paths.run_folder(*where),
            checkpoints=paths.checkpoint_folder(*where),
            tokenized=self.tokenized_folder(task),
            visual=self.visual_folder(task),
            candidates=candidates,
        )

    def _image_settings(self) -> dict[str, Any]:
        """How a pack reads images; only packs of tasks with images have these settings."""
        vision = self.config.vision
        return {
            "vision": {
                "encoder": self.encoder_identity,
                "patches": vision.patches,
                "width": vision.width,
                "projection": vision.projection,
                "offset": vision.offset,
            }
        }

    def _data_settings(self, task: str) -> dict[str, Any]:
        """Which data a pack reads; for a task of one's own also its metrics, the first of which selects checkpoints."""
        record = self.config.tasks.record(task)
        settings: dict[str, Any] = {
            "identity": self.data_identity(task),
            "tokenized": self.tokenized_folder(task).name,
        }
        if record.own:
            settings["metrics"] = list(record.metrics)
            if record.own.metric_codes:
                settings["metric_codes"] = list(record.own.metric_codes)
        return settings

    def source_pack(self, method: str, task: str) -> Pack:
        """The pack that trains a method's source prompt."""
        return self.pack(METHODS[method].source_method, task, SOURCE, "scratch")

    def _distilled_pack(self, method: str, teachers: tuple[Pack, ...]) -> Pack:
        """The pack that distills one source prompt from several. The hashes of its teachers stand for the data."""
        settings = {key: value for key, value in teachers[0].settings.items() if key not in ("data", "source_length")}
        settings |= {
            "task": MULTITASK,
            "method": method,
            "initialize_from": {pack.task: pack.hash for pack in teachers},
            **source_order(method, teachers),
            "training": training_settings(
                self.config, method, SOURCE, with_images=any(pack.record.image for pack in teachers)
            ),
            "mpt": dataclasses.asdict(self.config.mpt),
        }
        where = (self.config.backbone.name, method, MULTITASK, SOURCE, digest(settings))
        return dataclasses.replace(
            teachers[0],
            method=method,
            task=MULTITASK,
            hash=digest(settings),
            settings=settings,
            prompts=paths.prompt_folder(*where),
            folder=paths.run_folder(*where),
            checkpoints=paths.checkpoint_folder(*where),
            tokenized=None,
            visual=None,
            candidates=teachers,
        )

    def _candidates(self, method: str, target: str, source_task: str | None) -> tuple[Pack, ...]:
        named, together = source_task or self.config.few_shot.source, METHODS[method].start_from != "best"
        sources = self.config.tasks.source if named == "auto" or together else [named]
        packs = tuple(self.source_pack(method, task) for task in sources if task != target)
        if METHODS[method].start_from == "distilled" and packs:
            return (self._distilled_pack(method, packs),)
        return packs


def encoder_identity(source: str, id_: str, revision: str) -> str:
    """What an image encoder is known by: Hub repository and revision, or a digest of its files.

    The arguments are the keys of `vision`. Raises InputError for a local folder without an encoder.
    """
    folder = encoder_folder(source, id_)
    if folder is None:
        return f"{id_}@{revision}"
    files = sorted(path for ending in ("json", "safetensors") for path in folder.glob(f"*.{ending}"))
    if not any(path.suffix == ".safetensors" for path in files):
        raise InputError(f"{folder} has no image encoder (a safetensors file); correct vision.id")
    return digest([[path.name, sha256_file(path)] for path in files])


def check_local_folders(config: Configuration) -> None:
    """Raise InputError where both local folders are missing. What one of them lacks is said when it is read."""
    local = {
        "backbone.id": (config.backbone.source, config.backbone.id),
        "data.path": (config.data.source, config.data.path),
    }
    missing = [f"{path} ({key})" for key, (kind, path) in local.items() if kind == "local" and not Path(path).is_dir()]
    if len(missing) > 1:
        raise InputError(f"these folders do not exist: {', '.join(missing)}; put your files there, or correct the keys")


def backbone_settings(backbone: BackboneSettings, identity: str, float32: bool = False) -> dict[str, str | bool]:
    """Which weights a pack reads, and their precision; `float32`: the method needs the backbone in float32.

    The precision is the one that is used, not `auto`, and the same on every device: one hash, one computation.
    """
    settings: dict[str, str | bool] = {"name": backbone.name, "identity": identity}
    settings |= {"dtype": backbone.used_dtype(float32), "tf32": backbone.tf32}
    return settings if backbone.quantization == "none" else settings | {"quantization": backbone.quantization}


def source_order(method: str, candidates: tuple[Pack, ...]) -> dict[str, list[str]]:
    """The order of the source tasks, for methods that use all of them: their sums depend on it, and ATTEMPT's start."""
    if METHODS[method].start_from == "best" or not candidates:
        return {}
    return {"source_order": [pack.task for pack in candidates]}


def training_settings(
    config: Configuration, method: str, regime: str, learning_rates: Rates | None = None, with_images: bool = False
) -> dict[str, Any]:
    """How a pack is trained; `learning_rates` replace the configuration's grid, a trained projection adds its own."""
    section = config.training_settings(regime)
    values = dataclasses.asdict(section)
    values["learning_rates"] = learning_rates or config.learning_rates(section, method)
    if with_images and config.vision.projection == "trained":
        values["learning_rates"] = {**values["learning_rates"], "projection": config.vision.projection_rates}
    if isinstance(section, FewShotSettings):
        for key in ("k", "initialize_from", "source", "choose_by", "probe_steps"):
            del values[key]
        values["k"] = int(regime.removeprefix("k"))
    # Only where they do something: other hashes do not depend on them.
    if get_method(method).packed or not section.dropout:
        del values["dropout"]
    if not section.include_start:
        del values["include_start"]
    return values


def method_settings(config: Configuration, method: str, variant: Variant) -> dict[str, dict[str, Any]]:
    """The sections of the configuration that the method reads, with the keys that it reads."""
    sections = {
        "prompt": variant.prompt,
        "ept": variant.ept,
        "baselines": config.baselines,
        **vars(config.method_settings),
    }
    options: dict[str, dict[str, Any]] = {}
    for option in get_method(method).options:
        section, _, key = option.partition(".")
        values = dataclasses.asdict(sections[section])
        options.setdefault(section, {}).update({key: values[key]} if key else values)
    return options


def choice_settings(few_shot: FewShotSettings, method: str, initialize_from: str) -> dict[str, Any]:
    """How the source is chosen, where that is not the protocol's way."""
    if initialize_from == "scratch" or METHODS[method].start_from != "best" or few_shot.choose_by == "loss":
        return {}
    return {"source_choice": {"choose_by": few_shot.choose_by, "probe_steps": few_shot.probe_steps}}


def check_images(config: Configuration, method: str, with_images: bool, candidates: tuple[Pack, ...]) -> None:
    """Raise InputError for source prompts whose tensors cannot be those of a target with, or without, images."""
    vision = config.vision
    record = get_method(method)
    shares = record.start_from == "distilled" and candidates
    if with_images and vision.projection == "trained" and (shares or not record.input_gradient):
        because = "distils its source prompt over one projection" if shares else "passes no gradient to its input"
        raise InputError(
            f"vision.projection is trained, but {method} {because}; set it to frozen, or leave {method} out of methods"
        )
    if vision.projection == "frozen" and vision.offset == "text":
        return
    for source in candidates:
        if (source.record.image is not None) != with_images:
            raise InputError(
                f"{method} starts from {source.task}, but only one of it and its target has images; that needs "
                "vision.projection frozen and vision.offset text"
            )


def check_family(backbone: BackboneSettings, model: dict, method: str) -> None:
    """Raise InputError for a method that does not fit the kind of backbone; `model` is its config.json."""
    if get_method(method).encoder_decoder and not family_of(model).encoder_decoder:
        raise InputError(
            f"methods names {method}, which needs a backbone with encoder and decoder, but {backbone.name} is a "
            "decoder-only model; remove it from methods"
        )


def check_rank(method: str, variant: Variant, methods: MethodSettings, hidden_size: int) -> None:
    """Raise InputError for a rank or parameter budget that the hidden size rules out, before anything is trained."""
    with variant.named_in_errors():
        if (rank := get_method(method).rank) is not None:
            rank(variant.prompt, variant.ept, methods, hidden_size)
