"""Checks of the convolutional networks, their checkpoint layouts and the momentum contrast."""

from typing import Any

import torch
from torch import Tensor, nn

from cases_io import DEVICE, assert_close
from fill import fill, fill_state_dict
from tubelets import I3DConfig, I3DModel, TubeletContrastForPreTraining
from tubelets.models.backbones.resnet3d.conversion_resnet3d import find_layout
from tubelets.models.backbones.resnet3d.conversion_resnet3d import from_official as resnet_from_official
from tubelets.models.backbones.resnet3d.conversion_resnet3d import to_official as resnet_to_official
from tubelets.models.backbones.resnet3d.modeling_resnet3d import ResNet3DForVideoClassification
from tubelets.models.methods.tubelet_contrast.conversion_tubelet_contrast import (
    from_official,
    infer_config,
    to_official,
)
from tubelets.objectives import KeyQueue, info_nce

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def weights_of(shapes: dict[str, list[int]], salt: int) -> Tensors:
    return fill_state_dict({name: tuple(shape) for name, shape in shapes.items()}, salt)


def frames_first(video: Tensor) -> Tensor:
    return video.transpose(1, 2).contiguous()


def check_backbone(case: Case, tensors: Tensors) -> None:
    weights = weights_of(case["state_dict"], case["salt"])
    if case["network"] == "i3d":
        model: Any = I3DModel(I3DConfig())
        model.load_state_dict(weights, strict=True)
    else:
        model = resnet_from_official({f"backbone.{name}": value for name, value in weights.items()})
        back = resnet_to_official(model, "backbone_3d" if case["network"] == "r3d_18" else "backbone_2plus1d")
        assert back.keys() == {f"backbone.{name}" for name in weights}
    with torch.no_grad():
        output = model.to(DEVICE).eval()(frames_first(tensors["input"]), output_hidden_states=True)
    stages = dict(zip(model.stage_names, output.hidden_states, strict=True))
    found = {"output": output.last_hidden_state, "pooled": output.pooler_output, **stages}
    tolerance = {"rel": case["suggested_tolerance"]["rtol"], "abs": case["suggested_tolerance"]["atol"]}
    for name in tensors.keys() - {"input"}:
        stage, _, part = name.partition(".")
        value = found[stage]
        if part:
            assert part == "first_channels", f"the case has a tensor {name!r} that is not checked"
            value = value[:, : tensors[name].shape[1]]
        assert_close(value, tensors[name], tolerance, name)


def check_severe_layout(case: Case, tensors: Tensors) -> None:
    checkpoint = weights_of(case["state_dict_shapes"], case["salt"])
    backbone = resnet_from_official(checkpoint, batch_norm_eps=case["bn_eps"], num_labels=case["num_classes"])
    model = ResNet3DForVideoClassification(backbone.config)
    model.backbone.load_state_dict(backbone.state_dict())
    shape = (case["num_classes"], backbone.config.feature_size)
    with torch.no_grad():
        model.classifier.weight.copy_(fill("fc.weight", shape, case["salt"]))
        model.classifier.bias.copy_(fill("fc.bias", shape[:1], case["salt"]))
        video = frames_first(tensors["clip"])
        if find_layout({name.removeprefix("module."): value for name, value in checkpoint.items()}) == "sequential":
            # The original expects blue first, ours red.
            video = video.flip(2)
        encoded = model.to(DEVICE).eval().backbone(video, output_hidden_states=True)
        logits = model(video).logits
    stages = dict(zip(backbone.stage_names, encoded.hidden_states, strict=True))
    found = {"logits": logits, "feature_map": encoded.last_hidden_state, "pooled": encoded.pooler_output}
    found |= {f"{name}_mean_per_channel": value.mean(dim=(0, 2, 3, 4)) for name, value in stages.items()}
    for name in tensors.keys() - {"clip"}:
        # The case's tolerance: 1e-4 relative to the largest value.
        assert_close(found[name], tensors[name], 1e-4 * float(tensors[name].abs().max()), name)


