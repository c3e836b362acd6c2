"""Long work shows itself: a bar on a terminal, a plain line every few seconds in a log."""

import sys
import time

from tqdm import tqdm

# The rate that tqdm would show is of steps, not of examples.
BAR = "{desc}: {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt}, {remaining} left{postfix}"


class Progress:
    """Shows step, examples per second, time left, best validation score so far and how many runs still train."""

    def __init__(self, title: str, steps: int, seconds_between_lines: float = 10.0):
        """Begin to show something with a title and a number of steps.

        A log gets a line for the first step, which says that the start is over, for the last one, and in between at
        most every so many seconds.
        """
        self.title = title
        self.steps = steps
        self.seconds_between_lines = seconds_between_lines
        self.started, self.last_line = time.monotonic(), float("-inf")
        self.steps_before: int | None = None
        self.examples = 0
        self.best = float("-inf")
        self.bar = tqdm(total=steps, desc=title, bar_format=BAR, leave=False) if sys.stderr.isatty() else None

    def step(self, step: int, examples: int, alive: int, runs: int) -> None:
        """Show that `step` steps are done; `examples` were seen in the last one, over all runs.

        `alive` of `runs` runs still train.
        """
        if self.steps_before is None:
            # Not 0 after a resume.
            self.steps_before = step - 1
            if self.bar is not None:
                self.bar.update(self.steps_before)
        self.examples += examples
        if self.bar is not None:
            self.bar.update(1)
            self.bar.set_postfix_str(self._state(alive, runs), refresh=False)
        elif step == self.steps or not alive or time.monotonic() - self.last_line >= self.seconds_between_lines:
            self.last_line = time.monotonic()
            left = self._elapsed() / (step - self.steps_before) * (self.steps - step)
            line = f"{self.title}: step {step}/{self.steps}, {left:.0f} s left, {self._state(alive, runs)}"
            print(line, file=sys.stderr, flush=True)

    def validated(self, best: float) -> None:
        """Remember the best validation score over the runs, minus infinity without one, for the next line."""
        self.best = best

    def note(self, line: str) -> None:
        """Print a line of its own."""
        tqdm.write(f"{self.title}: {line}", file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _state(self, alive: int, runs: int) -> str:
        rate = self.examples / max(self._elapsed(), 1e-9)
        best = "none yet" if self.best == float("-inf") else f"{self.best:.1f}"
        return f"{rate:.0f} examples/s, best validation {best}, {alive}/{runs} runs alive"


class RowProgress:
    """Shows how many rows of a file are done, rows per second and the time left."""

    def __init__(self, title: str, rows: int | None, seconds_between_lines: float = 10.0):
        """Begin to show `rows` rows (None where nobody knows); a log gets a line at most every so many seconds."""
        self.title, self.rows, self.done = title, rows, 0
        self.seconds_between_lines = seconds_between_lines
        self.started = self.last_line = time.monotonic()
        self.bar = tqdm(total=rows, desc=title, unit=" rows") if sys.stderr.isatty() else None

    def update(self, rows: int) -> None:
        """Show that so many more rows are done."""
        self.done += rows
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(rows)
        elif now - self.last_line >= self.seconds_between_lines:
            self.last_line, rate = now, self.done / (now - self.started)
            whole = "" if self.rows is None else f" of {self.rows:,}"
            left = "" if self.rows is None else f", {(self.rows - self.done) / rate:.0f} s left"
            print(f"{self.title}: {self.done:,}{whole} rows, {rate:.0f} rows/s{left}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar."""
        if self.bar is not None:
            self.bar.close()
