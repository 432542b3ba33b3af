"""Tables in Markdown that people can read as they are, and how figures are spelled in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table: the first column to the left, figures to the right.

    Args:
        head: What the columns are.
        rows: As many cells each.

    Returns:
        Lines, without an end of line after the last.
    """
    widths = [max(3, *(len(row[column]) for row in (head, *rows))) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (cell.replace("|", "\\|") for cell in cells)
        figures = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        return "| " + " | ".join([first.ljust(widths[0]), *figures]) + " |"

    rule = line(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join([line(head), rule, *map(line, rows)])


def write_between_markers(path: Path, name: str, text: str) -> None:
    """Replace what stands in a document between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

    Args:
        path: The document.
        name: Whose place.
        text: What is to stand there, without empty lines around it.

    Raises:
        ValueError: The document has no such place.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path} needs the lines {begin} and {end}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def seconds(figure: float) -> str:
    """Spell a duration with three digits that mean something."""
    return f"{figure:.2f} s" if figure >= 1 else f"{figure * 1e3:.3g} ms"


def size(figure: float) -> str:
    """Spell a number of bytes."""
    for least, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if figure >= least:
            return f"{figure / least:.3g} {unit}" if figure < 1e3 * least else f"{figure / least:.0f} {unit}"
    return f"{figure:.0f} B"


def quantile(figures: Sequence[float], share: float) -> float:
    """Find the figure that the given share of all do not exceed: nearest rank, none made up in between.

    Raises:
        ValueError: There are no figures.
    """
    if not figures:
        raise ValueError("nothing was measured")
    ordered = sorted(figures)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]
