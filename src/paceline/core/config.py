"""Configuration: what a run is (the same for all peers) and what a node is (local to one peer).

A run's parameters are one canonical JSON document whose SHA-256 is pinned in the hand-out `run.json`; a
joiner fetches the document from the swarm and checks it. A node's own YAML never changes what the swarm
computes. Precedence: defaults < YAML < `--set section.key=value`.

    >>> RunConfig(name="tiny").digest() == RunConfig(name="tiny").digest()
    True
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from paceline.core.overlap import OverlapConfig, Timetable, check_overlap
from paceline.core.records import MAX_MEMBERS, Frozen
from paceline.core.signing import PeerId
from paceline.core.tuning import CodecName, CodecWarmup, outer_defaults, warmup_defaults

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Natural = Annotated[int, Field(ge=1)]


class GptConfig(Frozen):
    """A decoder-only transformer over bytes: RMSNorm, RoPE, SwiGLU, tied embeddings."""

    type: Literal["gpt"] = "gpt"
    """Model family."""
    dim: Annotated[int, Field(ge=8, le=65536)] = 128
    """Width of the residual stream; a multiple of `2 * heads`."""
    layers: Annotated[int, Field(ge=1, le=1024)] = 4
    """Number of blocks."""
    heads: Annotated[int, Field(ge=1, le=1024)] = 4
    """Attention heads per block."""
    hidden: Annotated[int, Field(ge=8)] | None = None
    """Width of the SwiGLU layer; 8/3 of `dim`, rounded up to a multiple of 32, when left out."""
    seq_len: Annotated[int, Field(ge=2, le=1 << 20)] = 128
    """Tokens (bytes) per sequence."""
    rope_base: Positive = 10000.0
    """Base of the rotary embedding's wavelengths."""

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> GptConfig:
        if self.dim % (2 * self.heads):
            raise ValueError(f"dim must be a multiple of 2 * heads = {2 * self.heads}")
        return self

    @property
    def hidden_dim(self) -> int:
        """Width of the SwiGLU layer."""
        return self.hidden or -(-self.dim * 8 // 3 // 32) * 32


class AdamWConfig(Frozen):
    """AdamW as inner optimizer."""

    type: Literal["adamw"] = "adamw"
    """Inner optimizer."""
    lr: Positive = 4e-4
    """Peak learning rate."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    """Decay of the two moments."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay, on matrices only."""


class MuonConfig(Frozen):
    """Muon on the hidden matrices, AdamW on everything else."""

    type: Literal["muon"] = "muon"
    """Inner optimizer."""
    lr: Positive = 0.02
    """Peak learning rate of Muon."""
    momentum: Momentum = 0.95
    """Muon's momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay of Muon's matrices."""
    rest: AdamWConfig = AdamWConfig(lr=3e-3)
    """For embeddings and norms."""


class ScheduleConfig(Frozen):
    """Learning rate over the *global* inner step, so that joiners continue where the swarm is."""

    type: Literal["wsd", "cosine", "constant"] = "wsd"
    """Warm-up, stable, decay; or warm-up and cosine; or warm-up only."""
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    """Inner steps of linear warm-up."""
    decay_fraction: Fraction = 0.2
    """Share of all steps spent on the final linear decay (`wsd`)."""
    floor: Fraction = 0.1
    """Where the decay ends, as a share of the peak."""


class InnerConfig(Frozen):
    """How each peer trains alone between two rounds."""

    optimizer: Annotated[AdamWConfig | MuonConfig, Field(discriminator="type")] = AdamWConfig()
    """The inner optimizer."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Its learning rate over time."""
    clip_norm: Positive | None = 1.0
    """Largest gradient norm; null for none."""


class OuterConfig(Frozen):
    """The outer step: SGD with Nesterov momentum on the averaged pseudo-gradient (DiLoCo)."""

    lr: Positive = 0.7
    """Outer learning rate."""
    momentum: Momentum = 0.9
    """Outer momentum."""


class QuorumConfig(Frozen):
    """How many peers it takes to commit a round."""

    min_members: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 2
    """The least number of peers that may commit a round."""
    founders: Annotated[tuple[PeerId, ...], Field(max_length=MAX_MEMBERS)] = ()
    """Peers a majority of which must take part in round 1; `up` fills them in. Without them, set
    `min_members` above half of the peers you start with."""
    departure_s: Annotated[float, Field(ge=30, le=86400)] = 300.0
    """A member of the last roster that was unseen for so many seconds no longer counts towards the
    majority. Longer than any network partition that the run should survive without a fork."""


class PaceConfig(Frozen):
    """Time limits of the round protocol, in seconds. All are upper bounds, not waits."""

    lease_s: Annotated[float, Field(ge=2, le=600)] = 8.0
    """A peer whose heartbeat stays away for so long is taken for dead."""
    gather_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    """How long the first plan after a start waits for members of the last roster."""
    start_s: Annotated[float, Field(ge=1, le=3600)] = 20.0
    """How long an all-reduce waits for a member's first part: a step plus forming its pseudo-gradient."""
    stall_s: Annotated[float, Field(ge=1, le=600)] = 6.0
    """How long a stream may stand still within an all-reduce."""
    reduce_s: Annotated[float, Field(ge=2, le=7200)] = 120.0
    """How long the first attempt of a round may take altogether; later ones get up to eight times as long."""
    grace_s: Annotated[float, Field(ge=0, le=600)] = 4.0
    """How long to wait at most for the rest of the receipts once a quorum is there; those that have come tell
    how long it is worth it."""


class RunConfig(Frozen):
    """Everything that must be equal on all peers of a run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = "run"
    """Short name: lower-case letters, digits and dashes."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the first weights and of every data stream."""
    expected_peers: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 4
    """How many peers you expect; only chooses the default outer step size."""
    inner_steps: Annotated[int, Field(ge=1, le=100_000)] = 20
    """H: inner steps per round; with `overlap`, steps in which everything is exchanged once."""
    rounds: Annotated[int, Field(ge=1, le=10_000_000)] = 10
    """Rounds until the run is finished."""
    model: GptConfig = GptConfig()
    """The model."""
    inner: InnerConfig = InnerConfig()
    """Inner optimization."""
    outer: OuterConfig = OuterConfig()
    """Outer optimization. Defaults follow `expected_peers`, `rounds` and `codec`."""
    codec: CodecName = "fp16"
    """How pseudo-gradients and their mean travel. `fp32`, `fp16`, `bf16` and `int8` are as good as exact; on
    the way up `int4` takes 7.5 times fewer bytes than `fp32`, `int2` 15 times and `topk` 195 times. `topk`
    wants AdamW, many rounds, and an outer step of 1 without momentum, which then is the default."""
    codec_warmup: CodecWarmup = CodecWarmup()
    """Another codec for the first rounds; with `topk` there is one by default, which follows `rounds`."""
    overlap: OverlapConfig = OverlapConfig()
    """How training goes on while a round is exchanged."""
    quorum: QuorumConfig = QuorumConfig()
    """Who may commit."""
    pace: PaceConfig = PaceConfig()
    """Time limits."""

    @model_validator(mode="before")
    @classmethod
    def _tuned_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        codec = data.get("codec", "fp16")
        try:
            peers, rounds = int(data.get("expected_peers", 4)), int(data.get("rounds", 10))
            fragments = max(1, OverlapConfig.model_validate(data.get("overlap") or {}).fragments)
        except (TypeError, ValueError):  # pydantic's errors are among them
            return data  # the fields' own checks say what is wrong
        tuned = {
            "outer": outer_defaults(peers, rounds // fragments, codec),
            "codec_warmup": warmup_defaults(rounds, codec, fragments),
        }
        for key, defaults in tuned.items():
            given = data.get(key) or {}
            if isinstance(given, dict):
                data = data | {key: defaults | given}
        return data

    @model_validator(mode="after")
    def _overlap_fits(self) -> RunConfig:
        check_overlap(self.overlap, self.inner_steps, self.rounds, self.model.layers)
        return self

    @cached_property
    def timetable(self) -> Timetable:
        """What each round exchanges, and after how many inner steps."""
        overlap = self.overlap
        return Timetable(self.inner_steps, self.rounds, overlap.fragments, overlap.delay_steps)

    @property
    def total_steps(self) -> int:
        """Inner steps of the whole run."""
        return self.timetable.total_steps

    def codec_of(self, round_id: int) -> CodecName:
        """Tell how a round's values travel: the one place that knows, so that all peers agree.

        Args:
            round_id: The round, from 1.

        Returns:
            The codec's name.
        """
        return self.codec_warmup.codec_of(round_id, self.codec)

    @property
    def codecs(self) -> tuple[CodecName, ...]:
        """All codecs that the run's rounds need, in their order."""
        return tuple(dict.fromkeys((self.codec_of(1), self.codec_of(self.rounds))))

    def document(self) -> str:
        """Spell the run's parameters canonically.

        Returns:
            JSON with sorted keys and no spaces, every default written out; but for an `overlap` and a
            `codec_warmup` that change nothing, so that runs have the digest that they had before there were
            any.
        """
        without = {"overlap"} if self.overlap == OverlapConfig() else set[str]()
        if self.codec_warmup == CodecWarmup() and self.codec != "topk":
            without.add("codec_warmup")
        return json.dumps(
            self.model_dump(mode="json", exclude=without), sort_keys=True, separators=(",", ":")
        )

    def digest(self) -> str:
        """Identify the run's parameters.

        Returns:
            SHA-256 of `document()` in UTF-8.
        """
        return hashlib.sha256(self.document().encode()).hexdigest()

    @cached_property
    def run_id(self) -> str:
        """The run's name with the first eight digits of its digest."""
        return f"{self.name}-{self.digest()[:8]}"


class StdlibData(Frozen):
    """The interpreter's own library sources and help topics: real text that every machine already has."""

    type: Literal["stdlib"] = "stdlib"
    """Kind of data."""


class TextData(Frozen):
    """Text files of the operator's own."""

    type: Literal["text"] = "text"
    """Kind of data."""
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files or globs, relative to where the node is started."""
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of the bytes kept for validation: the last ones."""


class NetworkConfig(Frozen):
    """How a node listens and is reached."""

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    """Multiaddrs to listen on; port 0 picks one."""
    announce: tuple[str, ...] = ()
    """Multiaddrs under which others reach this node, when they differ from those it listens on."""
    relay: bool = True
    """Use libp2p relays when there is no direct way."""
    startup_s: Positive = 60.0
    """How long the network daemon may take to start."""
    poll_s: Annotated[float, Field(ge=0.05, le=10)] = 0.2
    """How often this node looks at its replica of the board; it costs the network nothing."""
    lend_mbit_s: Annotated[float, Field(ge=10, allow_inf_nan=False)] | None = 100.0
    """How fast this node sends state to joiners, over all of them, in Mbit/s; None for no limit. It is a loan
    of the link that the all-reduce needs too; those who fetch share the work among several donors."""


class MetricsConfig(Frozen):
    """Where a node serves `/metrics` and `/healthz`."""

    host: str = "127.0.0.1"
    """Address to bind."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port; 0 picks a free one, announced in the node's heartbeat."""


class NodeConfig(Frozen):
    """Everything that is local to one peer."""

    state_dir: Path = Path("runs/node")
    """Folder for the key, the run log, checkpoints and events."""
    cache_dir: Path | None = None
    """Folder for prepared data; `~/.cache/paceline` when left out."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:N`."""
    threads: Natural | None = None
    """CPU threads for training; torch's own choice when left out."""
    batch_size: Natural = 8
    """Sequences per micro-batch."""
    grad_accumulation: Natural = 1
    """Micro-batches per inner step."""
    autocast: Literal["auto", "bf16", "off"] = "auto"
    """bf16 autocast: `auto` uses it where the device has it."""
    data: Annotated[StdlibData | TextData, Field(discriminator="type")] = StdlibData()
    """What to train on."""
    eval_batches: Annotated[int, Field(ge=0)] = 2
    """Held-out batches per evaluation after each round; 0 for none."""
    nan_patience: Natural = 5
    """So many non-finite losses in a row send the peer back to the anchor."""
    keep_checkpoints: Annotated[int, Field(ge=2)] = 3
    """Checkpoints to keep: joiners fetch from them."""
    network: NetworkConfig = NetworkConfig()
    """Addresses and polling."""
    metrics: MetricsConfig = MetricsConfig()
    """The Prometheus endpoint."""


class SwarmConfig(Frozen):
    """What `paceline up` and `paceline init` read: a run, and how its local nodes look."""

    run: RunConfig = RunConfig()
    """The run's parameters."""
    node: NodeConfig = NodeConfig()
    """Template for every local node; each gets a state folder of its own below `state_dir`."""
    peers: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 4
    """How many local peers `up` starts."""


class Handout(Frozen):
    """`run.json`: what somebody needs to join a run."""

    run_id: str
    """The run's name and the start of its digest."""
    seeds: Annotated[tuple[str, ...], Field(min_length=1)]
    """Multiaddrs of bootstrap peers, with their peer ids: `/ip4/…/tcp/…/p2p/12D3Koo…`."""
    run_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the run's canonical document. Pins what is fetched from the swarm."""
    run_config: RunConfig | None = None
    """The document itself, when it travels with the hand-out."""
    authority: PeerId | None = None
    """The peer that created the run, for people to recognise; it has no special power."""

    @model_validator(mode="after")
    def _digest_matches_document(self) -> Handout:
        if self.run_config is not None and self.run_digest not in (None, self.run_config.digest()):
            raise ValueError(f"run_digest is not that of run_config ({self.run_config.digest()})")
        if self.digest is not None and not self.run_id.endswith(f"-{self.digest[:8]}"):
            raise ValueError(f"run_id does not end with -{self.digest[:8]}, the start of the run's digest")
        return self

    @property
    def digest(self) -> str | None:
        """The pinned digest, from whichever field gives it."""
        return self.run_config.digest() if self.run_config is not None else self.run_digest
