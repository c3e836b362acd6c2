"""Verbs that use a trained prompt (predict, evaluate, serve, share) or exchange it with other programs."""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ept.commands.options import Verbs, count, experiment_of, port
from ept.errors import InputError
from ept.exchange.formats import FORMATS, IMPORTS

PROMPT_COLUMN = "prompt"
Write = Callable[[dict[str, Any]], None]


def add_verbs(verbs: Verbs) -> None:
    """Add predict, evaluate, serve, share, import, export and track."""
    verbs.group("use a trained prompt")
    predicting = verbs.add(predict)
    _add_prompt(predicting)
    predicting.add_argument("--output", default="-", help="file to write (.jsonl, .csv or .tsv); - is standard output")
    predicting.add_argument(
        "--decoding",
        choices=("closed", "open"),
        default="closed",
        help="closed: the likeliest label; open: what is written over the whole vocabulary (%(default)s)",
    )
    evaluating = verbs.add(evaluate)
    _add_prompt(evaluating)
    evaluating.add_argument("--label", default="label", help="column with the right answers (%(default)s)")
    serving = verbs.add(serve)
    _add_prompts(serving)
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serving.add_argument("--port", type=port, default=8000, help="port to listen on (%(default)s)")
    serving.add_argument("--max-rows", type=count, default=256, help="rows in one request (%(default)s)")
    serving.add_argument(
        "--max-characters", type=count, default=200_000, help="characters in one request (%(default)s)"
    )
    serving.add_argument("--max-queue", type=count, default=4096, help="rows that wait in all (%(default)s)")
    sharing = verbs.add(share)
    sharing.add_argument("--prompt", required=True, help="prompt file or folder")
    sharing.add_argument("--to", required=True, help="hub:owner/name, or a new folder")
    sharing.add_argument("--private", action="store_true", help="make a new repository private")
    sharing.add_argument("--input", help="labeled rows to score first; the card shows the scores with intervals")
    sharing.add_argument("--label", default="label", help="column of --input with the right answers (%(default)s)")
    sharing.add_argument("--backbone", help="folder or Hub repository of the backbone for --input (the prompt's own)")
    sharing.add_argument("--data-license", help="license of the training data for the card, for example cc-by-4.0")
    sharing.add_argument("--note", help="a paragraph for the card: what the prompt is good for, what it is not")
    _add_exchange_verbs(verbs)


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompt",
        required=True,
        nargs="+",
        action="extend",
        metavar="[NAME=]FILE",
        help="prompt file, folder or hub:owner/name[@revision]; with several, the column `prompt` chooses one by NAME",
    )
    parser.add_argument("--backbone", help="folder or Hub repository of the backbone (the prompt's own)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="precision (%(default)s)")


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    _add_prompts(parser)
    parser.add_argument("--input", required=True, help="rows: .csv, .tsv, .jsonl or .parquet; - is standard input")
    parser.add_argument("--input-format", choices=("csv", "tsv", "jsonl"), help="format of standard input (csv)")
    parser.add_argument("--batch-size", type=count, default=32, help="rows in one pass (%(default)s)")


def predict(options: argparse.Namespace) -> None:
    """Answer every row of a file with a trained prompt."""
    from ept.data.rows import read_rows
    from ept.training.progress import RowProgress

    prompts = _prompts(options.prompt)
    # A file is read once before, so that the time left is known and a bad row at its end is found in seconds.
    checked = None if options.input == "-" else sum(len(rows) for rows in _read(options, prompts))
    model = _model(options, prompts)
    with _writer(options.output) as write, closing(RowProgress("predict", checked)) as progress:
        chunks = _read(options, prompts) if checked is None else read_rows(options.input, options.input_format)
        for rows in chunks:
            chosen = [_chosen(prompts, row) for row in rows]
            answers = model.predict(rows, chosen, decoding=options.decoding, batch_size=options.batch_size)
            for row, answer in zip(rows, answers, strict=True):
                write({**row, "prediction": answer})
            progress.update(len(rows))


def _read(options: argparse.Namespace, prompts: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The rows of the input, each checked against its prompt's template."""
    from ept.api.rows import check_texts
    from ept.data.rows import read_rows

    done = 0
    for rows in read_rows(options.input, options.input_format):
        place = _place(options.input, done)
        check_texts(rows, [_chosen(prompts, row, place(number)) for number, row in enumerate(rows)], place)
        done += len(rows)
        yield rows


def _place(path: str, done: int = 0) -> Callable[[int], str]:
    """What messages call a row of a file by its number from 0 after `done` others; a file's first row is row 1."""
    return lambda number: f"{path}, row {done + number + 1}"


def evaluate(options: argparse.Namespace) -> None:
    """Score a trained prompt on labeled rows, with 95 % intervals over the rows."""
    from ept.api import evaluate as scoring
    from ept.data.rows import read_rows

    prompts = _prompts(options.prompt)
    if len(prompts) > 1:
        raise InputError("evaluate takes one prompt; call it once for each")
    (prompt,) = prompts.values()
    rows = [row for chunk in read_rows(options.input, options.input_format) for row in chunk]
    model = _model(options, prompts)
    scores = scoring.score_rows(rows, options.label, prompt, model, options.batch_size, _place(options.input))
    print(f"{len(rows)} rows of {options.input}")
    for name, found in scores.items():
        print(f"{name}: {found.value:.1f} (95 % interval {found.low:.1f} to {found.high:.1f})")


def serve(options: argparse.Namespace) -> None:
    """Answer requests over HTTP, with any of the prompts for each request."""
    try:
        from ept.serving.app import Limits, serve
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; install the extra `serve`") from error
    prompts = _prompts(options.prompt)
    model = _model(options, prompts)
    limits = Limits(rows=options.max_rows, characters=options.max_characters, queue_rows=options.max_queue)
    print(f"http://{options.host}:{options.port} serves {', '.join(prompts)}", file=sys.stderr, flush=True)
    serve(model, prompts, options.host, options.port, limits)


def share(options: argparse.Namespace) -> None:
    """Write a prompt with its card to a folder, or upload it to the Hugging Face Hub."""
    from ept.api.prompt import Prompt

    prompt = Prompt.from_pretrained(options.prompt)
    if not options.to.startswith("hub:") and Path(options.to).exists():
        raise InputError(f"{options.to} exists already; name a new folder")
    scores = _scores(options, prompt) if options.input else None
    prompt = prompt.with_card(scores=scores, data_license=options.data_license, note=options.note)
    if options.to.startswith("hub:"):
        print(prompt.push_to_hub(options.to.removeprefix("hub:"), private=options.private or None))
        return
    prompt.save_pretrained(options.to)
    print(f"{options.to}: {prompt!r}")


def _scores(options: argparse.Namespace, prompt: Any) -> Any:
    from ept.api import evaluate as scoring
    from ept.api.prompted import Prompted
    from ept.data.rows import read_rows

    name = options.backbone or prompt.metadata.get("backbone")
    if name is None:
        raise InputError("the prompt does not name its backbone; name it with --backbone")
    rows = [row for chunk in read_rows(options.input) for row in chunk]
    model = Prompted.from_pretrained(name)
    return scoring.score_rows(rows, options.label, prompt, model, 32, _place(options.input))


def _prompts(names: list[str]) -> dict[str, Any]:
    """The prompts by the name that a row's column `prompt` calls them."""
    from ept.api.prompt import Prompt

    found = {}
    for entry in names:
        name, separator, place = entry.partition("=")
        place = place if separator else entry
        if place.startswith("hub:"):
            repository, _, revision = place.removeprefix("hub:").partition("@")
            found[name if separator else repository] = Prompt.from_pretrained(repository, revision=revision or None)
        else:
            found[name if separator else Path(place).stem] = Prompt.from_pretrained(place)
    if len(found) < len(names):
        raise InputError("two prompts have the same name; give each one as NAME=FILE")
    return found


def _chosen(prompts: dict[str, Any], row: dict[str, Any], place: str = "a row") -> Any:
    if len(prompts) == 1:
        return next(iter(prompts.values()))
    name = row.get(PROMPT_COLUMN)
    if name not in prompts:
        raise InputError(f"{place}: column {PROMPT_COLUMN!r} is {name!r}; the prompts are {', '.join(prompts)}")
    return prompts[name]


def _model(options: argparse.Namespace, prompts: dict[str, Any]) -> Any:
    from ept.api.prompted import Prompted

    names = {prompt.metadata.get("backbone") for prompt in prompts.values()}
    if options.backbone is None and (len(names) != 1 or None in names):
        raise InputError("the prompts do not name one backbone; name it with --backbone")
    return Prompted.from_pretrained(options.backbone or names.pop(), dtype=options.dtype)


@contextmanager
def _writer(path: str) -> Iterator[Write]:
    """Writes rows as they come; a file appears whole or not at all."""
    from ept.files import write_atomically

    if path == "-":
        yield lambda row: print(json.dumps(row, ensure_ascii=False, default=str))
        return
    ending = Path(path).suffix.removeprefix(".")
    if ending not in ("jsonl", "csv", "tsv"):
        raise InputError(f"{path}: the ending {ending!r} is not a known format; use .jsonl, .csv or .tsv")
    with write_atomically(Path(path)) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        if ending == "jsonl":
            yield lambda row: print(json.dumps(row, ensure_ascii=False, default=str), file=file)
            return
        table: list[csv.DictWriter] = []

        def write(row: dict[str, Any]) -> None:
            if not table:
                table.append(csv.DictWriter(file, list(row), delimiter="\t" if ending == "tsv" else ","))
                table[0].writeheader()
            table[0].writerow(row)

        yield write


def _add_exchange_verbs(verbs: Verbs) -> None:
    verbs.group("exchange prompts with other programs")
    importing, exporting = verbs.add(import_prompt, "import"), verbs.add(export_prompt, "export")
    for exchange, source, target in (
        (importing, "adapter folder, .npy file or hub:owner/name[@revision]", "prompt file"),
        (exporting, "prompt file", "folder"),
    ):
        exchange.add_argument("--from", dest="origin", required=True, help=f"the {source} to read")
        exchange.add_argument("--to", required=True, help=f"the new {target}")
    importing.add_argument(
        "--format", choices=IMPORTS, help="the other program's format (by default recognized from the folder or ending)"
    )
    exporting.add_argument("--format", required=True, choices=FORMATS, help="the other program's format")
    importing.add_argument("--backbone-folder", help="check that the prompt fits the backbone in this folder")
    exporting.add_argument(
        "--backbone", help="public name of the base model, for the adapter's configuration; with vllm, its folder"
    )
    tracking = verbs.add_with_config(track)
    tracking.add_argument("--to", required=True, choices=("mlflow", "tensorboard", "trackio"), help="the tracker")
    tracking.add_argument("--into", help="folder to write to, or a tracking URI of MLflow (<output>/<tracker>)")


def track(options: argparse.Namespace) -> None:
    """Write the curves of finished runs to MLflow, TensorBoard or Trackio; a second call adds only new runs."""
    from ept.exchange.track import TRACKERS, tracked_runs

    experiment = experiment_of(options)
    runs = list(tracked_runs(experiment))
    if not runs:
        raise InputError("no run of this configuration has been trained; run the workflow first")
    store = options.into or str(Path(experiment.config.output) / options.to)
    added = TRACKERS[options.to](runs, store, Path(experiment.config.output).name)
    print(f"{store}: {added} of {len(runs)} runs added")


def import_prompt(options: argparse.Namespace) -> None:
    """Convert another program's prompt (DePT's released code, PEFT, an .npy file) to a prompt file."""
    from ept.exchange.formats import foreign_format, import_prompt

    if options.origin.startswith("hub:"):
        _import_from_hub(options)
        return
    options.format = options.format or foreign_format(options.origin)
    print("\n".join(import_prompt(options.format, options.origin, options.to, options.backbone_folder)))


def export_prompt(options: argparse.Namespace) -> None:
    """Convert a prompt file for another program (DePT's code, PEFT, vLLM)."""
    from ept.exchange.formats import export_prompt

    print("\n".join(export_prompt(options.format, options.origin, options.to, options.backbone)))


def _import_from_hub(options: argparse.Namespace) -> None:
    """Write the prompt of a Hub repository as a prompt file."""
    from ept.api.prompt import Prompt
    from ept.methods.prompt_file import save_prompt

    repository, _, revision = options.origin.removeprefix("hub:").partition("@")
    if Path(options.to).exists():
        raise InputError(f"{options.to} exists already; name a new file with --to, or remove that one")
    prompt = Prompt.from_pretrained(repository, revision=revision or None)
    save_prompt(options.to, prompt.saved.tensors, prompt.saved.collapsed, prompt.metadata)
    print(f"{options.to}: {prompt!r}")
