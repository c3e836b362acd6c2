"""The metrics of the tasks in percent, in numpy alone: training calls them after every validation.

An invalid prediction (-1: the backbone wrote something that is not a label) always counts as wrong:

- accuracy, exact match: a wrong answer;
- F1 of class 1 (`f1`): the class that is not the gold one. Were it only "not class 1", an invalid answer
  where the gold class is 0 would be worth as much as a right one;
- `macro_f1`: of no class, which costs its gold class recall;
- `matthews`: a class of its own (the multi-class coefficient R_K). A run that writes no label at all then gets
  0 as any constant prediction does, not -100.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ept.errors import InputError, reason_of, shortened
from ept.tasks.plugins import METRIC, load_metric
from ept.tasks.record import Task

INVALID = -1
# Metrics that are the share of examples (or of groups of rows) judged right.
SHARES = ("accuracy", "exact_match")


@dataclass(frozen=True)
class References:
    """What was right.

    `labels` [rows] are class indices or scores; `groups` [rows] name the rows that are judged together (MultiRC's
    questions; empty strings where there are none); `answers` are for extraction all gold answers of each row.
    """

    labels: np.ndarray
    groups: Sequence[str] = field(default_factory=list)
    answers: Sequence[Sequence[str]] = field(default_factory=list)


def compute(name: str, predictions: np.ndarray, truth: References, task: Task) -> float:
    """The metric `name` of `predictions` [rows] (class indices, scores or texts) in percent."""
    return scorer(name, [predictions], truth, task)(0, np.arange(len(predictions)))


def scorer(
    name: str, predictions: Sequence[np.ndarray], truth: References, task: Task
) -> Callable[[int, np.ndarray], float]:
    """The metric as a function of a seed (an index into `predictions`) and rows, in percent.

    For resampling: `rows` may repeat rows (whole groups, where there are groups), and what depends on single
    rows is computed once here.
    """
    if name.startswith(METRIC):
        return _foreign_scorer(name, predictions, truth, task)
    if name == "bleu4":
        return _bleu4_scorer(predictions, truth.answers)
    if name == "cider":
        consensus = [cider(texts, truth.answers) for texts in predictions]
        return lambda seed, rows: 100.0 * float(consensus[seed][rows].mean())
    if name == "vqa_accuracy":
        agreed = [np.array(list(map(vqa_accuracy, texts, truth.answers))) for texts in predictions]
        return lambda seed, rows: 100.0 * float(agreed[seed][rows].mean())
    if task.kind == "extraction":
        judge = {"exact_match": exact_match, "f1": answer_f1}[name]
        values = [
            np.array([_best(judge, text, answers) for text, answers in zip(texts, truth.answers, strict=True)])
            for texts in predictions
        ]
        return lambda seed, rows: 100.0 * float(values[seed][rows].mean())
    if name == "accuracy":
        judged = [part == truth.labels for part in predictions]
        return lambda seed, rows: 100.0 * float(judged[seed][rows].mean())
    if name == "exact_match":
        weights = 1.0 / _group_sizes(truth.groups)
        right = [_whole_group_right(part, truth) for part in predictions]
        return lambda seed, rows: 100.0 * float(np.average(right[seed][rows], weights=weights[rows]))
    function = {
        "f1": f1,
        "macro_f1": macro_f1,
        "matthews": matthews,
        "pearson": pearson,
        "spearman": spearman,
    }[name]
    return lambda seed, rows: 100.0 * function(predictions[seed][rows], truth.labels[rows])


def _foreign_scorer(
    name: str, predictions: Sequence[np.ndarray], truth: References, task: Task
) -> Callable[[int, np.ndarray], float]:
    """A metric of the library `evaluate`, times 100. Raises InputError for what is no number between -1 and 1."""
    module = load_metric(name)
    answers = [list(given) for given in truth.answers]
    if answers and all(len(given) == 1 for given in answers):
        references: Any = [given[0] for given in answers]
    else:
        references = answers or truth.labels.astype(np.int64 if task.kind == "classification" else float).tolist()

    checked: list[bool] = []

    def scored(seed: int, rows: np.ndarray) -> float:
        given = {
            "predictions": predictions[seed][rows].tolist(),
            "references": [references[row] for row in rows.tolist()],
        }
        try:
            # `compute` checks types and copies all rows to Arrow; once is enough for hundreds of resamples.
            found = module._compute(**given) if checked else module.compute(**given)
            checked.append(True)
        except Exception as error:  # whatever the metric's code raises
            raise InputError(f"{name} failed with {type(error).__name__}: {reason_of(error)}") from error
        values = list(found.values()) if isinstance(found, dict) else []
        value = values[0] if len(values) == 1 else (found or {}).get(module.name)
        if not isinstance(value, int | float | np.number) or not -1 <= value <= 1:
            raise InputError(f"{name} gives {shortened(ascii(found), 100)}; one number between -1 and 1 is needed")
        return 100.0 * float(value)

    return scored


def clusters(truth: References) -> list[np.ndarray]:
    """Rows that must be resampled together: those of one group, or each row alone without groups.

    Of nested groups ("paragraph/question") the outermost counts: questions about one paragraph are not independent.
    """
    if not any(truth.groups):
        return list(np.arange(len(truth.labels))[:, None])
    _, inverse = np.unique([group.partition("/")[0] for group in truth.groups], return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1 against class 0, 0-1; 0 where class 1 neither occurs nor is predicted."""
    predictions = np.where(predictions == INVALID, 1 - labels, predictions)
    return _class_f1(predictions, labels, 1)


