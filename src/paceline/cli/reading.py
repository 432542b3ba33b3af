"""`status`, `credits`, `verify` and `sample`: commands that only read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paceline.cli.options import RUN_HELP, Training
from paceline.cli.screen import complain, console

if TYPE_CHECKING:
    from paceline.ledger import VerifiedLog


def status(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help=RUN_HELP)] = None,
    round_id: Annotated[
        int | None, typer.Option("--round-id", min=0, help="Of a session: which round; 0 is the beginning.")
    ] = None,
    config: Training = None,
    session: Annotated[
        Path | None,
        typer.Option("--session", metavar="FOLDER", help="The session; the one used last if left out."),
    ] = None,
) -> None:
    """Show a running swarm; or, with --round-id, one round of a session of the fedtrain API.

    Of a swarm: its peers and their phases, the round, who is at the front, the last commit. Reads the DHT as
    an observer and takes no part.

        paceline status run.json

        paceline status /ip4/203.0.113.7/tcp/4001/p2p/12D3Koo…

    Of a session: who took part, the average loss, the digest, samples and credits up to that round, from the
    session's log, which is checked first. Takes the session in runs/ that was used last, with --config the
    last one of that config.

        paceline status --round-id 5 --config train.json

        paceline status --round-id 5 --session runs/my-model-1a2b3c4d
    """
    from paceline.cli.forms import Form, check_forms, check_no_session

    usage = "paceline status --round-id N [--config TRAIN] for a session of the fedtrain API"
    wanted = None if round_id is None else str(round_id)  # 0 is one, too
    check_forms(
        Form("paceline status RUN for a swarm", {"RUN": run}),
        Form(usage, {"--round-id": wanted}, {"--config": config, "--session": session}),
    )
    if run is not None:
        check_no_session(Path(run))
        _show_swarm(run)
    elif round_id is not None:
        from paceline.cli.looking import show_round

        show_round(round_id, config, session)


def _show_swarm(run: str) -> None:
    from paceline.cli.targets import run_target

    target = run_target(run)
    from paceline.cli.tables import headline, peer_table
    from paceline.peer.compose import observe

    view = observe(target)
    screen = console()
    for line in headline(view):
        screen.print(line, markup=False)
    screen.print(peer_table(view))


def credits(  # noqa: A001 (it is the command's name)
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run.json or a seed's multiaddr asks the swarm; a log or a folder is counted offline.",
        ),
    ],
    peer: Annotated[
        str | None,
        typer.Option(
            "--peer", metavar="P", help="Say why this peer got what it got: a nickname, a short or whole id."
        ),
    ] = None,
    round_id: Annotated[
        int | None,
        typer.Option("--round", metavar="R", help="In this round; the last committed one when left out."),
    ] = None,
) -> None:
    """Show what each peer contributed: one credit is one training sequence in a committed round.

    Asks the swarm, whose peers state their own balances; or counts from a log, offline, and checks
    all of it on the way. With --peer: which phase that peer missed in a round, or which check it failed, as
    far as the swarm's board, a log, a folder or a monitor's history tells.

        paceline credits run.json

        paceline credits runs/node

        paceline credits runs/node --peer silken-bullfinch --round 7
    """
    if peer is not None or round_id is not None:
        from paceline.cli.explaining import tell_why

        tell_why(run, peer, round_id)
        return
    from paceline.cli.targets import log_targets, names_a_run, run_target

    if names_a_run(run):
        target = run_target(run)
        from paceline.peer.compose import observe

        balances: Mapping[str, int] = observe(target).credits
    else:
        from paceline import ledger

        balances = max(map(ledger.verify, log_targets(Path(run))), key=lambda log: log.rounds).credits
    from paceline.cli.tables import credit_table

    console().print(credit_table(balances))


def verify(
    log: Annotated[
        Path | None,
        typer.Argument(
            metavar="LOG", help="A run log, or the folder of a node's state, of a local run or of a session."
        ),
    ] = None,
    update: Annotated[
        Path | None, typer.Option("--update", metavar="FILE", help="JSON of a LocalUpdate; with --hash.")
    ] = None,
    expected: Annotated[
        str | None, typer.Option("--hash", metavar="HEX", help="SHA-256 that its gradients should have.")
    ] = None,
) -> None:
    """Replay a log; or, with --update and --hash, check the gradients of one update of the fedtrain API.

    Of a log: hash links, signatures, receipts, quorum, credits. Needs no network and trusts nobody. Says the
    first thing that is wrong and exits with 1. Of a folder with several logs it also checks that all hold the
    same chain.

        paceline verify runs/node

        paceline verify runs/node/log.sqlite

    Of an update: exits with 0 when the hash is that of `HashVerifier().compute_hash(update.gradients)`, with
    1 when it is not, and with 2 when the file holds no update.

        paceline verify --update update.json --hash 98a033…
    """
    from paceline.cli.forms import Form, check_forms

    usage = "paceline verify --update FILE --hash HEX for an update of the fedtrain API"
    check_forms(
        Form("paceline verify LOG for a log", {"LOG": log}),
        Form(usage, {"--update": update, "--hash": expected}),
    )
    if log is not None:
        _verify_logs(log)
    elif update is not None and expected is not None:
        from paceline.cli.looking import check_update

        check_update(update, expected)


def sample(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or a folder: then the newest one in it."),
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the text begins with.")],
    num_bytes: Annotated[int, typer.Option("--bytes", min=1, help="How much to write.")] = 300,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 takes the likeliest byte each time, 1 draws as the model says.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same text.")] = 0,
) -> None:
    """Let a trained model write on from a prompt.

    The checkpoint's digests are checked first; nothing is written if they don't match.

        paceline sample runs/node 'def '

        paceline sample round-000010.safetensors 'import ' --temperature 0.5 --bytes 500
    """
    from paceline.cli.targets import checkpoint_target

    path = checkpoint_target(checkpoint)
    from paceline.cli.writing import write_on  # heavy: after everything that may be refused

    text = write_on(path, prompt, num_bytes=num_bytes, temperature=temperature, seed=seed)
    console().print(text, markup=False)


def _verify_logs(log: Path) -> None:
    from paceline.cli.targets import log_targets
    from paceline.peer.agreement import check_same_chain

    verified = _replayed(log_targets(log))
    check_same_chain(verified)
    if len(verified) > 1:
        console().print(f"all {len(verified)} logs hold the same chain")


def _replayed(paths: list[Path]) -> dict[Path, VerifiedLog]:
    from paceline import ledger
    from paceline.core.errors import LedgerError

    verified: dict[Path, VerifiedLog] = {}
    for path in paths:
        try:
            verified[path] = ledger.verify(path)
        except LedgerError as error:
            complain(error.cause, error.remedy)
        else:
            console().print(_verified(path, verified[path]), markup=False)
    if len(verified) < len(paths):
        raise typer.Exit(1)
    return verified


def _verified(path: Path, log: VerifiedLog) -> str:
    total = sum(log.credits.values())
    return (
        f"{path}: verified, {log.rounds} rounds of {log.run_id}, head {log.head_digest[:16]}, "
        f"{total:,} credits of {len(log.credits)} peers"
    )
