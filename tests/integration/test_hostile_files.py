"""A table of hostile files: every way into the package refuses them with an error of its own, and runs nothing."""

import json
import os
import pickle
import shutil
import struct
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from clip_shards import video_bytes, write_tar
from datasets import Features, Value, Video
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    BertConfig,
    BertModel,
    ViTConfig,
    ViTModel,
)

import tubelets
from tubelets.data.modalities.video import BadVideoError, available_backends, open_video
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.shards import UnsafePathError
from tubelets.evaluation.checkpoints import evaluate_checkpoint
from tubelets.evaluation.features import FeatureSet
from tubelets.models.common.auto import inference_processor
from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError
from tubelets.models.common.layouts import read_checkpoint
from tubelets.models.common.safe_loading import load_config, load_model, load_processor, read_torch_file
from tubelets.models.teachers.frozen import CachedTeacher, FrozenModel
from tubelets.models.teachers.image_libraries import load_image_encoder
from tubelets.tasks.classification.labels import label_fields
from tubelets.tasks.classification.video import VIDEO_CLASSIFICATION
from tubelets.training.checkpointing import CheckpointError, load_checkpoint, save_checkpoint
from tubelets.training.finetuning_arguments import ModelArguments, parse_finetuning_arguments
from tubelets.training.models import build_model
from tubelets.training.parsing import RecipeError
from tubelets.training.recipe import load_recipe
from videos import make_video

NAMES = {0: "fall", 1: "jump", 2: "run"}
SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 16, "num_frames": 2, "hidden_size": 32, "num_hidden_layers": 1}
SIZES |= {"num_attention_heads": 2, "intermediate_size": 48, "id2label": NAMES}
SIZES |= {"label2id": {name: number for number, name in NAMES.items()}}
BOTH = pytest.mark.parametrize("load", [AutoModelForVideoClassification, tubelets.SigmaForVideoClassification])


class Payload:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.command = f"touch '{trace}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.fixture
def trace(tmp_path: Path) -> Any:
    """Where hostile code would leave its file; it must not be there in the end."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "code of the file was run"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "good"
    model = tubelets.SigmaForVideoClassification(tubelets.SigmaConfig(**SIZES))
    model.save_pretrained(folder)
    tubelets.video_processor(model.config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A good checkpoint to spoil."""
    return Path(shutil.copytree(good, tmp_path / "checkpoint"))


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


# --- weights ---------------------------------------------------------------------------------------------------------


def only_pickle(folder: Path, trace: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"classifier.bias": Payload(trace)}, folder / "pytorch_model.bin")


def harmless_pickle(folder: Path, trace: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"classifier.bias": torch.zeros(3)}, folder / "pytorch_model.bin")


def pickled_shards(folder: Path, trace: Path) -> None:
    only_pickle(folder, trace)
    (folder / "pytorch_model.bin").rename(folder / "pytorch_model-00001-of-00001.bin")
    index = {"metadata": {}, "weight_map": {"classifier.bias": "pytorch_model-00001-of-00001.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def distributed_checkpoint(folder: Path, trace: Path) -> None:
    """transformers prefers this to the safetensors beside it, and unpickles it."""
    (folder / ".metadata").write_bytes(pickle.dumps(Payload(trace)))
    (folder / "__0_0.distcp").write_bytes(b"x")


def index_to(target: str) -> Callable[[Path, Path], None]:
    def spoil(folder: Path, trace: Path) -> None:
        (folder / "model.safetensors").rename(folder.parent / "other.safetensors")
        index = {"metadata": {}, "weight_map": {"classifier.bias": target}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return spoil


def index_is(content: Any) -> Callable[[Path, Path], None]:
    def spoil(folder: Path, trace: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return spoil


def lying_header(**entry: Any) -> Callable[[Path, Path], None]:
    def spoil(folder: Path, trace: Path) -> None:
        described = {"classifier.bias": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12], **entry}}
        header = json.dumps(described).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))

    return spoil


