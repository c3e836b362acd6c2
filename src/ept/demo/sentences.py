"""Tasks on words and sentences: cola (grammar), sst2 (praise), wic (senses of a word) and wsc (pronouns)."""

from ept.demo.words import (
    AMBIGUOUS,
    ASPECTS,
    BLAME,
    DEGREES,
    DOINGS,
    MANNERS,
    MEN,
    NEARNESS,
    PEOPLE,
    PLACES,
    PRAISE,
    REASONS,
    REVIEWERS,
    SEEN,
    SITES,
    TOPICS,
    WOMEN,
    WORKERS,
)
from ept.demo.world import World


def cola(world: World) -> dict:
    """1 grammatical (three fifths), 0 an error of agreement, determiner or order."""
    worker = world.pick(WORKERS)
    doing = world.attribute(worker[0], DOINGS)
    plural = world.chance(0.5)
    label = int(world.chance(0.6))
    error = None if label else world.pick(("verb", "verb", "determiner", "order"))
    determiner = world.pick((("this", "these"), ("that", "those"), ("every", "all"), ("one", "two")))
    words = [determiner[plural != (error == "determiner")], worker[plural]]
    if world.chance(0.5):
        # A second noun of its own number stands between subject and verb.
        words += [world.pick(NEARNESS), "the", world.pick(SITES)[world.below(2)]]
    verb = doing[plural == (error == "verb")]
    manner = [world.pick(MANNERS)] if world.chance(0.5) else []
    place = [world.pick(NEARNESS), "the", world.pick(SITES)[world.below(2)]] if world.chance(0.4) else []
    if error == "order":
        way = world.below(2)
        words = [words[1], words[0], *words[2:]] if way else [words[0], verb, *words[1:]]
        rest = [*manner, verb] if way else manner
        return {"sentence": " ".join(words + rest + place) + ".", "label": 0, "hint": error}
    numbers = f"{'plural' if plural else 'singular'} {error or 'right'}"
    return {"sentence": " ".join([*words, *manner, verb, *place]) + ".", "label": label, "hint": numbers}


def opinion(world: World, positive: bool) -> str:
    """A clause that praises or blames an aspect, with or without negation."""
    aspect = world.pick(ASPECTS)
    negated = world.chance(0.25)
    adjective = world.attribute(aspect, PRAISE if positive != negated else BLAME)
    degree = world.pick(DEGREES) + " " if world.chance(0.4) else ""
    if negated:
        negation = world.pick(("was not", "was never", "was hardly"))
        return f"the {aspect} {negation} {degree}{adjective}"
    verb = world.pick(("was", "was", "seemed", "looked"))
    return f"the {aspect} {verb} {degree}{adjective}"


def sst2(world: World) -> dict:
    """1 praise, 0 blame; of two clauses that differ the one that is not conceded decides."""
    label = world.below(2)
    positive = label == 1
    main = opinion(world, positive)
    way = world.number()
    if way < 0.5:
        text = main
    elif way < 0.65:
        text = f"{world.pick(REVIEWERS)} said that {main}"
    elif way < 0.8:
        text = f"{main} and {opinion(world, positive)}"
    elif way < 0.9:
        text = f"{opinion(world, not positive)} but {main}"
    else:
        text = f"although {opinion(world, not positive)} , {main}"
    spoken = main.split()
    negated = any(word in spoken for word in ("not", "never", "hardly"))
    return {"sentence": text + " . ", "label": label, "hint": f"{'not ' if negated else ''}{spoken[-1]}"}


def sense_sentence(world: World, word: str, topic: str) -> str:
    """A sentence in which the topic's words show the sense of the word."""
    agent = world.pick(PEOPLE)
    cue = world.attribute(agent, TOPICS[topic])
    seen = world.pick(SEEN)
    more = f" and the {world.attribute(agent, TOPICS[topic], cue)}" if world.chance(0.5) else ""
    way = world.below(3)
    if way == 0:
        return f"{agent} {seen} the {word} and the {cue}{more}."
    if way == 1:
        return f"after the {cue}{more} {agent} {seen} a {word}."
    return f"the {word} was near the {cue} that {agent} {seen}."


def wic(world: World) -> dict:
    """1 the word has the same sense in both sentences, 0 not."""
    word = world.pick(tuple(AMBIGUOUS))
    label = world.below(2)
    first = world.pick(AMBIGUOUS[word])
    second = first if label else world.other(AMBIGUOUS[word], first)
    row = {"word": word, "label": label, "hint": f"{first} {second}"}
    for number, topic in (("1", first), ("2", second)):
        text = sense_sentence(world, word, topic)
        start = text.index(f" {word}") + 1
        row |= {f"sentence{number}": text, f"start{number}": start, f"end{number}": start + len(word)}
    return row


def wsc(world: World) -> dict:
    """1 the pronoun means the marked person, 0 the other one; word indices count blank-separated words."""
    verb = world.pick(tuple(REASONS))
    cause = world.below(2)
    adjective = world.pick(REASONS[verb][cause])
    same = world.chance(0.8)
    sexes = world.shuffled((WOMEN, MEN))
    subject = world.pick(sexes[0])
    patient = world.attribute(subject, sexes[0] if same else sexes[1], subject)
    pronoun = ("she" if sexes[0] is WOMEN else "he") if cause == 0 or same else ("she" if sexes[1] is WOMEN else "he")
    told = f"{subject} {verb} {patient}"
    if world.chance(0.5):
        place = world.pick(PLACES)
        told = f"in {place} {told}" if world.chance(0.5) else f"{told} in {place}"
    text = f"{told} because {pronoun} was {adjective}."
    marked = world.below(2)
    person = (subject, patient)[marked]
    words = text.split()
    return {
        "text": text,
        "span1_index": words.index(person),
        "span2_index": words.index(pronoun),
        "span1_text": person,
        "span2_text": pronoun,
        "label": int(marked == cause),
        "hint": (subject, patient)[cause],
    }
