"""What each method costs: training time and memory, parameters, and the time of one prediction."""

from ept.experiment import Experiment
from ept.methods import METHODS
from ept.pack import Pack
from ept.results.collect import PackResult, collect
from ept.results.inference_time import InferenceTime, measure_inference
from ept.results.layout import Cell, Layout
from ept.results.samples import group
from ept.table_plan import measured_packs

REFERENCE = "pt"
NOTES = (
    "Times are of this machine and change from run to run; no other table holds any.",
    "Training: seconds of all runs (learning rates and seeds) of all tasks, and per run. Runs together: how many train "
    "in one process at a time, all of a task, or one of a method that changes the backbone's weights; seconds per run, "
    "examples / s and peak memory are those of so many, and compare methods where their number is the same. Source "
    "prompts are not counted.",
)


def make_table(experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """A row a method: sums and means over its packs with full data, and a measurement made now."""
    groups = group(collect(packs))
    times = measure_inference(experiment, measured_packs(packs))
    rows = [_row(members, times) for members in groups]
    reference = next((row["inference_seconds"] for row in rows if row["method"] == REFERENCE), float("nan"))
    rows = [row | {"inference_ratio": row["inference_seconds"] / reference} for row in rows]
    return rows, efficiency_layout(rows)


def _row(members: list[PackResult], times: dict[str, InferenceTime]) -> dict:
    records = [result.record for result in members]
    numbers = [len(record["runs"]) for record in records]
    runs = sum(numbers)
    seconds = sum(record["train_seconds"] for record in records)
    examples = sum(record["examples_per_second"] * record["train_seconds"] for record in records)
    (time,) = (times[result.pack.hash] for result in members if result.pack.hash in times)
    return {
        "backbone": records[0]["backbone"],
        "method": members[0].pack.method,
        "regime": members[0].pack.regime,
        "tasks": len(members),
        "runs": runs,
        "runs_together": max(numbers) if METHODS[members[0].pack.method].packed else 1,
        "train_seconds": seconds,
        "train_seconds_per_run": seconds / runs,
        "examples_per_second": examples / seconds,
        "peak_memory_bytes": max(record["peak_memory_bytes"] for record in records),
        "trained_parameters": max(record["trained_parameters"] for record in records),
        "stored_parameters": max(record["stored_parameters"] for record in records),
        "train_device": records[0]["device"],
        "train_threads": records[0]["threads"],
        "inference_seconds": time.seconds,
        "inference_task": time.task,
        "inference_rows": time.rows,
        "inference_length": time.length,
        "inference_device": time.device,
        "inference_threads": time.threads,
    }


def efficiency_layout(rows: list[dict]) -> Layout:
    """Methods as rows, costs as columns."""
    first = rows[0]
    batch = f"{first['inference_rows']} texts of {first['inference_task']} padded to {first['inference_length']} pieces"
    inference = (
        f"Inference: {batch} (the prompt before them not counted) on {first['inference_device']}; medians, all methods "
        f"in turn in one process. × {METHODS[REFERENCE].title} is the ratio of these times: it speaks of prediction "
        "alone. What papers claim of training time is to be compared with s per run."
    )
    return Layout(
        head=[
            "method",
            "trained parameters",
            "stored parameters",
            "training s",
            "s per run",
            "runs together",
            "examples / s",
            "peak MiB",
            "inference ms",
            f"× {METHODS[REFERENCE].title}",
        ],
        lines=[
            [
                Cell(METHODS[row["method"]].title),
                Cell(f"{row['trained_parameters']:,}"),
                Cell(f"{row['stored_parameters']:,}"),
                Cell(f"{row['train_seconds']:.1f}"),
                Cell(f"{row['train_seconds_per_run']:.1f}"),
                Cell(f"{row['runs_together']}"),
                Cell(f"{row['examples_per_second']:.1f}"),
                Cell(f"{row['peak_memory_bytes'] / 2**20:,.0f}"),
                Cell(f"{1000 * row['inference_seconds']:.1f}"),
                Cell("" if row["inference_ratio"] != row["inference_ratio"] else f"{row['inference_ratio']:.2f}"),
            ]
            for row in rows
        ],
        notes=[*NOTES, inference],
    )