def bytes_are(content: bytes) -> Callable[[Path, Path], None]:
    return lambda folder, trace: (folder / "model.safetensors").write_bytes(content) and None


def truncated(folder: Path, trace: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


WEIGHTS: dict[str, tuple[Callable[[Path, Path], None], type[Exception]]] = {
    "pickle with code alone": (only_pickle, UnsafeCheckpointError),
    "pickle of tensors alone": (harmless_pickle, UnsafeCheckpointError),
    "pickled shards": (pickled_shards, UnsafeCheckpointError),
    "distributed checkpoint": (distributed_checkpoint, UnsafeCheckpointError),
    "index that climbs": (index_to("../other.safetensors"), UnsafeCheckpointError),
    "index that climbs far": (index_to("../../x"), UnsafeCheckpointError),
    "index with backslashes": (index_to("..\\other.safetensors"), UnsafeCheckpointError),
    "index with an absolute path": (index_to("/etc/passwd"), UnsafeCheckpointError),
    "index into a subfolder": (index_to("sub/model.safetensors"), UnsafeCheckpointError),
    "index to a pickle": (index_to("pytorch_model.bin"), UnsafeCheckpointError),
    "index of nothing": (index_is({}), CheckpointLayoutError),
    "index that is a list": (index_is(["weight_map"]), CheckpointLayoutError),
    "index to a number": (index_is({"metadata": {}, "weight_map": {"a": 3}}), CheckpointLayoutError),
    "header with a huge shape": (lying_header(shape=[10**12]), CheckpointLayoutError),
    "header past the end": (lying_header(shape=[10**6], data_offsets=[0, 4 * 10**6]), CheckpointLayoutError),
    "header with negative offsets": (lying_header(data_offsets=[-12, 0]), CheckpointLayoutError),
    "header that claims 2^62 bytes": (bytes_are(struct.pack("<Q", 2**62) + b"{}"), CheckpointLayoutError),
    "no header": (bytes_are(b"not safetensors"), CheckpointLayoutError),
    "truncated": (truncated, CheckpointLayoutError),
}


@BOTH
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights(kind: str, load: Any, folder: Path, trace: Path) -> None:
    spoil, error = WEIGHTS[kind]
    spoil(folder, trace)
    with pytest.raises(error, match="checkpoint"):
        load.from_pretrained(folder)


@pytest.mark.parametrize(
    "argument",
    [{"trust_remote_code": True}, {"use_safetensors": False}, {"weights_only": False}, {"gguf_file": "x.gguf"}],
    ids=lambda argument: next(iter(argument)),
)
def test_arguments_that_ask_for_unsafe_loading(argument: dict[str, Any], folder: Path) -> None:
    with pytest.raises(UnsafeCheckpointError, match=next(iter(argument))):
        tubelets.SigmaForVideoClassification.from_pretrained(folder, **argument)


def test_an_official_file_with_code(trace: Path, tmp_path: Path) -> None:
    torch.save({"model": {"a": Payload(trace)}}, tmp_path / "official.pth")
    with pytest.raises(UnsafeCheckpointError, match=r"official\.pth"):
        read_checkpoint(tmp_path / "official.pth")
    with pytest.raises(CheckpointLayoutError, match="is a file"):
        tubelets.SigmaModel.from_pretrained(tmp_path / "official.pth")


# --- configurations --------------------------------------------------------------------------------------------------

CONFIGS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "width": ({"hidden_size": 10**9}, StrictDataclassError),
    "width of the decoder": ({"decoder_hidden_size": 10**9}, StrictDataclassError),
    "inner width": ({"intermediate_size": 10**18}, StrictDataclassError),
    "depth": ({"num_hidden_layers": 10**9}, StrictDataclassError),
    "frames": ({"num_frames": 2 * 10**12}, StrictDataclassError),
    "pixels": ({"image_size": 16 * 10**8}, StrictDataclassError),
    "channels": ({"num_channels": 10**9, "image_mean": [0], "image_std": [1]}, StrictDataclassError),
    "labels": ({"id2label": None, "label2id": None, "num_labels": 10**9}, StrictDataclassError),
    "prototypes": ({"num_prototypes": 10**12}, StrictDataclassError),
    "projection": ({"projection_hidden_sizes": [10**6, 10**6]}, StrictDataclassError),
    "iterations": ({"sinkhorn_iterations": 10**9}, StrictDataclassError),
    "text for a number": ({"hidden_size": "32"}, StrictDataclassError),
    "list for a number": ({"hidden_size": [32]}, StrictDataclassError),
    "zero": ({"patch_size": 0}, StrictDataclassError),
    "negative": ({"num_frames": -2}, StrictDataclassError),
    "activation": ({"hidden_act": "os.system"}, StrictDataclassError),
    "labels as a list": ({"id2label": ["a", "b", "c"]}, CheckpointLayoutError),
    "labels that are no text": ({"id2label": {"0": {"x": 1}}}, CheckpointLayoutError),
    "dtype": ({"dtype": "load"}, CheckpointLayoutError),
    "layers of other sizes": ({"per_layer_config": {"0": {"hidden_size": 64}}}, CheckpointLayoutError),
    "fused layers": ({"fusion_config": {"patch_embeddings": True}}, CheckpointLayoutError),
    "downloaded kernel": ({"attn_implementation": "someone/kernel"}, UnsafeCheckpointError),
    "downloaded kernel in private": ({"_attn_implementation": "someone/kernel"}, UnsafeCheckpointError),
    "method": ({"to_dict": "x"}, UnsafeCheckpointError),
    "another method's type": ({"model_type": "bert"}, CheckpointLayoutError),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_configurations(kind: str, folder: Path) -> None:
    fields, error = CONFIGS[kind]
    change(folder / "config.json", **fields)
    with pytest.raises(error):
        tubelets.SigmaForVideoClassification.from_pretrained(folder)
    if kind != "another method's type":  # the Auto classes go by the type in the file
        with pytest.raises(error):
            AutoModelForVideoClassification.from_pretrained(folder)


def test_a_configuration_that_is_no_mapping(folder: Path) -> None:
    (folder / "config.json").write_text("[1]")
    with pytest.raises(CheckpointLayoutError, match=r"mapping|no such configuration"):
        tubelets.SigmaForVideoClassification.from_pretrained(folder)


def hostile_code(folder: Path, trace: Path) -> None:
    (folder / "evil.py").write_text(
        f"import os\nos.system({f'touch {trace}'!r})\n"
        "from transformers import PreTrainedConfig\nclass Config(PreTrainedConfig):\n    model_type = 'evil'\n"
    )


CODE = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoModelForVideoClassification": "evil.Model"}


def test_code_beside_our_own_type_is_never_run(folder: Path, trace: Path) -> None:
    hostile_code(folder, trace)
    change(folder / "config.json", auto_map=CODE)
    for options in ({}, {"trust_remote_code": False}):
        model = AutoModelForVideoClassification.from_pretrained(folder, **options)
        assert type(model) is tubelets.SigmaForVideoClassification
    with pytest.raises(UnsafeCheckpointError, match="trust_remote_code"):
        AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=True)


