"""Bad configurations."""

from bad_input.cases import cases
from bad_input.spoil import a_folder, after, content, gone, prepared, settings

CASES = {
    "unknown key": (settings(sedes=[1]), "check", "config.yaml: .. sedes"),
    "unknown key in a section": (settings(prompt__lenght=1), "check", "config.yaml: .. prompt.lenght .. prompt.length"),
    "unknown key in training": (settings(training__stepz=1), "check", "training.stepz .. training.steps"),
    "a number as key": (content("config.yaml", "1: 2\ntasks: {target: [rte]}"), "check", "config.yaml .. 1"),
    "missing key": (content("config.yaml", "seeds: [1]"), "check", "config.yaml: .. tasks"),
    "nothing in a section": (settings(tasks=None), "check", "config.yaml, key tasks .. None"),
    "text for a list": (settings(seeds="three"), "check", "config.yaml, key seeds .. 'three'"),
    "a list for a mapping": (settings(data__source_length=[3]), "check", "key data.source_length .. [3]"),
    "text for a number": (settings(training__steps="many"), "check", "key training.steps .. 'many' .. 'auto'"),
    "text for a rate": (
        settings(training__learning_rates={"pt": {"prompt": ["fast"]}}),
        "check",
        "key training.learning_rates.pt.prompt.0 .. 'fast'",
    ),
    "seed too large": (
        settings(seeds=[2**64]),
        "check",
        "key seeds.0: .. 65 bits",
    ),
    "norm not a number": (settings(training__clip_norm=float("nan")), "check", "key training.clip_norm .. nan"),
    "norm without end": (settings(few_shot__clip_norm=float("inf")), "check", "key few_shot.clip_norm .. inf"),
    "negative patience": (settings(training__patience=-1), "check", "key training.patience .. -1"),
    "halving below 0": (settings(few_shot__halving=-2), "check", "key few_shot.halving .. -2"),
    "a pack of none": (
        settings(training__runs_per_pass=0),
        "check",
        "key training.runs_per_pass .. 0 .. 1 .. 'auto'",
    ),
    "length 0": (settings(data__source_length={"rte": 0}), "check", "key data.source_length.rte .. 0"),
    "unknown task": (settings(tasks__target=["rtee"]), "check", "key tasks.target: .. 'rtee' .. rte"),
    "unknown method": (
        settings(methods=["lorra"]),
        "check",
        "key methods: .. 'lorra' .. lora",
    ),
    "local without path": (settings(data__path=""), "check", "key data: path"),
    "demo with path": (settings(data__source="demo"), "check", "key data: path"),
    "hub without revision": (settings(backbone__source="hub"), "check", "key backbone: model .. revision"),
    "no room for the pair": (
        settings(prompt__short_length=20),
        "check",
        "prompt.short_length .. 20 .. prompt.length .. 20",
    ),
    "start from no text": (settings(prompt__init="text"), "check", "prompt.init_text"),
    "budget that cannot be": (
        settings(ept={"budget": "matched", "projection": "full"}),
        "check",
        "config.yaml .. ept.budget .. matched .. ept.projection .. full",
    ),
    "only itself as source": (settings(tasks__source=["rte"]), "check", "dept .. rte .. tasks.source"),
    "source that is no source": (settings(few_shot__source="cb"), "check", "few_shot.source .. cb .. sst2"),
    "a k twice": (settings(few_shot__k=[4, 4]), "check", "config.yaml .. few_shot.k .. 4"),
    "a start twice": (
        settings(few_shot__initialize_from=["source"] * 2),
        "check",
        "few_shot.initialize_from .. source",
    ),
    "a variant twice": (settings(ablation={"tasks": ["rte"], "spaces": [2, 2]}), "check", "ablation .. spaces .. 2"),
    "transferred twice": (settings(transfer={"methods": ["dept"] * 2}), "check", "transfer.methods .. dept"),
    "no YAML": (content("config.yaml", "tasks: [a\nseeds: 3: 4"), "check", "config.yaml, line 2"),
    "tabs": (content("config.yaml", "tasks:\n\ttarget: [rte]"), "check", "config.yaml, line 2"),
    "a key twice": (
        content("config.yaml", "seeds: [1]\ntasks: {target: [rte]}\nseeds: [2]"),
        "check",
        "config.yaml, line 3 .. seeds",
    ),
    "a key twice in a section": (
        content("config.yaml", "tasks: {target: [rte]}\nfew_shot: {k: [4], steps: 9, 'k': [8]}"),
        "fetch --task rte",
        'config.yaml, line 2 .. "k"',
    ),
    "two documents": (content("config.yaml", "seeds: [1]\n---\nseeds: [2]"), "check", "config.yaml, line 2"),
    "control character": (content("config.yaml", "seeds: [1]\0"), "check", "config.yaml"),
    "Python objects": (content("config.yaml", "output: !!python/name:os.system ''"), "check", "config.yaml, line 1"),
    "nested without end": (content("config.yaml", "[" * 2_000), "check", "config.yaml"),
    "inside itself": (content("config.yaml", "tasks: &all {target: *all}"), "check", "config.yaml"),
    "Latin-1": (content("config.yaml", "output: é".encode("latin-1")), "check", "config.yaml: byte .. UTF-8"),
    "UTF-16": (content("config.yaml", "output: a".encode("utf-16")), "check", "config.yaml: byte .. UTF-8"),
    "empty": (content("config.yaml", ""), "check", "config.yaml"),
    "only comments": (content("config.yaml", "# later\n"), "check", "config.yaml"),
    "a list": (content("config.yaml", "[1, 2]"), "check", "config.yaml .. list"),
    "no configuration": (gone("config.yaml"), "check", "config.yaml .. --config"),
    "a folder as configuration": (a_folder("config.yaml"), "show", "config.yaml .. --config"),
    "no hub backbone": (settings(), "download-backbone", "config.yaml .. backbone.source .. local"),
    "no labels to start from": (
        after(settings(prompt__init="labels"), prepared("squad")),
        "train --method pt --task squad --regime full",
        "prompt.init .. labels",
    ),
    "rank too large": (
        settings(prompt__rank=9),
        "train --method dept --task rte --regime full",
        "prompt.rank .. 9 .. 16 .. 8",
    ),
    "no budget for a pair": (
        settings(prompt={"length": 20, "short_length": 19, "reference_length": 256}),
        "train --method dept --task rte --regime full",
        "prompt.short_length 19 .. 16",
    ),
}


@cases(CASES)
def test_bad_configuration(refused, spoil, command, words):
    refused(spoil, command, words)
