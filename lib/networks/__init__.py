"""Architectures (``models``), and E networks of one architecture as one computation (``stacked``)."""
