"""Longer texts: reviews (yelp) and question answering in MRQA's columns (nq, hotpotqa, searchqa, newsqa)."""

from dataclasses import replace

from ept.demo.events import Event, article, draw_event, sentence, thing_question, thing_words
from ept.demo.passages import draw_events
from ept.demo.sentences import opinion
from ept.demo.words import ALL_THINGS, CATEGORY, DAYS, DEEDS, FACTIVE, OPEN, PEOPLE, PLACES, REVIEWERS, WOMEN
from ept.demo.world import World

REPORTS = (*FACTIVE, *OPEN, "said that")


def yelp(world: World) -> dict:
    """1 most opinions of the review praise, 0 most blame; the lead is three opinions at least."""
    label = world.below(2)
    count = world.pick((5, 7, 9))
    against = world.below((count - 3) // 2 + 1)
    verdicts = world.shuffled([label] * (count - against) + [1 - label] * against)
    sentences: list[str] = []
    for verdict in verdicts:
        clause = opinion(world, verdict == 1)
        if sentences and " and " not in sentences[-1] and world.chance(0.3):
            sentences[-1] += f" and {clause}"
        else:
            sentences.append(f"{world.pick(REVIEWERS)} said that {clause}" if world.chance(0.15) else clause)
    hint = " ".join(("blame", "praise")[verdict] for verdict in verdicts)
    return {"text": ". ".join(sentences) + ".", "label": label, "hint": hint}


def _row(question: str, context: str, answers: list[str]) -> dict:
    """A row in MRQA's columns: every answer with the first and last character of each place where it stands."""
    labels = []
    for answer in answers:
        starts = [at for at in range(len(context)) if context.startswith(answer, at)]
        labels.append({"start": starts, "end": [at + len(answer) - 1 for at in starts]})
    return {"context": context, "question": question, "answers": answers, "labels": labels}


def _answers(asked: str, event: Event, thing: str) -> list[str]:
    """The accepted answers to a question for the event's agent, thing, place or day, the shortest first."""
    return {
        "who": [event.agent],
        "what": [thing, article(thing)],
        "where": [event.place, f"in {event.place}"],
        "when": [event.day, f"on {event.day}"],
    }[asked]


def _complete(world: World, event: Event, asked: str) -> Event:
    """The event with the place or day that is asked for."""
    if asked == "where" and not event.place:
        return replace(event, place=world.attribute(event.agent, PLACES))
    return replace(event, day=world.pick(DAYS)) if asked == "when" else event


def _without(event: Event, place: str | None, day: str | None) -> Event:
    """The event without this place and this day, which are then told of one event alone."""
    return replace(
        event,
        place=None if event.place == place else event.place,
        day=None if event.day == day else event.day,
    )


def nq(world: World) -> dict:
    """A search query (no question mark) about one of three deeds of one person, told as a short biography."""
    asked = world.pick(("what", "where", "when"))
    agent = world.pick(PEOPLE)
    deeds = world.several(DEEDS, 3)
    things = world.several([thing for thing in ALL_THINGS if world.holds(agent, thing[0])], 3)
    events = [
        replace(draw_event(world, 0.3, 0.5, 0.5, agent=agent, deed=deed), thing=thing)
        for deed, thing in zip(deeds, things, strict=True)
    ]
    event = _complete(world, events[0], asked)
    thing = thing_words(world, event)
    told = [replace(event, thing=thing, property=None)]
    told += [_without(other, event.place, event.day) for other in events[1:]]
    pronoun = "she" if agent in WOMEN else "he"
    sentences: list[str] = []
    for part in world.shuffled(told):
        if sentences and world.chance(0.6):
            sentences.append(sentence(world, replace(part, agent=pronoun), passive=False))
        else:
            sentences.append(sentence(world, part))
    question = thing_question(world, replace(event, property=None), asked).rstrip("?")
    return _row(question, ". ".join(sentences) + ".", _answers(asked, event, thing))


def hotpotqa(world: World) -> dict:
    """A question that needs a sentence of each of two paragraphs: the first one tells who is meant."""
    asked = world.pick(("what", "what", "where"))
    people = world.several(PEOPLE, 2)
    known, wanted = world.several(DEEDS, 2)
    used: list[object] = []
    paragraphs: list[list[Event]] = [[], []]
    for agent in people:
        fitting = [thing for thing in ALL_THINGS if world.holds(agent, thing[0]) and thing not in used]
        for paragraph, deed, owned in zip(paragraphs, (known, wanted), world.several(fitting, 2), strict=True):
            used.append(owned)
            event = draw_event(world, 0.2, 0.2, 0, agent=agent, deed=deed)
            paragraph.append(replace(event, thing=owned))
    clue = paragraphs[0][0]
    event, other = (_complete(world, part, asked) for part in paragraphs[1])
    thing = thing_words(world, event)
    told = [
        world.shuffled(paragraphs[0]),
        world.shuffled([replace(event, thing=thing, property=None), _without(other, event.place, None)]),
    ]
    context = " ".join(sentence(world, part) + "." for paragraph in told for part in paragraph)
    meant = f"the one who {world.pick(clue.deed)[1]} the {world.pick(clue.thing)}"
    base = world.pick(event.deed)[0]
    question = f"{asked} did {meant} {base}"
    if asked == "where":
        question += f" the {world.pick(event.thing)}"
    return _row(question + "?", context, _answers(asked, event, thing)) | {"hint": event.agent}


def searchqa(world: World) -> dict:
    """A clue ("this vehicle was bought by Anna") and snippets, of which two tell the event that it is about."""
    asked = world.pick(("what", "who", "where"))
    event, other = draw_events(world, 2, 0.3)
    event = _complete(world, replace(event, property=None), asked)
    # Others did the same to other things, and the same person did other things.
    twin = replace(draw_event(world, 0.3, 0.5, 0, agent=other.agent, deed=event.deed), thing=other.thing)
    again = draw_event(world, 0.3, 0.5, 0, agent=event.agent, deed=other.deed)
    while again.thing == event.thing:
        again = draw_event(world, 0.3, 0.5, 0, agent=event.agent, deed=other.deed)
    twin, again = (_without(part, event.place, None) for part in (twin, again))
    thing = world.pick(event.thing)
    spoken = replace(event, thing=thing)
    shorter = replace(spoken, place=event.place if asked == "where" else None)
    snippets = [sentence(world, part, passive=world.chance(0.4)) for part in (spoken, shorter, twin, again)]
    _base, past, participle = world.pick(event.deed)
    if asked == "what":
        clue = f"this {CATEGORY[event.thing]} was {participle} by {event.agent}"
    elif asked == "who":
        clue = f"this one {past} {article(world.pick(event.thing))}"
    else:
        clue = f"{event.agent} {past} {article(world.pick(event.thing))} in this place"
    return _row(clue, " / ".join(world.shuffled(snippets)), _answers(asked, event, thing))


def newsqa(world: World) -> dict:
    """A report of what people know, heard or said; asked for one of them, or for a part of what is reported."""
    asked = world.pick(("speaker", "who", "what", "when"))
    events = draw_events(world, 2, 0.2)
    event = _complete(world, events[0], asked)
    speakers = [p for p in world.several(PEOPLE, 4) if p not in (events[0].agent, events[1].agent)]
    frames = world.several(REPORTS, 2)
    thing = thing_words(world, event)
    told = [replace(event, thing=thing, property=None), _without(events[1], event.place, event.day)]
    reports = [f"{p} {frame} {sentence(world, part)}." for p, frame, part in zip(speakers, frames, told, strict=False)]
    context = " ".join(world.shuffled(reports))
    if asked == "speaker":
        question = f"who {frames[0]} {sentence(world, replace(event, property=None, place=None, day=None))}?"
        return _row(question, context, [speakers[0]])
    return _row(thing_question(world, replace(event, property=None), asked), context, _answers(asked, event, thing))
