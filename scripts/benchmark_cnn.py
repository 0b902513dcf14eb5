"""Time a training step of our R(2+1)D-18 against torchvision's, alternating both in one process.

A step is forward, cross entropy, backward and SGD with momentum. Both networks have the same weights and inputs; their
outputs and gradients are also compared. The script reports medians, minima and the ratio of the medians.

Example:
    python scripts/benchmark_cnn.py --frames 16 --size 112 --batch-size 4 --rounds 5 --json benchmark.json
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video import r2plus1d_18, r3d_18
from transformers.modeling_outputs import BaseModelOutputWithPooling

from gpu_checks.timing import Step, alternate, finish
from tubelets import TubeletContrastConfig, TubeletContrastForPreTraining
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


def make_step(logits: Callable[[], Tensor], labels: Tensor, optimizer: torch.optim.Optimizer) -> Step:
    """Return a function that runs one optimiser step."""

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(logits(), labels).backward()
        optimizer.step()
        finish(labels.device)

    return step


class TorchvisionEncoder(nn.Module):
    """A network of torchvision as the encoder of Tubelet-Contrast.

    Args:
        network: a name in `NETWORKS`.
    """

    def __init__(self, network: str) -> None:
        super().__init__()
        self.network = NETWORKS[network](num_classes=1)
        self.network.fc = nn.Identity()

    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """Encode clips `(B, frames, channels, height, width)`; only `pooler_output` is set."""
        return BaseModelOutputWithPooling(pooler_output=self.network(pixel_values.transpose(1, 2)))


def make_contrast(network: str, theirs: bool, size: int, frames: int) -> TubeletContrastForPreTraining:
    """Tubelet-Contrast's pretraining model on our encoder, or on torchvision's: the same loss, queue and momentum.

    Args:
        network: a name in `NETWORKS`.
        theirs: use torchvision's encoder.
        size: height and width of the clips in pixels.
        frames: frames of a clip.
    """
    torch.manual_seed(0)
    config = TubeletContrastConfig(backbone=network, image_size=size, num_frames=frames)
    model = TubeletContrastForPreTraining(config)
    if theirs:
        model.encoder, model.key_encoder = TorchvisionEncoder(network), TorchvisionEncoder(network)
        model.copy_query_to_key()
    return model.train()


def make_contrast_step(
    network: str,
    theirs: bool,
    shape: tuple[int, int, int],
    device: str,
    precision: str = "bf16",
    compiled: bool = False,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Step:
    """Return a function that runs one step of Tubelet-Contrast on random pairs of clips, to its end.

    Args:
        network: a name in `NETWORKS`.
        theirs: use torchvision's encoder.
        shape: pairs, frames, and height and width in pixels.
        device: where.
        precision: `fp32`, or `bf16` under autocast.
        compiled: compile the model.
        memory_format: order of the weights in memory.
    """
    pairs, frames, size = shape
    model = make_contrast(network, theirs, size, frames).to(device, memory_format=memory_format)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, fused=True)
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(pairs, frames, 3, size, size, generator=generator).to(device) for _ in range(2))
    if compiled:
        model.compile()

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(query, key).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        finish(device)

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
    seconds = alternate(steps, arguments.rounds)
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
