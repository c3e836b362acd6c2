"""Measure how the package is built: file sizes, import circles, imports against the direction.

Reads the sources with `ast` and needs only the standard library. `make structure` runs it; the exit status is 1 if a
limit below is exceeded. A path as argument measures another checkout.
"""

import argparse
import ast
import re
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "ept"
# Top-level modules and packages, lowest first. Each may import its own level and those before it.
LEVELS = (
    ("errors", "files", "hub", "devices"),
    ("config", "tasks", "demo"),
    ("data", "backbones", "methods"),
    ("vision",),
    ("plan",),
    ("evaluation", "training"),
    ("results", "figures", "report", "cost", "exchange"),
    ("api",),
    ("serving",),
    ("commands",),
    ("cli",),
)
# Modules that may stand at the top of the package instead of in a folder.
TOP_MODULES = {"errors", "files", "hub", "devices", "cli"}
# A file is one concept that a reader looks for: a method, a table, a kind of data, a group of commands. A file with one
# user belongs to that user unless it is such a concept: merge before this number is raised.
MAX_FILES = 165
MAX_BACKWARDS = 1
MAX_WALK = 46
# Lists the files that one example passes, from the Parquet file to the cell of a table.
WALK = "docs/architecture.md"


@dataclass(frozen=True)
class Import:
    """One module of the package imports another. `inner`: inside a function; `typing`: under TYPE_CHECKING."""

    importer: str
    imported: str
    inner: bool = False
    typing: bool = False


def module_files(source: Path) -> dict[str, Path]:
    """The package's modules by dotted name, without `__init__.py` that hold a docstring at most."""
    files = {}
    for path in sorted((source / PACKAGE).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[-1] == "__init__":
            if _is_empty(path):
                continue
            parts = parts[:-1]
        files[".".join(parts)] = path
    return files


def _is_empty(path: Path) -> bool:
    body = ast.parse(path.read_text(), str(path)).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def imports_of(module: str, path: Path, modules: set[str]) -> set[Import]:
    """What a module imports from the package."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()

    def visit(node: ast.AST, inner: bool, typing: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _imported_names(node, package):
                if (target := _module_of(name, modules)) and target != module:
                    found.add(Import(module, target, inner, typing))
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            for child in node.body:
                visit(child, inner, True)
            for child in node.orelse:
                visit(child, inner, typing)
        else:
            inner = inner or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                visit(child, inner, typing)

    visit(ast.parse(path.read_text(), str(path)), inner=False, typing=False)
    return found


def _imported_names(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
    yield from (f"{base}.{alias.name}" for alias in node.names)


def _module_of(name: str, modules: set[str]) -> str | None:
    """The module that a dotted name is, or is defined in."""
    while name:
        if name in modules:
            return name
        name = name.rpartition(".")[0]
    return None


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def circles(imports: set[Import]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
    graph = defaultdict(set)
    for edge in imports:
        graph[edge.importer].add(edge.imported)
    index, low, stack, groups = {}, {}, [], []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(graph.get(module, ())):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                groups.append(sorted(stack[at:]))
            del stack[at:]

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return groups


def level_of(module: str) -> int | None:
    """The level of a module's top-level name; None for the package itself and for unknown names."""
    top = module.split(".")[1] if "." in module else ""
    return next((number for number, names in enumerate(LEVELS) if top in names), None)


def backwards(imports: set[Import]) -> list[tuple[str, str]]:
    """Pairs of importer and imported module where the imported one stands on a higher level."""
    pairs = set()
    for edge in imports:
        low, high = level_of(edge.importer), level_of(edge.imported)
        if low is not None and high is not None and low < high:
            pairs.add((edge.importer, edge.imported))
    return sorted(pairs)


def measure(root: Path) -> list[str]:
    """Print every figure; return what exceeds a limit, a sentence each."""
    files = module_files(root / "src")
    imports = {edge for module, path in files.items() for edge in imports_of(module, path, set(files))}
    broken = []

    def limit(fact: str, exceeded: bool, details: list[str] = ()) -> None:
        print(fact)
        for line in details:
            print(f"  {line}")
        if exceeded:
            broken.append(fact)

    lines = {module: len(path.read_text().splitlines()) for module, path in files.items()}
    limit(f"source files: {len(files)} (at most {MAX_FILES})", len(files) > MAX_FILES)
    print(f"lines: {sum(lines.values())}, median of a file {statistics.median(lines.values()):g}")
    largest = sorted(lines, key=lines.get, reverse=True)[:5]
    print("largest: " + ", ".join(f"{module} {lines[module]}" for module in largest))

    importers = Counter(imported for _, imported in {(edge.importer, edge.imported) for edge in imports})
    print(f"files with exactly one importer: {sum(count == 1 for count in importers.values())}")

    found = circles({edge for edge in imports if not edge.inner and not edge.typing})
    limit(f"import circles: {len(found)}", bool(found), [" - ".join(group) for group in found])
    every = circles(imports)
    print(f"import circles, with imports inside functions: {len(every)}")
    for group in every:
        print("  " + " - ".join(group))

    typing = sorted(f"{edge.importer} imports {edge.imported}" for edge in imports if edge.typing)
    limit(f"imports under TYPE_CHECKING: {len(typing)}", bool(typing), typing)

    against = backwards(imports)
    limit(
        f"imports against the direction: {len(against)} (at most {MAX_BACKWARDS})",
        len(against) > MAX_BACKWARDS,
        [f"{importer} imports {imported}" for importer, imported in against],
    )

    tops = {module.split(".")[1] for module in files if "." in module}
    loose = sorted(top for top in tops - TOP_MODULES if (root / "src" / PACKAGE / f"{top}.py").exists())
    limit(f"loose modules at the top of src/{PACKAGE}: {len(loose)}", bool(loose), loose)
    unknown = sorted(tops - {name for names in LEVELS for name in names} - set(loose))
    if unknown:
        limit(f"packages without a level (add them to LEVELS): {len(unknown)}", True, unknown)

    document = root / WALK
    if document.exists():
        walk = list(dict.fromkeys(re.findall(rf"src/{PACKAGE}/[\w/]+\.py", document.read_text())))
        limit(f"files from Parquet to a table cell: {len(walk)} (at most {MAX_WALK})", len(walk) > MAX_WALK)
        missing = [path for path in walk if not (root / path).exists()]
        if missing:
            limit(f"files that {WALK} names and that do not exist: {len(missing)}", True, missing)
    else:
        print(f"files from Parquet to a table cell: {WALK} does not exist")
    return broken


def main() -> int:
    """Measure; return 1 where a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("root", nargs="?", type=Path, default=here, help="the checkout to measure (this one)")
    broken = measure(parser.parse_args().root)
    for fact in broken:
        print(f"limit exceeded: {fact}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
