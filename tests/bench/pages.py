"""The figures of a benchmark as they stand in docs/performance.md, written from its JSON file alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.bench import scale_report
from tests.bench.documents import Document
from tests.bench.tables import markdown_table, seconds, size


def page(document: Document) -> str:
    """Write a table, or more, under the command that makes it.

    Guarantees:
        The same file gives the same text.

    Args:
        document: What a benchmark wrote.

    Returns:
        Markdown, without empty lines around it.
    """
    when = (
        f"{document['measured_at'][:10]}, {document['machine']}, Python {document['python']}, torch"
        f" {document['torch']}; load {document['load']} at the end:"
    )
    return "\n".join(["```", document["command"], "```", "", when, "", markdown(document)])


def markdown(document: Document) -> str:
    """Lay out what a benchmark measured."""
    if "markdown" in document:
        return str(document["markdown"])
    if document["benchmark"] == "scale":
        return scale_report.markdown(document)
    comparisons = document["comparisons"]
    if document["benchmark"] in _PIVOTED:
        return _PIVOTED[document["benchmark"]](comparisons)
    head = ("", "median", "reference", "its median", "ratio", "target")
    return markdown_table(head, [_row(each) for each in comparisons])


def _row(each: Document) -> list[str]:
    target = (
        "" if each["target"] is None else f"{each['target']:g}{'' if each['reached'] else ', **missed**'}"
    )
    ours, theirs = (_amount(each, whose) for whose in ("ours", "theirs"))
    return [each["name"], ours, each["reference"], theirs, f"{each['ratio']:.2f}", target]


def _amount(each: Document, whose: str) -> str:
    figure = each[f"{whose}_median_s"]
    if each["unit"] == "bytes":
        return size(figure)
    speed = f" ({each['size_bytes'] / figure / 1e6:.0f} MB/s)" if each.get("size_bytes") else ""
    return seconds(figure) + speed


def _pivot(separator: str, corner: str) -> Callable[[Sequence[Document]], str]:
    """Make a table with a line per subject and a column per quantity of comparisons `SUBJECT, QUANTITY`.

    In brackets is the ratio. When all have one reference, that is the last line.
    """

    def lay_out(comparisons: Sequence[Document]) -> str:
        cells: dict[str, dict[str, str]] = {}
        last: dict[str, str] = {}
        for each in comparisons:
            subject, _, quantity = each["name"].partition(separator)
            missed = "" if each["reached"] else ", **missed**"
            cells.setdefault(subject, {})[quantity] = f"{_amount(each, 'ours')} ({each['ratio']:.2f}{missed})"
            last.setdefault(quantity, _amount(each, "theirs"))
        rows = [[subject, *(row.get(quantity, "–") for quantity in last)] for subject, row in cells.items()]
        references = {each["reference"] for each in comparisons}
        if len(references) == 1:
            rows.append([*references, *last.values()])
        return markdown_table([corner, *last], rows)

    return lay_out


_PIVOTED: dict[str, Callable[[Sequence[Document]], str]] = {
    "codecs": _pivot(" ", "median (ratio)"),
    "sync": _pivot(", ", "median (ratio)"),
}
