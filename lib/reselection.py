"""Training on rows that are chosen anew as it goes on, such as CRAIG's coresets (Mirzasoleiman et al. 2020)."""

from collections.abc import Callable

from torch import Tensor, nn

from lib.ensemble import Ensemble, train
from lib.recipe import Recipe, Record
from lib.work import Work

#: an epoch and the networks at its end ↦ rows to train on from there, (E, n) bool, and weights, (E, n) or None
Choose = Callable[[int, Ensemble], tuple[Tensor, Tensor | None]]


def train_reselecting(
    model: nn.Module,
    x_train: Tensor,
    y_train: Tensor,
    x_test: Tensor | None = None,
    y_test: Tensor | None = None,
    *,
    recipe: Recipe,
    seeds,
    every: int,
    choose: Choose,
    record: Record = Record(),  # noqa: B008 (frozen)
    **options,
) -> Ensemble:
    """Train as ``ensemble.train`` does, on rows that ``choose`` names at the start and again after every few epochs.

    Parameters and optimizer go on from stretch to stretch, and so does the learning rate; the batches of a stretch are
    those that a training on its rows alone would have in these epochs. With ``choose`` always the same, this is
    ``ensemble.train`` on that choice, to the bit.

    Args:
        model, x_train, y_train, x_test, y_test, recipe, seeds: as in ``ensemble.train``. With ``iterations`` an epoch
            is ⌈n/B⌉ steps, however few rows are chosen.
        every: epochs from one choice to the next.
        choose: called with an epoch t (0, every, 2·every, …) and an ``Ensemble`` with ``parameters`` and ``errors[t]``
            then; returns rows and weights. A function of these alone, so that a killed run comes by the same again.
        record: what to keep of the last stretch; its epochs lie there.
        options: to ``ensemble.train``. With a ``store``, every stretch is kept, and a killed run goes on from there.

    Returns:
        The ``Ensemble`` at the end.

    Raises:
        ValueError: if ``every`` is below 1, or as ``ensemble.train``.

    Cost: that of the training and of the choices.

    Example:
        >>> x, y = torch.randn(64, 8), torch.arange(64) % 2
        >>> halves = lambda epoch, run: ((torch.arange(64) % 2 == epoch % 2)[None], None)
        >>> how = {"recipe": Recipe(lr=0.1, epochs=4, batch_size=16), "seeds": [0], "progress": False}
        >>> train_reselecting(nn.Linear(8, 2), x, y, every=1, choose=halves, **how).epochs
        (4,)
    """
    if every < 1:
        raise ValueError(f"every must be at least 1 epoch, got {every}")
    last = Work(model, recipe, record, x_train, y_train).epochs()
    go = lambda **stretch: train(model, x_train, y_train, recipe=recipe, seeds=seeds, **stretch, **options)
    run = go(stop=0, record=Record(errors_at=(0,)))
    for epoch in range(0, last, every):
        sees, weights = choose(epoch, run)
        stop = min(last, epoch + every)
        kept = {"record": Record(state=True, errors_at=(stop,))}
        if stop == last:
            kept = {"record": record, "x_test": x_test, "y_test": y_test}
        here = {"initial": run.parameters, "state": run.state, "start": epoch, "stop": stop}
        run = go(member_sees=sees, weights=weights, **here, **kept)
    return run
