#!/usr/bin/env bash
# The published sizes on a GPU, in calls of less than ten minutes; the same call again goes on, until all is done.
#
# usage: tests/benchmarks/gpu_run.sh FOLDER [NN:name=value …]      such as 05:dataset=cifar10.npz
#
# First bench_gpu.py, then the notebooks 05, 04, 03, 01 and 06 of the profile paper. FOLDER gets all that has to come
# home, a few megabytes: provenance.json (also what is left), bench_gpu.json, NN.json, scores-NAME.npz, and of the
# notebook that was stopped as many of its finished shards as CARRY_MB holds. Then: ./run_all.sh --import FOLDER
#
#   FROM=folder   what an earlier call left, where FOLDER is another one now
#   MINUTES=9     of this call     CARRY_MB=8      COMMIT=…   where there is no git     CIFAR10=file.npz   for bench_gpu.py
#   WORK=folder   for stores and figures (results/gpu_run)    PYTHON=python3    PROFILE=paper    DEVICE=cuda
#
# Needs torch, torchvision, numpy, scipy, scikit-learn, pandas, matplotlib, seaborn, joblib, psutil, tqdm, PyYAML and
# pyarrow; neither Jupyter nor papermill: a notebook's .py is run cell by cell (gpu_run.py).
# exit status: 0 all is done; 130 something is left; 1 only what failed is left; 2 refused.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$here/../..:$here/../../notebooks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" "$here/gpu_run.py" "$@"