def test_a_type_that_needs_code_is_refused(folder: Path, trace: Path) -> None:
    hostile_code(folder, trace)
    change(folder / "config.json", auto_map=CODE, model_type="evil")
    doors = [load_config, *(partial(load_model, auto) for auto in (AutoModel, AutoModelForVideoClassification))]
    for door in doors:
        with pytest.raises(UnsafeCheckpointError, match="code of its repository"):
            door(folder)
        with pytest.raises(UnsafeCheckpointError, match="trust_remote_code"):
            door(folder, trust_remote_code=True)


PROCESSORS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "a function": ({"video_processor_type": "os.system"}, ValueError),
    "a path": ({"video_processor_type": "../../x.y"}, ValueError),
    "a model": ({"video_processor_type": "PreTrainedModel"}, ValueError),
    "a private name": ({"video_processor_type": "__class__"}, CheckpointLayoutError),
    "a number": ({"video_processor_type": 3}, CheckpointLayoutError),
    "code": ({"video_processor_type": "Evil", "auto_map": {"AutoVideoProcessor": "evil.P"}}, UnsafeCheckpointError),
    "huge frames": ({"crop_size": {"height": 10**9, "width": 10**9}}, CheckpointLayoutError),
    "a negative side": ({"crop_size": {"height": -1, "width": 8}}, CheckpointLayoutError),
    "a million means": ({"image_mean": [0.5] * 10**6}, CheckpointLayoutError),
    "no number": ({"image_std": [float("nan")] * 3}, CheckpointLayoutError),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_processors(kind: str, folder: Path, trace: Path) -> None:
    fields, error = PROCESSORS[kind]
    hostile_code(folder, trace)
    change(folder / "video_preprocessor_config.json", **fields)
    with pytest.raises(error):
        load_processor(folder, AutoVideoProcessor)


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("feature_extractor", "max_length", 10**10, r"feature_extractor\.max_length=10000000000 of its"),
        ("feature_extractor", "sampling_rate", 10**12, r"feature_extractor\.sampling_rate=1000000000000 of its"),
        ("video_processor", "crop_size", {"height": 10**9, "width": 10**9}, r"crop_size\.height=1000000000 of its"),
    ],
)
def test_processors_inside_of_processors(part: str, field: str, value: Any, message: str, tmp_path: Path) -> None:
    config = tubelets.StructuredNoiseAudioVideoConfig(max_length=64, num_mel_bins=64, image_size=32)
    processor = inference_processor(config)
    processor.save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    for file in tmp_path.glob("*processor_config.json"):
        content = json.loads(file.read_text())
        inside = content.get(part, content)
        inside[field] = value
        file.write_text(json.dumps(content))
    with pytest.raises(CheckpointLayoutError, match=message):
        load_processor(tmp_path)


