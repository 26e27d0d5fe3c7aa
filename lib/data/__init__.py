"""Data sets, wrong labels, and files of scores.

========================  ==========================================================================
`lib.data.datasets`       `load` a data set, whole or in part, as a `Dataset`
`lib.data.noise`          `uniform_noise`, `permuted_noise`: wrong labels on purpose
`lib.data.score_files`    `read_scores`, `merge_scores`, `provenance`
`lib.data.own`            what people bring: tables, folders of pictures, files, arrays
========================  ==========================================================================
"""

from lib.data.datasets import Dataset, load
from lib.data.noise import permuted_noise, uniform_noise
from lib.data.score_files import merge_scores, provenance, read_scores

__all__ = ["Dataset", "load", "merge_scores", "permuted_noise", "provenance"]
__all__ += ["read_scores", "uniform_noise"]
