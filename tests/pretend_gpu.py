"""A GPU that is not there: tensors moved to it stay where they are, but what a real one refuses is refused.

    with pretend_gpu():
        scores = el2n(…, device="cuda")

A tensor is on the pretended GPU if its storage is marked: what was made there or moved there, and what was computed
from such. ``TypeError`` when numpy is handed one, ``RuntimeError`` when an operation mixes one with a tensor on the CPU
(numbers, copies and indices apart, which torch allows), when a generator is of the other device, as torch has it. It
does not know torch's kernels, their limits or their speed; modes of torch belong to a thread, so what the engine does
in threads is done in this one. Processes started meanwhile know nothing of it.
"""

from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

GPU = torch.device("cuda", 0)
AS_ARRAY = (Tensor.numpy, Tensor.__array__)
BETWEEN = {"copy_", "_to_copy", "_copy_from", "set_", "detach", "alias"}  # operations that may see both devices


def tensors(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def storage(tensor: Tensor):
    """Of what ``torch.func`` may have wrapped."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor.untyped_storage()


class Marks:
    """Which storages are on the pretended GPU."""

    def __init__(self):
        self.storages, self.generators = WeakIdKeyDictionary(), WeakIdKeyDictionary()
        self.inside = False  # a call that was given a tensor there: what torch makes within, it makes there

    def on(self, tensor: Tensor) -> bool:
        return storage(tensor) in self.storages

    def put(self, tree):
        for tensor in tensors(tree):
            self.storages[storage(tensor)] = True
        return tree


class Operations(TorchDispatchMode):
    """What torch computes, gradients included: no operation on both devices; results lie where the arguments do."""

    def __init__(self, marks: Marks):
        super().__init__()
        self.marks = marks

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function.overloadpacket.__name__, kwargs or {}
        given = tensors((args, kwargs))
        there = [self.marks.on(tensor) for tensor in given]
        if name.startswith("index") and there[:1] == [True] and name in ("index", "index_put_", "index_put"):
            given, there = given[:1], there[:1]  # indices may lie on the CPU
        here = [tensor for tensor, marked in zip(given, there, strict=True) if not marked and tensor.ndim]
        if any(there) and here and name not in BETWEEN:
            shapes = [f"{tuple(t.shape)} on {'cuda:0' if m else 'cpu'}" for t, m in zip(given, there, strict=True)]
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} of {', '.join(shapes)}")
        before = {id(storage(tensor)) for tensor in given}  # of views and what is written in place
        result = function(*args, **kwargs)
        if (any(there) and name not in BETWEEN) or (not given and self.marks.inside):
            self.marks.put([tensor for tensor in tensors(result) if id(storage(tensor)) not in before])
        elif any(there) and name == "_to_copy":
            self.marks.put(result)
        return result


class Calls(TorchFunctionMode):
    """What is called by name: where a tensor says that it is, moves it, is made, or goes to numpy."""

    def __init__(self, marks: Marks):
        super().__init__()
        self.marks = marks

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, on = dict(kwargs or {}), self.marks.on
        if function == Tensor.device.__get__:
            return GPU if on(args[0]) else function(*args)
        if function == Tensor.is_cuda.__get__:
            return on(args[0])
        if function in AS_ARRAY and on(args[0]) and not kwargs.get("force"):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor first"
            )
        if function is Tensor.cpu:
            return self.moved(args[0], torch.device("cpu"))
        if function is Tensor.cuda:
            return self.moved(args[0], GPU)
        if function is Tensor.to:
            return self.to(*args, **kwargs)
        if kwargs.get("device") is None:
            before = self.marks.inside
            self.marks.inside = any(on(tensor) for tensor in tensors((args, kwargs)))
            try:
                out = function(*args, **kwargs)
            finally:
                self.marks.inside = before
            like = function in (Tensor.new_tensor, torch.as_tensor) and isinstance(args[0], Tensor) and on(args[0])
            return self.marks.put(out) if like else out
        device = torch.device(kwargs.pop("device"))
        generator = kwargs.get("generator")
        if generator is not None and (generator in self.marks.generators) != (device.type == "cuda"):
            raise RuntimeError(f"Expected a {device.type!r} device type for generator")
        if function in (torch.as_tensor, torch.asarray) and isinstance(args[0], Tensor):
            return self.to(function(*args, **kwargs), device)
        out = function(*args, device="cpu", **kwargs)
        return self.marks.put(out) if device.type == "cuda" else out

    def to(self, tensor, *args, **kwargs):
        device, keep = None, []
        for value in [*args, kwargs.pop("device", None), kwargs.pop("other", None)]:
            if isinstance(value, Tensor):
                device = GPU if self.marks.on(value) else torch.device("cpu")
                keep.append(value.dtype)
            elif isinstance(value, str | torch.device):
                device = torch.device(value)
            elif isinstance(value, torch.dtype):
                keep.append(value)
        out = tensor.to(*keep, **kwargs) if keep or kwargs else tensor
        return out if device is None else self.moved(out, device)

    def moved(self, tensor: Tensor, device: torch.device) -> Tensor:
        """There, or a copy there, through which gradients go."""
        if (device.type == "cuda") == self.marks.on(tensor):
            return tensor
        copy = torch.clone(tensor)
        if device.type == "cuda":
            return self.marks.put(copy)
        self.marks.storages.pop(storage(copy), None)
        return copy


@contextmanager
def pretend_gpu():
    """``torch.cuda`` says that there is a GPU; see above."""
    from lib.networks.stacked import _lanes
    from lib.training import loop, parallel

    marks, make = Marks(), torch.Generator

    def generator(device="cpu"):
        made = make()
        if torch.device(device).type == "cuda":
            marks.generators[made] = True
        return made

    cuda = {
        "is_available": lambda: True, "device_count": lambda: 1,
        "mem_get_info": lambda device=None: (8 * 2**30, 8 * 2**30),
        "synchronize": lambda device=None: None, "reset_peak_memory_stats": lambda device=None: None,
        "max_memory_allocated": lambda device=None: 0, "current_stream": lambda device=None: mock.Mock(),
        "Stream": mock.Mock(), "stream": lambda stream: nullcontext(),
    }  # fmt: skip
    one_thread = lambda call, jobs, cores, *, one_core, tick=lambda steps: None: [call(job, tick) for job in jobs]
    with ExitStack() as stack:
        stack.callback(_lanes.cache_clear)
        for name, value in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch, "Generator", generator))
        stack.enter_context(mock.patch.object(loop, "captures", lambda device: False))
        stack.enter_context(mock.patch.object(parallel, "beside", one_thread))
        stack.enter_context(Operations(marks))
        stack.enter_context(Calls(marks))
        yield marks
