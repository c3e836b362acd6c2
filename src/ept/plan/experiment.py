"""The packs and tables of one configuration, as the workflow and the commands ask for them."""

from functools import cached_property

from ept.config.settings import MULTITASK
from ept.errors import InputError
from ept.plan.pack import Pack
from ept.plan.packs import Packs
from ept.plan.tables import COMPARISON, REMEDIES, SUMMARY, headline_tables, plan_tables


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

    def find(self, hash_: str) -> Pack:
        """The pack with this settings hash. Raises InputError for a hash of another configuration."""
        for pack in self.packs:
            if pack.hash == hash_:
                return pack
        raise InputError(f"no run of this configuration has the settings hash {hash_}; is it another configuration's?")
