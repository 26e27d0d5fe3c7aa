"""The scores, and nothing else: arrays or networks in, arrays out.

    from lib.scores import definitions                          # every score by its definition, slow, to be read
    from lib.scores import cg_scores, el2n, memorization        # the same numbers fast

A name of ``TABLE`` is loaded when it is first asked for. ``memorization``, ``influence`` and ``tracin`` are
functions, and the modules that hold them: here always the function; ``from lib.scores.tracin import …`` is the other.
"""

import functools
import importlib
import inspect
import sys
from types import ModuleType

from lib.costs import as_tensor, check_inputs

TABLE = {
    "definitions": "definitions",  # every score by its definition
    "el2n": "data_diet",  # length of the error vector
    "grand": "data_diet",  # length of the loss gradient
    "margin": "data_diet",  # output of the label less that of the next class
    "forgetting": "data_diet",  # times that a network was right about it and no longer is
    "memorization": "memorization",  # how much likelier its label is got right if it was seen
    "influence_of_seeing": "memorization",  # the same on test examples
    "datamodel": "memorization",  # the same by least squares over all examples
    "c_scores": "memorization",  # how surely networks that never saw it get it right
    "cg_scores": "complexity_gap",  # what it adds to the complexity yᵀH⁻¹y of the labels
    "cg_prime": "complexity_gap",  # the same with H in place of its inverse
    "leave_one_out": "unique_information",  # changes of the linearized network's weights and predictions without it
    "sample_information": "unique_information",  # these changes of the weights in nats
    "f_si": "unique_information",  # these changes of predictions in nats
    "f_si_by_class": "unique_information",  # the same, with a network of one output for each class
    "influence": "influence",  # rise of test losses upon its removal, to first order
    "self_influence": "influence",  # rise of its own loss
    "tracin": "tracin",  # how much the steps on it lowered the loss of another
    "tracin_mean": "tracin",  # the mean over the others
    "tracin_self": "tracin",  # how much they lowered its own
    "knn_agreement": "neighbours",  # share of the nearest others with its label
    "knn_shapley": "neighbours",  # what it adds to the accuracy of nearest neighbours
}
__all__ = list(TABLE)


def takes_arrays(function):
    """The same function, for numpy arrays, tables and sparse matrices too; the examples, x…, are checked."""
    names = list(inspect.signature(function).parameters)

    def one(name, value):
        examples = name.split("_")[0] == "x"
        value = as_tensor(value, name) if examples or getattr(value, "ndim", 0) else value
        if examples:
            check_inputs(value, name)
        return value

    @functools.wraps(function)
    def called(*args, **options):
        args = [*map(one, names, args), *args[len(names) :]]
        return function(*args, **{name: one(name, value) for name, value in options.items()})

    return called


def __getattr__(name: str):
    if name not in TABLE:
        raise AttributeError(f"lib.scores has {', '.join(TABLE)}; got {name!r}")
    module = importlib.import_module(f"{__name__}.{TABLE[name]}")
    return globals().setdefault(name, getattr(module, name, module))  # definitions is a module


def __dir__() -> list[str]:
    return sorted({*globals(), *TABLE})


class _Contents(ModuleType):
    """Python sets a module that has been imported as an attribute of its package: here the function of its name."""

    def __setattr__(self, name: str, value) -> None:
        super().__setattr__(name, getattr(value, name, value) if isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Contents
