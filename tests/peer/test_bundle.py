"""Claims about what leaves this machine in a bug report, and above all about what does not."""

from __future__ import annotations

import base64
import getpass
import ipaddress
import json
import os
import socket
import zipfile
from pathlib import Path

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.config import NetworkConfig, NodeConfig, RunConfig, TextData
from paceline.core.events import PeerStarted, ReduceEnded, SetAside
from paceline.network.identity import load_or_create
from paceline.peer.bundle import MOST_LINES, save_bundle
from paceline.peer.checkup import Checkup, Finding
from paceline.peer.redaction import Redaction
from paceline.telemetry import JsonlSink

REDACT = Redaction(user="ada", host="rack7.lab.example", home="/home/ada", secrets=[bytes(range(32))])
PUBLIC = "203.0.113.7"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("dialled /ip4/203.0.113.7/tcp/4001/p2p/12D3KooWX", "dialled /ip4/IP-1/tcp/4001/p2p/12D3KooWX"),
        ("/ip6/2001:db8::7/tcp/4001", "/ip6/IP-1/tcp/4001"),
        ("/dns4/seed.ada.example/tcp/4001", "/dns4/HOST/tcp/4001"),
        ("http://u:pw@metrics.example.org:9100/metrics", "http://HOST:9100/metrics"),
        ("at 10.0.0.3:9100 and 10.0.0.4:9100, again 10.0.0.3", "at IP-1:9100 and IP-2:9100, again IP-1"),
        ("on loopback 127.0.0.1:9100 or ::1 or 0.0.0.0", "on loopback 127.0.0.1:9100 or ::1 or 0.0.0.0"),
        ("ec2-203-0-113-7.somewhere", "ecIP.somewhere"),
        ("link aa:bb:cc:dd:ee:ff is up at 12:30:05", "link MAC is up at 12:30:05"),
        ("peer otherbox:9100 and seed.example.org are gone", "peer HOST:9100 and HOST are gone"),
        ("mail ada.l@lab.example now", "mail MAIL now"),
        ("rack7 and RACK7.lab.example said ada", "HOST and HOST said USER"),
        ("/home/bob/runs/node/log.sqlite: damaged", "…/log.sqlite: damaged"),
        ("kept in /mnt/disk9/ada/runs/aside", "kept in …/aside"),
        ("C:\\Users\\ada\\node\\log.sqlite", "…\\log.sqlite"),
        ("-I/home/bob/include", "-I/home/USER/include"),
        (
            "/home/ada/.venv/lib/python3.11/site-packages/torch/nn.py, line 3",
            "…/lib/python3.11/site-packages/torch/nn.py, line 3",
        ),
        ("/dev/shm has 64 MB", "/dev/shm has 64 MB"),
        ("hf_token=abc123 password: 'x y'", "hf_token=SECRET password: SECRET"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer SECRET"),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----", "SECRET"),
        (f"seed {bytes(range(32)).hex()}", "seed SECRET"),
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        (
            "round 3: attempt 1.2 took 4.5 s, 1,234,567 weights",
            "round 3: attempt 1.2 took 4.5 s, 1,234,567 weights",
        ),
    ],
)
def test_what_is_nobody_elses_business_is_taken_out_and_the_rest_is_left(text: str, left: str) -> None:
    fresh = Redaction(user="ada", host="rack7.lab.example", home="/home/ada", secrets=[bytes(range(32))])
    assert fresh(text) == left


