"""A reader of the demonstration language, sentence -> roles; it shares only word lists with the generator."""

import re

from ept.demo import words

THING_OF = {word: thing[0] for thing in words.ALL_THINGS for word in thing}
CATEGORY_OF = {thing[0]: category for thing, category in words.CATEGORY.items()}
PROPERTY_OF = {word: group[0] for group in words.PROPERTIES for word in group}
DEED_OF = {form: deed[0][0] for deed in words.DEEDS for verb in deed for form in verb}
FRAMES = dict.fromkeys(words.FACTIVE, 1) | dict.fromkeys(words.OPEN, 0)
FRAMES |= dict.fromkeys(words.FALSE, -1)


def parse(text: str) -> dict:
    """A sentence's agent, deed, thing, property, place, day, negation, and its frame's force (1, 0, -1)."""
    text = text.strip(" .?")
    roles = {"place": None, "day": None, "property": None, "frame": None, "negated": False}
    for frame, force in FRAMES.items():
        found = re.match(rf"\w+ {frame} (.*)", text)
        if found:
            return parse(found.group(1)) | {"frame": force}
    for role, pattern in (("place", r"\bin ([A-Z]\w+|@placeholder)"), ("day", r"\bon (\w+day)")):
        found = re.search(pattern, text)
        if found:
            roles[role] = found.group(1)
            text = re.sub(r"\s+", " ", text.replace(found.group(0), "")).strip()
    active = re.fullmatch(r"(\S+) (?:(did not) )?(\w+) an? (.+)", text)
    passive = re.fullmatch(r"an? (.+?) was (?:(not) )?(\w+) by (\S+)", text)
    assert active or passive, f"not a sentence of the language: {text!r}"
    agent, negation, deed, thing = active.groups() if active else [passive.group(n) for n in (4, 2, 3, 1)]
    *property, noun = thing.split()
    roles |= {
        "agent": agent,
        "deed": DEED_OF[deed],
        "thing": THING_OF.get(noun, noun),
        "negated": bool(negation),
    }
    if property:
        roles["property"] = PROPERTY_OF[property[0]]
    return roles


def follows(special: dict, general: dict) -> bool:
    """Whether the event `general` follows from the event `special` (both taken without negation)."""
    same = special["agent"] == general["agent"] and special["deed"] == general["deed"]
    kind = general["thing"] in (special["thing"], CATEGORY_OF.get(special["thing"]))
    return same and kind and all(general[role] in (None, special[role]) for role in ("property", "place", "day"))


def relation(premise: dict, hypothesis: dict) -> str:
    """entailment, contradiction or neutral, by cases over negation and frames."""
    if premise["frame"] == 0:
        return "neutral"
    denied = premise["negated"] != (premise["frame"] == -1)
    if not denied and follows(premise, hypothesis):
        return "contradiction" if hypothesis["negated"] else "entailment"
    if denied and follows(hypothesis, premise):
        return "entailment" if hypothesis["negated"] else "contradiction"
    return "neutral"
