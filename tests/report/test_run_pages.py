"""From a score to its runs and single predictions: links, texts of the data, and own data that stay out."""

import json
import re
from html import unescape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.task_rows import write_local
from ept.config.configuration import parse_configuration
from ept.data.fetch import fetch
from ept.plan.experiment import Experiment
from ept.report.runs import SHOWN_ROWS, may_show, predictions, with_texts, write_run_pages
from ept.results.write import write_table
from ept.tasks.registry import get_task
from results.records import ROWS, write_record, write_runs

VALUES = {
    "tasks": {"target": ["rte"], "source": ["mnli"]},
    "methods": ["pt", "ept"],
    "seeds": [0, 1],
    "few_shot": {"k": [4], "initialize_from": ["scratch", "source"]},
}
# Right answers of 200 by seed; the first ones are right.
RIGHT = (120, 160)


def write(experiment):
    """Records of all packs of the main and the few-shot table, these tables, and their pages; returns their folder."""
    for table in ("main", "fewshot_k4"):
        for pack in experiment.tables[table]:
            write_runs(pack, right=RIGHT)
            file = pack.folder / "predictions.parquet"
            found = pq.read_table(file)
            ids = pa.array([f"validation:{199 - int(row)}" for row in found["id"].to_pylist()])
            pq.write_table(found.set_column(found.column_names.index("id"), "id", ids), file)
            write_record(pack, json.loads((pack.folder / "runs.json").read_text()))
        write_table(experiment, table)
    write_run_pages(experiment, Path("pages"))
    return Path("pages")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The experiment with its data, and the folder of its pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("pages"))
        experiment = Experiment(parse_configuration(VALUES))
        fetch(get_task("rte"), experiment.data, experiment.raw_folder("rte"))
        yield experiment, write(experiment)


def body_rows(page):
    """The cells of the predictions in a page, row by row."""
    table = page[page.index("<h2>Predictions") :]
    return [
        [unescape(cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)] for row in re.findall("<tr>.*?</tr>", table)
    ]


def test_every_score_of_a_task_links_to_the_page_of_its_pack(made):
    experiment, pages = made
    index = (pages / "index.html").read_text()
    links = re.findall(r'href="([^"]+)"', index)
    # PT and EPT with all data; with four examples also EPT from a source prompt.
    assert len(links) == 5
    packs = [*experiment.tables["main"], *experiment.tables["fewshot_k4"]]
    assert links == [f"{pack.hash}.html" for pack in packs]
    assert {path.name for path in pages.iterdir()} == {"index.html", *links}
    for pack in packs:
        page = (pages / f"{pack.hash}.html").read_text()
        assert str(pack.folder) in page and f"seed{pack.seeds[0]}.safetensors" in page and 'href="index.html"' in page


def test_a_page_shows_the_hardest_rows_with_the_texts_of_the_data(made):
    experiment, pages = made
    pack = experiment.tables["main"][0]
    head, *rows = body_rows((pages / f"{pack.hash}.html").read_text())
    assert head == [] and len(rows) == SHOWN_ROWS
    published = pq.read_table(experiment.raw_folder("rte") / "validation.parquet").to_pylist()
    for id_, text, gold, first, second, _ in rows:
        row = published[int(id_.removeprefix("validation:"))]
        assert text == f"sentence1: {row['sentence1']} sentence2: {row['sentence2']}"
        place = 199 - int(id_.removeprefix("validation:"))
        assert (gold, first, second) == ("0", str(int(place >= RIGHT[0])), str(int(place >= RIGHT[1])))
    # 40 rows that both seeds have wrong, 40 that one has wrong, the rest right.
    assert [row[-1] for row in rows] == ["100 %"] * 40 + ["50 %"] * 40 + ["0 %"] * (SHOWN_ROWS - 80)


def test_without_the_data_predictions_stand_without_texts(made):
    experiment, _ = made
    rows = predictions(experiment.tables["main"][0])
    assert len(rows) == ROWS
    assert with_texts(rows, get_task("rte"), Path("elsewhere")) == rows


def test_own_data_are_shown_only_if_the_configuration_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    local = {**VALUES, "data": {"source": "local", "path": "somewhere"}}
    for name in ("rte", "mnli"):
        write_local(Path("somewhere"), get_task(name))
    task = get_task("rte")
    assert may_show(parse_configuration(VALUES), task)
    assert not may_show(parse_configuration(VALUES | {"report_texts": False}), task)
    assert may_show(parse_configuration(local | {"report_texts": True}), task)
    experiment = Experiment(parse_configuration(local))
    pages = write(experiment)
    for pack in experiment.tables["main"]:
        page = (pages / f"{pack.hash}.html").read_text()
        assert "<td" not in page and "report_texts" in page


def test_answers_of_other_kinds_of_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(
        parse_configuration(VALUES | {"tasks": {"target": ["stsb", "squad"]}, "seeds": [0], "few_shot": {"k": []}})
    )
    packs = {pack.task: pack for pack in experiment.tables["main"]}
    columns = {"seed": [0, 0], "id": ["validation:0", "validation:1"], "group": ["", ""]}
    texts = pa.array([[], []], pa.list_(pa.string()))
    scores = {"label": [2.5, 4.0], "prediction": [2.0, float("nan")], "text": ["", ""], "answers": texts}
    texts = pa.array([["the Cat", "cats"], ["a dog"]])
    free = {"label": [float("nan")] * 2, "prediction": [float("nan")] * 2, "text": ["cat!", "cat"], "answers": texts}
    for task, values in (("stsb", scores), ("squad", free)):
        packs[task].folder.mkdir(parents=True)
        pq.write_table(pa.table(columns | values), packs[task].folder / "predictions.parquet")
    near, lost = predictions(packs["stsb"])
    assert (near.gold, near.answers, near.wrong) == ("2.5", ("2",), 0.5)
    assert lost.answers == ("(not a label)",) and lost.wrong == float("inf")
    right, wrong = predictions(packs["squad"])
    assert (right.gold, right.answers, right.wrong) == ("the Cat / cats", ("cat!",), 0.0)
    assert (wrong.gold, wrong.answers, wrong.wrong) == ("a dog", ("cat",), 1.0)
