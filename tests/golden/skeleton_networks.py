"""Checks of the networks of skeletons against the official code, for cases of several papers."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from cases_io import DEVICE, assert_close
from fill import fill_state_dict
from tubelets.models.backbones.agcn.modeling_agcn import AgcnBlock
from tubelets.models.backbones.skeleton_networks.conversion_skeleton import AGCN, BIGRU, HCN, STGCN
from tubelets.models.common.layouts import convert_to_official, convert_to_ours
from tubelets.models.common.official import OfficialLayout, without_wrapper
from tubelets.models.methods.skeleton_contrast.conversion_skeleton_contrast import LAYOUT
from tubelets.objectives import KeyQueue, info_nce
from tubelets.skeletons import directed_adjacency, layout_named

Case = dict[str, Any]
Tensors = dict[str, Tensor]
LAYOUTS = [*BIGRU, *AGCN, *HCN, *STGCN]


def weights_of(case: Case) -> dict[str, Tensor]:
    return fill_state_dict({name: tuple(shape) for name, shape in case["state_dict"].items()}, case["salt"])


def layout_of(case: Case) -> OfficialLayout | None:
    """The official layout of a case's weights, None if they are of no network of skeletons."""
    if not case.get("state_dict"):
        return None
    names = dict.fromkeys(case["state_dict"])
    return next((layout for layout in LAYOUTS if layout.recognises(names)), None)  # type: ignore[arg-type]


