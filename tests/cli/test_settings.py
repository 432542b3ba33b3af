"""Claims about settings files: what is wrong is told in one line, with key, found and allowed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from paceline.core.config import AdamWConfig, Handout, RunConfig
from paceline.core.errors import ConfigError
from paceline.peer.settings import load_handout, load_node, load_swarm, save_handout, with_seeds

PEER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"


def refusal(text: str, tmp_path: Path, *sets: str, name: str = "x.yaml") -> str:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_handout(path) if name.endswith(".json") else load_swarm(path, sets)
    told = str(refused.value)
    assert len(told.splitlines()) == 1
    return told.removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "run: {inner_step: 3}",
            "x.yaml: run.inner_step: unknown key (did you mean inner_steps?), allowed: codec,",
        ),
        ("runn: {}", "x.yaml: runn: unknown key (did you mean run?), allowed: node, peers, run"),
        ("peers: 65", "x.yaml: peers: found 65, allowed: at most 64"),
        ("peers: '4'", "x.yaml: peers: found '4', allowed: a number"),
        ("peers: 2.5", "x.yaml: peers: found 2.5, allowed: a whole number"),
        ("peers: 2024-01-01", "x.yaml: peers: found 2024-01-01, allowed: a whole number"),
        ("node: {threads: true}", "x.yaml: node.threads: found true, allowed: a number"),
        ("node: {network: }", "x.yaml: node.network: found nothing, allowed: a section of keys"),
        (
            "node: {data: {type: text}}",
            "x.yaml: node.data.paths: this key is missing, allowed: files or globs",
        ),
        (
            "node: {data: {type: texts}}",
            "x.yaml: node.data.type: found 'texts' (did you mean text?), allowed: stdlib,",
        ),
        ("node: {data: {}}", "x.yaml: node.data.type: this key is missing, allowed: stdlib, text"),
        ("node: {device: gpu}", "x.yaml: node.device: found 'gpu', allowed: `auto`, `cpu`"),
        (
            "run: {codec: fp61}",
            "x.yaml: run.codec: found 'fp61' (did you mean fp16?), allowed: 'fp32', 'fp16', 'bf16', 'int8', "
            "'int4', 'int2' or 'topk'",
        ),
        (
            "run: {inner: {clip_norm: .inf}}",
            "x.yaml: run.inner.clip_norm: found inf, allowed: a finite number",
        ),
        (
            "run: {inner: {optimizer: {type: muon, rest: {lr: 0}}}}",
            "x.yaml: run.inner.optimizer.rest.lr: found 0, allowed: a number greater than 0",
        ),
        (
            "run: {model: {dim: 130}}",
            "x.yaml: run.model: found {dim: 130}: dim must be a multiple of 2 * heads = 8",
        ),
        (
            "run: {quorum: {founders: [me]}}",
            "x.yaml: run.quorum.founders.0: found 'me': not an Ed25519 libp2p",
        ),
        ("run: {rounds: -1, seed: x}", "x.yaml: run.seed: found 'x', allowed: a whole number (and 1 more)"),
        ("[a]", "x.yaml: found ['a'], allowed: a section of keys"),
        ("1: 2", "x.yaml: 1: found 1, allowed: a text as key"),
        ("a: [1", "x.yaml: line 1, column 6: expected ',' or ']'"),
        ("peers: 1\npeers: 2", "x.yaml: line 2, column 1: the key peers is given twice"),
        ("run: &a [*a]", "x.yaml: line 1, column 6: found unconstructable recursive node"),
        (
            "a: !!python/object/apply:os.getcwd []",
            "x.yaml: line 1, column 4: could not determine a constructor",
        ),
        ("a: \x01", "x.yaml: unacceptable character #x0001"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_in_one_line_with_key_found_and_allowed(
    text: str, told: str, tmp_path: Path
) -> None:
    assert refusal(text, tmp_path).startswith(told)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("run.round=3", "--set run.round=3: run.round: unknown key (did you mean rounds?), allowed: codec,"),
        ("run.rounds=x", "--set run.rounds=x: run.rounds: found 'x', allowed: a whole number"),
        ("run.rounds.x=1", "--set run.rounds.x=1: found 7 above x, allowed: a section of keys"),
        ("run.model.dim=130", "--set run.model.dim=130: run.model: found {dim: 130}: dim must be"),
        ("rounds", "--set rounds: found no key and value, allowed: section.key=value"),
        ("run..x=1", "--set run..x=1: found no key and value, allowed: section.key=value"),
        ("run.name=[1", "--set run.name=[1: line 1, column 3: expected ',' or ']'"),
    ],
)
def test_a_set_that_cannot_be_used_is_named_itself(override: str, told: str, tmp_path: Path) -> None:
    assert refusal("run: {rounds: 7}", tmp_path, override).startswith(told)


def test_a_mistake_in_the_file_is_not_blamed_on_an_unrelated_set(tmp_path: Path) -> None:
    assert refusal("run: {seed: x}", tmp_path, "run.rounds=3").startswith("x.yaml: run.seed")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "run.json: line 1, column 1: expecting value"),
        ('{"run_id": "a",}', "run.json: line 1, column 16: expecting property name"),
        ('{"run_id": "a", "run_id": "b"}', "run.json: the key run_id is given twice"),
        ('{"run_id": "a", "seeds": []}', "run.json: seeds: found [], allowed: at least 1 entries"),
        (
            '{"run_id": "a", "seeds": ["b"], "run_digest": "c"}',
            "run.json: run_digest: found 'c', allowed: SHA-256",
        ),
    ],
)
def test_a_hand_out_that_cannot_be_used_is_told_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    assert refusal(text, tmp_path, name="run.json").startswith(told)


def test_a_hand_out_whose_digest_is_not_that_of_its_document_is_refused_with_the_right_one(
    tmp_path: Path,
) -> None:
    text = f'{{"run_id": "a", "seeds": ["b"], "run_digest": "{"0" * 64}", "run_config": {{}}}}'
    assert refusal(text, tmp_path, name="run.json").endswith(f"({RunConfig().digest()})")


def test_a_hand_out_survives_the_way_to_disk_and_back(tmp_path: Path) -> None:
    run = RunConfig(name="kept", inner_steps=7)
    seed = f"/ip4/10.0.0.1/tcp/1/p2p/{PEER}"
    text = f'{{"run_id": "{run.run_id}", "seeds": ["{seed}"], "run_config": {run.document()}}}'
    (tmp_path / "run.json").write_text(text)
    assert load_handout(tmp_path / "run.json").run_config == run


def test_a_hand_out_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path, run = tmp_path / "run.json", RunConfig()
    few = Handout(run_id=run.run_id, seeds=("a",), run_config=run)
    many = Handout(run_id=run.run_id, seeds=tuple(map(str, range(500))), run_config=run)
    save_handout(path, few)
    done = threading.Event()

    def write() -> None:
        for _ in range(100):
            save_handout(path, many)
            save_handout(path, few)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert load_handout(path) in (few, many)
    writer.join()
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        save_handout(tmp_path / "taken", few)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.json", "taken"]


def test_a_seed_takes_the_place_of_its_old_address_and_of_one_not_filled_in() -> None:
    run, other = RunConfig(), "/ip4/10.0.0.2/tcp/1/p2p/other"
    seeds = ("/ip4/127.0.0.1/tcp/0/p2p/authority", other, f"/ip4/10.0.0.1/tcp/1/p2p/{PEER}")
    handout = Handout(run_id=run.run_id, seeds=seeds, run_config=run)
    new = f"/ip4/10.0.0.9/tcp/1/p2p/{PEER}"
    assert with_seeds(handout, PEER, [new]).seeds == (new, other)


def test_precedence_is_defaults_then_file_then_set_and_the_last_set_wins(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("run: {rounds: 7, inner_steps: 5}")
    swarm = load_swarm(path, ["run.rounds=8", "run.rounds=9"])
    assert (swarm.run.rounds, swarm.run.inner_steps, swarm.run.seed) == (9, 5, 0)


def test_a_set_is_parsed_as_yaml_and_reaches_into_sections_that_the_file_leaves_out() -> None:
    node = load_node(None, ["network.listen=[/ip4/127.0.0.1/tcp/0]", "threads=null", "state_dir=here"])
    assert node.network.listen == ("/ip4/127.0.0.1/tcp/0",)
    assert node.threads is None
    assert node.state_dir == Path("here")


def test_4e_minus_4_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("run: {inner: {optimizer: {type: adamw, lr: 4e-4}}}")
    assert load_swarm(path).run.inner.optimizer == AdamWConfig(lr=0.0004)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("# nothing here\n")
    assert load_swarm(tmp_path / "x.yaml").peers == 4


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_swarm(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="found a folder, allowed: a file"):
        load_node(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"run: \xff")
    with pytest.raises(ConfigError, match="byte 5 is no UTF-8"):
        load_swarm(tmp_path / "x.yaml")
