"""Events (who did what to which thing, where, when) and the sentences and questions that tell them."""

from dataclasses import dataclass
from typing import Any

from ept.demo.words import ALL_THINGS, DAYS, DEEDS, PEOPLE, PLACES, PROPERTIES
from ept.demo.world import World, name


@dataclass(frozen=True)
class Event:
    """A concept for each role: a word, or a tuple of its synonyms. Place, day and property may be absent (None)."""

    agent: str
    deed: Any
    thing: Any
    property: Any = None
    place: Any = None
    day: Any = None


def draw_event(
    world: World,
    property: float = 0.5,
    place: float = 0.5,
    day: float = 0.2,
    agent: str | None = None,
    deed: Any = None,
) -> Event:
    """An event whose facts (agent and thing, agent and place) the world holds; probabilities per detail."""
    agent = agent or world.pick(PEOPLE)
    return Event(
        agent=agent,
        deed=deed or world.pick(DEEDS),
        thing=world.attribute(agent, ALL_THINGS),
        property=world.pick(PROPERTIES) if world.chance(property) else None,
        place=world.attribute(agent, PLACES) if world.chance(place) else None,
        day=world.pick(DAYS) if world.chance(day) else None,
    )


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def thing_words(world: World, event: Event) -> str:
    """The thing with its property, each by one of its synonyms: "large car"."""
    thing = event.thing if isinstance(event.thing, str) else world.pick(event.thing)
    return f"{world.pick(event.property)} {thing}" if event.property else thing


def sentence(world: World, event: Event, negated: bool = False, passive: bool | None = None) -> str:
    """The event told as a sentence without its full stop; voice, order and synonyms are drawn."""
    passive = world.chance(0.2) if passive is None else passive
    base, past, participle = world.pick(event.deed)
    thing = article(thing_words(world, event))
    if passive:
        core = f"{thing} was {'not ' if negated else ''}{participle} by {event.agent}"
    else:
        core = f"{event.agent} {'did not ' + base if negated else past} {thing}"
    details = [f"in {event.place}"] if event.place else []
    details += [f"on {event.day}"] if event.day else []
    if details and world.chance(0.15):
        front = details.pop(world.below(len(details)))
        return " ".join([front, core, *details])
    return " ".join([core, *details])


def thing_question(world: World, event: Event, asked: str) -> str:
    """A question for the event's agent ("who"), thing ("what"), place ("where") or day ("when")."""
    base, past, participle = world.pick(event.deed)
    thing = "the " + thing_words(world, event)
    passive = world.chance(0.2)
    if asked == "who":
        return f"by whom was {thing} {participle}?" if passive else f"who {past} {thing}?"
    if asked == "what":
        return f"what was {participle} by {event.agent}?" if passive else f"what did {event.agent} {base}?"
    if passive:
        return f"{asked} was {thing} {participle} by {event.agent}?"
    return f"{asked} did {event.agent} {base} {thing}?"


def change(world: World, event: Event, role: str) -> Any:
    """The event with another concept in one role, its facts in the world's part; None where nothing fits."""
    values: dict[str, Any] = {field: getattr(event, field) for field in Event.__dataclass_fields__}
    if role == "agent":
        attributes = [name(event.thing)] if not isinstance(event.thing, str) else []
        values["agent"] = world.subject(PEOPLE, attributes + [p for p in [event.place] if p], event.agent)
        return Event(**values) if values["agent"] else None
    if role in ("thing", "place"):
        values[role] = world.attribute(event.agent, ALL_THINGS if role == "thing" else PLACES, values[role])
    else:
        choices = {"deed": DEEDS, "property": PROPERTIES, "day": DAYS}[role]
        values[role] = world.other(choices, values[role])
    return Event(**values)
