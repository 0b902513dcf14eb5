"""Features of a video from any checkpoint of this package, in four lines.

Example:
    python scripts/extract_features.py runs/quickstart/model/final clip.mp4
"""

import argparse

import torch
from transformers import AutoModel, AutoVideoProcessor

import tubelets


def main() -> None:
    """Print the shape of the token features and of their mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder or Hub id")
    parser.add_argument("video", help="path of a video file")
    parser.add_argument("--stride", type=int, default=2, help="distance between the frames of the clip")
    arguments = parser.parse_args()

    model, processor = (auto.from_pretrained(arguments.checkpoint) for auto in (AutoModel, AutoVideoProcessor))
    clip = tubelets.read_clip(arguments.video, model.config.num_frames, arguments.stride)
    with torch.no_grad():
        features = model(**processor(clip, return_tensors="pt"))

    print(f"{type(model).__name__} from {arguments.checkpoint}")
    print(f"tokens {tuple(features.last_hidden_state.shape)}, mean over tokens {tuple(features.pooler_output.shape)}")
    print(f"first values of the mean: {[round(value, 4) for value in features.pooler_output[0, :6].tolist()]}")


if __name__ == "__main__":
    main()
