"""Steps that a GPU captures once and replays for every member; on a CPU a tape stands in the graph's place.

A tape does to a step what a graph does: it keeps the operations with the tensors and the numbers that they had, and
does them again. What the step leaves to Python (a learning rate that is a number, a tensor made anew outside of it, a
value read back) would stay as it was, and the networks would come out otherwise.
"""

import gc
import weakref
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.networks.models import by_name, mlp
from lib.networks.stacked import group
from lib.training import loop, parallel
from lib.training.ensemble import train
from lib.training.recipe import Data, Members, Recipe, Record, Run, Start, Work

HOST = ("_local_scalar_dense", "lift_fresh", "nonzero", "item")  # what a graph cannot hold
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket.__name__ not in HOST, f"{function} in a step that is captured"
        out = function(*args, **(kwargs or {}))
        self.steps.append((function, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, out in self.steps:
            given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
            for old, new in zip(tree_leaves(out), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.untyped_storage().data_ptr() not in given:
                    old.copy_(new)


class Taped:
    """In the place of ``loop.Captured``."""

    made: ClassVar[list] = []  # operations of each recording

    def __init__(self, step, inputs):
        self.inputs, self.tape = inputs, Tape()
        for _ in range(3):
            step(*inputs)
        with self.tape:
            self.outputs = step(*inputs)
        self.made.append(len(self.tape.steps))

    def __call__(self, *inputs):
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self.tape.replay()
        return self.outputs


@pytest.fixture
def taped(monkeypatch):
    monkeypatch.setattr(loop, "Captured", Taped)
    monkeypatch.setattr(loop, "captures", lambda device: True)
    monkeypatch.setattr(parallel, "_cores", lambda work: 1)
    monkeypatch.setattr(Taped, "made", [])
    return Taped.made


def conv():
    return nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(27, 4))


def normalized():
    return nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))


@pytest.fixture(scope="module")
def data():
    g = torch.Generator().manual_seed(0)
    return torch.rand(50, 1, 8, 8, generator=g, dtype=torch.float64), torch.randint(0, 4, (50,), generator=g)


def go(data, model, recipe, seeds=(5, 1, 2), **options):
    run = Run(**{"precision": "float64", "progress": False, "chunk": 1} | options.pop("run", {}))
    return train(model, data, recipe, seeds, run=run, **options)


def same(one, other, **tolerance):
    for kind in ("parameters", "state"):
        named = getattr(other, kind) or {}
        torch.testing.assert_close(getattr(one, kind) or {}, named, **{"rtol": 1e-8, "atol": 1e-11} | tolerance)
    assert torch.equal(one.correct_train, other.correct_train)
    if other.bits_visits is not None:
        assert torch.equal(one.correct_visits, other.correct_visits)


WAYS = [
    {"lr": 0.1, "momentum": 0.9, "schedule": "cosine"},
    {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.03, "schedule": "warmup_linear"},
    {"lr": 0.01, "optimizer": "adam", "weight_decay": 0.03, "decay_to": "init"},
    {"lr": 0.01, "optimizer": "rmsprop", "momentum": 0.7},
]


@pytest.mark.parametrize("how", WAYS, ids=str)
@pytest.mark.parametrize("model", [mlp(64, (7,), 4), conv(), normalized()], ids=["mlp", "conv", "normalized"])
def test_replayed_steps_are_the_steps(data, model, how, taped, monkeypatch):
    """Own rows, labels, weights and lengths of each member; one recording serves them all."""
    g = torch.Generator().manual_seed(1)
    sees = torch.rand(3, 50, generator=g) < torch.tensor([[0.3], [0.9], [0.6]])
    own = {"sees": sees, "labels": (data[1] + torch.arange(3)[:, None]) % 4, "weights": torch.rand(3, 50, generator=g)}
    recipe, record = Recipe(epochs=3, batch_size=8, **how), Record(correct="epoch", state=True)
    replayed = go(data, model, recipe, **own, record=record)
    assert len(taped) == 1
    monkeypatch.setattr(loop, "captures", lambda device: False)
    same(replayed, go(data, model, recipe, **own, record=record))
    assert len(taped) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"recipe": {"augment": "crop_flip"}},
        {"recipe": {"batch_size": None}},
        {"recipe": {"batch_size": None}, "sees": 0.6},
        {"sees": 0.6, "masked": True},
        {"record": Record(visits=True)},
        {"start": Start(until=2)},
    ],
    ids=str,
)
def test_whatever_is_asked(data, more, taped, monkeypatch):
    more = dict(more)
    recipe = Recipe(**{"lr": 0.1, "momentum": 0.9, "epochs": 3, "batch_size": 8} | more.pop("recipe", {}))
    if "sees" in more:
        more["sees"] = torch.rand(3, 50, generator=torch.Generator().manual_seed(2)) < more["sees"]
    replayed = go(data, normalized(), recipe, **more)
    monkeypatch.setattr(loop, "captures", lambda device: False)
    same(replayed, go(data, normalized(), recipe, **more))


