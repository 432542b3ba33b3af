"""`paceline doctor`: what is right with a node, what is not, and what to do about it."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from paceline import __version__
from paceline.cli.options import Sets
from paceline.cli.screen import console, harmless
from paceline.core.errors import ConfigError

if TYPE_CHECKING:
    from paceline.peer.checkup import Check, Finding, Status

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_COUNTED: dict[Status, str] = {"fail": "failed", "warn": "to mind", "ok": "well"}
_FAILED = 1


def doctor(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run.json, a folder with one, or the multiaddr of a seed."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="This node's YAML, such as configs/node.yaml.")
    ] = None,
    sets: Sets = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="CHECK", help="Carry out this check alone; may be given several times."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of lines.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE",
            help="Also write a zip for a bug report: findings, versions, settings, the last events and lines,"
            " without keys, addresses, paths and names.",
        ),
    ] = None,
) -> None:
    """Examine this node: Python and packages, network daemon, ports, memory, disk, speed, a real average.

    With a run, also its swarm: whether it can be reached, whether others reach this node when they dial it
    back, and whether the clocks agree. Each finding comes with what to do about it. Takes about a minute, and
    may be called while the node runs. Exits with 1 when something failed.

        paceline doctor

        paceline doctor run.json --config configs/node.yaml

        paceline doctor run.json --bundle report.zip

        paceline doctor run.json --only swarm --only reachable
    """
    from paceline.cli.targets import run_target
    from paceline.peer.bundle import save_bundle
    from paceline.peer.checkup import Checkup, Subject, checks, examine
    from paceline.peer.settings import load_node

    subject = Subject(load_node(config, sets or ()), None if run is None else run_target(run))
    showing = _Showing(quiet=as_json)
    findings = []
    for finding in examine(subject, _chosen(checks(subject), only or []), showing.begin):
        findings.append(finding)
        showing.show(finding)
    showing.end()
    checkup = Checkup(
        version=__version__,
        at=time.time(),
        run_id=subject.run.run_id if subject.run is not None else "",
        healthy=all(finding.status != "fail" for finding in findings),
        findings=tuple(findings),
    )
    if bundle is not None:
        save_bundle(bundle, checkup, subject.node, subject.run)
    if as_json:
        print(checkup.model_dump_json(indent=2))
    else:
        _sum_up(checkup.findings, bundle)
    _exit(0 if checkup.healthy else _FAILED)


def _chosen(every: tuple[Check, ...], only: list[str]) -> list[Check]:
    names = [check.name for check in every]
    if unknown := [name for name in only if name not in names]:
        raise ConfigError(f"--only {unknown[0]}: there is no such check here", f"take of {', '.join(names)}")
    return [check for check in every if not only or check.name in only]


class _Showing:
    """Shows findings as they come, and meanwhile what is done: on a terminal, in a line that is replaced.

    It starts no thread, since checks fork.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._results = console()
        self._quiet = quiet
        self._aside = Console(stderr=True, highlight=False, soft_wrap=True)
        self._is_waiting = False

    def begin(self, check: Check) -> None:
        if not check.doing:
            return
        line = f"      {check.name:14}{check.doing} …"
        if self._aside.is_terminal:
            self.end()
            self._aside.print(line, style="dim", end="", markup=False)
            self._is_waiting = True
        else:
            self._aside.print(line.strip(), markup=False)

    def show(self, finding: Finding) -> None:
        self.end()
        if not self._quiet:
            self._results.print(_line(finding))

    def end(self) -> None:
        if self._is_waiting:
            self._aside.file.write("\r\x1b[K")
            self._aside.file.flush()
            self._is_waiting = False


def _line(finding: Finding) -> Text:
    # Findings repeat what errors and peers said.
    line = Text.assemble(
        (f"{finding.status:6}", _STYLES[finding.status]),
        (f"{finding.check:14}", "bold"),
        harmless(" ".join(finding.said.split())),
    )
    if finding.remedy:
        line.append(f"\n{'':20}try: ", "bold").append(harmless(" ".join(finding.remedy.split())), "cyan")
    return line


def _sum_up(findings: tuple[Finding, ...], bundle: Path | None) -> None:
    found = Counter(finding.status for finding in findings)
    screen = console()
    counted = [f"{found[status]} {word}" for status, word in _COUNTED.items() if found[status]]
    screen.print(f"\n{', '.join(counted)}", markup=False)
    if bundle is not None:
        screen.print(f"{bundle} is for a bug report; look through it before you send it", markup=False)


def _exit(code: int) -> None:
    raise typer.Exit(code)
