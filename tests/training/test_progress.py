"""What a log shows of a long training."""

from ept.training.progress import Progress


def test_time_left_is_that_of_the_steps_of_this_process(monkeypatch, capsys):
    """Going on from step 900 of 1,000, with two steps a second."""
    now = [50.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress("ept rte", 1000, seconds_between_lines=10)
    for step in range(901, 941):
        now[0] += 0.5
        progress.step(step, examples=32, alive=2, runs=3)
    assert capsys.readouterr().err.splitlines() == [
        f"ept rte: step {step}/1000, 64 examples/s, {left} s left, best validation nan, 2/3 runs alive"
        for step, left in ((920, 40), (940, 30))
    ]
