"""Random draws on the device: masks and motions have the distribution of the CPU's, rendering agrees."""

import torch
from torch import Tensor

from gpu_checks.session import Finding, Session
from tubelets.masking.generators import MaskGenerator
from tubelets.masking.registry import MASK_TYPES, build_mask_generator
from tubelets.motion import Motion, MotionSettings, crop_patches, render, sample_motion

# Deviations of a difference of means; of a thousand means that agree, one in a thousand million exceeds this.
_DEVIATIONS = 6.0
_GRID, _RATIO = (8, 14, 14), 0.75


def check_masks(session: Session) -> Finding:
    """Every kind of mask: exact counts, and each token masked as often as on the CPU."""
    clips = 256 if session.tiny else 2048
    shares = {}
    for kind in MASK_TYPES:
        options = {"bank_size": 2, "volume_shape": (8, 32, 32)} if kind.endswith("d") and kind[-2].isdigit() else {}
        masks = build_mask_generator(kind, _GRID, _RATIO, **options)
        here, there = (_draw(masks, clips, seed, device) for seed, device in enumerate(("cpu", session.device)))
        for found in (here, there):
            counts = found.sum(dim=1).unique().tolist()
            if counts != [masks.num_masked]:
                raise AssertionError(f"{kind} masks {counts} tokens, expected {masks.num_masked}")
        shares[kind] = _same_means(here.double().cpu(), there.double().cpu(), f"share of {kind} masks at a token")
    return Finding(
        f"{len(shares)} kinds, {clips} masks each: exact counts; means within {max(shares.values()):.1f} deviations",
        shares,
    )


def _draw(masks: MaskGenerator, clips: int, seed: int, device: str) -> Tensor:
    return masks(clips, generator=torch.Generator(device).manual_seed(seed), device=device)


def _same_means(here: Tensor, there: Tensor, name: str) -> float:
    """Largest difference of means over the first dimension, in deviations of that difference."""
    spread = ((here.var(dim=0) + there.var(dim=0)) / len(here)).sqrt()
    apart = (here.mean(dim=0) - there.mean(dim=0)).abs()
    # What does not vary must agree but for rounding.
    deviations = torch.where(spread > 0, apart / spread.clamp_min(1e-12), torch.where(apart > 1e-6, torch.inf, 0.0))
    worst = deviations.max().item()
    if not worst < _DEVIATIONS:
        raise AssertionError(f"{name}: means differ by {worst:.1f} deviations, at most {_DEVIATIONS} are chance")
    return worst


def _settings() -> dict[str, MotionSettings]:
    return {"SMILE": MotionSettings.smile(), "Tubelet-Contrast": MotionSettings.tubelet_contrast()}


def check_motion(session: Session) -> Finding:
    """Boxes, angles, shears and opacities of both papers' motions."""
    clips = 256 if session.tiny else 2048
    worst = {}
    for name, settings in _settings().items():
        here, there = (
            sample_motion(settings, clips, 16, (112, 112), torch.Generator(device).manual_seed(seed))
            for seed, device in enumerate(("cpu", session.device))
        )
        if session.on_gpu and there.boxes.device.type != "cuda":
            raise AssertionError(f"the motion was drawn on {there.boxes.device}, its generator is on {session.device}")
        for field in ("boxes", "angles", "shears", "opacities"):
            pair = [getattr(motion, field).double().cpu().flatten(1) for motion in (here, there)]
            worst[f"{name}, {field}"] = _same_means(pair[0], pair[1], f"{field} of {name}")
    return Finding(f"{clips} motions of each paper: means within {max(worst.values()):.1f} deviations", worst)


def check_rendering(session: Session) -> Finding:
    """The same motion rendered on both devices."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(256, (2, 16, 3, 112, 112), dtype=torch.uint8, generator=generator)
    motion = sample_motion(MotionSettings.tubelet_contrast(), len(clips), 16, (112, 112), generator)
    here, there = _render(clips, motion, "cpu"), _render(clips, motion, session.device).cpu()
    difference = (here.int() - there.int()).abs()
    if difference.max() > 2 or (difference > 0).double().mean() > 0.01:
        raise AssertionError(
            f"frames differ by up to {difference.max()} grey levels, {(difference > 0).double().mean():.1%} of values"
        )
    moved = (here != clips).double().mean().item()
    if not moved > 0.01:
        raise AssertionError(f"only {moved:.1%} of the values changed; nothing was rendered")
    return Finding(f"largest difference {difference.max()} grey levels", {"largest": int(difference.max())})


def _render(clips: Tensor, motion: Motion, device: str) -> Tensor:
    clips, motion = clips.to(device), motion.to(device)
    return render(clips, motion, crop_patches(clips, motion))
