"""The verb that trains a pack."""

import argparse
import sys

from ept.commands.maintain import abandoned_in_pack, remove
from ept.commands.options import Verbs, add_threads, experiment_of, gpu_count, seconds
from ept.errors import InputError


def add_verbs(verbs: Verbs) -> None:
    """Add `train`."""
    verbs.group("train")
    training = verbs.add_with_config(train)
    training.add_argument(
        "--hash", help="settings hash of the pack, as in its path; add --method and --task to find it faster"
    )
    training.add_argument("--method", help="for example ept")
    training.add_argument("--task", help="for example rte")
    training.add_argument("--regime", help="full, source, or k<number of examples>")
    training.add_argument(
        "--initialize-from",
        choices=["scratch", "source"],
        default="scratch",
        help="start from scratch, or from the best source prompt, which must be trained already (%(default)s)",
    )
    add_threads(training)
    training.add_argument(
        "--gpus",
        type=gpu_count,
        default=1,
        help="GPUs to reserve for this training, or as many as the machine has; 0: use the CPU (%(default)s)",
    )
    training.add_argument(
        "--checkpoint-seconds",
        type=seconds,
        default=60,
        help="seconds between checkpoints; a killed job continues from the last one (%(default)s)",
    )


def train(options: argparse.Namespace) -> None:
    """Train one method on one task in one regime: all learning rates and seeds, in one job."""
    experiment = experiment_of(options)
    if options.hash:
        pack = experiment.find(options.hash, options.method, options.task)
    elif options.method and options.task and options.regime:
        pack = experiment.pack(options.method, options.task, options.regime, options.initialize_from)
    else:
        raise InputError("name a pack by --hash, or by --method, --task and --regime")
    from ept.devices import free_gpus, limit_threads

    limit_threads(options.threads)
    from ept.training.checkpoint import Interrupted
    from ept.training.train import alone_with, train_job

    try:
        with alone_with(pack) as open_work:
            # Also what another process has trained while this one waited for it.
            if not open_work:
                print(f"{pack.folder} is complete; delete that folder to train it again")
                return
            for path, _ in abandoned_in_pack(pack):
                remove(path)
            with free_gpus(options.gpus):
                train_job(experiment, pack, options.threads, options.checkpoint_seconds)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + stop.signal)
