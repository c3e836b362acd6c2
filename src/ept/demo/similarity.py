"""Paraphrase (mrpc, qqp) and graded similarity (stsb)."""

from dataclasses import replace

from ept.demo.events import Event, change, draw_event, sentence, thing_words
from ept.demo.words import ALL_THINGS, CATEGORY, PROPERTIES
from ept.demo.world import World

COSTS = {"agent": 1.0, "deed": 1.2, "thing": 1.2, "place": 1.0, "property": 0.6}
"""What another concept in a role takes off the similarity of 5; the sum is 5."""

QUESTIONS = (
    ("why did", "for what reason did"),
    ("when did", "at what time did"),
    ("how did", "in what way did"),
    ("is it true that", "is it correct that"),
)


def altered(world: World, event: Event, roles: tuple[str, ...]) -> Event:
    """The event with one or two of these roles changed."""
    for role in world.several(roles, 1 + world.below(2)):
        event = change(world, event, role) or change(world, event, "deed")
    return event


def differences(first: Event, second: Event) -> str:
    """The roles in which two events differ, in words; "same" where none does."""
    return " ".join(role for role in COSTS if getattr(first, role) != getattr(second, role)) or "same"


def mrpc(world: World) -> dict:
    """1 the same event told in other words (two thirds), 0 one role differs."""
    event = draw_event(world, 0.7, 0.7, 0.1)
    label = int(world.chance(0.6))
    roles = ("agent", "deed", "thing") + ("property",) * bool(event.property) + ("place",) * bool(event.place)
    second = event if label else altered(world, event, roles)
    told, told_again = sentence(world, event), sentence(world, second)
    while told == told_again:
        told, told_again = sentence(world, event), sentence(world, second)
    return {
        "sentence1": told + ".",
        "sentence2": told_again + ".",
        "label": label,
        "hint": differences(event, second),
    }


def ask(world: World, event: Event, kind: tuple[str, str]) -> str:
    """A question of one of the four kinds about an event."""
    words = world.pick(kind)
    if words.endswith("that"):
        return f"{words} {sentence(world, event)}?"
    place = f" in {event.place}" if event.place else ""
    return f"{words} {event.agent} {world.pick(event.deed)[0]} the {thing_words(world, event)}{place}?"


def qqp(world: World) -> dict:
    """1 the same question in other words (two fifths), 0 another kind of question or another event."""
    event = draw_event(world, 0.4, 0.5, 0)
    kind = world.pick(QUESTIONS)
    label = int(world.chance(0.42))
    second, second_kind = event, kind
    if not label and world.chance(0.3):
        second_kind = world.other(QUESTIONS, kind)
    elif not label:
        roles = ("agent", "deed", "thing") + ("property",) * bool(event.property) + ("place",) * bool(event.place)
        second = altered(world, event, roles)
    asked, asked_again = ask(world, event, kind), ask(world, second, second_kind)
    while asked == asked_again:
        asked, asked_again = ask(world, event, kind), ask(world, second, second_kind)
    hint = differences(event, second) if kind == second_kind else "question"
    return {"question1": asked, "question2": asked_again, "label": label, "hint": hint}


def stsb(world: World) -> dict:
    """0.0 to 5.0: five less the costs of the roles that differ; a thing of the same category costs half."""
    event = draw_event(world, 1, 1, 0)
    changed = set(world.several(tuple(COSTS), world.below(6)))
    score, second = 5.0, event
    if "agent" in changed:
        # Drawn first, since the other roles must fit the new agent's facts.
        second = draw_event(world, 1, 1, 0)
        while second.agent == event.agent:
            second = draw_event(world, 1, 1, 0)
        kept = {"deed": event.deed, "property": event.property}
        if "thing" not in changed and world.holds(second.agent, event.thing[0]):
            kept["thing"] = event.thing
        if "place" not in changed and world.holds(second.agent, event.place):
            kept["place"] = event.place
        second = replace(second, **kept)
    elif "thing" in changed:
        second = replace(second, thing=world.attribute(event.agent, ALL_THINGS, event.thing))
    if "place" in changed and second.place == event.place:
        second = change(world, second, "place")
    if "deed" in changed:
        second = change(world, second, "deed")
    if "property" in changed:
        second = replace(second, property=world.other(PROPERTIES, event.property))
    for role, cost in COSTS.items():
        if getattr(event, role) != getattr(second, role):
            related = role == "thing" and CATEGORY[event.thing] == CATEGORY[second.thing]
            score -= cost / 2 if related else cost
    return {
        "sentence1": sentence(world, event) + ".",
        "sentence2": sentence(world, second) + ".",
        "label": round(max(score, 0.0), 1),
        "hint": differences(event, second),
    }
