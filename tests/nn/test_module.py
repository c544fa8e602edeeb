"""Modules: finding, naming, saving and loading parameters."""

from __future__ import annotations

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn, tree


class Net(nn.Module):
    def __init__(self) -> None:
        self.first = nn.Linear(3, 4, seed=0)
        self.rest = [nn.Linear(4, 4, seed=1), nn.Dropout(0.5, seed=0)]
        self.heads = {"a": nn.Linear(4, 2, seed=2)}
        self.scale = nn.Parameter(np.ones(2), name="scale")

    def forward(self, x):
        return self.heads["a"](self.rest[1](self.rest[0](self.first(x)))) * self.scale


NAMES = [
    "first.weight",
    "first.bias",
    "rest.0.weight",
    "rest.0.bias",
    "heads.a.weight",
    "heads.a.bias",
    "scale",
]


def test_parameters_are_found_in_attributes_lists_and_dicts():
    assert [name for name, _ in Net().named_parameters()] == NAMES


def test_a_shared_parameter_is_trained_once_and_saved_under_each_name():
    net = Net()
    net.tied = net.first.weight
    assert len(net.parameters()) == len(NAMES)
    assert set(net.state_dict()) == {*NAMES, "tied"}


def test_train_and_eval_reach_every_module():
    net = Net().eval()
    assert not net.rest[1].training
    x = np.ones((2, 3))
    np.testing.assert_array_equal(net(x).numpy(), net(x).numpy())
    assert net.train().rest[1].training
    assert not np.array_equal(net(x).numpy(), net(x).numpy())


def test_state_dict_round_trip_and_independence():
    net, other = Net(), Net()
    state = net.state_dict()
    state["scale"] += 1
    assert net.scale.numpy().tolist() == [1, 1]
    other.load_state_dict(state)
    state["scale"] += 1
    assert other.scale.numpy().tolist() == [2, 2]


def test_loading_names_every_problem_and_changes_nothing():
    net = Net()
    before = net.state_dict()
    wrong = {name: a + 1 for name, a in before.items()}
    wrong["first.weight"] = np.zeros((9, 9))
    wrong["extra"] = np.zeros(1)
    del wrong["scale"]
    with pytest.raises(tg.ShapeError) as info:
        net.load_state_dict(wrong)
    message = str(info.value)
    for part in (
        "missing 'scale'",
        "unexpected 'extra'",
        "'first.weight' should have shape (4, 3)",
        "(9, 9)",
    ):
        assert part in message
    for name, a in net.state_dict().items():
        np.testing.assert_array_equal(a, before[name])


def test_a_module_is_a_tree_of_its_parameters():
    net = Net().eval()
    leaves, structure = tree.flatten(net)
    assert tree.unflatten(structure, leaves) is net
    doubled = tree.unflatten(structure, [nn.Parameter(p.numpy() * 2) for p in leaves])
    assert doubled is not net
    assert doubled.rest[0].weight.numpy()[0, 0] == 2 * net.rest[0].weight.numpy()[0, 0]
    assert net.scale.numpy().tolist() == [1, 1]


def test_value_and_grad_of_a_module_gives_gradients_by_name():
    net = Net().eval()
    x = np.random.default_rng(0).standard_normal((5, 3))
    loss, grads = tg.value_and_grad(lambda m, x: (m(x) ** 2).sum())(net, x)
    assert list(grads) == NAMES
    assert all(p.grad is None for p in net.parameters())
    loss.backward()
    for name, p in net.named_parameters():
        np.testing.assert_array_equal(grads[name], p.grad)
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_a_module_without_forward_says_so():
    with pytest.raises(TypeError, match="forward"):
        nn.Module()(1)


def test_integer_parameters_are_refused():
    with pytest.raises(tg.DtypeError, match="floats"):
        nn.Parameter([1, 2])


def test_showing_a_module():
    assert "Linear(3, 4)" in repr(Net())

    class Odd(nn.Module):
        pass

    odd = Odd()
    odd.__dict__["<script>"] = nn.Parameter([1.0])
    assert "<script>" not in odd._repr_html_()
    assert "&lt;script&gt;" in odd._repr_html_()


def test_what_would_be_forgotten_by_training_is_refused():
    net = Net()
    with pytest.raises(tg.GraphError, match=r"Net\.w: .*nn\.Parameter"):
        net.w = tg.tensor([1.0], requires_grad=True)
    with pytest.raises(tg.GraphError, match=r"Linear\.weight is a Parameter.*data"):
        net.first.weight = np.ones((4, 3))
    net.first.bias = None
    net.mask = tg.tensor([1.0])
    assert net.scale.name == "scale"
    assert net.first.weight.name == "weight"


def test_evaluating_gives_every_module_its_mode_back():
    net = Net()
    modules = [module for _, module in net.named_modules()]
    modules[-1].training = False
    before = [module.training for module in modules]
    with net.evaluating():
        assert not any(module.training for module in modules)
    assert [module.training for module in modules] == before


def test_two_arrays_for_one_shared_parameter_are_refused():
    class Tied(nn.Module):
        def __init__(self):
            self.a = self.b = nn.Parameter([1.0, 2.0])

    tied = Tied()
    with pytest.raises(tg.ShapeError, match="'a' and 'b' are one parameter here, but different ones there"):
        tied.load_state_dict({"a": np.zeros(2), "b": np.ones(2)})
    assert tied.a.numpy().tolist() == [1, 2]