AROUND = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", " ", "/", "=", ":", '"', "'", "(", "[", "from ", "\\", "-", "_", "x", "\n", "/ip4/", "http://"]
)


@given(AROUND, st.ip_addresses(v=4), AROUND)
def test_no_address_but_loopback_is_left_in_a_text(
    before: str, address: ipaddress.IPv4Address, after: str
) -> None:
    if str(address) in ("127.0.0.1", "0.0.0.0") or before[-1:].isdigit() or after[:1].isdigit():
        return  # the first stay; with a digit beside it, it is another number
    assert str(address) not in REDACT(f"{before}{address}{after}")


@given(st.ip_addresses(v=6), st.sampled_from([" ", '"', "/", "=", "(", "[", "\n", ","]))
def test_no_ipv6_address_is_left_either(address: ipaddress.IPv6Address, beside: str) -> None:
    if str(address) not in ("::", "::1"):
        for spelled in (str(address), address.exploded, str(address).upper()):
            assert spelled not in REDACT(f"{beside}{spelled}{beside}")


@given(st.binary(min_size=32, max_size=32), AROUND, AROUND)
def test_no_secret_that_is_known_is_left_in_a_text_however_it_is_spelled(
    secret: bytes, before: str, after: str
) -> None:
    redact = Redaction(secrets=[secret])
    for spelled in (secret.hex(), base58.b58encode(secret).decode(), base64.b64encode(secret).decode()[:-1]):
        assert spelled not in redact(f"{before}{spelled}{after}")


NAMES = st.text("abcdefghijklmnop0123456789_-.", min_size=3, max_size=12)


@given(st.lists(NAMES, min_size=2, max_size=5), st.sampled_from(["", "in ", "file:", "=", '"', "("]))
def test_of_a_path_only_the_files_name_is_left_or_its_place_within_a_library(
    parts: list[str], before: str
) -> None:
    left = REDACT(f"{before}/srv-{'/'.join(parts)}")
    assert "/srv-" not in left


# From here on with a whole zip.


@pytest.fixture
def node(tmp_path: Path) -> NodeConfig:
    """A node with a state folder whose files are full of what must not get out."""
    state = tmp_path / "of-somebody" / "node"
    node = NodeConfig(
        state_dir=state,
        cache_dir=tmp_path / "cache-of-somebody",
        data=TextData(paths=("diary/*.txt", str(tmp_path / "letters.txt"))),
        network=NetworkConfig(
            listen=("/ip4/0.0.0.0/tcp/4001",),
            announce=(f"/ip4/{PUBLIC}/tcp/4001", "/dns4/my.host.example/tcp/1"),
        ),
    )
    key = load_or_create(state / "identity.key")
    (state / "authority.key").write_bytes(b"the authority's secret key, 64 bytes long or more, is in here.")
    with JsonlSink(state / "events.jsonl") as sink:
        for _ in range(MOST_LINES + 10):
            sink(ReduceEnded(round_id=1, attempt=0, complete=True, seconds=1.0, bytes_in=1, bytes_out=1))
        sink(
            PeerStarted(
                peer_id=key.peer_id,
                run_id="demo-12345678",
                multiaddrs=(f"/ip4/{PUBLIC}/tcp/4001/p2p/{key.peer_id}", "/ip4/192.168.7.8/tcp/4001"),
                metrics_address="otherbox:9100",
                round_id=1,
                parameters=1,
                device="cpu",
            )
        )
        sink(SetAside(cause="fork \x1b[2J of 198.51.100.9", folder=str(state / "aside")))
    with (state / "events.jsonl").open("a", encoding="utf-8") as events:
        told = {"time": 1, "name": "X", "api_token": "tok-123", "ü": "/home/jürgen/x 2001:db8::5"}
        print(json.dumps(told), "\nno json " + PUBLIC, file=events)
    (state / "output.txt").write_text(
        f"started by {getpass.getuser()} on {socket.gethostname()} in {Path.home()}/x/y\n"
        f"key {key.seed.hex()} {base64.b64encode(key.seed).decode()} {base58.b58encode(key.seed).decode()}\n"
        f"{(state / 'identity.key').read_bytes().hex()}\n"
        f"lost /ip4/192.168.1.20/tcp/1/p2p/{key.peer_id}, export TOKEN=tok-456\n"
        "Traceback: /opt/secret-project/file.py\n"
    )
    return node


CHECKUP = Checkup(
    version="0.1.0",
    at=1.0,
    healthy=False,
    findings=(
        Finding(check="reachable", status="fail", said=f"nobody at {PUBLIC} port 4001", remedy="ufw allow"),
    ),
)


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as bundle:
        return {name: bundle.read(name).decode() for name in bundle.namelist()}


def test_a_bundle_holds_none_of_the_nodes_keys_and_no_address_but_loopback(
    node: NodeConfig, tmp_path: Path
) -> None:
    names = save_bundle(tmp_path / "report.zip", CHECKUP, node, RunConfig())
    parts = contents(tmp_path / "report.zip")
    key = load_or_create(node.state_dir / "identity.key")
    raw = (node.state_dir / "identity.key").read_bytes()
    secrets = [
        *(key.seed.hex(), raw.hex(), base64.b64encode(key.seed).decode().rstrip("=")),
        *(base58.b58encode(key.seed).decode(), base64.b64encode(raw).decode(), "authority's"),
        *(PUBLIC, "192.168.", "198.51.100.9", "2001:db8", "my.host", "otherbox", "tok-123", "tok-456"),
        *("of-somebody", "cache-of", "diary", "letters", "secret-project", "jürgen", "j\\u00fcrgen"),
        *(socket.gethostname(), str(Path.home()) + "/", str(tmp_path)),
    ]
    whole = "\n".join(parts.values())
    assert [secret for secret in secrets if secret in whole] == []
    assert "\x1b" not in whole
    if len(getpass.getuser()) > 1 and getpass.getuser() != "USER":
        assert f"by {getpass.getuser()} " not in whole
    assert set(names) == set(parts)
    assert set(parts) == {
        *("README.txt", "findings.json", "system.json", "node.json", "run.json", "events.jsonl", "output.txt")
    }


def test_a_bundle_still_tells_what_a_bug_report_needs(node: NodeConfig, tmp_path: Path) -> None:
    save_bundle(tmp_path / "report.zip", CHECKUP, node, RunConfig(name="demo"))
    parts = contents(tmp_path / "report.zip")
    key = load_or_create(node.state_dir / "identity.key")
    assert json.loads(parts["findings.json"])["findings"][0]["said"] == "nobody at IP-1 port 4001"
    assert json.loads(parts["system.json"])["packages"]["torch"]
    assert json.loads(parts["node.json"])["network"]["announce"] == ["/ip4/IP-1/tcp/4001", "/dns4/HOST/tcp/1"]
    assert json.loads(parts["node.json"])["batch_size"] == node.batch_size
    assert json.loads(parts["run.json"])["name"] == "demo"
    events = [json.loads(line) for line in parts["events.jsonl"].splitlines()]
    assert len(events) == MOST_LINES - 1  # one of the last lines is no JSON
    (started,) = [event for event in events if event["name"] == "PeerStarted"]
    assert started["peer_id"] == key.peer_id
    assert started["multiaddrs"][0] == f"/ip4/IP-1/tcp/4001/p2p/{key.peer_id}"
    assert "lost /ip4/IP-" in parts["output.txt"]


def test_a_bundle_of_a_node_that_never_ran_holds_what_there_is(tmp_path: Path) -> None:
    names = save_bundle(tmp_path / "report.zip", CHECKUP, NodeConfig(state_dir=tmp_path / "none"), None)
    assert names == ["README.txt", "findings.json", "system.json", "node.json"]
    assert "Look through it before you send it" in contents(tmp_path / "report.zip")["README.txt"]


def test_a_bundle_is_written_whole_or_not_at_all(tmp_path: Path, node: NodeConfig) -> None:
    path = tmp_path / "report.zip"
    path.write_bytes(b"an older one")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError, match="folder"):
        save_bundle(folder, CHECKUP, node, None)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    save_bundle(path, CHECKUP, node, None)
    assert contents(path)
    assert os.access(path, os.R_OK)


