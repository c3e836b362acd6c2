"""The further tasks of DePT's paper: labels and answers derived again from the text, and no shortcut to them."""

import re
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from ept.demo import words
from ept.demo.generator import generate

from .parsing import CATEGORY_OF, DEED_OF, FRAMES, THING_OF, follows, parse

QUESTIONS = ("nq", "hotpotqa", "searchqa", "newsqa")


def rows(task: str, split: str = "validation") -> list[dict]:
    return generate(task, split, 3).to_pylist()


def claim(hypothesis: str) -> dict:
    """The event that one of scitail's answers states."""
    for pattern, order in (
        (r"the one who (\w+) (an? .+) was (\w+)", (3, 1, 2)),
        (r"what (\w+) (\w+) was (an? .+)", (1, 2, 3)),
        (r"it was (in \w+) that (\w+) (\w+) (an? .+)", (2, 3, 4, 1)),
    ):
        found = re.fullmatch(pattern, hypothesis.rstrip("."))
        if found:
            return parse(" ".join(found.group(part) for part in order))
    raise AssertionError(hypothesis)


def test_science_entailment_over_two_events():
    for row in rows("scitail"):
        told = [parse(part) for part in row["premise"].split(" and ")]
        entailed = any(follows(event, claim(row["hypothesis"])) for event in told)
        assert row["label"] == ("entails" if entailed else "neutral"), row


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_swapped_words_change_who_did_what(split):
    for row in rows("paws", split):
        first, second = ([parse(part) for part in row[f"sentence{n}"].split(" and ")] for n in "12")
        same = sorted(map(str, first)) == sorted(map(str, second))
        assert row["label"] == same, row
        assert row["sentence1"] != row["sentence2"]
        bags = [Counter(re.findall(r"\b(?!an?\b)\w+", row[f"sentence{n}"])) for n in "12"]
        assert bags[0] == bags[1], row


def test_the_option_that_the_blank_stands_for():
    kinds = Counter()
    for row in rows("winogrande"):
        spoken = row["sentence"].rstrip(".").split()
        assert spoken.count("_") == 1
        options = (row["option1"], row["option2"])
        assert len(set(options)) == 2 and set(options) <= set(spoken)
        if "because" in spoken:
            kinds["reason"] += 1
            verb = next(word for word in spoken if word in words.REASONS)
            at = spoken.index(verb)
            answer = spoken[at - 1] if spoken[-1] in words.REASONS[verb][0] else spoken[at + 1]
            assert len({option in words.WOMEN for option in options}) == 1
        else:
            kinds["recalled"] += 1
            told, asked = row["sentence"].rstrip(".").split(" , ")
            events = [parse(part) for part in told.split(" and ")]
            deed, thing = DEED_OF[asked.split()[3]], asked.split()[1]
            fitting = [
                e["agent"] for e in events if e["deed"] == deed and thing in (CATEGORY_OF[e["thing"]], *names(e))
            ]
            assert len(fitting) == 1, row
            answer = fitting[0]
        assert options[int(row["answer"]) - 1] == answer, row
    assert min(kinds.values()) > 100


def names(event: dict) -> set[str]:
    """All words for an event's thing."""
    return {word for word, first in THING_OF.items() if first == event["thing"]}


def test_reviews_by_counting_opinions():
    for row in rows("yelp", "test"):
        verdicts = []
        for clause in re.split(r"\. | and ", row["text"].rstrip(".")):
            spoken = clause.split()
            negated = any(word in spoken for word in ("not", "never", "hardly"))
            verdicts.append((spoken[-1] in words.PRAISE) != negated)
        assert abs(2 * sum(verdicts) - len(verdicts)) >= 3
        assert row["label"] == (2 * sum(verdicts) > len(verdicts)), row


@pytest.mark.parametrize("task", QUESTIONS)
def test_every_answer_is_marked_where_it_stands(task):
    for row in rows(task):
        assert row["answers"] and len(row["answers"]) == len(row["labels"])
        for answer, places in zip(row["answers"], row["labels"], strict=True):
            assert places["start"]
            for start, end in zip(places["start"], places["end"], strict=True):
                assert row["context"][start : end + 1] == answer


def told_in(task: str, context: str) -> list[dict]:
    """The events of a passage, pronouns replaced, each with the person who reports it."""
    parts = re.split(r"\. | / ", context.rstrip("."))
    person = next(word for word in re.findall(r"\w+", context) if word in words.PEOPLE)
    events = []
    for part in parts:
        part = re.sub(r"\b(she|he)\b", person, part)
        frame = next((frame for frame in (*FRAMES, "said that") if f" {frame} " in part), None)
        reported = {"speaker": part.split()[0], "frame": frame} if frame else {"speaker": None, "frame": None}
        events.append(parse(part.split(f" {frame} ")[1] if frame else part) | reported)
    return events


