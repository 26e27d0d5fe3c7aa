"""Architectures, and E networks of one architecture as one computation; nothing here trains or scores.

``models``: the papers' architectures (``by_name``, ``mlp``, …), initial weights from a seed, networks that start from
another task. ``stacked``: what networks with parameters name → ``(E, *shape)`` compute (``predict``, ``features``,
``last_layer``, ``members``), losses, ``chain``, and the ``group`` that training works on. It imports torch alone.
"""