@pytest.mark.parametrize(
    "text",
    [
        "dialled node-12.mycorp.co.uk",
        "gpu01.cluster.uni-jena.de:22 refused",
        "WANDB_KEY=abcd1234",
        "HF_TOKEN hf_abcdefgh1234",
        "passphrase: hunter2",
        "from bob@workstation",
    ],
)
def test_names_and_tokens_are_recognised_by_their_form(text: str) -> None:
    telling = ("mycorp", "uni-jena", "abcd1234", "hf_abcdefgh", "hunter2", "bob@")
    assert [word for word in telling if word in REDACT(text)] == []


def test_a_module_is_no_machine() -> None:
    line = "paceline.peer.checkup.run raised hivemind.dht.node.Error in events.jsonl.1 of torch.nn.modules"
    assert REDACT(line) == line


def test_a_key_that_takes_several_printed_lines_is_taken_out_whole(node: NodeConfig, tmp_path: Path) -> None:
    pem = (
        "-----BEGIN PRIVATE KEY-----\nAAAAsecretpart\nBBBBsecretpart\n-----END PRIVATE KEY-----\nlast words\n"
    )
    (node.state_dir / "output.txt").write_text(pem)
    save_bundle(tmp_path / "report.zip", CHECKUP, node, None)
    printed = contents(tmp_path / "report.zip")["output.txt"]
    assert "secretpart" not in printed
    assert "last words" in printed
