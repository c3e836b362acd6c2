"""The progress of a run on a terminal: the picture of the plugin `rich` with what runs, the time left and a table."""

import logging

from rich.console import Group
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text
from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface
from snakemake_logger_plugin_rich.handler import RichLogHandler

from snakemake_logger_plugin_ept.jobs import Jobs, first_table, time_left


class Screen(RichLogHandler):
    """Progress by rule and of all jobs, the jobs that run, the time left, and the main table when it is made."""

    def __init__(self, settings: OutputSettingsLoggerInterface):
        super().__init__(settings)
        self._jobs = Jobs()
        self.progress.columns = (
            SpinnerColumn("dots", style="default", finished_text="[dim green]✓"),
            TextColumn("[bold blue]{task.description}"),
            BarColumn(bar_width=None, complete_style="green", finished_style="dim green"),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        # `self` is asked for its lines at every refresh.
        self.live_display.update(Panel(Group(self.progress, self), border_style="dim", padding=(0, 1)))

    def __rich__(self) -> Text:
        """The jobs that run, and the time left."""
        names = ", ".join(job.name for job in list(self._jobs.running.values()))
        left = time_left(self._jobs.seconds_left())
        return Text("\n".join([f"now: {names or '-'}", *[left] * bool(left)]), style="default")

    def emit(self, record: logging.LogRecord) -> None:
        """Take an event of Snakemake."""
        job = self._jobs.update(record)
        super().emit(record)
        if job and (table := first_table(job)):
            self.console.print(Text(f"\n{table}"), soft_wrap=True)
