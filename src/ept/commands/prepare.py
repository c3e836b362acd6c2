"""Verbs before training: the configuration, data, tokens and the backbone."""

import argparse
from pathlib import Path

from ept.commands.options import Verbs, add_task, add_threads, experiment_of
from ept.errors import InputError


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs that come before training, and those for maintenance."""
    verbs.group("plan")
    verbs.add_with_config(check)
    verbs.add_with_config(plan, several=True).add_argument(
        "--rate",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=TFLOPS",
        help="a measured rate (10^12 operations per second) instead of the assumed one; NAME=TFLOPS:GIB adds a GPU",
    )
    verbs.group("prepare data and backbone")
    add_task(verbs.add_with_config(fetch))
    tokenizing = verbs.add_with_config(tokenize)
    add_task(tokenizing)
    add_threads(tokenizing)
    visual = verbs.add_with_config(visual_features, "visual-features")
    add_task(visual)
    add_threads(visual)
    verbs.add_with_config(download_backbone, "download-backbone")
    converting = verbs.add(convert_weights, "convert-weights")
    converting.add_argument("--folder", required=True, help="folder with pytorch_model.bin, or its shards and index")
    convert = verbs.add(convert_gguf, "convert-gguf")
    convert.add_argument("--file", required=True, type=Path, help="a decoder-only model in GGUF")
    convert.add_argument("--to", required=True, type=Path, help="where config.json, weights and tokenizer go")
    rebuild = verbs.add(rebuild_demo_backbone, "rebuild-demo-backbone")
    rebuild.add_argument("--folder", required=True, help="where config.json, weights and tokenizer go")
    add_threads(rebuild)
    encoder = verbs.add(rebuild_demo_encoder, "rebuild-demo-encoder")
    encoder.add_argument("--folder", required=True, help="where the weights go")
    add_threads(encoder)


def check(options: argparse.Namespace) -> None:
    """Check a configuration and list the tables and trainings that it asks for."""
    from ept.devices import cpu_bfloat16

    experiment = experiment_of(options)
    runs = sum(pack.number_of_runs for pack in experiment.packs)
    tables = {name: experiment.tables[name] for name in experiment.default_tables}
    print(f"{options.config}: {len(tables)} tables from {len(experiment.packs)} packs of {runs} runs in all")
    dtype, instructions = experiment.config.backbone.used_dtype(), cpu_bfloat16()
    print(f"  backbone in {dtype}; bfloat16 instructions of this CPU: {instructions or 'none'}")
    for name, packs in tables.items():
        print(f"  {name}: {len(packs)} packs, methods {', '.join(dict.fromkeys(pack.method for pack in packs))}")


def fetch(options: argparse.Namespace) -> None:
    """Copy or download a task's published splits into data/raw and check them."""
    from ept.data.fetch import fetch

    experiment = experiment_of(options)
    fetch(experiment.config.tasks.record(options.task), experiment.data, experiment.raw_folder(options.task))


def tokenize(options: argparse.Namespace) -> None:
    """Split a task by the protocol and tokenize it (data/tokenized)."""
    from ept.devices import limit_threads

    limit_threads(options.threads)
    from ept.data.prepare import tokenize_task

    experiment = experiment_of(options)
    tokenize_task(
        experiment.config.tasks.record(options.task),
        raw_folder=experiment.raw_folder(options.task),
        tokenizer_folder=experiment.backbone_folder,
        source_length=experiment.config.source_length(options.task),
        out_folder=experiment.tokenized_folder(options.task),
        source_identity=experiment.data_identity(options.task),
        test_rows=experiment.config.test_rows(options.task),
    )


def visual_features(options: argparse.Namespace) -> None:
    """Encode the images of a task, which tasks with images are trained on (data/visual)."""
    from ept.devices import limit_threads

    limit_threads(options.threads)
    from ept.vision.encoder import load_encoder
    from ept.vision.features import write_features

    experiment = experiment_of(options)
    task, vision = experiment.config.tasks.record(options.task), experiment.config.vision
    folder = experiment.visual_folder(options.task)
    if folder is None:
        raise InputError(f"{task.name} has no images; its features are not needed")
    encoder = load_encoder(vision.source, vision.id, vision.revision, vision.patches)
    if (encoder.patches, encoder.width) != (vision.patches, vision.width):
        raise InputError(
            f"the encoder gives {encoder.patches} patches of width {encoder.width}; set vision.patches and "
            "vision.width to these"
        )
    write_features(task, experiment.raw_folder(options.task), list(task.splits), folder, encoder)


def download_backbone(options: argparse.Namespace) -> None:
    """Download the configuration's backbone from the Hugging Face Hub."""
    from ept.backbones.download import download_backbone

    experiment = experiment_of(options)
    backbone = experiment.config.backbone
    if backbone.source != "hub":
        raise InputError(f"{options.config}: backbone.source is {backbone.source}; only a hub backbone is downloaded")
    download_backbone(backbone.id, backbone.revision, experiment.backbone_folder, backbone.weights)


def convert_weights(options: argparse.Namespace) -> None:
    """Write a local model's pytorch_model.bin as safetensors, without running code from it."""
    from ept.backbones.convert import convert_weights

    convert_weights(options.folder)


def convert_gguf(options: argparse.Namespace) -> None:
    """Make a backbone folder from a GGUF model; its weights are dequantized."""
    from ept.backbones.convert import convert_gguf

    convert_gguf(options.file, options.to)


def rebuild_demo_backbone(options: argparse.Namespace) -> None:
    """Train the demonstration backbone and its tokenizer again."""
    from ept.devices import limit_threads

    limit_threads(options.threads)
    import torch

    from ept.demo.pretrain import rebuild

    torch.set_num_threads(options.threads)
    rebuild(options.folder)


def plan(options: argparse.Namespace) -> None:
    """Print each method's memory, steps and hours on several GPUs, and what does not fit."""
    from ept.config.configuration import load_configuration
    from ept.cost.plan import plan_text
    from ept.plan.experiment import Experiment

    texts = [
        plan_text(Experiment(load_configuration(path, options.allow_code)), options.rate) for path in options.config
    ]
    print("\n\n".join(texts))


def rebuild_demo_encoder(options: argparse.Namespace) -> None:
    """Train the demonstration's image encoder again."""
    from ept.devices import limit_threads

    limit_threads(options.threads)
    from ept.vision.pretrain import train_encoder

    train_encoder(options.folder)