# --- checkpoints of another kind -------------------------------------------------------------------------------------


def test_another_methods_checkpoint_is_refused_and_not_replaced_by_random_weights(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(**sizes, vocab_size=50)).save_pretrained(tmp_path / "bert")
    for name in ("SigmaModel", "SigmaForVideoClassification", "SigmaForPreTraining", "TubeletsVideoMAEModel"):
        with pytest.raises(CheckpointLayoutError, match="'bert'"):
            getattr(tubelets, name).from_pretrained(tmp_path / "bert")


def test_foreign_weights_under_our_configuration_are_refused(folder: Path) -> None:
    save_file({"encoder.layer.0.weight": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointLayoutError, match="no weight of a TubeletsVideoMAEModel"):
        tubelets.SigmaForVideoClassification.from_pretrained(folder)


def test_another_number_of_labels_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointLayoutError, match=r"3 labels and the configuration 7.*ignore_mismatched_sizes"):
        tubelets.SigmaForVideoClassification.from_pretrained(folder, num_labels=7)
    model = tubelets.SigmaForVideoClassification.from_pretrained(folder, num_labels=7, ignore_mismatched_sizes=True)
    assert model.classifier.weight.shape == (7, 32)
    assert model.classifier.weight.isfinite().all()


USES = {
    "fine-tuning": lambda folder: build_model(
        ModelArguments(model_name_or_path=str(folder)), VIDEO_CLASSIFICATION, label_fields(["a", "b", "c"])
    ),
    "evaluation": lambda folder: evaluate_checkpoint(folder, folder / "shards"),
}


@pytest.mark.parametrize("spoil", [only_pickle, pickled_shards, distributed_checkpoint])
@pytest.mark.parametrize("use", USES)
def test_what_stands_on_loading_refuses_the_same(
    use: str, spoil: Callable[[Path, Path], None], folder: Path, trace: Path
) -> None:
    spoil(folder, trace)
    with pytest.raises(UnsafeCheckpointError):
        USES[use](folder)


def test_another_size_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointLayoutError, match=r"\(48,.*another method or size"):
        tubelets.SigmaForVideoClassification.from_pretrained(folder, intermediate_size=64)


