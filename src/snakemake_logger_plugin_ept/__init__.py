"""Snakemake's logger `ept`: progress on a terminal, and a line for each finished job in a log.

Job blocks with all their files go into the log in `.snakemake/log` alone. `--verbose` and `--printshellcmds` show them
here too; `--logger rich` or a profile without `logger` replaces this plugin.
"""

import logging
import re
import sys

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface

from snakemake_logger_plugin_ept.jobs import Jobs, first_table, time_left

BLOCKS = (LogEvent.JOB_INFO, LogEvent.GROUP_INFO)
# Lines without a kind that say nothing to a reader.
NOISE = re.compile(r"Select jobs to execute|Execute \d+ jobs|Using shell|Rules claiming more threads")


class LogHandler(LogHandlerBase):
    """Prints what a person needs to follow a run."""

    def __post_init__(self) -> None:
        """Choose between a terminal and a log."""
        settings = self.common_settings
        stream = sys.stdout if settings.stdout else sys.stderr
        plain = settings.dryrun or settings.quiet or settings.verbose or settings.printshellcmds or settings.debug_dag
        self._handler: logging.Handler
        if stream.isatty() and not plain:
            from snakemake_logger_plugin_ept.screen import Screen

            self._handler = Screen(settings)
        else:
            self._handler = Lines(settings)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, if it says something to a reader."""
        self._handler.handle(record)

    def close(self) -> None:
        """End the picture of the progress."""
        self._handler.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """It replaces Snakemake's own output."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Snakemake keeps its log in .snakemake/log."""
        return False

    @property
    def has_filter(self) -> bool:
        """Records are filtered here."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Records are formatted here."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """The graph of the rules is not used."""
        return False


class Lines(ColorizingTextHandler):
    """Snakemake's own output without the blocks of jobs, and with one line for each job that has finished."""

    def __init__(self, settings: OutputSettingsLoggerInterface):
        formatter = DefaultFormatter(settings.quiet, settings.show_failed_logs)
        shown = DefaultFilter(
            settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds
        )
        stream = sys.stdout if settings.stdout else sys.stderr
        super().__init__(settings.nocolor, stream, formatter, shown)
        self._blocks = settings.verbose or settings.printshellcmds
        self._jobs = Jobs()
        self._finished: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record that is not a block of a job."""
        event = getattr(record, "event", None)
        job = self._jobs.update(record)
        if job:
            self._finished.append(job.name)
            if table := first_table(job):
                self.stream.write(f"\n{table}\n")
        if event == LogEvent.PROGRESS:
            record.left, record.finished, self._finished = self._jobs.seconds_left(), self._finished, []
            self.stream.write(f"{progress_line(record)}\n")
            self.flush()
        elif self._blocks or not (event in (*BLOCKS, LogEvent.JOB_FINISHED) or NOISE.match(record.getMessage())):
            super().emit(record)


def progress_line(record: logging.LogRecord) -> str:
    """`12 of 97 jobs done (12 %), about 3 min left: train pt rte full` of a record of Snakemake's progress."""
    fields = vars(record)
    done, total = fields["done"], fields["total"]
    parts = [f"{done} of {total} jobs done ({100 * done // max(total, 1)} %)"]
    parts += [left] if done < total and (left := time_left(fields["left"])) else []
    names = ", ".join(fields["finished"])
    return ", ".join(parts) + (f": {names}" if names else "")
