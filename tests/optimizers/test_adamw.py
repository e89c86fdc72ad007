"""Optimizer `adamw` beside fairseq's `adam`."""

import pytest
import torch
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig

from distill_user_dir.optimizers.adamw import AdamW, AdamWConfig
from tests.training.waits import CountWaits

OPTIONS = {"adam_betas": "(0.9,0.98)", "adam_eps": 1e-6, "weight_decay": 0.01, "lr": [0.003]}


def parameters():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(size)) for size in ((5, 7), (3,), (2, 2, 2))]


def adamw(params):
    return AdamW(AdamWConfig(**OPTIONS), params)


def adam(params):
    return FairseqAdam(FairseqAdamConfig(**OPTIONS, use_old_adam=True), params)


def steps(optimizer, params, updates):
    for update in updates:
        generator = torch.Generator().manual_seed(update)
        for parameter in params:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("other", [adam, adamw])
def test_goes_the_way_of_fairseqs_and_takes_over_its_state(other):
    """Epsilon apart, which fairseq does not correct for the first updates' bias."""
    through, first, second = parameters(), parameters(), parameters()
    steps(adam(through), through, range(60))
    before = other(first)
    steps(before, first, range(30))
    for ours, theirs in zip(second, first):
        ours.data.copy_(theirs.data)
    after = adamw(second)
    after.load_state_dict(before.state_dict(), {"lr": 0.003})
    steps(after, second, range(30, 60))
    moved = max(float((a - b).abs().max()) for a, b in zip(through, parameters()))
    assert max(float((a - b).abs().max()) for a, b in zip(through, second)) < 1e-4 * moved


def test_what_has_no_gradient_is_left_alone():
    params = parameters()
    optimizer = adamw(params)
    start = params[0].detach().clone()
    params[1].grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(params[0], start) and len(optimizer.optimizer.state) == 1


def test_an_update_takes_a_few_kernels():
    """Of 36 parameters; fairseq's takes a dozen for each."""
    found = {}
    for name, kind in (("adam", adam), ("adamw", adamw)):
        params = [torch.nn.Parameter(torch.randn(4)) for _ in range(36)]
        optimizer = kind(params)
        for parameter in params:
            parameter.grad = torch.randn(4)
        steps(optimizer, params, [0])
        tensors = [entry for state in optimizer.optimizer.state.values() for entry in state.values()]
        device = [*params, *(p.grad for p in params), *(one for one in tensors if isinstance(one, torch.Tensor))]
        with CountWaits(device) as mode:
            optimizer.step()
        found[name] = mode.launches
    assert found["adamw"] <= 4 and found["adam"] >= 7 * 36, found