def test_nothing_there_is_still_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        tubelets.SigmaModel.from_pretrained(tmp_path / "nothing")


# --- frozen image encoders -------------------------------------------------------------------------------------------


def vit_pickle(folder: Path, trace: Path) -> str:
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=16
    )
    ViTModel(config).save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Payload(trace)}, folder / "pytorch_model.bin")
    return f"transformers:{folder}"


def remote_code(folder: Path, trace: Path) -> str:
    hostile_code(folder, trace)
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": CODE}))
    return f"transformers:{folder}"


def timm_pickle(folder: Path, trace: Path) -> str:
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 0}))
    torch.save({"x": Payload(trace)}, folder / "pytorch_model.bin")
    return f"timm:local-dir:{folder}"


def open_clip_pickle(folder: Path, trace: Path) -> str:
    vision = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}
    text = {"context_length": 8, "vocab_size": 100, "width": 64, "heads": 1, "layers": 1}
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    torch.save({"x": Payload(trace)}, folder / "open_clip_pytorch_model.bin")
    return f"open_clip:local-dir:{folder}"


def open_clip_text_tower(folder: Path, trace: Path) -> str:
    """An image tower whose text tower is a repository with code."""
    hostile_code(folder, trace)
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": CODE}))
    vision = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    save_file({"x": torch.ones(1)}, folder / "open_clip_model.safetensors")
    return f"open_clip:local-dir:{folder}"


