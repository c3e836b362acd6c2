"""Tasks on single sentences: cola (is it grammatical) and sst2 (is it praise)."""

from ept.demo.words import ASPECTS, BLAME, DEGREES, DOINGS, MANNERS, NEARNESS, PRAISE, REVIEWERS, SITES, WORKERS
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
