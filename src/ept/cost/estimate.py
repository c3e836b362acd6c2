"""What a pack costs: memory, steps, operations. From a configuration alone; nothing is downloaded, no data is read."""

import csv
import dataclasses
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ept.backbones.files import read_config
from ept.backbones.shape import BYTES, Shape, known_configs, shape_of
from ept.config.settings import SOURCE, steps_for
from ept.cost.hardware import READ_RATE, Device
from ept.files import parse_json
from ept.methods.registry import METHODS, REFERENCE, Method, Sizes, count_parameters, get_method
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.tasks.record import Task

# Pieces of a label with `</s>`: T5's "0" has three, its "1" and "2" two.
LABEL_PIECES = 3
# Prefixes of the labels of a classification task, which the decoder reads in one pass.
LEAST_PREFIXES = 4
# The layers of the T5 on which the kernel launches of the methods' steps were counted. A forward pass alone has about a
# third of them, over batches that are four times as large (ept.evaluation.score).
COUNTED_LAYERS, FORWARD_SHARE, EVALUATION_BATCHES = 24, 1 / 3, 4
# Tensors for each trained parameter: itself, its gradient, Adam's two moments, the best checkpoint.
COPIES = 5
# What a pass needs besides what it keeps, in layers: temporary gradients and products (a test measures it).
UNDER_WAY = 2
# With gradient checkpointing there is a second forward pass in addition to the two passes of a frozen model.
CHECKPOINTING_EFFORT = 1.5


@dataclass(frozen=True)
class TaskSize:
    """The size of a data set.

    Training rows, test rows by the protocol's split, and the mean source text in pieces (T5's tokenizer, training rows,
    cut at the protocol's length).
    """

    train_rows: int
    test_rows: int
    pieces: int


@dataclass(frozen=True)
class PackCost:
    """What training and testing one pack costs. Bytes are those of the device that trains."""

    runs: int
    steps: int
    trained: int
    """Parameters that one run trains."""
    training_flops: int
    """Multiplications and additions of the steps of all runs."""
    evaluation_flops: int
    """Multiplications and additions of the validations and test predictions of all runs."""
    weight_bytes: int
    """The weights of the frozen backbone."""
    least_bytes: int
    """Weights, what is trained, and a pass of one row of the longest text: with less memory, training fails."""
    batch_bytes: int
    """The same, but with the whole batch of one run in one pass."""
    precision: str
    """bfloat16, float32, or tf32: float32 that a GPU multiplies in TF32."""
    training_launches: int = 0
    """Kernel launches of the steps of all passes."""
    evaluation_launches: int = 0

    @property
    def flops(self) -> int:
        """Operations of everything."""
        return self.training_flops + self.evaluation_flops

    def hours(self, device: Device) -> float:
        """Hours of everything on one such device, start included.

        A step takes as long as its arithmetic or as the launches of its kernels, whichever is longer.
        """
        rate = device.rate(self.precision)
        parts = (
            (self.training_flops, self.training_launches),
            (self.evaluation_flops, self.evaluation_launches),
        )
        seconds = sum(max(flops / rate, launches * device.launch_seconds) for flops, launches in parts)
        start = device.start_seconds + (self.weight_bytes / READ_RATE if device.start_seconds else 0.0)
        return (seconds + start) / 3600


@cache
def task_sizes() -> dict[str, TaskSize]:
    """The sizes of the published data sets, by task."""
    text = files("ept.cost").joinpath("task_sizes.csv").read_text(encoding="utf-8")
    return {
        row["task"]: TaskSize(int(row["train_rows"]), int(row["test_rows"]), int(row["pieces"]))
        for row in csv.DictReader(text.splitlines())
    }


def backbone_shape(experiment: Experiment) -> Shape | None:
    """The sizes of the configuration's backbone; None where they are not known before the download.

    They come from its folder, or from what is known of well-known repositories.
    """
    if experiment.backbone_folder.is_dir():
        return shape_of(read_config(experiment.backbone_folder))
    config = known_configs().get(experiment.config.backbone.id)
    return shape_of(config) if config else None


