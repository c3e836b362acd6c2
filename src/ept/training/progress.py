"""Long work shows itself: a bar on a terminal, a plain line every few seconds in a log."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Step, examples per second, time left, best validation score so far, runs alive."""

    def __init__(self, title: str, steps: int, seconds_between_lines: float = 10.0):
        self.title = title
        self.steps = steps
        self.seconds_between_lines = seconds_between_lines
        self.started = self.last_line = time.monotonic()
        self.steps_before: int | None = None
        self.examples = 0
        self.best = float("nan")
        self.bar = tqdm(total=steps, desc=title, leave=False) if sys.stderr.isatty() else None

    def step(self, step: int, examples: int, alive: int, runs: int) -> None:
        """Say that `step` steps are done; `examples` were seen in the last one, over all runs."""
        if self.steps_before is None:
            # Not 0 where training goes on from a checkpoint.
            self.steps_before = step - 1
            if self.bar is not None:
                self.bar.update(self.steps_before)
        self.examples += examples
        if self.bar is not None:
            self.bar.update(1)
            self.bar.set_postfix_str(f"best {self.best:.1f}, {alive}/{runs} runs alive", refresh=False)
        elif step == self.steps or time.monotonic() - self.last_line >= self.seconds_between_lines:
            self.last_line = time.monotonic()
            print(self._line(step, alive, runs), file=sys.stderr, flush=True)

    def validated(self, best: float) -> None:
        """Remember the best validation score over the runs, for the next line."""
        self.best = best

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def _line(self, step: int, alive: int, runs: int) -> str:
        elapsed = time.monotonic() - self.started
        left = elapsed / (step - self.steps_before) * (self.steps - step)
        return (
            f"{self.title}: step {step}/{self.steps}, {self.examples / elapsed:.0f} examples/s, "
            f"{left:.0f} s left, best validation {self.best:.1f}, {alive}/{runs} runs alive"
        )
