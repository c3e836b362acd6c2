"""Pretraining examples: the tasks in templates of their own with labels in words, and span corruption."""

import zlib
from collections.abc import Iterator

from ept.demo import words
from ept.demo.events import draw_event, sentence
from ept.demo.generator import MAKERS
from ept.demo.world import World, name

FIELDS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "stsb": ("sentence1", "sentence2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "boolq": ("question", "passage"),
    "cb": ("premise", "hypothesis"),
    "multirc": ("question", "answer", "paragraph"),
    "wic": ("sentence1", "sentence2", "word"),
    "wsc": ("text",),
    "record": ("query", "passage"),
    "squad": ("question", "context"),
    "scitail": ("premise", "hypothesis"),
    "paws": ("sentence1", "sentence2"),
    "winogrande": ("sentence", "option1", "option2"),
    "yelp": ("text",),
    "nq": ("question", "context"),
    "hotpotqa": ("question", "context"),
    "searchqa": ("question", "context"),
    "newsqa": ("question", "context"),
}
"""Task -> the columns of its rows that make the source text, in the benchmark's order."""

# Task -> (its name in pretraining, its share, the words for classes 0, 1 (, 2) in one or two vocabularies).
NAMES = {
    "cola": ("judge", 1.3, (("wrong", "right"), ("broken", "fluent"))),
    "sst2": ("feeling", 1.1, (("negative", "positive"), ("blame", "praise"))),
    "mrpc": ("compare", 1.5, (("different", "same"), ("unlike", "alike"))),
    "qqp": ("repeated", 1.9, (("different", "same"), ("fresh", "double"))),
    "stsb": ("rate", 1.3, ()),
    "mnli": ("infer", 1.4, (("entailed", "maybe", "no"), ("sure", "open", "impossible"))),
    "qnli": ("answered", 1.5, (("yes", "no"), ("solved", "unsolved"))),
    "rte": ("follows", 1.1, (("yes", "no"), ("valid", "invalid"))),
    "boolq": ("check", 1.5, (("no", "yes"), ("false", "true"))),
    "cb": ("believe", 0.4, (("entailed", "no", "maybe"), ("sure", "impossible", "open"))),
    "multirc": ("verify", 0.8, (("false", "true"), ("wrong", "right"))),
    "wic": ("sense", 1.3, (("different", "same"), ("two", "one"))),
    "wsc": ("refer", 1.5, (("false", "true"), ("wrong", "right"))),
    "record": ("fill", 0.6, ()),
    "squad": ("find", 1.0, ()),
    "scitail": ("deduce", 0.5, (("yes", "no"), ("valid", "invalid"))),
    "paws": ("exchanged", 0.6, (("different", "same"), ("unlike", "alike"))),
    "winogrande": ("complete", 0.6, (("first", "second"), ("one", "two"))),
    "yelp": ("overall", 0.2, (("negative", "positive"), ("blame", "praise"))),
    "nq": ("biography", 0.3, ()),
    "hotpotqa": ("chain", 0.4, ()),
    "searchqa": ("clue", 0.2, ()),
    "newsqa": ("reported", 0.3, ()),
}
LEVELS = ("nothing", "little", "some", "half", "most", "everything")
"""stsb's score in words, rounded to 0..5."""

FIELD_WORDS = ("first", "second", "third", "left", "right", "piece", "line", "part", "item", "case")
# Words of the benchmark's templates: met in pretraining only inside span corruption, never with a label.
TEMPLATE_WORDS = (
    "sentence", "sentence1", "sentence2", "question", "question1", "question2", "premise", "hypothesis",
    "passage", "paragraph", "answer", "word", "text", "context", "query", "entities", "option0", "option1", "option2",
)  # fmt: skip
HINT_WORDS = "agent deed thing property place day question same all singular plural verb determiner order right roles"
FUNCTION_WORDS = (
    "was were did not never hardly seemed looked by in on a an the who whom what where when and but although "
    "said that he she because before after near every all one two this these those why for reason at time "
    "how way is it true correct @placeholder _"
)
HINTED = 0.5
"""Share of the examples that ask what the label rests on ("explain compare : ..." -> "thing place"): such
targets teach a small model in minutes what bare labels would take hours to teach."""


