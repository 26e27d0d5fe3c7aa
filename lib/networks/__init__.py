"""Architectures, and E networks of one architecture as one computation. Nothing here trains or scores.

- ``models``: the papers' architectures by name (``by_name``, ``mlp``, ``resnet18``, …), their initial weights from a
  seed (``initialize``), and networks that start from another task (``transferred``, ``narrow_resnet``).
- ``stacked``: stacked parameters, name → ``(E, *shape)``, in and out: ``predict``, ``features``, ``last_layer``,
  ``members``; the losses and their derivatives; chains of linear layers (``chain``); and the groups that training works
  on (``group``). It imports torch alone.
"""