def macro_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The unweighted mean of the F1 of the classes that occur in labels or predictions, 0-1."""
    classes = np.union1d(labels, predictions[predictions != INVALID])
    return float(np.mean([_class_f1(predictions, labels, class_) for class_ in classes]))


def _class_f1(predictions: np.ndarray, labels: np.ndarray, class_: float) -> float:
    predicted, gold = predictions == class_, labels == class_
    total = predicted.sum() + gold.sum()
    return 2.0 * float((predicted & gold).sum()) / float(total) if total else 0.0


def matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation coefficient, -1 to 1 (for more than two classes R_K); 0 where one side is constant."""
    classes = np.union1d(labels, predictions)
    predicted = predictions[:, None] == classes
    gold = labels[:, None] == classes
    return _correlation(predicted - predicted.mean(0), gold - gold.mean(0))


def pearson(predictions: np.ndarray, scores: np.ndarray) -> float:
    """Pearson's correlation, -1 to 1; 0 where one side is constant."""
    return _correlation(predictions - predictions.mean(), scores - scores.mean())


def spearman(predictions: np.ndarray, scores: np.ndarray) -> float:
    """Spearman's rank correlation, -1 to 1, ties at their mean rank; 0 where one side is constant."""
    return pearson(_ranks(predictions), _ranks(scores))


def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    """The cosine of two centered arrays; 0 for a constant side, of which only rounding errors of its mean are left."""
    if any(np.ptp(side, axis=0).max() == 0 for side in (left, right)):
        return 0.0
    return float((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _group_sizes(groups: Sequence[str]) -> np.ndarray:
    """The size of each row's group, [rows]."""
    _, inverse, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return counts[inverse]


def _whole_group_right(predictions: np.ndarray, truth: References) -> np.ndarray:
    """Whether every row of each row's group is right, [rows]."""
    _, inverse = np.unique(np.asarray(truth.groups), return_inverse=True)
    wrong = np.bincount(inverse, weights=predictions != truth.labels)
    return wrong[inverse] == 0


def normalize_answer(text: str) -> str:
    """SQuAD's normalization (official evaluation script): lower case, no punctuation, no articles, single blanks."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(prediction: str, answer: str) -> float:
    """1 if both are the same after normalization, else 0."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def answer_f1(prediction: str, answer: str) -> float:
    """SQuAD's F1 over the words of the normalized texts, 0-1; 0 where they share none, even if both are empty."""
    predicted, gold = normalize_answer(prediction).split(), normalize_answer(answer).split()
    common = sum((Counter(predicted) & Counter(gold)).values())
    return 2.0 * common / (len(predicted) + len(gold)) if common else 0.0


def _best(function: Callable[[str, str], float], prediction: Any, answers: Sequence[str]) -> float:
    """The best over all gold answers, as SQuAD's script and ReCoRD's take it."""
    return max(function(str(prediction), answer) for answer in answers)


# VQA's official script (github GT-Vision-Lab/VQA, vqaEval.py). Words whose apostrophe is put back where it is missing.
_CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've "
    "needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll "
    "somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd "
    "there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll "
    "what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's "
    "won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"
)
_APOSTROPHES = {
    form[:place] + form[place + 1 :]: form
    for form in _CONTRACTIONS.split()
    for place, sign in enumerate(form)
    if sign == "'"
}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)} | {"none": "0"}


def _without_punctuation(text: str) -> str:
    """A sign goes where a blank is next to it, or the text has a number such as 1,000; else it becomes a blank."""
    found = text
    for sign in ';/[]"{}()=+\\_-><@`,?!':
        alone = f"{sign} " in text or f" {sign}" in text or re.search(r"\d,\d", text)
        found = found.replace(sign, "" if alone else " ")
    return re.sub(r"\.(?!\d)", "", found)