def pack_cost(experiment: Experiment, pack: Pack, shape: Shape, gpu: bool) -> PackCost:
    """The cost of a pack.

    MPT's source training takes a batch of each of its tasks in every step, and has its teachers read each once.

    Args:
        experiment: The configuration.
        pack: One of its packs.
        shape: The sizes of its backbone.
        gpu: Whether it trains on a GPU.

    Returns:
        Its cost, with data of published size, or of the size of a user's data once they are fetched.
    """
    config, settings = experiment.config, experiment.config.training_settings(pack.regime)
    record = get_method(pack.method)
    tasks = [pack.task] if pack.tokenized else [candidate.task for candidate in pack.candidates]
    sizes = {task: task_size(experiment, task) for task in tasks}
    longest = max(config.source_length(task) for task in tasks)
    steps = steps_for(settings, sum(size.train_rows for size in sizes.values()))
    runs = pack.number_of_runs
    batch = min(settings.batch_size, pack.k or max(size.train_rows for size in sizes.values()))
    patches = config.vision.patches if pack.record.image else 0
    prompt = prompt_length(pack) + patches
    effort = record.effort * (CHECKPOINTING_EFFORT if config.backbone.gradient_checkpointing else 1.0)
    effort *= halving_share(settings.halving) if record.packed else 1.0
    training = evaluation = predicted = 0.0
    for task, size in sizes.items():
        positions = prompt + min(size.pieces, config.source_length(task))
        step = shape.training_flops(batch, positions, LABEL_PIECES, batch * LABEL_PIECES)
        row = row_flops(config.tasks.record(task), shape, positions)
        validated = math.ceil(steps / settings.evaluate_every) * min(settings.validation_rows, size.train_rows)
        training += runs * steps * step * effort
        rows = runs * validated + (len(pack.seeds) * size.test_rows if pack.regime != SOURCE else 0)
        evaluation += rows * row
        # All runs of a pack that share a pass read a row at once.
        predicted += rows / (runs if record.packed else 1)
        if not pack.tokenized:
            training += steps * batch * row
    variant, methods = pack.variant, config.method_settings
    offset_rows = config.vision.rows(longest) if patches else longest
    sizes_ = Sizes(shape, variant.prompt, variant.ept, config.baselines, offset_rows, methods)
    trained = count_parameters(pack.method, sizes_)
    if patches and config.vision.projection == "trained":
        trained += (config.vision.width + 1) * shape.hidden_size
    dtype = config.backbone.used_dtype(record.float32)
    weights = shape.weight_bytes(dtype, config.backbone.quantization)
    together = _together(settings.runs_per_pass, runs) if record.packed else 1
    passes = math.ceil(runs / together)
    of_a_step = launches(record, shape)
    held = weights + COPIES * BYTES["float32"] * trained * together
    graph = graph_bytes(shape, prompt + longest, dtype, config.backbone.gradient_checkpointing, gpu=gpu)
    graph += UNDER_WAY * (prompt + longest) * shape.kept_bytes(dtype)
    least, whole = held + graph, held + batch * graph
    return PackCost(
        runs,
        steps,
        trained,
        round(training),
        round(evaluation),
        weights,
        least,
        whole,
        precision="tf32" if gpu and dtype == "float32" and config.backbone.tf32 else dtype,
        training_launches=round(steps * passes * len(tasks) * of_a_step),
        evaluation_launches=round(predicted / (EVALUATION_BATCHES * batch) * FORWARD_SHARE * of_a_step),
    )


def _together(runs_per_pass: int | str, runs: int) -> int:
    """How many runs share a pass."""
    return min(runs, runs_per_pass) if isinstance(runs_per_pass, int) else runs


def launches(record: Method, shape: Shape) -> float:
    """Kernel launches of one training step over a backbone of this shape.

    A method whose launches were not counted is taken for the reference, or for the costliest of those that train inside
    the backbone.
    """
    inside = max(method.launches for method in METHODS.values())
    counted = record.launches or (METHODS[REFERENCE].launches if record.packed else inside)
    return counted * shape.layers / COUNTED_LAYERS


def zero_shot_flops(experiment: Experiment, shape: Shape) -> int:
    """Multiplications and additions of predicting the test rows of every target task without a prompt."""
    config, total = experiment.config, 0
    for task in config.tasks.target:
        size, record = task_size(experiment, task), config.tasks.record(task)
        positions = min(size.pieces, config.source_length(task)) + (config.vision.patches if record.image else 0)
        total += size.test_rows * row_flops(record, shape, positions)
    return total


def row_flops(task: Task, shape: Shape, positions: int) -> int:
    """Multiplications and additions of predicting one row of a task, at this number of positions."""
    return shape.prediction_flops(1, positions, max(LEAST_PREFIXES, len(task.labels)))


def graph_bytes(shape: Shape, positions: int, dtype: str, checkpointing: bool = False, gpu: bool = True) -> int:
    """What the backward pass keeps of one row, in bytes.

    Its positions in every layer of the stack that reads the text, its part of the position bias, and the output head's
    logits (float32, with their gradient and a copy). A T5 in bfloat16 on a CPU keeps attention weights instead of the
    position bias.
    """
    layers = shape.encoder_layers or shape.decoder_layers
    kept = shape.kept_bytes(dtype)
    of_layers = layers * shape.hidden_size * BYTES[dtype] + kept if checkpointing else layers * kept
    bias = shape.heads * positions**2 * BYTES[dtype] if shape.encoder_layers else 0
    if dtype == "bfloat16" and not gpu:
        bias *= 1 if checkpointing else layers
    return positions * of_layers + bias + 3 * LABEL_PIECES * shape.vocabulary * BYTES["float32"]


def halving_share(rungs: int) -> float:
    """The share of all steps that successive halving leaves: at 1/2, 1/4, ... of the steps half of the runs stop."""
    return 2**-rungs * (1 + rungs / 2)


def prompt_length(pack: Pack) -> int:
    """The number of positions before the text."""
    return get_method(pack.method).tokens(pack.variant.prompt)


def task_size(experiment: Experiment, task: str) -> TaskSize:
    """The size of a task's data.

    That of the published set; of other data the rows that were fetched and texts as long as their limit. Data of a user
    that are not fetched yet count as large as SST-2.
    """
    size = task_sizes().get(task) or _own_size(experiment, task)
    most = experiment.config.test_rows(task)
    return size if most is None else dataclasses.replace(size, test_rows=min(size.test_rows, most))


def _own_size(experiment: Experiment, task: str) -> TaskSize:
    usual = task_sizes()["sst2"]
    rows = _fetched_rows(experiment, task)
    train, test = rows or (usual.train_rows, usual.test_rows)
    return TaskSize(train, test, experiment.config.tasks.record(task).source_length)


def _fetched_rows(experiment: Experiment, task: str) -> tuple[int, int] | None:
    """Rows of the training and of the last published split, from the manifest of the fetched data."""
    try:
        manifest = parse_json((experiment.raw_folder(task) / "manifest.json").read_text(encoding="utf-8"))
        rows = [file["rows"] for file in manifest["files"].values()]
        return int(rows[0]), int(rows[-1])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
