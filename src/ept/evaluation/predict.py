"""Labels, scores and free text read off a backbone for embeddings that already hold the prompt.

Labels and candidates are few and known beforehand, so the prefixes of all of them form a small tree that the
backbone reads in one pass; what generation would write is then looked up instead of generated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ept.backbones.backbone import Backbone
from ept.evaluation.metrics import INVALID as INVALID

# Stands for the empty prefix, which has no last piece.
EMPTY = -1


@torch.inference_mode()
def predict_labels(backbone: Backbone, embeddings: Tensor, mask: Tensor, label_ids: Sequence[Sequence[int]]) -> Tensor:
    """The label that greedy generation would write, int64 [rows]; -1 where it would write anything else.

    `embeddings` [rows, positions, hidden], `mask` [rows, positions], `label_ids` the pieces of each label
    with `</s>`. The argmax is over the whole vocabulary at every piece. One pass.
    """
    tree = PrefixTree.of(label_ids)
    return _written(tree, backbone.tree_logits(embeddings, mask, tree.tokens, tree.parents))


@torch.inference_mode()
def score_candidates(
    backbone: Backbone, embeddings: Tensor, mask: Tensor, candidate_ids: Sequence[Sequence[int]]
) -> Tensor:
    """The log probability of every candidate string, float32 [rows, candidates].

    It is the sum over all pieces of a candidate, `</s>` included where the candidate has it. Shapes as in
    `predict_labels`. One pass for all candidates.
    """
    tree = PrefixTree.of(candidate_ids)
    return _path_scores(tree, backbone.tree_logits(embeddings, mask, tree.tokens, tree.parents))


@torch.inference_mode()
def read_candidates(
    backbone: Backbone, embeddings: Tensor, mask: Tensor, candidate_ids: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """What `predict_labels` and `score_candidates` give, in one pass: int64 [rows] and float32 [rows, candidates].

    Rows whose labels differ can share the pass: the candidates are then those of all rows.
    """
    tree = PrefixTree.of(candidate_ids)
    logits = backbone.tree_logits(embeddings, mask, tree.tokens, tree.parents)
    return _written(tree, logits), _path_scores(tree, logits)


@torch.inference_mode()
def predict_both(
    backbone: Backbone, embeddings: Tensor, mask: Tensor, label_ids: Sequence[Sequence[int]], closed_end: bool
) -> tuple[Tensor, Tensor]:
    """Open and closed predictions in one pass, both int64 [rows].

    Args:
        backbone: The frozen backbone.
        embeddings: [rows, positions, hidden], prompt and text.
        mask: [rows, positions].
        label_ids: The pieces of each label with `</s>`.
        closed_end: Whether `</s>` counts in the closed scoring.

    Returns:
        The label that greedy generation would write (-1 where it would write anything else), and the label whose own
        pieces are likeliest.
    """
    tree = PrefixTree.of(label_ids)
    logits = backbone.tree_logits(embeddings, mask, tree.tokens, tree.parents)
    return _written(tree, logits), _path_scores(tree, logits, without_end=not closed_end).argmax(1)


def _written(tree: "PrefixTree", logits: Tensor) -> Tensor:
    """The string of the tree that greedy generation would write, int64 [rows]; -1 for any other."""
    best = logits.max(-1).indices
    predictions = torch.full((len(best),), INVALID, device=best.device)
    for label, path in enumerate(tree.paths):
        nodes, pieces = (torch.tensor(part, device=best.device) for part in zip(*path, strict=True))
        predictions[(best[:, nodes] == pieces).all(1)] = label
    return predictions


def _path_scores(tree: "PrefixTree", logits: Tensor, without_end: bool = False) -> Tensor:
    """The log probability of every string of the tree, float32 [rows, strings]."""
    norms = logits.logsumexp(-1)
    scores = []
    for path in tree.paths:
        counted = path[:-1] if without_end else path
        nodes, pieces = (torch.tensor(part, device=logits.device) for part in zip(*counted, strict=True))
        scores.append((logits[:, nodes, pieces] - norms[:, nodes]).sum(1))
    return torch.stack(scores, 1)


@torch.inference_mode()
def generate(backbone: Backbone, embeddings: Tensor, mask: Tensor, max_new_tokens: int) -> list[list[int]]:
    """The pieces that greedy generation writes for each row, without `</s>`, at most `max_new_tokens`.

    Shapes as in `predict_labels`. A row that is finished leaves the batch.
    """
    written: list[list[int]] = [[] for _ in range(len(embeddings))]
    state = backbone.begin(embeddings, mask)
    rows = list(range(len(embeddings)))
    for step in range(max_new_tokens):
        pieces = state.logits.max(-1).indices
        going = pieces != backbone.eos_id
        for row, piece in zip(rows, pieces.tolist(), strict=True):
            if piece != backbone.eos_id:
                written[row].append(piece)
        rows = [row for row, goes in zip(rows, going.tolist(), strict=True) if goes]
        if not rows or step + 1 == max_new_tokens:
            break
        if len(rows) < len(pieces):
            state, pieces = state.select(going), pieces[going]
        state.advance(pieces[:, None])
    return written


@dataclass
class PrefixTree:
    """All proper prefixes of some strings of pieces, each once: node 0 is the empty prefix.

    `tokens` and `parents` describe the nodes (see `Backbone.tree_logits`); `paths[i]` lists, for every
    piece of string i, the node of the prefix before it, and the piece.
    """

    tokens: list[int]
    parents: list[int]
    paths: list[list[tuple[int, int]]] = field(default_factory=list)

    @classmethod
    def of(cls, strings: Sequence[Sequence[int]]) -> "PrefixTree":
        """The tree of some strings of pieces, none of which is empty."""
        tree = cls([EMPTY], [0])
        children: dict[tuple[int, int], int] = {}
        for string in strings:
            node, path = 0, []
            for position, piece in enumerate(string):
                path.append((node, piece))
                if position + 1 == len(string):
                    break
                if (node, piece) not in children:
                    children[node, piece] = len(tree.tokens)
                    tree.tokens.append(piece)
                    tree.parents.append(node)
                node = children[node, piece]
            tree.paths.append(path)
        return tree
