"""The benchmark of mixed prompts and of the server at its smallest: what it counts, and that every answer came."""

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
pytest.importorskip("uvicorn", reason="needs the extra `serve`")

from benchmarks.serving import ServingPlan, markdown, measure_serving
from ept.methods.registry import METHODS


def test_ratios_are_made_of_what_was_measured():
    plan = ServingPlan(prompts=4, rows=(8,), rounds=1, clients=4, served=3, requests=8, server_rounds=1)
    result = measure_serving(plan, say=lambda text: None)
    assert [row["labels"] for row in result["mixed"]] == ["equal labels", "different labels"]
    for row in result["mixed"]:
        assert (row["rows"], row["prompts"]) == (8, 4) and row["slowest_method"] in METHODS
        assert row["ratio"] == pytest.approx(row["mixed_seconds"] / row["slowest_seconds"])
    server = result["server"]
    # Requests of 1, 2, 3 and 4 rows in turn.
    assert (server["requests"], server["rows"], server["clients"], server["prompts"]) == (8, 20, 4, 3)
    assert server["ratio"] == pytest.approx(server["requests_per_second"] / server["requests_per_second_in_turn"])
    lines = markdown(result).splitlines()
    shown = [line for line in lines if line.startswith("| 8 |")]
    assert [f"{row['ratio']:.2f}" in line for row, line in zip(result["mixed"], shown, strict=True)] == [True, True]
    (in_turn,) = (line for line in lines if line.startswith("| one request"))
    assert f"{server['requests_per_second_in_turn']:.1f}" in in_turn and f"{server['ratio']:.1f}" in in_turn