def normalize_vqa_answer(text: str) -> str:
    """A generated answer as VQA's official script reads it: lower case, digits for numbers, no articles or signs."""
    words = _without_punctuation(" ".join(text.split())).lower().split()
    words = [_DIGITS.get(word, word) for word in words]
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in ("a", "an", "the"))


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """VQA's accuracy against the answers of ten people: min(n / 3, 1) for the n of nine that agree, mean of all nines.

    As in the official script answers lose their punctuation only where they are not all the same.
    """
    found = normalize_vqa_answer(str(prediction))
    given = [_without_punctuation(answer) for answer in answers] if len(set(answers)) > 1 else list(answers)
    agreeing = sum(answer == found for answer in given)
    return float(np.mean([min((agreeing - (answer == found)) / 3, 1.0) for answer in given]))


def _caption_grams(text: str) -> Counter[tuple[str, ...]]:
    """How often each sequence of one to four words occurs.

    Words are lower case, without punctuation; the published scripts use Stanford's tokenizer, which needs Java.
    """
    words = re.findall(r"\w+(?:'\w+)?", str(text).lower())
    return Counter(tuple(words[at : at + size]) for size in range(1, 5) for at in range(len(words) - size + 1))


# By length of the sequences: their weights, and the norm of these; and the number of pairs of words.
_Weighed = tuple[list[dict[tuple[str, ...], float]], list[float], int]


def cider(captions: Iterable[Any], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each caption [rows] (Vedantam et al., arXiv 1411.5726), as in coco-caption; 1.0 counts as 100 %.

    How rare words are is counted over the references of all rows.
    """
    given = [[_caption_grams(text) for text in texts] for texts in references]
    rows_with = Counter(gram for texts in given for gram in set().union(*texts))
    rare = {gram: np.log(len(given)) - np.log(count) for gram, count in rows_with.items()}
    most_rare = float(np.log(len(given)))

    def weighed(grams: Counter[tuple[str, ...]]) -> _Weighed:
        weights: list[dict[tuple[str, ...], float]] = [{}, {}, {}, {}]
        for gram, count in grams.items():
            weights[len(gram) - 1][gram] = count * rare.get(gram, most_rare)
        norms = [sum(value**2 for value in part.values()) ** 0.5 for part in weights]
        return weights, norms, sum(count for gram, count in grams.items() if len(gram) == 2)

    def alike(caption: _Weighed, reference: Counter[tuple[str, ...]]) -> float:
        (ours, our_norms, length), (theirs, their_norms, other) = caption, weighed(reference)
        products = [
            sum(min(value, part[gram]) * part[gram] for gram, value in own.items() if gram in part)
            for own, part in zip(ours, theirs, strict=True)
        ]
        shares = [
            product / (norm * other_norm) if norm and other_norm else product
            for product, norm, other_norm in zip(products, our_norms, their_norms, strict=True)
        ]
        return float(np.mean(shares) * np.exp(-((length - other) ** 2) / 72))

    found = []
    for text, texts in zip(captions, given, strict=True):
        caption = weighed(_caption_grams(text))
        found.append(10 * np.mean([alike(caption, reference) for reference in texts]))
    return np.array(found)


def _bleu4_scorer(
    predictions: Sequence[np.ndarray], references: Sequence[Sequence[str]]
) -> Callable[[int, np.ndarray], float]:
    """BLEU-4 of all rows together (Papineni et al., ACL 2002), with the closest reference's length."""
    counts = [
        np.array([list(_bleu_counts(text, texts)) for text, texts in zip(part, references, strict=True)])
        for part in predictions
    ]

    def scored(seed: int, rows: np.ndarray) -> float:
        total = counts[seed][rows].sum(0)
        matches, tried, length, wanted = total[:4], total[4:8], total[8], total[9]
        if not matches.all():
            return 0.0
        short = min(0.0, 1 - wanted / length)
        return 100.0 * float(np.exp(np.log(matches / tried).mean() + short))

    return scored


def _bleu_counts(caption: str, references: Sequence[str]) -> Iterator[int]:
    """Sequences of one to four words that a reference has, all of them, and the lengths of caption and reference."""
    found, given = _caption_grams(caption), [_caption_grams(text) for text in references]
    sizes = range(1, 5)
    for size in sizes:
        yield sum(min(n, max(text[gram] for text in given)) for gram, n in found.items() if len(gram) == size)
    for size in sizes:
        yield sum(n for gram, n in found.items() if len(gram) == size)
    length, *lengths = (sum(n for gram, n in text.items() if len(gram) == 1) for text in (found, *given))
    yield length
    yield min(lengths, key=lambda other: (abs(other - length), other))