def test_a_member_leaves_nothing_behind(data, taped):
    """One that came to nothing (not a number) before it, or any other: the bits stay."""
    recipe = Recipe(lr=0.01, optimizer="adam", weight_decay=0.1, decay_to="init", epochs=2, batch_size=8)
    alone = go(data, normalized(), recipe, (5,))
    ends = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in alone.parameters.items()}
    ends["0.weight"][0] = torch.nan
    after_nothing = go(data, normalized(), recipe, (1, 5), start=Start(ends))
    once_more = go(data, normalized(), recipe, (5,), start=Start(alone.parameters))
    assert not torch.isfinite(after_nothing.parameters["0.weight"][0]).any() and len(taped) == 3
    for name, value in once_more.parameters.items():
        assert torch.equal(after_nothing.parameters[name][1:], value), name


def test_resuming_gives_the_same(data, taped):
    recipe, record = Recipe(lr=0.1, momentum=0.9, epochs=4, batch_size=8, schedule="cosine"), Record(state=True)
    whole, first = (go(data, normalized(), recipe, record=record, start=start) for start in (None, Start(until=2)))
    rest = go(data, normalized(), recipe, record=record, start=Start(first.parameters, first.state, after=2))
    same(rest, whole, rtol=0, atol=0)


def test_what_was_captured_does_not_outlive_the_training(data, taped, monkeypatch):
    made, known = [], loop.Stepper.__init__
    monkeypatch.setattr(loop.Stepper, "__init__", lambda self, *a: (known(self, *a), made.append(weakref.ref(self)))[0])
    gc.disable()
    try:
        go(data, conv(), Recipe(lr=0.1, epochs=1, batch_size=8))
        assert made and not [one for one in made if one() is not None]
    finally:
        gc.enable()


def test_a_step_that_cannot_be_captured_is_taken_all_the_same(data, monkeypatch):
    """On a GPU with a network that reads a value back, say; but where memory is short that is said."""
    recipe = Recipe(lr=0.01, optimizer="adam", epochs=2, batch_size=8, schedule="cosine")
    wanted = go(data, normalized(), recipe)

    def refuse(error):
        def captured(step, inputs):
            step(*inputs)  # as far as it came
            raise error

        monkeypatch.setattr(loop, "Captured", captured)
        monkeypatch.setattr(loop, "captures", lambda device: True)
        monkeypatch.setattr(parallel, "_cores", lambda work: 1)

    refuse(RuntimeError("operation not permitted when stream is capturing"))
    with pytest.warns(UserWarning, match="cannot be captured .operation not permitted"):
        same(go(data, normalized(), recipe), wanted)
    refuse(torch.OutOfMemoryError("no memory"))
    with pytest.raises(torch.OutOfMemoryError):
        go(data, normalized(), recipe)


def test_small_networks_go_beside_each_other_and_large_ones_alone(monkeypatch):
    on_cpu = lambda work, size: group(work.model, size, precision="float32", device="cpu")
    monkeypatch.setattr(Work, "group", on_cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    members, sizes = Members(list(range(40))), {}
    for name in ("lenet", "cnn_unique_information", "resnet18"):
        model, recipe = by_name(name, shape=(3, 32, 32), classes=10), Recipe(lr=0.1, epochs=1, batch_size=128)
        work = Work(model, Data(torch.rand(4, 3, 32, 32), torch.arange(4)), recipe, run=Run(device="cuda"))
        sizes[name] = parallel.choose_chunk(work, members)
    assert sizes["resnet18"] == 1 < sizes["cnn_unique_information"] <= sizes["lenet"] == 32


@GPU
@pytest.mark.parametrize("name", ["lenet", "resnet18-8"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_a_gpu_gives_what_the_processor_gives(name, chunk):
    g = torch.Generator().manual_seed(0)
    images = torch.rand(200, 3, 32, 32, generator=g), torch.randint(0, 10, (200,), generator=g)
    model, recipe = by_name(name, shape=(3, 32, 32), classes=10), Recipe(lr=0.01, momentum=0.9, epochs=2, batch_size=50)
    on_gpu = go(images, model, recipe, run={"device": "cuda", "chunk": chunk})
    on_cpu = go(images, model, recipe)
    torch.testing.assert_close(on_gpu.parameters, on_cpu.parameters, rtol=1e-5, atol=1e-6)


@GPU
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_company_changes_nothing(precision):
    g = torch.Generator().manual_seed(0)
    images = torch.rand(200, 3, 32, 32, generator=g), torch.randint(0, 10, (200,), generator=g)
    model, recipe = by_name("resnet18-8", shape=(3, 32, 32), classes=10), Recipe(lr=0.01, epochs=2, batch_size=50)
    on = {"device": "cuda", "precision": precision}
    four = go(images, model, recipe, (1, 2, 3, 4), run=on | {"chunk": 4})
    for chunk in (1, 2):
        same(go(images, model, recipe, (1, 2, 3, 4), run=on | {"chunk": chunk}), four, rtol=1e-6, atol=1e-7)
