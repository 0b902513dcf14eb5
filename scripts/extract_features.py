"""Extract features of a video with a checkpoint of this package or a video model of transformers.

Example:
    python scripts/extract_features.py runs/quickstart/model/final clip.mp4
"""

import argparse

import torch
from transformers import AutoModel

import tubelets
from tubelets.models.common.inputs import model_inputs
from tubelets.models.common.safe_loading import load_model, load_processor


def main() -> None:
    """Print the shapes of the token features and of the pooled feature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder or Hub id")
    parser.add_argument("video", help="video file")
    parser.add_argument("--stride", type=int, default=2, help="frame stride of the clip")
    arguments = parser.parse_args()

    model, processor = load_model(AutoModel, arguments.checkpoint), load_processor(arguments.checkpoint)
    (spec,) = model_inputs(model.config).values()
    clip = tubelets.read_clip(arguments.video, spec.shape[0], arguments.stride)
    with torch.no_grad():
        features = model(**processor(clip, return_tensors="pt"))

    print(f"{type(model).__name__} from {arguments.checkpoint}")
    print(f"tokens {tuple(features.last_hidden_state.shape)}, pooled {tuple(features.pooler_output.shape)}")
    print(
        f"first values of the pooled feature: {[round(value, 4) for value in features.pooler_output[0, :6].tolist()]}"
    )


if __name__ == "__main__":
    main()
