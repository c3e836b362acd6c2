"""From a configuration to its packs and tables: what is trained, under which hash, from which files.

Everything here is known when Snakemake parses the workflow: no download, no torch, no data is read.
"""

import dataclasses
from functools import cached_property
from pathlib import Path

from ept import paths
from ept.ablation import Variant
from ept.backbones.files import hidden_size, read_config
from ept.backbones.identity import backbone_identity
from ept.config import Configuration
from ept.config_checks import check_backbone, check_family, check_rank
from ept.data.source import DataSource, identity
from ept.demo import BACKBONE_FOLDER
from ept.errors import InputError
from ept.files import digest
from ept.methods import METHODS, Rates, check_start
from ept.pack import MULTITASK, SOURCE, Pack, check_regime
from ept.pack_settings import backbone_settings, choice_settings, method_settings, training_settings
from ept.table_plan import COMPARISON, REMEDIES, SUMMARY, headline_tables, plan_tables
from ept.tasks import get_task
from ept.tasks.record import Task

# Raised when a change of the code changes results without any setting having changed.
RESULTS_VERSION = 1

TOKENIZER_FILES = ("tokenizer.json", "spiece.model")


class Experiment:
    """The packs and tables of one configuration."""

    def __init__(self, config: Configuration):
        self.config = config
        self.data = DataSource(kind=config.data.source, path=config.data.path, seed=config.data.seed)
        self._source_packs: dict[tuple[str, str], Pack] = {}

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
        """What tokenising reads of the backbone."""
        if self.config.backbone.source == "hub":
            return [self.backbone_folder]
        return [path for name in TOKENIZER_FILES if (path := self.backbone_folder / name).exists()]

    def data_identity(self, task: str) -> str:
        """The declared identity of a task's data (part of paths and hashes)."""
        return identity(self.data, get_task(task))

    def raw_folder(self, task: str) -> Path:
        """The task's published splits."""
        return paths.raw_folder(self.data_identity(task), task)

    def tokenized_folder(self, task: str) -> Path:
        """The task's tokenised splits."""
        record = {
            key: value
            for key, value in dataclasses.asdict(self.config.tasks.record(task)).items()
            if not callable(value) and key not in ("metrics", "title", "source_length")
        }
        # The usual one is left out, so that hashes stay what they were before tasks had a cue.
        if record["cue"] == Task.cue:
            del record["cue"]
        hash_ = digest([self.data_identity(task), record, self.config.source_length(task), self.backbone_identity])
        return paths.tokenized_folder(self.config.backbone.name, task, hash_)

    def pack(
        self,
        method: str,
        task: str,
        regime: str,
        initialise_from: str,
        variant: Variant | None = None,
        source: str | None = None,
        learning_rates: Rates | None = None,
    ) -> Pack:
        """One pack. `regime` is full, source, or k<number>; `initialise_from` is scratch or source.

        `variant` takes the place of the configuration's own settings of the prompts, `source` names the only source
        task of a method that starts from one, and `learning_rates` take the place of the configuration's grid.
        Raises InputError for a method, task or regime that is unknown, for a start that the method cannot have, and for
        a parameter budget that the backbone cannot hold.
        """
        config = self.config
        variant = variant or Variant("", config.prompt, config.ept)
        check_regime(regime)
        check_start(method, initialise_from)
        check_backbone(config.backbone, method)
        if self.backbone_folder.is_dir():
            check_family(config.backbone, read_config(self.backbone_folder), method)
            check_rank(method, variant, self.hidden_size)
        candidates = self._candidates(method, task, source) if initialise_from == "source" else ()
        if initialise_from == "source" and not candidates:
            raise InputError(f"tasks.source has no task other than {task}; add a source task to start {method} from")
        seeds = tuple(config.seeds[:1] if regime == SOURCE else config.seeds)
        settings = {
            "version": RESULTS_VERSION,
            "backbone": backbone_settings(config.backbone, self.backbone_identity),
            "data": {"identity": self.data_identity(task), "tokenized": self.tokenized_folder(task).name},
            "task": task,
            "method": method,
            "regime": regime,
            "seeds": list(seeds),
            "initialise_from": {pack.task: pack.hash for pack in candidates} or "scratch",
            "source_length": config.source_length(task),
            "training": training_settings(config, method, regime, learning_rates),
            **method_settings(config, method, variant),
            **choice_settings(config.few_shot, method, initialise_from),
        }
        hash_ = digest(settings)
        where = (config.backbone.name, method, task, regime, hash_)
        return Pack(
            method=method,
            variant=variant,
            task=task,
            regime=regime,
            hash=hash_,
            settings=settings,
            seeds=seeds,
            prompts=paths.prompt_folder(*where),
            folder=paths.run_folder(config.output, *where),
            checkpoints=paths.checkpoint_folder(config.output, *where),
            tokenized=self.tokenized_folder(task),
            candidates=candidates,
        )

    def source_pack(self, method: str, task: str) -> Pack:
        """The pack that trains a method's source prompt."""
        method = METHODS[method].source_method
        # Every target has them among its candidates: made once, since the workflow is parsed for every job.
        if (method, task) not in self._source_packs:
            self._source_packs[method, task] = self.pack(method, task, SOURCE, "scratch")
        return self._source_packs[method, task]

    def _distilled_pack(self, method: str, teachers: tuple[Pack, ...]) -> Pack:
        """The pack of MPT's source training. The hashes of its teachers stand for the data."""
        settings = {key: value for key, value in teachers[0].settings.items() if key not in ("data", "source_length")}
        settings |= {
            "task": MULTITASK,
            "method": method,
            "initialise_from": {pack.task: pack.hash for pack in teachers},
            "training": training_settings(self.config, method, SOURCE),
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
            folder=paths.run_folder(self.config.output, *where),
            checkpoints=paths.checkpoint_folder(self.config.output, *where),
            tokenized=None,
            candidates=teachers,
        )

    @cached_property
    def tables(self) -> dict[str, list[Pack]]:
        """Every table that can be made, with its packs in the order of the rows."""
        return plan_tables(self)

    @property
    def default_tables(self) -> list[str]:
        """The tables that the configuration asks for: the comparison only where it compares like with like."""
        return [table for table in self.tables if table != COMPARISON or self.config.has_published_backbone]

    def table_packs(self, table: str) -> list[Pack]:
        """The packs behind a table. Raises InputError for one that this configuration does not have."""
        if table not in self.tables:
            remedy = f"; {REMEDIES[table]}" if table in REMEDIES else ""
            raise InputError(f"no table {table} in this configuration; it has {', '.join(self.tables)}{remedy}")
        return self.tables[table]

    def packs_behind(self, name: str) -> list[Pack]:
        """The packs behind a table or behind the summary."""
        if name == SUMMARY:
            return [pack for table in headline_tables(self.config) for pack in self.tables[table]]
        return self.table_packs(name)

    @cached_property
    def packs(self) -> list[Pack]:
        """Every pack of the configuration, source prompts included, each once."""
        reported = [pack for packs in self.tables.values() for pack in packs]
        sources = [candidate for pack in reported for candidate in pack.candidates]
        # MPT's source prompt has teachers, which are source prompts themselves.
        teachers = [candidate for pack in sources for candidate in pack.candidates]
        packs: dict[str, Pack] = {}
        for pack in teachers + sources + reported:
            # Several rows may be one training (EPT and its ablations); the first one gives it its name.
            packs.setdefault(pack.hash, pack)
        return list(packs.values())

    @cached_property
    def tasks(self) -> list[str]:
        """Every task whose data are needed."""
        return list(dict.fromkeys(pack.task for pack in self.packs if pack.task != MULTITASK))

    def find(self, hash_: str) -> Pack:
        """The pack with this settings hash. Raises InputError for a hash of another configuration."""
        for pack in self.packs:
            if pack.hash == hash_:
                return pack
        raise InputError(f"no run of this configuration has the settings hash {hash_}; is it another configuration's?")

    def _candidates(self, method: str, target: str, source: str | None) -> tuple[Pack, ...]:
        named, together = source or self.config.few_shot.source, METHODS[method].sources != "best"
        sources = self.config.tasks.source if named == "auto" or together else [named]
        packs = tuple(self.source_pack(method, task) for task in sources if task != target)
        if METHODS[method].sources == "distilled" and packs:
            return (self._distilled_pack(method, packs),)
        return packs
