"""The two normalisations of EPT. The epsilon stands inside the root, so that zeros have finite gradients."""

from torch import Tensor


def normalise_rows(rows: Tensor) -> Tensor:
    """[ours] n(x) = x / sqrt(mean(x²) + 1e-6) for each row x of [..., hidden]."""
    return rows / (rows.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def normalise_product(product: Tensor, embedding_rms: float) -> Tensor:
    """[ours] v(C) = C · e / sqrt(mean(C²) + (0.01 e)²), the mean over all of a run's C.

    C and result [runs, source_length, hidden]; e is the embeddings' root mean square. A trained short prompt
    is 25-130 times larger than C, so that C as it is would change almost nothing.
    """
    mean_square = product.square().mean((1, 2), keepdim=True)
    return product * embedding_rms / (mean_square + (0.01 * embedding_rms) ** 2).sqrt()
