"""Claims about inner training."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from paceline.core.config import (
    AdamWConfig,
    GptConfig,
    InnerConfig,
    MuonConfig,
    NodeConfig,
    RunConfig,
    ScheduleConfig,
)
from paceline.core.errors import ConfigError
from paceline.learning.inner import (
    Batch,
    InnerTrainer,
    autocast_dtype,
    evaluate,
    learning_rate_factor,
    resolve_device,
)
from paceline.learning.model import Gpt, build_model

TINY = GptConfig(dim=16, layers=2, heads=2, seq_len=16)
ADAMW, MUON = AdamWConfig(lr=3e-3), MuonConfig()
CPU = torch.device("cpu")
DEVICES = [CPU] + ([torch.device("cuda", 0)] if torch.cuda.is_available() else [])
BOTH = pytest.mark.parametrize("optimizer", [ADAMW, MUON], ids=["adamw", "muon"])


def make_run(optimizer: AdamWConfig | MuonConfig = ADAMW, **inner: Any) -> RunConfig:
    schedule = inner.pop("schedule", ScheduleConfig(type="constant", warmup_steps=0))
    return RunConfig(model=TINY, inner=InnerConfig(optimizer=optimizer, schedule=schedule, **inner))


def make_trainer(run: RunConfig, device: torch.device = CPU, **node: Any) -> tuple[Gpt, InnerTrainer]:
    model = build_model(TINY, 0)
    return model, InnerTrainer(model, run, NodeConfig(**node), device)


def text_batch(batch_size: int = 4, shift: int = 0) -> Batch:
    text = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 4, np.uint8)
    return np.stack([text[shift + 5 * i : shift + 5 * i + 17] for i in range(batch_size)]).astype(np.int64)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: part.detach().clone() for name, part in model.named_parameters()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(part, other[name]) for name, part in one.items())


def optimizer_state(trainer: InnerTrainer) -> Any:
    return copy.deepcopy([optimizer.state_dict()["state"] for optimizer in trainer._optimizers])


def state_tensors(trainer: InnerTrainer) -> dict[str, Tensor]:
    return {
        f"{i}.{key}.{name}": value
        for i, state in enumerate(optimizer_state(trainer))
        for key, parts in state.items()
        for name, value in parts.items()
    }


@BOTH
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_both_optimizers_reduce_the_loss(optimizer: AdamWConfig | MuonConfig, device: torch.device) -> None:
    model, trainer = make_trainer(make_run(optimizer), device)
    before = evaluate(model, [text_batch()], device)
    results = [trainer.step([text_batch()], step) for step in range(20)]
    assert results[0].loss == pytest.approx(before, rel=1e-2)
    assert evaluate(model, [text_batch()], device) < 0.8 * before
    assert (results[0].samples, results[0].tokens) == (4, 64)
    assert all(result.grad_norm > 0 for result in results)


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest() -> None:
    _, trainer = make_trainer(make_run(MUON))
    muon, adamw = trainer._optimizers
    assert isinstance(muon, torch.optim.Muon)
    assert sum(len(group["params"]) for group in muon.param_groups) == 7 * TINY.layers
    assert sum(len(group["params"]) for group in adamw.param_groups) == 1 + 2 * TINY.layers + 1


def test_weights_decay_on_matrices_only() -> None:
    _, trainer = make_trainer(make_run(ADAMW))
    for group in trainer._optimizers[0].param_groups:
        assert {part.ndim >= 2 for part in group["params"]} == {group["weight_decay"] > 0}


def poison_the_loss(model: Gpt) -> Any:
    return model.register_forward_hook(lambda *call: call[2] * math.nan)


def poison_one_gradient(model: Gpt) -> Any:
    return model.embedding.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]


@BOTH
@pytest.mark.parametrize("poison", [poison_the_loss, poison_one_gradient])
@pytest.mark.parametrize("clip", [1.0, None])
def test_a_non_finite_loss_leaves_weights_and_optimizer_state_untouched(
    optimizer: AdamWConfig | MuonConfig, poison: Any, clip: float | None
) -> None:
    model, trainer = make_trainer(make_run(optimizer, clip_norm=clip))
    trainer.step([text_batch()], 0)
    kept, state = weights(model), state_tensors(trainer)
    hook = poison(model)
    for skipped in (1, 2):
        result = trainer.step([text_batch(), text_batch(shift=3)], skipped)
        assert result.loss is None
        assert (result.samples, result.tokens, result.lr) == (0, 0, 0.0)
        assert trainer.skipped_in_a_row == skipped
    assert equal(weights(model), kept)
    assert equal(state_tensors(trainer), state)
    hook.remove()
    assert trainer.step([text_batch()], 3).loss is not None
    assert trainer.skipped_in_a_row == 0
    assert all(torch.isfinite(part).all() for part in weights(model).values())


def test_an_error_in_the_middle_of_a_step_leaves_no_half_gradient() -> None:
    model, trainer = make_trainer(make_run())
    too_long = np.zeros((1, TINY.seq_len + 2), np.int64)
    with pytest.raises(ValueError, match="seq_len"):
        trainer.step([text_batch(), too_long], 0)
    assert all(part.grad is None for part in model.parameters())


def test_micro_batches_add_up_to_one_batch() -> None:
    whole, trainer = make_trainer(make_run())
    result = trainer.step([text_batch(4)], 0)
    split, trainer = make_trainer(make_run())
    parts = trainer.step([text_batch(4)[:1], text_batch(4)[1:]], 0)
    assert parts.loss == pytest.approx(result.loss, rel=1e-5)
    assert parts.grad_norm == pytest.approx(result.grad_norm, rel=1e-4)
    assert (parts.samples, parts.tokens) == (result.samples, result.tokens)
    for name, part in weights(whole).items():
        assert torch.allclose(part, weights(split)[name], atol=1e-4)


def test_gradients_are_clipped_to_the_norm_asked_for() -> None:
    model, trainer = make_trainer(make_run(clip_norm=1e-3))
    trainer._gradients([text_batch()], 64)
    grads = [part.grad for part in model.parameters() if part.grad is not None]
    assert nn.utils.get_total_norm(grads).item() == pytest.approx(1e-3, rel=1e-3)


@BOTH
def test_a_reset_forgets_all_optimizer_state(optimizer: AdamWConfig | MuonConfig) -> None:
    model, trainer = make_trainer(make_run(optimizer))
    first = weights(model)
    trainer.step([text_batch()], 0)
    after_one = weights(model)
    model.load_state_dict(first)
    trainer.reset()
    assert state_tensors(trainer) == {}
    trainer.step([text_batch()], 0)
    assert equal(weights(model), after_one)


def test_a_joiner_trains_at_the_rate_of_the_global_step() -> None:
    run = make_run(schedule=ScheduleConfig(type="wsd", warmup_steps=50))
    _, old = make_trainer(run)
    for step in range(30):
        old_result = old.step([text_batch()], step)
    _, joiner = make_trainer(run)
    assert joiner.step([text_batch()], 29).lr == old_result.lr == pytest.approx(3e-3 * 30 / 50)


schedules = st.builds(
    ScheduleConfig,
    type=st.sampled_from(["wsd", "cosine", "constant"]),
    warmup_steps=st.integers(0, 300),
    decay_fraction=st.floats(0, 1),
    floor=st.floats(0, 1),
)


@given(schedule=schedules, step=st.integers(0, 5000), total=st.integers(1, 3000))
def test_every_learning_rate_is_a_share_of_the_peak(schedule: ScheduleConfig, step: int, total: int) -> None:
    assert 0 <= learning_rate_factor(schedule, step, total) <= 1


@given(schedule=schedules, total=st.integers(2, 3000))
def test_the_rate_climbs_through_warm_up_and_never_after(schedule: ScheduleConfig, total: int) -> None:
    rates = [learning_rate_factor(schedule, step, total) for step in range(0, total + 50, 7)]
    after = [rate for i, rate in enumerate(rates) if 7 * i + 1 >= schedule.warmup_steps]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(after))


def test_wsd_warms_up_stays_and_decays_to_its_floor() -> None:
    schedule = ScheduleConfig(type="wsd", warmup_steps=10, decay_fraction=0.25, floor=0.1)
    rates = [learning_rate_factor(schedule, step, 100) for step in range(120)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10:76] == [1.0] * 66
    assert rates[87] == pytest.approx(0.55)
    assert rates[99:] == pytest.approx([0.1] * 21)


def test_cosine_ends_at_its_floor_and_is_halfway_in_the_middle() -> None:
    schedule = ScheduleConfig(type="cosine", warmup_steps=0, floor=0.2)
    assert learning_rate_factor(schedule, 0, 101) == 1.0
    assert learning_rate_factor(schedule, 50, 101) == pytest.approx(0.6)
    assert learning_rate_factor(schedule, 100, 101) == pytest.approx(0.2)


def test_constant_stays_at_the_peak_after_warm_up() -> None:
    schedule = ScheduleConfig(type="constant", warmup_steps=4)
    assert [learning_rate_factor(schedule, step, 10) for step in (0, 3, 9, 99)] == [0.25, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("cuda", "mps", "found"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_prefers_cuda_then_mps_then_cpu(
    cuda: bool, mps: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto").type == found


def test_the_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == CPU


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match=r"'cuda:2', but torch sees 2 CUDA devices"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"'cuda', but torch sees 0"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no MPS"):
        resolve_device("mps")


@pytest.mark.parametrize(
    ("setting", "device", "capability", "expected"),
    [
        ("auto", "cuda:0", (8, 0), torch.bfloat16),
        ("auto", "cuda:0", (9, 0), torch.bfloat16),
        ("auto", "cuda:0", (7, 5), None),
        ("auto", "cpu", None, None),
        ("auto", "mps", None, None),
        ("bf16", "cpu", None, torch.bfloat16),
        ("bf16", "cuda:0", (7, 5), torch.bfloat16),
        ("off", "cuda:0", (9, 0), None),
    ],
)
def test_bf16_is_used_where_the_device_computes_in_it(
    setting: Any, device: str, capability: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert autocast_dtype(setting, torch.device(device)) == expected


def test_under_bf16_autocast_matrices_multiply_in_bf16_and_weights_stay_float32() -> None:
    model, trainer = make_trainer(make_run(), autocast="bf16")
    seen = []
    query = model.get_submodule("blocks.0.attention.query")
    query.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    losses = [trainer.step([text_batch()], step).loss for step in range(20)]
    assert set(seen) == {torch.bfloat16}
    assert {part.dtype for part in model.parameters()} == {torch.float32}
    assert losses[0] is not None
    assert losses[-1] is not None
    assert losses[-1] < 0.8 * losses[0]


def test_evaluation_is_the_mean_over_all_tokens_and_changes_nothing() -> None:
    model, _ = make_trainer(make_run())
    kept = weights(model)
    small, large = text_batch(1), text_batch(3, shift=7)
    whole = evaluate(model, [np.concatenate([small, large])], CPU)
    assert evaluate(model, [small, large], CPU) == pytest.approx(whole, rel=1e-6)
    assert equal(weights(model), kept)
    assert all(part.grad is None for part in model.parameters())


def test_evaluating_nothing_gives_nan() -> None:
    assert math.isnan(evaluate(build_model(TINY, 0), [], CPU))
