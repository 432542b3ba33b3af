"""Claims about the checkup of a node: what each check finds, and that one check breaks no other."""

from __future__ import annotations

import errno
import inspect
import resource
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path

import pytest

from paceline.core.config import (
    GptConfig,
    Handout,
    MetricsConfig,
    NetworkConfig,
    NodeConfig,
    RunConfig,
)
from paceline.core.errors import ConfigError
from paceline.core.records import PeerRecord, Phase
from paceline.core.tuning import CodecName
from paceline.ledger import Ledger
from paceline.network.dial_back import DialledBack, Outcome
from paceline.network.identity import hold, load_or_create
from paceline.network.reachability import Reply
from paceline.peer import checks_machine, checks_network, checks_ports, checks_state, checks_training
from paceline.peer.checks_ports import Place
from paceline.peer.checkup import Check, Finding, Subject, checks, examine
from paceline.peer.folders import StateFolder
from paceline.peer.machine import available_memory_bytes, existing
from tests.core.history import genesis_of, history, peers, run_of

KEYS = peers(3)
RUN = run_of(KEYS)
ME, OTHER, THIRD = (key.peer_id for key in KEYS)
SEED = f"/ip4/127.0.0.1/tcp/1/p2p/{OTHER}"


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(NodeConfig(state_dir=tmp_path / "node"))


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    assert finding.said
    assert bool(finding.remedy) is (finding.status != "ok")
    return finding


# The frame


def test_a_check_that_breaks_is_a_finding_and_stops_no_other(subject: Subject) -> None:
    def refuses(_: Subject) -> Iterator[Finding]:
        yield Finding(check="first", status="ok", said="so far")
        raise ConfigError("a cause", "a remedy")

    def breaks(_: Subject) -> list[Finding]:
        raise ZeroDivisionError("nothing")

    def lacks(_: Subject) -> list[Finding]:
        raise ImportError("no torch here", name="torch.nn")

    looks: list[Callable[[Subject], Iterable[Finding]]] = [refuses, breaks, lacks]
    begun: list[str] = []
    told = [Check(look.__name__, "", look) for look in looks]
    found = list(examine(subject, told, lambda check: begun.append(check.name)))
    assert begun == ["refuses", "breaks", "lacks"]
    assert [finding.status for finding in found] == ["ok", "fail", "fail", "fail"]
    assert (found[1].said, found[1].remedy) == ("a cause", "a remedy")
    assert "ZeroDivisionError: nothing" in found[2].said
    assert "--bundle" in found[2].remedy
    assert found[3].remedy == "pip install --force-reinstall torch"


def test_every_check_can_be_found_and_those_of_the_swarm_need_a_run(subject: Subject) -> None:
    alone = [check.name for check in checks(subject)]
    subject.target = SEED
    named = [check.name for check in checks(subject)]
    assert set(named) - set(alone) == {"swarm", "reachable", "clock", "recipe"}
    assert len(set(named)) == len(named)
    StateFolder(subject.node.state_dir).path.mkdir()
    StateFolder(subject.node.state_dir).log.write_bytes(b"")
    for check in checks(subject):
        place = inspect.getclosurevars(check.look).nonlocals
        assert callable(getattr(import_module(f"paceline.peer.checks_{place['module']}"), place["name"]))
    assert "log" in [check.name for check in checks(subject)]


# The machine


def test_this_python_and_its_packages_fit(subject: Subject) -> None:
    assert only(checks_machine.python(subject)).status == "ok"
    found = only(checks_machine.packages(subject))
    assert (found.status, "fit" in found.said) == ("ok", True)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Put a package's metadata where Python looks for it."""

    def install(*requires: str, python: str = ">=3.8") -> str:
        folder = tmp_path / "odd_package-1.0.dist-info"
        folder.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", "Name: odd-package", "Version: 1.0", f"Requires-Python: {python}"]
        (folder / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires), ""]))
        monkeypatch.syspath_prepend(str(tmp_path))
        return "odd-package"

    return install


def test_a_package_that_is_missing_or_too_old_is_named_with_the_command_that_installs_it(
    subject: Subject, installed: Callable[..., str]
) -> None:
    package = installed("numpy>=99", "no-such-thing==1.2", "pydantic>=2", 'later>=1; python_version < "3"')
    found = only(checks_machine.packages(subject, package))
    assert found.status == "fail"
    assert f"numpy {metadata.version('numpy')} (needed: numpy>=99)" in found.said
    assert "no-such-thing is missing (needed: no-such-thing==1.2)" in found.said
    assert "pydantic" not in found.said
    assert found.remedy.endswith("-m pip install 'numpy>=99' no-such-thing==1.2")
    assert checks_machine.versions(package)["no-such-thing"] == ""


