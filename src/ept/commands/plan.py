"""The verb that reckons what a configuration costs."""

import argparse

from ept.commands.options import Verbs


def add_verbs(verbs: Verbs) -> None:
    """plan."""
    planning = verbs.add(plan)
    planning.add_argument(
        "--config",
        "--configfile",
        nargs="+",
        default=["config/config.yaml"],
        help="configuration files, a backbone each (config/config.yaml)",
    )
    planning.add_argument(
        "--rate",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=TFLOPS",
        help="10^12 operations a second that were measured, for what is assumed; NAME=TFLOPS:GIB adds another GPU",
    )


def plan(options: argparse.Namespace) -> None:
    """Print memory, steps and hours of each method on named GPUs, and what does not fit, before anything starts."""
    from ept.config import load_configuration
    from ept.cost.plan import plan_text
    from ept.experiment import Experiment

    texts = [plan_text(Experiment(load_configuration(path)), options.rate) for path in options.config]
    print("\n\n".join(texts))