def as_bodies(values: Tensor, size: int) -> Tensor:
    """Our input `(B, M, T, V, C)` from the official `(B, C, T, V, M)`, or from sequences `(B, T, size)`."""
    if values.ndim == 5:
        return values.permute(0, 4, 2, 3, 1)
    return values.unflatten(2, (size // 6, 3, 2)).permute(0, 4, 1, 2, 3)


def check_network(case: Case, tensors: Tensors) -> None:
    """Logits and features of a classifier, and the way back to the official weights."""
    layout = layout_of(case)
    assert layout is not None
    weights = weights_of(case)
    if "graph_A" in tensors:
        weights["A"] = tensors["graph_A"].cpu()
    hyper = case["hyper"]
    classes, joints = hyper["num_class"], hyper.get("num_point", hyper.get("num_joint", 25))
    assert joints == 25, "cases of other layouts have to name it"
    model = layout.from_official(weights).to(DEVICE).eval()
    assert model.config.num_labels == classes
    back = layout.to_official(model)
    assert {name: value.shape for name, value in back.items()} == {name: value.shape for name, value in weights.items()}
    assert all(torch.equal(back[name].cpu(), value) for name, value in weights.items())
    with torch.no_grad():
        skeletons = as_bodies(tensors["input"], tensors["input"].shape[-1])
        found = {"features": model.backbone(skeletons).pooler_output, "logits": model(skeletons).logits}
    found["fc7"] = found["features"]
    if "graph_A" in tensors:
        found["graph_A"] = model.backbone.A
    checked = [name for name in tensors if name != "input"]
    for name in checked:
        limit = case["tolerance"]
        limit = limit.get(name, 1e-6) if isinstance(limit, dict) else limit
        assert_close(found[name], tensors[name], limit, name)
    assert "logits" in checked


def check_block(case: Case, tensors: Tensors) -> None:
    """One block of AGCN, and its graph convolution."""
    hyper = case["hyper"]
    layout = layout_named("kinect-25")
    sizes = hyper["in_channels"], hyper["out_channels"]
    block = AgcnBlock(*sizes, directed_adjacency(layout), hyper["stride"], hyper["residual"]).to(DEVICE).eval()
    block.load_state_dict(weights_of(case), strict=True)
    with torch.no_grad():
        assert_close(block.gcn1(tensors["input"]), tensors["gcn_out"], case["tolerance"], "gcn_out")
        assert_close(block(tensors["input"]), tensors["output"], case["tolerance"], "output")


def queue_of(keys: Tensor, pointer: Tensor) -> KeyQueue:
    queue = KeyQueue(*keys.shape).to(DEVICE)
    queue.load_state_dict({"keys": keys, "pointer": pointer})
    return queue


def check_inter_loss(case: Case, tensors: Tensors) -> None:
    """Both cross terms from features before their normalisation, their gradients, and the queues afterwards."""
    temperature, limit = case["hyper"]["temperature"], case["tolerance"]
    raw = {name: tensors[name].clone().requires_grad_() for name in "qr"} | {name: tensors[name] for name in "kl"}
    q, k, r, l = (normalize(raw[name], dim=1) for name in "qkrl")  # noqa: E741 (the paper's names)
    queues = {name: queue_of(tensors[f"queue_{name}"], tensors["ptr"]) for name in ("S1", "S2")}
    assert queues["S1"].keys.shape == (case["hyper"]["dim"], case["hyper"]["K"])
    first, logits_q = info_nce(q, l, queues["S2"].keys.clone(), temperature)
    second, logits_r = info_nce(r, k, queues["S1"].keys.clone(), temperature)
    (first + second).backward()
    for name, key in (("S1", k), ("S2", l)):
        queues[name].enqueue(key)
    found = {"logits_q": logits_q, "logits_r": logits_r, "loss": (first + second)[None]}
    found |= {f"grad_{name}": raw[name].grad for name in "qr"}
    found |= {f"queue_{name}_after": queue.keys for name, queue in queues.items()}
    found |= {f"ptr_{name}_after": queue.pointer for name, queue in queues.items()}
    expected = tensors.keys() - {"q", "k", "r", "l", "queue_S1", "queue_S2", "ptr"}
    assert {"logits_q", "logits_r", "loss"} <= expected
    for name in expected:
        assert_close(found[name], tensors[name], limit, name)


def check_intra_loss(case: Case, tensors: Tensors) -> None:
    """The loss of one representation."""
    raw, limit = tensors["q"].clone().requires_grad_(), case["tolerance"]
    queue = queue_of(tensors["queue"], tensors["ptr"])
    key = normalize(tensors["k"], dim=1)
    loss, logits = info_nce(normalize(raw, dim=1), key, queue.keys.clone(), case["hyper"]["temperature"])
    loss.backward()
    queue.enqueue(key)
    found = {"logits": logits, "loss": loss[None], "grad_q": raw.grad, "queue_after": queue.keys}
    found["ptr_after"] = queue.pointer
    assert found.keys() == tensors.keys() - {"q", "k", "queue", "ptr"}
    for name, value in found.items():
        assert_close(value, tensors[name], limit, name)


def check_step(case: Case, tensors: Tensors) -> None:
    """A training step of the whole method, built from the official names and weights."""
    hyper, weights = case["hyper"], weights_of(case)
    for name in weights:
        if name.startswith(("Queue", "queue")):
            weights[name] = torch.zeros(1, dtype=torch.long) if "ptr" in name else normalize(weights[name], dim=0)
    constants = {"momentum": hyper["momentum"], "temperature": hyper["temperature"]}
    model = LAYOUT.from_official(weights, LAYOUT.infer_config(weights, **constants)).to(DEVICE).train()
    assert (model.config.projection_size, model.config.queue_size) == (hyper["dim"], hyper["K"])
    views = [as_bodies(tensors[name], 0) for name in ("view1", "view2")]
    output = model(*views)
    output.loss.backward()
    logits = dict(zip(("logits_q", "logits_r"), output.logits, strict=True))
    after = LAYOUT.to_official(model)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    table = LAYOUT.table(model)
    official_gradients = convert_to_official(gradients, table)
    first = torch.zeros(len(output.logits[0]), dtype=torch.long, device=DEVICE)
    assert_close(sum(cross_entropy(each, first) for each in output.logits), output.loss, 1e-5, "sum of the losses")
    for name, expected in tensors.items():
        if name.startswith("view"):
            continue
        if name.startswith("grad."):
            value = official_gradients[name.removeprefix("grad.")]
        elif name == "loss":
            value = output.loss[None]
        elif name in logits:
            value = logits[name]
        else:
            value = after[name.removeprefix("after.").removesuffix("_after")]
        assert_close(value, expected, case["tolerance"], name)


def check_keys(case: Case, tensors: Tensors) -> None:
    """Names and shapes of every official file, from the weights to our model and back, without memory for them."""
    checked = 0
    for title, names in case.items():
        if not isinstance(names, dict) or not all(isinstance(shape, list) for shape in names.values()):
            continue
        with torch.device("meta"):
            weights = without_wrapper({name: torch.empty(shape) for name, shape in names.items()})
            layouts = [each for each in (LAYOUT, *LAYOUTS) if each.recognises(weights)]
            assert len(layouts) == 1, title
            (layout,) = layouts
            model = layout.model_class(weights)(layout.infer_config(weights))
            ours = convert_to_ours(weights, layout.table(model))
            back = layout.to_official(model)
        state = model.state_dict()
        assert {name: value.shape for name, value in ours.items()} == {
            name: value.shape for name, value in state.items()
        }, title
        assert {name: value.shape for name, value in back.items()} == {
            name: value.shape for name, value in weights.items()
        }, title
        checked += 1
    assert checked
