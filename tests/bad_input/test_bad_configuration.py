"""Bad configurations."""

from bad_input.cases import cases
from bad_input.spoil import a_folder, after, content, gone, prepared, settings

CASES = {
    "unknown key": (settings(sedes=[1]), "check", "config.yaml: unknown key sedes; .. lists the keys"),
    "unknown key in a section": (settings(prompt__lenght=1), "check", "config.yaml: unknown key prompt.lenght;"),
    "unknown key in training": (settings(training__stepz=1), "check", "unknown key training.stepz; .. lists the keys"),
    "a number as key": (content("config.yaml", "1: 2\ntasks: {target: [rte]}"), "check", "config.yaml .. key .. 1"),
    "missing key": (content("config.yaml", "seeds: [1]"), "check", "config.yaml: the key tasks is missing"),
    "nothing in a section": (settings(tasks=None), "check", "config.yaml, key tasks: found None; input should be"),
    "text for a list": (settings(seeds="three"), "check", "config.yaml, key seeds: found 'three'; input should be"),
    "a list for a mapping": (settings(data__source_length=[3]), "check", "key data.source_length: found [3]; input"),
    "text for a number": (settings(training__steps="many"), "check", "key training.steps .. found 'many'; input"),
    "text for a rate": (
        settings(training__learning_rates={"pt": {"prompt": ["fast"]}}),
        "check",
        "key training.learning_rates.pt.prompt.0: found 'fast'; input should be a valid number",
    ),
    "seed too large": (
        settings(seeds=[2**64]),
        "check",
        "key seeds: 18446744073709551616 is too large; .. below 2**63",
    ),
    "norm not a number": (settings(training__clip_norm=float("nan")), "check", "training.clip_norm is nan; it must"),
    "norm without end": (settings(few_shot__clip_norm=float("inf")), "check", "few_shot.clip_norm is inf; it must"),
    "negative patience": (settings(training__patience=-1), "check", "training.patience is -1; it must be 0 (off) or"),
    "halving below 0": (settings(few_shot__halving=-2), "check", "few_shot.halving is -2; it must be 0 (off) or more"),
    "a pack of none": (
        settings(training__runs_per_pass=0),
        "check",
        "training.runs_per_pass is 0; it must be auto or a number of runs",
    ),
    "length 0": (settings(data__source_length={"rte": 0}), "check", "key data: source_length.rte is 0; it must"),
    "unknown task": (settings(tasks__target=["rtee"]), "check", "key tasks.target: .. 'rtee'; did you mean rte"),
    "unknown method": (
        settings(methods=["lorra"]),
        "check",
        "key methods: unknown method 'lorra'; did you mean lora",
    ),
    "local without path": (settings(data__path=""), "check", "key data: path is needed with source local"),
    "demo with path": (settings(data__source="demo"), "check", "key data: path is .. allowed only there"),
    "hub without revision": (settings(backbone__source="hub"), "check", "key backbone: .. a revision (commit)"),
    "no room for the pair": (
        settings(prompt__short_length=20),
        "check",
        "prompt.short_length is 20, .. choose it below",
    ),
    "start from no text": (settings(prompt__init="text"), "check", "prompt.init_text is empty; write the text there"),
    "budget that cannot be": (
        settings(ept={"budget": "matched", "projection": "full"}),
        "check",
        "config.yaml: ept.budget matched cannot be met with ept.projection full, .. use budget decomposition",
    ),
    "only itself as source": (settings(tasks__source=["rte"]), "check", "dept starts rte .. add a source task"),
    "source that is no source": (settings(few_shot__source="cb"), "check", "few_shot.source is cb, .. ['sst2']"),
    "no YAML": (content("config.yaml", "tasks: [a\nseeds: 3: 4"), "check", "config.yaml, line 2 .. YAML: .. mend"),
    "tabs": (content("config.yaml", "tasks:\n\ttarget: [rte]"), "check", "config.yaml, line 2 .. YAML: .. mend"),
    "a key twice": (
        content("config.yaml", "seeds: [1]\ntasks: {target: [rte]}\nseeds: [2]"),
        "check",
        "config.yaml, line 3 is not valid YAML: the key seeds stands there twice; mend it there",
    ),
    "a key twice in a section": (
        content("config.yaml", "tasks: {target: [rte]}\nfew_shot: {k: [4], steps: 9, 'k': [8]}"),
        "fetch --task rte",
        "config.yaml, line 2 is not valid YAML: the key k stands there twice; mend",
    ),
    "two documents": (content("config.yaml", "seeds: [1]\n---\nseeds: [2]"), "check", "config.yaml, line 2 .. mend"),
    "control character": (content("config.yaml", "seeds: [1]\0"), "check", "config.yaml is not valid YAML: .. mend"),
    "Python objects": (content("config.yaml", "output: !!python/name:os.system ''"), "check", "line 1 .. mend"),
    "nested without end": (content("config.yaml", "[" * 2_000), "check", "config.yaml is not valid YAML: .. mend"),
    "inside itself": (content("config.yaml", "tasks: &all {target: *all}"), "check", "key tasks.target: found"),
    "Latin-1": (content("config.yaml", "output: é".encode("latin-1")), "check", "config.yaml: .. save it as UTF-8"),
    "UTF-16": (content("config.yaml", "output: a".encode("utf-16")), "check", "config.yaml: .. save it as UTF-8"),
    "empty": (content("config.yaml", ""), "check", "config.yaml is empty; write"),
    "only comments": (content("config.yaml", "# later\n"), "check", "config.yaml is empty; write"),
    "a list": (content("config.yaml", "[1, 2]"), "check", "config.yaml must be a mapping of settings, found list"),
    "no configuration": (gone("config.yaml"), "check", "configuration config.yaml .. No such file .. with --config"),
    "a folder as configuration": (a_folder("config.yaml"), "show", "config.yaml .. Is a directory .. with --config"),
    "no hub backbone": (settings(), "download-backbone", "config.yaml: backbone.source is local; only a hub backbone"),
    "no labels to start from": (
        after(settings(prompt__init="labels"), prepared("squad")),
        "train --method pt --task squad --regime full",
        "prompt.init is labels, but the task has no class labels; use init: vocabulary",
    ),
    "rank too large": (
        settings(prompt__rank=9),
        "train --method dept --task rte --regime full",
        "prompt.rank is 9, .. hidden size 16 .. at most 8; lower prompt.rank",
    ),
    "no budget for a pair": (
        settings(prompt={"length": 20, "short_length": 19, "reference_length": 256}),
        "train --method dept --task rte --regime full",
        "prompt.short_length 19 .. hidden size 16; lower prompt.short_length",
    ),
}


@cases(CASES)
def test_bad_configuration(refused, spoil, command, words):
    refused(spoil, command, words)
