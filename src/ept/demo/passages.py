"""Tasks on short passages: boolq, multirc, squad and record."""

from dataclasses import replace
from typing import Any

from ept.demo.events import Event, article, change, draw_event, sentence, thing_question, thing_words
from ept.demo.words import ALL_THINGS, CATEGORY, DEEDS, PEOPLE, PLACES
from ept.demo.world import World


def draw_events(world: World, count: int, place: float, same_deed: bool = False) -> list[Event]:
    """Events with different agents and things, of one deed or of different deeds."""
    deeds = [world.pick(DEEDS)] * count if same_deed else world.several(DEEDS, count)
    events: list[Event] = []
    for agent, deed in zip(world.several(PEOPLE, count), deeds, strict=True):
        event = draw_event(world, 0.4, place, 0, agent=agent, deed=deed)
        things = [told.thing for told in events]
        while event.thing in things:
            event = draw_event(world, 0.4, place, 0, agent=agent, deed=deed)
        events.append(event)
    return events


def tell(world: World, events: list[Event]) -> str:
    """The events as a passage, one sentence each."""
    return " ".join(sentence(world, event, passive=world.chance(0.15)) + "." for event in events)


def boolq(world: World) -> dict:
    """1 yes (three fifths), 0 no: the question mixes up two events of the passage or changes the deed."""
    events = draw_events(world, 2, 0.3)
    event = events[0]
    label = int(world.chance(0.6))
    asked = event
    if not label:
        swapped = replace(event, thing=events[1].thing, property=events[1].property)
        fits = world.holds(event.agent, events[1].thing[0])
        asked = swapped if fits and world.chance(0.6) else change(world, event, world.pick(("deed", "thing")))
    passage = tell(world, world.shuffled(events))
    if CATEGORY[asked.thing] != CATEGORY[event.thing] or label:
        asked = replace(asked, thing=CATEGORY[asked.thing]) if world.chance(0.3) else asked
    asked = replace(asked, property=asked.property if world.chance(0.5) else None)
    base = world.pick(asked.deed)[0]
    question = f"did {asked.agent} {base} {article(thing_words(world, asked))}"
    hint = f"{event.deed[0][0]} {event.thing[0]}"
    return {"question": question, "passage": passage, "label": label, "hint": hint}


def multirc(world: World) -> list[dict]:
    """Rows of one paragraph: two questions of three or four answers each, of which one or two are right."""
    agents = world.several(PEOPLE, 2)
    deed = world.pick(DEEDS)
    owned: dict[str, list[Any]] = {}
    for agent in agents:
        told = [thing for things in owned.values() for thing in things]
        fitting = [thing for thing in ALL_THINGS if world.holds(agent, thing[0]) and thing not in told]
        owned[agent] = world.several(fitting, min(len(fitting), 1 + world.below(2)))
    # A third agent did something else to something else.
    third = draw_event(world, 0, 0, 0, agent=world.other(PEOPLE, *agents), deed=world.other(DEEDS, deed))
    told = [thing for things in owned.values() for thing in things]
    sentences = [f"{third.agent} {world.pick(third.deed)[1]} {article(world.pick(third.thing))}."]
    for agent, things in owned.items():
        listed = " and ".join(article(world.pick(thing)) for thing in things)
        sentences.append(f"{agent} {world.pick(deed)[1]} {listed}.")
    paragraph = " ".join(world.shuffled(sentences))
    told.append(third.thing)
    rows = []
    for number, agent in enumerate(agents):
        others = [thing for thing in ALL_THINGS if world.holds(agent, thing[0]) and thing not in told]
        question = f"what did {agent} {world.pick(deed)[0]}?"
        right = owned[agent]
        wrong = [thing for thing in told[:-1] if thing not in right][:1]
        wrong += world.several(others, min(len(others), 2 - len(wrong)))
        answers = [(thing, 1) for thing in right] + [(thing, 0) for thing in wrong]
        for thing, label in world.shuffled(answers):
            answer = article(world.pick(thing))
            rows.append({"paragraph": paragraph, "question": question, "answer": answer, "label": label})
            rows[-1] |= {"question_number": number, "hint": " ".join(thing[0] for thing in right)}
    return rows


def squad(world: World) -> dict:
    """A question for the agent, thing or place of one event; the answers are spans of the passage."""
    asked = world.pick(("who", "what", "where"))
    events = draw_events(world, 2, 0.3)
    event = events[0]
    if asked == "where" and not event.place:
        event = replace(event, place=world.attribute(event.agent, PLACES))
    # Every place is told once, so that an answer has one place in the passage.
    places = [event.place] if event.place else []
    others = [replace(e, place=None) if e.place in places else e for e in events[1:]]
    wording = thing_words(world, event)
    spoken = sentence(world, replace(event, thing=wording, property=None)) + "."
    told = [(sentence(world, other) + ".") for other in others]
    told.insert(world.below(2), spoken)
    context = " ".join(told)
    question = thing_question(world, replace(event, property=None), asked)
    answer = {"who": event.agent, "what": wording, "where": event.place}[asked]
    answers = [answer, article(answer)] if asked == "what" else [answer]
    starts = [context.index(spoken) + spoken.index(text) for text in answers]
    return {
        "title": CATEGORY[event.thing],
        "context": context,
        "question": question,
        "answers": {"text": answers, "answer_start": starts},
    }


def record(world: World) -> dict:
    """A statement in which @placeholder stands for the person or place of the passage that makes it true."""
    events = draw_events(world, 2, 0.4, same_deed=world.chance(0.3))
    event = events[0]
    if not event.place:
        event = events[0] = replace(event, place=world.attribute(event.agent, PLACES))
    place_asked = world.chance(0.3)
    answer = event.place if place_asked else event.agent
    others = [replace(e, place=None) if place_asked and e.place == answer else e for e in events[1:]]
    told = [sentence(world, told) + "." for told in world.shuffled([event, *others])]
    passage = "\n@highlight\n".join(told)
    hidden = replace(event, place="@placeholder" if place_asked else None)
    query = sentence(world, hidden if place_asked else replace(hidden, agent="@placeholder")) + "."
    entities = sorted({word.strip(".") for word in passage.split()} & set(PEOPLE + PLACES))
    return {"passage": passage, "query": query, "entities": entities, "answers": [answer]}