def language() -> list[str]:
    """Texts in which every word of the language, the templates and the labels occurs."""
    texts = [
        " ".join(TEMPLATE_WORDS),
        " ".join(FIELD_WORDS),
        " ".join(LEVELS),
        "points explain @highlight",
    ]
    for title, _, vocabularies in NAMES.values():
        texts += [title, *(" ".join(vocabulary) for vocabulary in vocabularies)]

    def walk(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from walk((*value.keys(), *value.values()))
        elif isinstance(value, tuple | list):
            for item in value:
                yield from walk(item)

    for variable, value in vars(words).items():
        if variable.isupper():
            texts += list(walk(value))
    texts += [FUNCTION_WORDS, HINT_WORDS]
    return texts


def fields(task: str, row: dict) -> list[str]:
    """The texts of a row in order; wsc's spans are marked as in the benchmark."""
    if task != "wsc":
        return [row[column] for column in FIELDS[task]]
    spoken = row["text"].split()
    for sign, span in (("*", "span1"), ("#", "span2")):
        spoken[row[f"{span}_index"]] = f"{sign} {spoken[row[f'{span}_index']]} {sign}"
    return [" ".join(spoken)]


def _arranged(world: World, command: str, texts: list[str]) -> str:
    """The command and the texts in one of two templates."""
    if world.chance(0.6):
        return f"{command} : {' ; '.join(texts)}"
    named = zip(world.several(FIELD_WORDS, len(texts)), texts, strict=True)
    return f"{command} " + " ".join(f"{word}: {text}" for word, text in named)


def task_example(world: World, task: str, hinted: float = 0.0) -> tuple[str, str]:
    """Source and target of one example of a task, in words; never in the benchmark's own template.

    `hinted` is the probability that what the label rests on is asked, not the label.
    """
    row = MAKERS[task](world)
    if isinstance(row, list):
        row = world.pick(row)
    title, _, vocabularies = NAMES[task]
    texts = fields(task, row)
    if "hint" in row and world.chance(hinted):
        return _arranged(world, f"explain {title}", texts), row["hint"]
    if "answers" in row:
        answers = row["answers"]["text"] if task == "squad" else row["answers"]
        return _arranged(world, title, texts), answers[0]
    if task == "stsb":
        if world.chance(0.5):
            return _arranged(world, title, texts), LEVELS[int(row["label"] + 0.5)]
        return _arranged(world, title + " points", texts), f"{round(row['label'] * 5) / 5:.1f}"
    number = world.below(len(vocabularies))
    command = title if number == 0 else f"{title} {vocabularies[number][0]}"
    return _arranged(world, command, texts), vocabularies[number][row["label"]]


def roles_example(world: World) -> tuple[str, str]:
    """Source and target of "roles : <sentences>": who did what to which thing, in the concepts' first words.

    With two sentences the person in question is named before them.
    """
    events = [draw_event(world) for _ in range(1 + world.below(2))]
    event = world.pick(events)
    while len(events) == 2 and events[0].agent == events[1].agent:
        events[1 - events.index(event)] = draw_event(world)
    texts = [" ".join(sentence(world, told) + "." for told in events)]
    details = [name(part) for part in (event.property, event.place, event.day) if part]
    command = f"roles {event.agent}" if len(events) == 2 else "roles"
    return _arranged(world, command, texts), " ".join([event.agent, name(event.deed), name(event.thing), *details])


def plain_text(world: World, task: str) -> str:
    """A task's text without its label, half of them in the benchmark's field names, for span corruption."""
    row = MAKERS[task](world)
    row = world.pick(row) if isinstance(row, list) else row
    texts = fields(task, row)
    if world.chance(0.5):
        return " ".join(texts)
    return " ".join(f"{column}: {text}" for column, text in zip(FIELDS[task], texts, strict=True))


def corrupt(world: World, pieces: list[int], first_sentinel: int) -> tuple[list[int], list[int]]:
    """T5's span corruption of a text's pieces (without </s>): source and target, both without </s>.

    About 15 % of the pieces in spans of 1-3; sentinel n stands for span n in the source, and before it in the
    target.
    """
    wanted = max(1, round(0.15 * len(pieces)))
    hidden = [False] * len(pieces)
    while sum(hidden) < wanted:
        start = world.below(len(pieces))
        for place in range(start, min(start + 1 + world.below(3), len(pieces))):
            hidden[place] = True
    source, target, sentinel = [], [], first_sentinel - 1
    for place, piece in enumerate(pieces):
        if not hidden[place]:
            source.append(piece)
            continue
        if place == 0 or not hidden[place - 1]:
            sentinel += 1
            source.append(sentinel)
            target.append(sentinel)
        target.append(piece)
    return source, target


def seed_of(text: str) -> int:
    """A stable number for a text, for seeds."""
    return zlib.crc32(text.encode())
