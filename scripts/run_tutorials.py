"""Run the tutorials of docs/tutorials and write their pictures beside them.

A tutorial is a notebook kept as Markdown (jupytext): its blocks of Python run one after the other in one namespace.

    python scripts/run_tutorials.py            # all
    python scripts/run_tutorials.py own-csv    # one
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import jupytext

TUTORIALS = Path(__file__).resolve().parent.parent / "docs/tutorials"


def run(tutorial: Path, folder: Path) -> dict[str, object]:
    """Run the cells of a tutorial in `folder` and return what they define."""
    import matplotlib

    matplotlib.use("agg")
    namespace: dict[str, object] = {"__name__": "__main__"}
    cells = [cell.source for cell in jupytext.read(tutorial).cells if cell.cell_type == "code"]
    before = Path.cwd()
    os.chdir(folder)
    try:
        for number, source in enumerate(cells):
            exec(compile(source, f"{tutorial.name}, cell {number}", "exec"), namespace)  # noqa: S102 - our own text
    finally:
        os.chdir(before)
    return namespace


def main() -> None:
    """Run the named tutorials, or all."""
    names = sys.argv[1:] or sorted(path.stem for path in TUTORIALS.glob("*.md"))
    for name in names:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run(TUTORIALS / f"{name}.md", Path(folder))
            for picture in Path(folder).glob("*.png"):
                shutil.copy(picture, TUTORIALS)
        print(f"{name}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