@pytest.mark.parametrize("make", [vit_pickle, remote_code, timm_pickle, open_clip_pickle, open_clip_text_tower])
def test_frozen_encoders(
    make: Callable[[Path, Path], str], trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever is asked whether to run the code says yes.
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    (tmp_path / "encoder").mkdir()
    name = make(tmp_path / "encoder", trace)
    with pytest.raises(UnsafeCheckpointError, match="encoder") as caught:
        load_image_encoder(name, 32)
    assert "weights_only" not in "".join(traceback.format_exception(caught.value))


def test_torchs_advice_is_not_repeated(trace: Path, tmp_path: Path) -> None:
    torch.save({"x": Payload(trace)}, tmp_path / "state.pt")
    with pytest.raises(UnsafeCheckpointError, match=r"state\.pt was not loaded: .*GLOBAL") as caught:
        read_torch_file(tmp_path / "state.pt")
    assert "weights_only" not in "".join(traceback.format_exception(caught.value))
    assert "option" not in str(caught.value)


def test_corrupt_features_are_named(tmp_path: Path) -> None:
    features = FeatureSet(torch.zeros(2, 3), torch.tensor([0, 1]), ["a", "b"], ["jump", "run"])
    for name in ("features.safetensors", "features.json"):
        features.save(tmp_path)
        assert (tmp_path / name).is_file()
        (tmp_path / name).write_bytes(b"cut off")
        with pytest.raises(ValueError, match=f"{tmp_path.name} holds no features"):
            FeatureSet.load(tmp_path)
    teacher = CachedTeacher(FrozenModel(torch.nn.Identity(), 3), tmp_path / "cache", "x")
    clips = torch.zeros(1, 3)
    path = teacher._path({}, clips, {0: clips[0]}, None)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut off")
    with pytest.raises(ValueError, match=f"{path.name} is no file of a teacher's features"):
        teacher(clips)


# --- recipes and training checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system", "!custom"])
def test_recipes_with_tags(tag: str, trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {{model_type: sigma}}\nrun: {tag} ['touch {trace}']\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(path)
    path.write_text("model: {model_type: sigma}\ndata: {path: shards}\nrun: {output_dir: run}\n")
    with pytest.raises(RecipeError, match=r"run\.seed"):
        load_recipe(path, [f"--run.seed={tag} ['touch {trace}']"])


@pytest.mark.parametrize("read", [load_recipe, lambda path: parse_finetuning_arguments([str(path)])])
def test_recipes_of_a_billion_entries(read: Callable[[Path], Any], tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))]
    (tmp_path / "recipe.yaml").write_text("\n".join(lines))
    with pytest.raises(RecipeError, match=r"recipe\.yaml is not YAML of plain values \(aliases such as \*a0"):
        read(tmp_path / "recipe.yaml")
    (tmp_path / "recipe.yaml").write_text("a: " + "[" * 100_000)
    with pytest.raises(RecipeError, match="nested too deep"):
        read(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("name", ["optimizer.bin", "random_states_0.pkl"])
def test_a_training_checkpoint_with_code(name: str, trace: Path, tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    accelerator = Accelerator(cpu=True)
    model, _ = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    checkpoint = save_checkpoint(accelerator, tmp_path, {"step": 1}, {}, keep=1)
    assert load_checkpoint(accelerator, checkpoint)[0]["step"] == 1
    torch.save({"state": Payload(trace)}, checkpoint / name)
    change(
        checkpoint / "training_state.json",
        files={path.name: path.stat().st_size for path in checkpoint.iterdir() if path.name != "training_state.json"},
    )
    with pytest.raises((CheckpointError, UnsafeCheckpointError), match=r"checkpoint-1"):
        load_checkpoint(accelerator, checkpoint)


# --- shards and videos -----------------------------------------------------------------------------------------------

PATHS = {
    "climbs": "../secret.mp4",
    "climbs from a subfolder": "clips/../../secret.mp4",
    "climbs with backslashes": "clips\\..\\..\\secret.mp4",
    "absolute": "{outside}/secret.mp4",
    "device": "/dev/zero",
    "address of a file": "file://{outside}/secret.mp4",
    "address of a local file": "local://{outside}/secret.mp4",
    "chained": "zip://secret.mp4::file://{outside}/secret.zip",
}


@pytest.mark.parametrize("kind", PATHS)
def test_paths_in_shards(kind: str, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(video_bytes(0))
    shards = tmp_path / "shards"
    (shards / "clips").mkdir(parents=True)
    features = Features({"video": Video(), "label": Value("int64")})
    rows = [{"video": {"bytes": None, "path": PATHS[kind].format(outside=tmp_path)}, "label": 0}]
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), shards / "data.parquet")
    source = open_source(shards)
    (sample,) = source.iterate_shard(0)
    with pytest.raises(UnsafePathError, match="not beside its shard"):
        source.read_bytes(sample)


def test_a_file_name_beside_embedded_bytes_is_never_opened(tmp_path: Path) -> None:
    features = Features({"video": Video(), "label": Value("int64")})
    rows = [{"video": {"bytes": video_bytes(1), "path": "../../etc/passwd"}, "label": 0}]
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), tmp_path / "data.parquet")
    source = open_source(tmp_path)
    (sample,) = source.iterate_shard(0)
    assert source.read_bytes(sample) == video_bytes(1)


def test_names_in_tars_are_names_and_nothing_else(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    write_tar(shards / "clips-0.tar", [("../../escaped.mp4", video_bytes(1)), ("../../escaped.cls", b"0")])
    before = {path for path in tmp_path.parent.rglob("*") if "escaped" in path.name}
    samples = list(open_source(shards).iterate_shard(0))
    assert [sample.medium.data for sample in samples] == [video_bytes(1)]
    assert {path for path in tmp_path.parent.rglob("*") if "escaped" in path.name} == before == set()


SCRIPTS = {
    "concatenation": "ffconcat version 1.0\nfile {name}\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{name}\n#EXT-X-ENDLIST\n",
    "session": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "manifest": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="9"><BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period></MPD>',
}


@pytest.mark.parametrize("stored", [True, False], ids=["file", "bytes"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_files_that_only_refer_to_videos(
    kind: str, stored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.mp4").write_bytes(make_video(5))
    content = SCRIPTS[kind].format(name="secret.mp4").encode()
    (tmp_path / "clip.mp4").write_bytes(content)
    for backend in (name for name, version in available_backends().items() if not version.startswith("unavail")):
        with pytest.raises(BadVideoError):
            open_video(tmp_path / "clip.mp4" if stored else content, backend=backend)
