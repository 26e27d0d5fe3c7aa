"""Data sets, whole or in part; wrong labels on purpose; files of scores; what people bring."""

from lib.data.datasets import Dataset, load
from lib.data.noise import uniform_noise
from lib.data.score_files import merge_scores, provenance, read_scores

__all__ = ["Dataset", "load", "merge_scores", "provenance", "read_scores", "uniform_noise"]
