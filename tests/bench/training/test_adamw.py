"""The optimizer gives torch's bits, whatever has gradients, and goes on from what was saved."""

import copy

import pytest
import torch

from bench.training.adamw import AdamW

OPTIONS = {"lr": 3e-3, "betas": (0.99, 0.999), "weight_decay": 0.03}


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 7, 3), torch.nn.Flatten(), torch.nn.Linear(7 * 36, 5)).to(memory_format=torch.channels_last)


def walk(model, optimizer, steps, first=0, without=lambda step: ()):
    """Train; `without(step)` names parameters that get no gradient then."""
    for step in range(first, first + steps):
        optimizer.zero_grad(set_to_none=True)
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        for name, p in model.named_parameters():
            if name in without(step):
                p.grad = None
        optimizer.param_groups[0]["lr"] = 1e-3 * (step + 1)
        optimizer.step()


def states(model, optimizer):
    saved = optimizer.state_dict()["state"]
    return [*model.state_dict().values(), *(saved[i][key] for i in sorted(saved) for key in sorted(saved[i]))]


@pytest.mark.parametrize("without", [
    lambda step: (), lambda step: ("0.bias",), lambda step: ("2.weight",) if step in (0, 3) else (), lambda step: ("0.bias",) if step == 4 else (),
], ids=["all", "one-never", "first-and-fourth", "fifth"])
def test_the_same_bits_as_torch(without):
    ours, theirs = network(), network()
    a, b = AdamW(ours.parameters(), **OPTIONS), torch.optim.AdamW(theirs.parameters(), **OPTIONS, fused=True)
    for model, optimizer in ((ours, a), (theirs, b)):
        walk(model, optimizer, 7, without=without)
    found, expected = states(ours, a), states(theirs, b)
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))


@pytest.mark.parametrize("saved_by", [AdamW, lambda *a, **o: torch.optim.AdamW(*a, **o, fused=True)], ids=["ours", "torch"])
def test_it_goes_on_from_a_saved_state(saved_by):
    whole = network()
    a = AdamW(whole.parameters(), **OPTIONS)
    walk(whole, a, 6)
    half = network()
    first = saved_by(half.parameters(), **OPTIONS)
    walk(half, first, 3)
    again = copy.deepcopy(half)
    second = AdamW(again.parameters(), **OPTIONS)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    walk(again, second, 3, first=3)
    assert all(map(torch.equal, states(again, second), states(whole, a)))
    assert float(second.state_dict()["state"][0]["step"]) == 6


def test_what_is_loaded_replaces_what_was_kept():
    whole, other = network(), network()
    a, b = AdamW(whole.parameters(), **OPTIONS), AdamW(other.parameters(), **OPTIONS)
    walk(whole, a, 3)
    walk(other, b, 5, first=7)
    other.load_state_dict(whole.state_dict())
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    walk(whole, a, 3, first=3)
    walk(other, b, 3, first=3)
    assert all(map(torch.equal, states(other, b), states(whole, a)))


def test_a_copy_goes_on_by_itself():
    model = network()
    optimizer = AdamW(model.parameters(), **OPTIONS)
    walk(model, optimizer, 3)
    again, second = copy.deepcopy((model, optimizer))
    walk(again, second, 3, first=3)
    assert float(optimizer.state_dict()["state"][0]["step"]) == 3
    walk(model, optimizer, 3, first=3)
    assert all(map(torch.equal, states(again, second), states(model, optimizer)))


def test_one_call_counts_the_steps_of_all():
    model = network()
    optimizer = AdamW(model.parameters(), **OPTIONS)
    walk(model, optimizer, 3)
    storages = {state["step"].untyped_storage().data_ptr() for state in optimizer.state.values()}
    assert len(storages) == 1 and [float(state["step"]) for state in optimizer.state.values()] == [3.0] * 4