def check_contrast_loss(case: Case, tensors: Tensors) -> None:
    given, tolerance = case["hyper_parameters"], case["suggested_tolerance"]
    queue = KeyQueue(given["dim"], given["queue_size"]).to(DEVICE)
    queue.keys.copy_(tensors["queue"])
    queue.pointer.fill_(given["queue_pointer_before"])
    query = tensors["q"].clone().requires_grad_()
    loss, logits = info_nce(query, tensors["k"], queue.keys.clone(), given["temperature"])
    loss.backward()
    queue.enqueue(tensors["k"])
    found = {"logits": logits, "loss": loss[None], "grad_q": query.grad, "queue_after": queue.keys}
    assert found.keys() | {"q", "k", "queue", "queue_ptr_after"} == tensors.keys()
    for name, value in found.items():
        assert_close(value, tensors[name], tolerance, name)
    assert queue.pointer.tolist() == tensors["queue_ptr_after"].tolist()


def check_contrast_step(case: Case, tensors: Tensors) -> None:
    given, limits = case["hyper_parameters"], case["suggested_tolerance"]
    weights = weights_of(case["state_dict"], case["salt"])
    weights["queue"] = nn.functional.normalize(weights["queue"], dim=0)
    weights["queue_ptr"] = torch.tensor([given["queue_pointer_before"]])
    constants = {"momentum": given["momentum"], "temperature": given["temperature"]}
    model = from_official(weights, infer_config(weights, **constants)).to(DEVICE)
    assert (model.config.backbone, model.config.feature_size) == (case["backbone"], given["in_channels"])
    model.train()
    if case["mode"] == "eval":
        # The reference steps in evaluation mode too, which only its batch norms notice.
        for module in model.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eval()
    output = model(frames_first(tensors["imgs"]), frames_first(tensors["imgs_k"]))
    output.loss.backward()
    parameters = dict(model.named_parameters())
    first = next(name for name, value in parameters.items() if value.ndim == 5)
    buffers = [value for name, value in model.named_buffers() if name.endswith("running_mean")]
    keys = [value for name, value in model.key_encoder.named_buffers() if name.endswith("running_mean")]
    last = list(model.projection.parameters())[-2]
    found = {
        "loss": (output.loss[None], limits["loss"]),
        "q": (output.query, limits["logits"]),
        "k": (output.key, limits["logits"]),
        "logits": (output.logits, limits["logits"]),
        "queue_after": (model.queue.keys, limits["logits"]),
        "queue_ptr_after": (model.queue.pointer, 0.0),
        "key_first_conv_after": (parameters[first.replace("encoder.", "key_encoder.", 1)][:4], 1e-6),
        "key_bn_running_mean_after": (keys[0], 1e-4),
        "query_bn_running_mean_after": (buffers[0], 1e-4),
        "grad_fc_last_weight": (last.grad[:16], limits["grads_relative_to_max"]),
        "grad_first_conv": (parameters[first].grad[:4], limits["grads_relative_to_max"]),
    }
    assert found.keys() | {"imgs", "imgs_k"} == tensors.keys()
    for name, (value, tolerance) in found.items():
        if name.startswith("grad"):
            tolerance = tolerance * float(tensors[name].abs().max())
        assert_close(value, tensors[name], tolerance, name)
    assert not any(parameter.requires_grad for parameter in model.key_encoder.parameters())


def check_keys(case: Case, tensors: Tensors) -> None:
    weights = weights_of(case["keys"], 0)
    if "queue" in weights:
        model: Any = from_official(weights)
        back = to_official(model)
    else:
        model = resnet_from_official(weights)
        back = resnet_to_official(model)
        weights = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    assert isinstance(model, TubeletContrastForPreTraining) == ("queue" in weights)
    assert {name: list(value.shape) for name, value in back.items()} == {
        name: list(value.shape) for name, value in weights.items()
    }
    assert all(torch.equal(back[name], weights[name].to(back[name].dtype)) for name in weights)
