"""Time a training step of our R(2+1)D-18 against torchvision's, alternating both in one process.

A step is forward, cross entropy, backward and SGD with momentum. Both networks have the same weights and inputs; their
outputs and gradients are also compared. The script reports medians, minima and the ratio of the medians.

Example:
    python scripts/benchmark_cnn.py --frames 16 --size 112 --batch-size 4 --rounds 5 --json benchmark.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video import r2plus1d_18, r3d_18

from tubelets.models.backbones.resnet3d.conversion_resnet3d import from_official
from tubelets.models.backbones.resnet3d.modeling_resnet3d import ResNet3DForVideoClassification

NETWORKS = {"r2plus1d_18": r2plus1d_18, "r3d_18": r3d_18}
CLASSES = 101


def make_pair(network: str) -> tuple[nn.Module, ResNet3DForVideoClassification]:
    """Torchvision's network with random weights, and ours with the same weights."""
    torch.manual_seed(0)
    theirs = NETWORKS[network](num_classes=CLASSES)
    backbone = from_official(theirs.state_dict(), num_labels=CLASSES)
    ours = ResNet3DForVideoClassification(backbone.config)
    ours.backbone.load_state_dict(backbone.state_dict())
    ours.classifier.load_state_dict(theirs.fc.state_dict())
    return theirs.train(), ours.train()


def make_step(logits: Callable[[], Tensor], labels: Tensor, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return a function that runs one optimiser step."""

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(logits(), labels).backward()
        optimizer.step()
        if labels.is_cuda:
            torch.cuda.synchronize()

    return step


def differences(network: str) -> dict[str, float]:
    """Largest differences of outputs and gradients on small clips, in float64.

    In float32, rounding flips the sign of a few ReLU inputs, which hides whether the networks are equivalent.
    """
    theirs, ours = (each.double() for each in make_pair(network))
    video = torch.randn(2, 8, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first, second = theirs(video.transpose(1, 2)), ours(video).logits
    for logits in (first, second):
        logits.sin().sum().backward()
    convolutions = [
        [module.weight.grad for module in each.modules() if isinstance(module, nn.Conv3d)] for each in (theirs, ours)
    ]
    return {
        "logits": relative(first, second),
        "gradients": max(relative(*pair) for pair in zip(*convolutions, strict=True)),
    }


def relative(expected: Tensor, found: Tensor) -> float:
    """Largest absolute difference divided by the largest absolute value."""
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


def compare(arguments: argparse.Namespace) -> dict[str, object]:
    """Time both networks alternately and compare their results."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    theirs, ours = (network.to(device) for network in make_pair(arguments.network))
    shape = (arguments.batch_size, arguments.frames, 3, arguments.size, arguments.size)
    video = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)
    labels = torch.arange(arguments.batch_size, device=device) % CLASSES
    # torchvision expects channels before frames; this copy is not timed.
    channels_first = video.transpose(1, 2).contiguous()
    networks: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        "torchvision": (theirs, lambda: theirs(channels_first)),
        "tubelets": (ours, lambda: ours(video).logits),
    }
    steps = {
        name: make_step(logits, labels, torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9))
        for name, (network, logits) in networks.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(arguments.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "network": arguments.network,
        "clips": list(shape),
        "device": device,
        "threads": torch.get_num_threads(),
        "relative differences in float64": differences(arguments.network),
        "seconds a step": medians,
        "fastest step": {name: min(found) for name, found in seconds.items()},
        "times faster": medians["torchvision"] / medians["tubelets"],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="r2plus1d_18")
    parser.add_argument("--frames", type=int, default=16, help="frames per clip")
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels")
    parser.add_argument("--batch-size", type=int, default=4, help="clips per step")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps per network")
    parser.add_argument("--threads", type=int, help="PyTorch threads")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    found = json.dumps(compare(arguments), indent=2)
    print(found)
    if arguments.json is not None:
        arguments.json.write_text(found + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
