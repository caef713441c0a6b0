"""Role of each source file in a result: the table by which sources are hashed.

An edit of a file changes the digest of its role, and with it the keys of runs and measures. A new file of `unept/` or
`cuda/` that the table does not name counts too, as `unassigned`; a test asks for its place in the table.
"""

from __future__ import annotations

from collections.abc import Mapping

MEASURE = "measure"
UNASSIGNED = "unassigned"

ROLES: Mapping[str, tuple[str, ...]] = {
    "operator": ("unept/ops/", "cuda/"),
    "model": (
        "unept/__init__.py",
        "unept/attention/",
        "unept/attention_rules.py",
        "unept/backbones/",
        "unept/catalogue.py",
        "unept/checkpoints/",
        "unept/config.py",
        "unept/config_rules.py",
        "unept/context.py",
        "unept/layers/",
        "unept/model.py",
        "unept/published/",
        "unept/spatial.py",
        "unept/utils/read_tensors.py",
        "unept/utils/rng.py",
    ),
    "losses": ("cuda/loss.h", "unept/boundary.py", "unept/losses/", "unept/published/loss.py"),
    "data": ("unept/data/", "unept/utils/imagenet.py"),
    "recipe": (
        "bench/distributed.py",
        "bench/training/activation_checkpointing.py",
        "bench/training/checkpoint.py",
        "bench/training/execution.py",
        "bench/training/loop.py",
        "bench/training/optimizer.py",
        "bench/training/stopwatch.py",
    ),
    "metrics": (
        "bench/evaluation/boundary_metrics.py",
        "bench/evaluation/cue_metrics.py",
        "bench/evaluation/evaluate.py",
        "bench/evaluation/metrics.py",
        "bench/evaluation/protocol.py",
        "unept/inference.py",
        "unept/utils/finite.py",
    ),
    MEASURE: (
        "bench/profiling/__init__.py",
        "bench/profiling/flops/",
        "bench/profiling/memory/layer_peak.py",
        "bench/profiling/memory/predict.py",
        "bench/profiling/memory/setting.py",
        "bench/profiling/memory/tracker.py",
        "bench/profiling/network_timing.py",
        "bench/profiling/receptive_field.py",
        "bench/profiling/target_cost.py",
        "bench/profiling/variant.py",
        "bench/timing.py",
    ),
}
"""Files and folders by role. Where two entries cover a file, the longer one decides."""

NO_NUMBER = (
    "cuda/allocations.cpp",
    "cuda/probes.cpp",
    "unept/data/contact_sheet.py",
    "unept/utils/__init__.py",
    "unept/utils/atomic_files.py",
    "unept/utils/cache_folder.py",
    "unept/utils/container.py",
    "unept/utils/file_locks.py",
    "unept/utils/messages.py",
    "unept/utils/user_code.py",
    "unept/utils/paths.py",
    "unept/utils/torchvision_shim.py",
    "unept/utils/visible_text.py",
)
"""Files of `unept/` and `cuda/` that decide no number of a run or measure."""

_ENTRIES = sorted(((entry, role) for role, some in ROLES.items() for entry in some), key=lambda pair: -len(pair[0]))


def role_of(path: str) -> str:
    """Return the role of a source file.

    Args:
        path: its name from the top folder, such as `unept/ops/dispatch.py`.

    Returns:
        A role of the table; "" for a file that decides no number; `unassigned` for an unknown one of unept/ or cuda/.
    """
    if path in NO_NUMBER:
        return ""
    for entry, role in _ENTRIES:
        if path == entry or (entry.endswith("/") and path.startswith(entry)):
            return role
    return UNASSIGNED if path.startswith(("unept/", "cuda/")) else ""
