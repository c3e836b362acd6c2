"""No pass through a backbone takes more memory than its tensors explain."""

import pytest

from benchmarks.memory import DTYPES, FAMILIES, PASSES, measure_passes


@pytest.mark.long
def test_peak_memory_of_every_pass_is_within_its_limit():
    rows = measure_passes()
    assert len(rows) == len(FAMILIES) * len(DTYPES) * len(PASSES)
    assert {(row["family"], row["dtype"], row["pass"]): row for row in rows if row["peak_mib"] > row["limit_mib"]} == {}
