"""Tasks on pairs of sentences: entailment (mnli, cb, rte, qnli), paraphrase (mrpc, qqp), similarity (stsb)."""

from dataclasses import replace
from typing import Any

from ept.demo.events import Event, change, draw_event, sentence, thing_question, thing_words
from ept.demo.words import ALL_THINGS, CATEGORY, DAYS, FACTIVE, FALSE, OPEN, PEOPLE, PLACES, PROPERTIES
from ept.demo.world import World

ENTAILED, NEUTRAL, CONTRADICTED = "entailment", "neutral", "contradiction"

COSTS = {"agent": 1.0, "deed": 1.2, "thing": 1.2, "place": 1.0, "property": 0.6}
"""What another concept in a role takes off the similarity of 5; the sum is 5."""

QUESTIONS = (
    ("why did", "for what reason did"),
    ("when did", "at what time did"),
    ("how did", "in what way did"),
    ("is it true that", "is it correct that"),
)


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