def test_a_python_that_is_too_old_is_told_with_how_to_get_another(
    subject: Subject, installed: Callable[..., str]
) -> None:
    found = only(checks_machine.python(subject, installed(python=">=99")))
    assert (found.status, "venv" in found.remedy) == ("fail", True)


def test_sources_that_are_not_installed_are_no_failure(subject: Subject) -> None:
    found = only(checks_machine.packages(subject, "never-installed"))
    assert (found.status, found.remedy) == ("warn", "pip install -e . in its folder")
    assert checks_machine.versions("never-installed") == {"never-installed": ""}


@pytest.mark.parametrize(("most", "status"), [(100, "fail"), (500, "warn"), (1024, "ok")])
def test_too_few_open_files_are_told_with_the_command_that_raises_them(
    subject: Subject, most: int, status: str
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        found = only(checks_machine.descriptors(subject))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.status == status
    assert status == "ok" or "ulimit -n" in found.remedy or "LimitNOFILE" in found.remedy


def test_shared_memory_is_looked_for_where_it_is(subject: Subject, tmp_path: Path) -> None:
    assert only(checks_machine.shared_memory(subject)).status == "ok"
    assert "locks" in only(checks_machine.shared_memory(subject, tmp_path / "none")).said


def kernel(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def test_a_container_has_what_its_own_group_and_those_above_have_left(tmp_path: Path) -> None:
    proc = kernel(
        tmp_path / "proc",
        {"meminfo": "MemTotal: 900 kB\nMemAvailable: 800 kB\n", "self/cgroup": "0::/a/b\n"},
    )
    groups = kernel(
        tmp_path / "groups",
        {
            "a/memory.max": "500000",
            "a/memory.current": "200000",
            "a/memory.stat": "anon 5\ninactive_file 100000\n",
            "a/b/memory.max": "max",
            "a/b/memory.current": "5",
        },
    )
    assert available_memory_bytes(proc, groups) == 400_000
    old = kernel(
        tmp_path / "old",
        {"memory/memory.limit_in_bytes": "300000", "memory/memory.usage_in_bytes": "100000"},
    )
    assert available_memory_bytes(proc, old) == 200_000
    assert available_memory_bytes(proc, tmp_path / "none") == 800 * 1024
    assert available_memory_bytes(tmp_path / "none", tmp_path / "none") is None


def test_the_folder_that_a_path_would_lie_in_is_found(tmp_path: Path) -> None:
    assert existing(tmp_path / "a" / "b") == tmp_path
    assert existing(tmp_path) == tmp_path


# What the node keeps


def test_a_node_without_a_key_is_fine_where_it_may_make_one(subject: Subject, tmp_path: Path) -> None:
    assert only(checks_state.identity(subject)).status == "ok"
    (tmp_path / "node").write_text("a file in its place")
    found = only(checks_state.identity(subject))
    assert (found.status, "state_dir" in found.remedy) == ("fail", True)


def test_a_key_in_use_is_a_warning_and_the_node_counts_as_running(subject: Subject) -> None:
    key = StateFolder(subject.node.state_dir).key
    peer_id = load_or_create(key).peer_id
    assert only(checks_state.identity(subject)).status == "ok"
    assert (subject.peer_id, subject.is_running) == (peer_id, False)
    with hold(key):
        found = only(checks_state.identity(subject))
    assert (found.status, subject.is_running) == ("warn", True)
    assert peer_id in found.said


def test_a_key_that_others_may_read_is_told_with_the_command_that_mends_it(subject: Subject) -> None:
    key = StateFolder(subject.node.state_dir).key
    load_or_create(key)
    key.chmod(0o644)
    (check,) = [check for check in checks(subject) if check.name == "identity"]
    found = only(examine(subject, [check]))
    assert (found.status, f"chmod 600 {key}" in found.remedy) == ("fail", True)


def log_in(subject: Subject, rounds: int = 3) -> Path:
    path = StateFolder(subject.node.state_dir).log
    with Ledger.open(path, RUN, genesis_of(RUN)) as ledger:
        for link in history(RUN, KEYS, rounds):
            ledger.append(link)
    return path


def test_a_log_that_verifies_gives_the_run(subject: Subject) -> None:
    log_in(subject)
    subject.peer_id = ME
    found = only(checks_state.log(subject))
    assert (found.status, subject.run) == ("ok", RUN)
    assert found.said == f"3 rounds of {RUN.run_id} verify, with 24 credits of this node"


def test_a_log_of_another_run_and_a_damaged_one_are_told(subject: Subject) -> None:
    path = log_in(subject)
    other = RunConfig(name="other")
    subject.target = Handout(run_id=other.run_id, seeds=(SEED,), run_config=other)
    found = only(checks_state.log(subject))
    assert (found.status, "state_dir" in found.remedy) == ("fail", True)
    subject.target = None
    path.write_bytes(path.read_bytes()[:-4096])
    (check,) = [check for check in checks(subject) if check.name == "log"]
    found = only(examine(subject, [check]))
    assert found.status == "fail"


# Ports


@contextmanager
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def listening(subject: Subject, *addresses: str, metrics: MetricsConfig | None = None) -> Subject:
    network = NetworkConfig(listen=addresses)
    node = subject.node.model_copy(update={"network": network, "metrics": metrics or MetricsConfig()})
    return Subject(node, is_running=subject.is_running)


def test_a_multiaddr_is_taken_apart() -> None:
    assert Place.of("/ip4/0.0.0.0/tcp/4001") == Place("0.0.0.0", 4001, True)
    assert Place.of("/ip6/::/udp/4001/quic") == Place("::", 4001, False)
    assert Place.of("/dns4/x/tcp/1") == Place("", 1, True)
    assert Place.of("nonsense") == Place("", 0, True)


def test_ports_that_are_left_to_the_system_need_no_look(subject: Subject) -> None:
    assert only(checks_ports.ports(subject)).status == "ok"


def test_a_taken_port_is_a_failure_unless_the_node_itself_runs(subject: Subject) -> None:
    with taken() as port:
        found = only(checks_ports.ports(listening(subject, f"/ip4/127.0.0.1/tcp/{port}")))
        assert found.status == "fail"
        assert f"ss -tulnp 'sport = :{port}'" in found.remedy
        assert "--set network.listen=[/ip4/127.0.0.1/tcp/PORT]" in found.remedy
        subject.is_running = True
        assert only(checks_ports.ports(listening(subject, f"/ip4/127.0.0.1/tcp/{port}"))).status == "ok"
    subject.is_running = False
    assert only(checks_ports.ports(listening(subject, f"/ip4/127.0.0.1/tcp/{port}"))).status == "ok"


def test_the_metrics_port_is_looked_at_as_well(subject: Subject) -> None:
    with taken() as port:
        found = only(checks_ports.ports(listening(subject, metrics=MetricsConfig(port=port))))
    assert (found.status, "--set metrics.port=PORT" in found.remedy) == ("fail", True)


def test_an_address_of_another_machine_can_not_be_bound(subject: Subject) -> None:
    found = only(checks_ports.ports(listening(subject, "/ip4/203.0.113.7/tcp/4001")))
    assert found.status == "fail"
    assert "network.announce=[/ip4/203.0.113.7/tcp/4001]" in found.remedy


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_whatever_the_system_says_of_a_port_is_told(number: int, subject: Subject) -> None:
    error = OSError(number, "what it says")
    found = checks_ports._refused(subject, Place("0.0.0.0", 80, True), "metrics.port", "PORT", error)
    assert (found.status, "PORT" in found.remedy) == ("fail", True)


# The swarm


def reply(peer: str, outcome: Outcome, host: str = "203.0.113.7", cause: str = "") -> Reply:
    return Reply(peer, DialledBack(outcome=outcome, host=host, clock_ms=0, cause=cause))


def reached(subject: Subject, *replies: Reply, port: int = 4001) -> Finding:
    return only([checks_network._reached(subject, list(replies), port)])


def test_one_who_got_through_is_enough(subject: Subject) -> None:
    found = reached(subject, reply(OTHER, "refused"), reply(THIRD, "reached"))
    assert found.status == "ok"
    assert "reached this machine at 203.0.113.7 port 4001" in found.said


@pytest.mark.parametrize(
    ("outcome", "listen", "remedy"),
    [
        ("refused", "/ip4/0.0.0.0/tcp/4001", "open TCP port 4001 in the firewall (sudo ufw allow 4001/tcp)"),
        ("silent", "/ip4/0.0.0.0/tcp/0", "choose a fixed port"),
        ("other", "/ip4/0.0.0.0/tcp/4001", "forward TCP port 4001 to this machine"),
        ("refused", "/ip4/127.0.0.1/tcp/4001", "the node listens on loopback only"),
    ],
)
def test_why_nobody_gets_through_decides_what_to_do(
    outcome: Outcome, listen: str, remedy: str, subject: Subject
) -> None:
    found = reached(listening(subject, listen), reply(OTHER, outcome))
    assert found.status == "fail"
    assert found.remedy.startswith(remedy)


def test_an_address_that_is_announced_and_not_seen_is_told(subject: Subject) -> None:
    network = NetworkConfig(announce=("/ip4/198.51.100.1/tcp/4001",))
    subject.node = subject.node.model_copy(update={"network": network})
    found = reached(subject, reply(OTHER, "reached"))
    assert (found.status, "198.51.100.1" in found.said) == ("warn", True)


def test_how_far_the_one_who_got_through_was_is_told(subject: Subject) -> None:
    assert "this very machine" in reached(subject, reply(OTHER, "reached", "127.0.0.1")).said
    assert "this network" in reached(subject, reply(OTHER, "reached", "192.168.1.2")).said


def test_when_nobody_dials_back_nothing_is_claimed(subject: Subject) -> None:
    found = reached(
        subject, reply(OTHER, "declined", cause="too soon"), Reply(THIRD, None, cause="no such thing")
    )
    assert found.status == "warn"
    assert "no such thing, too soon" in found.said


@pytest.mark.parametrize(
    ("ahead_s", "status", "words"),
    [
        ({OTHER: 0.1, THIRD: -0.3, ME: 900.0}, "ok", "0.1 s ahead of"),
        ({OTHER: 2.0}, "warn", "2.0 s behind"),
        ({OTHER: -9.0, THIRD: -7.0}, "fail", "8.0 s ahead of"),
    ],
)
def test_clocks_are_compared_by_the_median_of_the_others(
    ahead_s: dict[str, float], status: str, words: str, subject: Subject
) -> None:
    subject.peer_id, subject.ahead_s = ME, ahead_s
    found = only(checks_network.clock(subject))
    assert (found.status, words in found.said) == (status, True)
    assert status == "ok" or "timedatectl" in found.remedy


def test_without_another_clock_nothing_is_said_of_this_one(subject: Subject) -> None:
    assert list(checks_network.clock(subject)) == []
    assert list(checks_network.swarm(subject)) == []
    assert list(checks_network.reachable(subject)) == []


# The work


def test_a_recipe_that_learns_badly_is_worth_a_warning_and_no_failure(subject: Subject) -> None:
    assert list(checks_training.recipe(subject)) == []
    subject.run = RUN
    assert only(checks_training.recipe(subject)).status == "ok"
    subject.run = RunConfig.model_validate({"codec": "topk", "outer": {"momentum": 0.9}})
    assert [finding.status for finding in checks_training.recipe(subject)] == ["warn", "warn"]


def test_disk_counts_what_the_run_will_keep(subject: Subject) -> None:
    assert only(checks_training.disk(subject)).status == "ok"
    subject.run = RunConfig(model=GptConfig(dim=65536, heads=512, layers=1024))
    found = only(checks_training.disk(subject))
    assert (found.status, "keep_checkpoints" in found.remedy) == ("fail", True)


def test_a_model_that_does_not_fit_the_memory_is_not_tried(subject: Subject) -> None:
    subject.node = subject.node.model_copy(update={"device": "cpu"})
    assert {finding.status for finding in checks_training.memory(subject)} == {"ok"}
    subject.run = RunConfig(model=GptConfig(dim=65536, heads=512, layers=1024))
    assert only(checks_training.memory(subject)).status == "fail"
    found = only(checks_training.speed(subject))
    assert (found.status, "not tried" in found.said) == ("warn", True)


@pytest.mark.parametrize("codec", ["fp16", "topk"])
def test_two_real_peers_average_the_same_bits_by_every_codec(codec: CodecName, subject: Subject) -> None:
    subject.run = RunConfig(codec=codec)
    findings = list(checks_training.average(subject))
    assert len(findings) == len(subject.run.codecs) == (2 if codec == "topk" else 1)
    for found, name in zip(findings, subject.run.codecs, strict=True):
        assert found.status == "ok", found
        assert "hold the same bits" in found.said
        assert f"through {name} " in found.said


def test_real_steps_tell_the_speed_and_how_long_a_round_takes(subject: Subject, tmp_path: Path) -> None:
    update = {"device": "cpu", "threads": 1, "batch_size": 2, "cache_dir": tmp_path / "cache"}
    subject.node = subject.node.model_copy(update=update)
    subject.run = RunConfig(model=GptConfig(dim=16, layers=1, heads=2, seq_len=16))
    swift = PeerRecord(
        run_id=subject.run.run_id,
        peer_id=OTHER,
        seq=int(time.time() * 1000),
        expires_at=time.time() + 60,
        round_id=1,
        head_digest="",
        phase=Phase.TRAIN,
        inner_step=0,
        samples=0,
        samples_per_s=1e9,
        loss=0.0,
        term=0,
        coordinator="",
    )
    found = only(checks_training.speed(subject))
    assert found.status == "ok", found
    assert "samples/s" in found.said
    subject.peers = [swift]
    assert only(checks_training.speed(subject)).status == "warn"


def test_a_rehearsal_that_fails_is_told_with_its_last_words(subject: Subject) -> None:
    data = NodeConfig.model_validate({"data": {"type": "text", "paths": ["nowhere/*.txt"]}}).data
    subject.node = subject.node.model_copy(update={"device": "cpu", "data": data})
    (check,) = [check for check in checks(subject) if check.name == "speed"]
    found = only(examine(subject, [check]))
    assert found.status == "fail"
    assert "'nowhere/*.txt' matches no file" in found.said