def found_in(task: str, question: str, events: list[dict]) -> set[str | None]:
    """All answers to a question, by looking for the events that fit it."""
    asked = question.rstrip("?")
    frame = next((frame for frame in (*FRAMES, "said that") if asked.startswith(f"who {frame} ")), None)
    if frame:
        event = parse(asked.removeprefix(f"who {frame} "))
        return {e["speaker"] for e in events if e["frame"] == frame and follows(e, event)}
    if task == "hotpotqa":
        known, asked = re.fullmatch(r"(?:what|where) did the one who (\w+ the \w+) (.+)", asked).groups()
        deed, thing = known.split(" the ")
        agents = {e["agent"] for e in events if e["deed"] == DEED_OF[deed] and e["thing"] == THING_OF[thing]}
        assert len(agents) == 1
        asked = f"{'what' if question.startswith('what') else 'where'} did {agents.pop()} {asked}"
    spoken = asked.split()
    deed = next(DEED_OF[word] for word in spoken if word in DEED_OF)
    agents = [word for word in spoken if word in words.PEOPLE]
    things = [THING_OF[word] for word in spoken if word in THING_OF]
    categories = [word for word in spoken if word in words.THINGS]
    fitting = [
        e
        for e in events
        if e["deed"] == deed
        and (not agents or e["agent"] == agents[0])
        and (not things or e["thing"] == things[0])
        and (not categories or CATEGORY_OF[e["thing"]] == categories[0])
    ]
    if spoken[0] == "what" or categories:
        return {e["thing"] for e in fitting}
    if spoken[0] == "where" or asked.endswith("this place"):
        return {e["place"] for e in fitting} - {None}
    if spoken[0] == "when":
        return {e["day"] for e in fitting} - {None}
    return {e["agent"] for e in fitting}


@pytest.mark.parametrize("task", QUESTIONS)
def test_each_question_has_one_answer_in_its_passage(task):
    for row in rows(task):
        answer = row["answers"][0]
        answer = THING_OF.get(answer.split()[-1], answer)
        assert found_in(task, row["question"], told_in(task, row["context"])) == {answer}, row


def accuracy(train: list[str], train_labels: list, test: list[str], test_labels: list) -> float:
    """Accuracy (%) of a logistic regression on single words and pairs of neighbors."""
    counter = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", min_df=2)
    model = LogisticRegression(C=0.1, max_iter=300).fit(counter.fit_transform(train), train_labels)
    return 100 * model.score(counter.transform(test), test_labels)


@pytest.mark.parametrize(
    ("task", "columns", "label"),
    [
        ("scitail", ("premise", "hypothesis"), "label"),
        ("paws", ("sentence1", "sentence2"), "label"),
        ("winogrande", ("sentence", "option1", "option2"), "answer"),
    ],
)
def test_words_alone_do_not_tell_the_class(task, columns, label):
    train, test = rows(task, "train"), rows(task) + (rows(task, "test") if task == "paws" else [])
    majority = 100 * max(Counter(row[label] for row in test).values()) / len(test)
    for chosen in [*((column,) for column in columns), columns]:
        texts = [[" ".join(row[column] for column in chosen) for row in part] for part in (train, test)]
        labels = [[row[label] for row in part] for part in (train, test)]
        assert accuracy(texts[0], labels[0], texts[1], labels[1]) < majority + 10, chosen


def test_the_class_of_reviews_is_learned_from_their_words():
    train, test = rows("yelp", "train"), rows("yelp", "test")
    texts = [[row["text"] for row in part] for part in (train, test)]
    labels = [[row["label"] for row in part] for part in (train, test)]
    assert accuracy(texts[0], labels[0], texts[1], labels[1]) > 80


@pytest.mark.parametrize("task", QUESTIONS)
def test_the_passage_alone_does_not_tell_the_answer(task):
    """The most frequent answer, and the first word of the passage that is an answer somewhere, are mostly wrong."""
    made = rows(task)
    answers = [row["answers"][0].split()[-1] for row in made]
    assert max(Counter(answers).values()) < 0.1 * len(made)
    known = set(answers)
    first = [next(word for word in re.findall(r"\w+", row["context"]) if word in known) for row in made]
    assert np.mean([guess == answer for guess, answer in zip(first, answers, strict=True)]) < 0.4
