"""What every command prints with: a console for results, one for complaints, and the spelling of numbers."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_KILO = 1000.0
_ANY_WIDTH = 10_000


class Fitting:
    """Of several tables the first that there is room for, or else the last; the first when nobody looks."""

    def __init__(self, tables: Sequence[Table]) -> None:
        """Take the choice.

        Args:
            tables: At least one; the one that says most comes first.
        """
        self._tables = tables

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        """Choose, for rich to print.

        Args:
            screen: Where to.
            options: How much room there is.

        Yields:
            What the chosen table looks like.
        """
        anything = options.update(max_width=_ANY_WIDTH)
        if screen.soft_wrap and not screen.is_terminal:
            yield from screen.render(self._tables[0], anything)  # what programs read is not cut
        else:
            fit = (
                t for t in self._tables if Measurement.get(screen, anything, t).maximum <= options.max_width
            )
            yield from screen.render(next(fit, self._tables[-1]), options)


def console() -> Console:
    """Make the console for results.

    Returns:
        A console on standard output that never breaks a line by itself when nobody looks.
    """
    return Console(highlight=False, soft_wrap=True)


def complain(cause: str, remedy: str = "") -> None:
    """Tell an error on standard error: a line for the cause, and a line for the remedy if there is one.

    Args:
        cause: What was found.
        remedy: What the reader can do about it.
    """
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    screen.print(Text.assemble(("error: ", "bold red"), " ".join(cause.split())))
    if remedy:
        screen.print(Text.assemble(("try: ", "bold"), " ".join(remedy.split())))


def harmless(text: str) -> str:
    """Make text from elsewhere fit for a terminal, which would obey its control characters.

    Args:
        text: What a model wrote, or a peer told.

    Returns:
        The text with every control character but line breaks and tabs replaced.
    """
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)


def count(number: float) -> str:
    """Spell a large number.

    Args:
        number: Any count.

    Returns:
        `1,234`, `1.3 M` or `2.5 G`.
    """
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:,.0f}"


def size(num_bytes: float) -> str:
    """Spell a number of bytes in decimal units.

    Args:
        num_bytes: Bytes.

    Returns:
        `512 B`, `1.5 kB`, `2.6 MB` and so on.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < _KILO:
            return f"{num_bytes:.3g} {unit}" if num_bytes < 100 else f"{num_bytes:.0f} {unit}"
        num_bytes /= _KILO
    return f"{num_bytes:,.1f} TB"


def clock(seconds: float) -> str:
    """Spell a duration.

    Args:
        seconds: Its length.

    Returns:
        `1:02` or `1:02:03`.
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
