"""Tasks about who did what, in which most words of the right and the wrong case agree: scitail, paws, winogrande."""

from dataclasses import replace
from typing import Any

from ept.demo.events import Event, article, change, sentence, thing_words
from ept.demo.pairs import differences
from ept.demo.passages import draw_events
from ept.demo.words import CATEGORY, MEN, PLACES, PROPERTIES, REASONS, WOMEN
from ept.demo.world import World


def _answer(world: World, event: Event, asked: str) -> str:
    """The event as the answer to a question for its agent, thing or place: "what Anna bought was a car"."""
    past = world.pick(event.deed)[1]
    thing = article(thing_words(world, event))
    if asked == "agent":
        return f"the one who {past} {thing} was {event.agent}"
    if asked == "thing":
        return f"what {event.agent} {past} was {thing}"
    return f"it was in {event.place} that {event.agent} {past} {thing}"


def scitail(world: World) -> dict:
    """0 the premise, which tells two events, entails the hypothesis, a question and its answer in one; 1 neutral.

    A neutral hypothesis mostly mixes the two events, so that its words are in the premise too.
    """
    label = world.below(2)
    asked = world.pick(("agent", "thing", "place"))
    events = draw_events(world, 2, 0.4)
    event, other = events
    if asked == "place" and not event.place:
        event = replace(event, place=world.attribute(event.agent, PLACES))
    told = " and ".join(sentence(world, told) for told in world.shuffled([event, other]))
    claim = event
    if label == 1:
        role = world.pick(("agent", "deed", "thing", asked))
        mixed = _mixed(world, event, other, role) if world.chance(0.8) else None
        claim = mixed or change(world, event, role) or replace(event, deed=other.deed)
    hint = differences(event, claim)
    claim = replace(claim, property=claim.property if world.chance(0.5) else None)
    if world.chance(0.3) and (claim.thing == event.thing or CATEGORY[claim.thing] != CATEGORY[event.thing]):
        claim = replace(claim, thing=CATEGORY[claim.thing])
    return {"premise": told + ".", "hypothesis": _answer(world, claim, asked) + ".", "label": label, "hint": hint}


def _mixed(world: World, event: Event, other: Event, role: str) -> Event | None:
    """The event with this role taken from the other one; None where such a fact is not of the world's part."""
    values: dict[str, Any] = {role: getattr(other, role)}
    if role == "thing":
        values["property"] = other.property
    mixed = replace(event, **values)
    fits = world.holds(mixed.agent, mixed.thing[0]) and (not mixed.place or world.holds(mixed.agent, mixed.place))
    return mixed if fits and getattr(other, role) not in (None, getattr(event, role)) else None


def _clause(event: Event, fronted: bool) -> str:
    """The event, whose concepts are single words, in the active voice with its place first or last."""
    thing = article(f"{event.property} {event.thing}" if event.property else event.thing)
    core = f"{event.agent} {event.deed} {thing}"
    if not event.place:
        return core
    return f"in {event.place} {core}" if fronted else f"{core} in {event.place}"


def paws(world: World) -> dict:
    """1 both sentences tell the same two events, 0 the events have exchanged a role; the words are the same.

    Clauses and places are arranged differently in both classes, so that only who did what tells them apart.
    """
    label = world.below(2)
    first, second = draw_events(world, 2, 0.5)
    properties = world.several(PROPERTIES, 2) if world.chance(0.6) else (None, None)
    pair = [
        Event(
            agent=event.agent,
            deed=world.pick(event.deed)[1],
            thing=world.pick(event.thing),
            property=world.pick(described) if described else None,
            place=event.place,
        )
        for event, described in zip((first, second), properties, strict=True)
    ]
    exchanged, hint = pair, "same"
    if label == 0:
        roles = ["deed", "thing"] + ["property"] * bool(pair[0].property)
        # Exchanged things make facts, which must be of the world's part.
        if not (world.holds(first.agent, second.thing[0]) and world.holds(second.agent, first.thing[0])):
            roles.remove("thing")
        hint = world.pick(roles)
        values = [getattr(event, hint) for event in pair]
        turned: list[dict[str, Any]] = [{hint: values[1]}, {hint: values[0]}]
        exchanged = [replace(event, **new) for event, new in zip(pair, turned, strict=True)]
    fronts = [world.chance(0.3), world.chance(0.3)]
    turn = world.chance(0.7) or not (first.place or second.place)
    moved = [front != (world.chance(0.5) or not turn) for front in fronts]
    texts = [" and ".join(_clause(*told) for told in zip(pair, fronts, strict=True))]
    clauses = [_clause(*told) for told in zip(exchanged, moved, strict=True)]
    texts.append(" and ".join(reversed(clauses) if turn else clauses))
    return {"sentence1": texts[0] + ".", "sentence2": texts[1] + ".", "label": label, "hint": hint}


def winogrande(world: World) -> dict:
    """Which of two people `_` stands for: label 0 the first option, 1 the second."""
    text, people = _reason(world) if world.chance(0.5) else _recalled(world)
    answer = people[0]
    options = world.shuffled(people)
    return {
        "sentence": text,
        "option1": options[0],
        "option2": options[1],
        "label": options.index(answer),
        "hint": answer,
    }


def _reason(world: World) -> tuple[str, list[str]]:
    """A deed between two people of one sex and its reason, which fits one of them; that one first."""
    verb = world.pick(tuple(REASONS))
    cause = world.below(2)
    adjective = world.pick(REASONS[verb][cause])
    people = world.pick((WOMEN, MEN))
    subject = world.pick(people)
    patient = world.attribute(subject, people, subject)
    place = f"in {world.pick(PLACES)} " if world.chance(0.3) else ""
    text = f"{place}{subject} {verb} {patient} because _ was {adjective}."
    return text, [subject, patient] if cause == 0 else [patient, subject]


def _recalled(world: World) -> tuple[str, list[str]]:
    """Two events and one of them told once more in other words without its agent; that one first."""
    event, other = draw_events(world, 2, 0.2)
    told = " and ".join(sentence(world, told) for told in world.shuffled([event, other]))
    thing = world.pick(event.thing)
    if CATEGORY[event.thing] != CATEGORY[other.thing] and world.chance(0.4):
        thing = CATEGORY[event.thing]
    text = f"{told} , the {thing} was {world.pick(event.deed)[2]} by _."
    return text, [event.agent, other.agent]
