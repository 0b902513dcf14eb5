"""Information for bug reports: versions, decoders, devices and data paths."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import tubelets

PACKAGES = (
    "torch", "torchvision", "transformers", "datasets", "accelerate", "huggingface-hub", "safetensors", "pyarrow", "av",
    "torchcodec", "timm", "open-clip-torch", "evaluate", "numpy", "matplotlib", "tensorboard", "trackio",
)  # fmt: skip


def collect() -> dict[str, dict[str, Any]]:
    """Describe this installation.

    Returns:
        Sections `versions`, `decoders`, `devices`, `paths` and `models`, each a mapping of names to plain values.

    Example:
        >>> sorted(collect())
        ['decoders', 'devices', 'models', 'paths', 'versions']
    """
    from tubelets.data.modalities.video import available_backends
    from tubelets.models.common.auto import MODELS

    return {
        "versions": {"platform": platform.platform(), **package_versions()},
        "decoders": dict(available_backends()),
        "devices": _devices(),
        "paths": _paths(),
        "models": {name: ", ".join(sorted(entry.models)) for name, entry in MODELS.items()},
    }


def package_versions() -> dict[str, str]:
    """Versions of Python, of this package and of its dependencies, by distribution name.

    Returns:
        Names to versions, or to "not installed".

    Example:
        >>> package_versions()["tubelets"] == tubelets.__version__
        True
    """
    found = {"python": platform.python_version(), "tubelets": tubelets.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _devices() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {
        "cpu threads": torch.get_num_threads(),
        "cuda": torch.version.cuda or "no",
    }
    for index in range(torch.cuda.device_count()):
        found[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if torch.cuda.is_available():
        found["bf16 on cuda"] = torch.cuda.is_bf16_supported()
    return found


def _paths() -> dict[str, str]:
    from datasets import config as datasets_config
    from huggingface_hub import constants

    from tubelets.data.assets.table import default_cache_dir

    return {
        "footage": str(default_cache_dir()),
        "TUBELETS_CACHE": os.environ.get("TUBELETS_CACHE", "not set"),
        "HF_HOME": constants.HF_HOME,
        "models from the Hub": constants.HF_HUB_CACHE,
        "data sets from the Hub": str(datasets_config.HF_DATASETS_CACHE),
        "Hub endpoint": constants.ENDPOINT,
    }
