"""Word senses (wic) and pronouns (wsc)."""

from ept.demo.words import AMBIGUOUS, MEN, PEOPLE, PLACES, REASONS, SEEN, TOPICS, WOMEN
from ept.demo.world import World


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
