"""Entailment: mnli and cb (three classes), rte (two), qnli (is the question answered)."""

from dataclasses import replace
from typing import Any

from ept.demo.events import Event, change, draw_event, sentence, thing_question
from ept.demo.words import CATEGORY, DAYS, FACTIVE, FALSE, OPEN, PEOPLE, PLACES, PROPERTIES
from ept.demo.world import World

ENTAILED, NEUTRAL, CONTRADICTED = "entailment", "neutral", "contradiction"


def shorten(world: World, event: Event) -> Event:
    """The event with each of its details left out half of the time."""
    return Event(
        event.agent,
        event.deed,
        event.thing,
        event.property if world.chance(0.5) else None,
        event.place if world.chance(0.5) else None,
        event.day if world.chance(0.5) else None,
    )


def generalize(world: World, event: Event) -> Event:
    """The event with its thing named by the category half of the time."""
    return replace(event, thing=CATEGORY[event.thing]) if world.chance(0.5) else event


def weaken(world: World, event: Event) -> Event:
    """An event that follows from this one: details left out, the thing named by its category."""
    return generalize(world, shorten(world, event))


def strengthen(world: World, event: Event) -> Event:
    """An event that says more than this one: one detail that was left open."""
    roles = [role for role in ("property", "place", "day") if getattr(event, role) is None]
    if not roles:
        return change(world, event, world.pick(("deed", "thing")))
    role = world.pick(roles)
    if role == "place":
        return replace(event, place=world.attribute(event.agent, PLACES))
    drawn: dict[str, Any] = {role: world.pick(PROPERTIES if role == "property" else DAYS)}
    return replace(event, **drawn)


def plain_pair(world: World, relation: str) -> tuple[str, str]:
    """Premise and hypothesis (no full stops) in a relation that comes from taxonomy, details and negation."""
    event = draw_event(world)
    weak = weaken(world, event)
    way = world.number()
    if relation == ENTAILED:
        if way < 0.8:
            return sentence(world, event), sentence(world, weak)
        return sentence(world, weak, negated=True), sentence(world, event, negated=True)
    if relation == CONTRADICTED:
        if way < 0.75:
            return sentence(world, event), sentence(world, weak, negated=True)
        return sentence(world, weak, negated=True), sentence(world, event)
    if way < 0.4:
        return sentence(world, event), sentence(world, strengthen(world, event))
    if way < 0.55:
        general = replace(event, thing=CATEGORY[event.thing])
        return sentence(world, general), sentence(world, shorten(world, event))
    role = world.pick(("agent", "deed", "agent", "thing"))
    other = change(world, shorten(world, event), role) or strengthen(world, event)
    if role != "thing":
        other = generalize(world, other)
    return sentence(world, event), sentence(world, other, negated=way > 0.8)


def framed_pair(world: World, relation: str) -> tuple[str, str]:
    """Premise "<person> <frame> <event>" and a hypothesis about the event."""
    event = draw_event(world, property=0.3, place=0.3, day=0.1)
    speaker = world.other(PEOPLE, event.agent)
    negated = world.chance(0.3)
    if relation == NEUTRAL:
        frame = world.pick(OPEN)
    else:
        frame = world.pick(FACTIVE if (relation == ENTAILED) != negated else FALSE)
    # A false frame denies the event as told, so that only the event itself (in other words) is denied.
    hypothesis = event if frame in FALSE else weaken(world, event)
    return f"{speaker} {frame} {sentence(world, event)}", sentence(world, hypothesis, negated)


def pair(world: World, relation: str, framed: float) -> dict:
    """Premise and hypothesis with full stops; `framed` is the share of framed premises."""
    make = framed_pair if world.chance(framed) else plain_pair
    premise, hypothesis = make(world, relation)
    while premise == hypothesis:
        premise, hypothesis = make(world, relation)
    return {"premise": premise + ".", "hypothesis": hypothesis + "."}


def mnli(world: World) -> dict:
    """0 entailment, 1 neutral, 2 contradiction."""
    label = world.below(3)
    return pair(world, (ENTAILED, NEUTRAL, CONTRADICTED)[label], 0.25) | {"label": label}


def cb(world: World) -> dict:
    """0 entailment, 1 contradiction, 2 neutral (40, 40, 20 %); mostly clauses under know, hope, lie."""
    number = world.number()
    label = 0 if number < 0.4 else 1 if number < 0.8 else 2
    return pair(world, (ENTAILED, CONTRADICTED, NEUTRAL)[label], 0.75) | {"label": label}


def rte(world: World) -> dict:
    """0 entailment, 1 not; the premise may tell two events."""
    label = world.below(2)
    relation = ENTAILED if label == 0 else world.pick((NEUTRAL, NEUTRAL, CONTRADICTED))
    made = pair(world, relation, 0.15)
    premise = made["premise"]
    if world.chance(0.4):
        # The second event is of a kind that leaves the hypothesis open: another agent and another deed.
        told = [p for p in PEOPLE if p in made["premise"] + made["hypothesis"]]
        second = draw_event(world, 0.2, 0, 0, agent=world.other(PEOPLE, *told))
        extra = sentence(world, second)
        premise = f"{premise[:-1]} and {extra}." if world.chance(0.5) else f"{extra} and {premise}"
    return {"sentence1": premise, "sentence2": made["hypothesis"], "label": label}


def qnli(world: World) -> dict:
    """0 the sentence answers the question, 1 it does not."""
    asked = world.pick(("who", "what", "where", "when"))
    detail = {"where": "place", "when": "day"}.get(asked)
    event = draw_event(world, 0.4, 0.4 if detail != "place" else 1, 0.2 if detail != "day" else 1)
    question = thing_question(world, replace(event, property=None), asked)
    label, hint = world.below(2), "all"
    if label == 1:
        if detail and world.chance(0.4):
            left_out: dict[str, Any] = {detail: None}
            event, hint = replace(event, **left_out), detail
        else:
            roles = {"who": ("deed", "thing"), "what": ("deed", "agent")}.get(asked, ("deed", "thing", "agent"))
            before = event
            event = change(world, event, world.pick(roles)) or change(world, event, "deed")
            hint = next(role for role in roles if getattr(before, role) != getattr(event, role))
    return {"question": question, "sentence": sentence(world, event) + ".", "label": label, "hint": hint}
