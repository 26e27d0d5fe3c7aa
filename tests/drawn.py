"""Numbers for tests, drawn at random in float64; parameters of several runs of a model in one stack."""

import torch

F64 = torch.float64


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def draw(model, runs=2, seed=0):
    """Random stacked states, running statistics too."""
    g = torch.Generator().manual_seed(seed)
    stack = {}
    for name, value in model.state_dict().items():
        noise = torch.randn(runs, *value.shape, dtype=F64, generator=g)
        stack[name] = 0.5 + noise.abs() if "running_var" in name else 0.3 * noise
        if not value.is_floating_point():
            stack[name] = value.expand(runs, *value.shape)
    return stack
