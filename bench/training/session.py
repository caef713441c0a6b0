"""`unept-bench train` from its options to its model: in this process, in several, or as one of torchrun's.

    OUT/training.json          what is trained, and how
    OUT/last.safetensors       the state after some step, until the training is done
    OUT/log.jsonl              a line for every logged step, evaluation and start
    OUT/model.safetensors      the trained model, and OUT/model.json its description
    OUT/result.json            its scores by the whole protocol, and the curve

The same command continues, whatever ended it: from the last checkpoint, or from the trained model where only scores are
missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

import unept
from bench import checkpoint, environment, recipe, request
from bench.evaluation import evaluate
from bench.grid import Variant
from bench.recipe import Stopped, Watch
from bench.rows import plain
from bench.training.journal import Journal, Say, board, check_tensorboard
from bench.training.launch import Signals, join_torchrun, launch, torchrun_size
from bench.training.ranks import ALONE, Ranks
from bench.training.training import ABOUT, LOG, MODEL, RESULT, Training, begin, begun
from unept import saved
from unept.data import open_data
from unept.losses import Losses


def perform(training: Training, say: Say = print) -> dict[str, Any]:
    """Train, evaluate and save, or go on with it; returns the content of result.json.

    Every process that torchrun has started calls it. ValueError for a folder of something else, a damaged picture, a
    missing package; Failed and Stopped as from `launch`.
    """
    if training.tensorboard:
        check_tensorboard()
    threads = environment.pinned(training.threads) | {"UNEPT_BACKEND": training.backend}
    with _held(training), environment.variables(threads):
        about = begun(training)
        if (training.out / RESULT).exists() and (training.out / MODEL).exists():
            say(f"{training.out}: this training is done")
            return _result(training)
        if _speaks() and not about:
            settings = training.settings
            request.check_data_of([Variant(name=settings.model.backbone, axes={}, settings=settings)])
            begin(training)
        elif _speaks() and about["manner"] != json.loads(json.dumps(training.manner)):
            say("carried out in another manner than it began: equal to rounding, not to the bit")
        _start(training)
    return _result(training)


def _start(training: Training) -> None:
    if torchrun_size():
        torch.set_num_threads(training.threads)
        with join_torchrun(training.gpus) as (ranks, device):
            carry_out(training, ranks, device)
    elif training.processes == 1:
        torch.set_num_threads(training.threads)
        carry_out(training, ALONE, torch.device("cuda" if training.gpus else "cpu"))
    else:
        launch(
            carry_out, training, processes=training.processes, gpus=training.gpus, threads=training.threads
        )


def carry_out(training: Training, ranks: Ranks, device: torch.device) -> None:
    """One process's part of the training, to the end. Raises Stopped where a signal has asked for it."""
    environment.raise_malloc_thresholds()
    settings, out = training.settings, training.out
    torch.manual_seed(training.seed)
    with Signals() as told:
        if (out / MODEL).exists():
            model = saved.load(out / MODEL, own_modules=True).model.to(device)
            trained = _facts_of(out / MODEL)
        else:
            model = unept.build(settings.model, weights=settings.train.backbone_weights).to(device)
            trained = _trained(training, model, ranks, device, told)
        metrics, facts = _evaluated(training, model, ranks, told, settings.train.steps)
        if ranks.first:
            _conclude(training, trained, metrics, facts)
        ranks.wait()
