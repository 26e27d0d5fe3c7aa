"""Data sets, wrong labels, and files of scores.

========================  ==========================================================================
`lib.data.datasets`       `load` a data set, whole or in part, as a `Dataset`
`lib.data.noise`          `uniform_noise`, `permuted_noise`, `paired_noise`: wrong labels on purpose
`lib.data.score_files`    `read_scores`, `merge_scores`, `provenance`; what the authors published
`lib.data.own`            what people bring: tables, folders of pictures, files, arrays
========================  ==========================================================================
"""

from lib.data.datasets import Dataset, load
from lib.data.noise import nearest_class, paired_noise, permuted_noise, uniform_noise
from lib.data.score_files import merge_scores, provenance, published, published_c_scores, read_scores

__all__ = ["Dataset", "load", "merge_scores", "nearest_class", "paired_noise", "permuted_noise", "provenance"]
__all__ += ["published", "published_c_scores", "read_scores", "uniform_noise"]
