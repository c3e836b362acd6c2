"""The packs and tables of one configuration, as the workflow and the commands ask for them."""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from ept.config.settings import FULL, MULTITASK, SOURCE
from ept.config.variants import variants
from ept.errors import InputError
from ept.methods.registry import METHODS, SUBJECT
from ept.plan.pack import Pack
from ept.plan.packs import Packs
from ept.plan.tables import COMPARISON, REMEDIES, SUMMARY, headline_tables, plan_tables

STARTS = ("scratch", "source")


class Experiment(Packs):
    """The packs and tables of one configuration."""

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

    def find(self, hash_: str, method: str | None = None, task: str | None = None) -> Pack:
        """The pack with this settings hash.

        Args:
            hash_: Eight hexadecimal digits, as in the pack's paths.
            method: Its method, as in its paths. With method and task a job finds its pack without making all others.
            task: Its task.

        Raises:
            InputError: The hash is of another configuration.
        """
        if method in METHODS and task in {*self.config.tasks.target, *self.config.tasks.source}:
            for request in self._requests(method, task):
                # Not every method has every start and regime.
                with contextlib.suppress(InputError):
                    if (pack := self.pack(method, task, **request)).hash == hash_:
                        return pack
        if hash_ in self._by_hash:
            return self._by_hash[hash_]
        raise InputError(f"no run of this configuration has the settings hash {hash_}; is it another configuration's?")

    @cached_property
    def _by_hash(self) -> dict[str, Pack]:
        return {pack.hash: pack for pack in self.packs}

    def _requests(self, method: str, task: str) -> Iterator[dict[str, Any]]:
        """What `pack` is asked for one method and task by all tables and sources together, the frequent first."""
        config = self.config
        regimes = [FULL, SOURCE, *(f"k{k}" for k in config.few_shot.k)]
        yield from ({"regime": regime, "initialize_from": start} for regime in regimes for start in STARTS)
        for variant in variants(config.prompt, config.ept, config.ablation) if method == SUBJECT else ():
            yield {"regime": FULL, "initialize_from": "scratch", "variant": variant}
        for regime in regimes if method in config.transfer.methods else ():
            for source in config.tasks.source:
                yield {"regime": regime, "initialize_from": "source", "source_task": source}
        if method in config.rate_study.learning_rates:
            rates = config.rate_study.learning_rates[method]
            yield from ({"regime": FULL, "initialize_from": start, "learning_rates": rates} for start in STARTS)
