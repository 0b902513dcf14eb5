"""Write the features of all videos or sounds of a collection to one Parquet file; an interrupted run continues.

Columns are clip_id, window, start and end in seconds, label and caption where the data have them, and features. Of a
model of videos and texts the features are those that `tubelets search` compares with sentences.

Examples:
  tubelets embed runs/mine/final videos features.parquet
  tubelets embed runs/mine/final films features.parquet --windows 16 --pooling tokens
  tubelets embed runs/retrieval films index.parquet --windows 20 --strip_frames 4
  tubelets embed runs/retrieval new_films index.parquet --windows 20 --strip_frames 4 --append
"""

import argparse

from tubelets.cli.parser import Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("checkpoint", metavar="CHECKPOINT", help="folder or Hub id of a video or sound model")
    verb.add("data", metavar="DATA", help="folder of files, one file, a list, shards, or a Hub data set")
    verb.add("output", metavar="FILE", help="the Parquet file to write")
    verb.add("--split", help="only this split; default: all")
    verb.add("--windows", type=int, default=1, help="clips of a video, spread evenly")
    text = "frames of a clip: every --stride-th, or spread over the video, one from each segment or evenly"
    verb.add("--sampling", choices=["dense_test", "segment_test", "uniform"], default="dense_test", help=text)
    verb.add("--stride", type=int, default=4, help="distance between the frames of a clip, in video frames")
    verb.add("--pooling", choices=["own", "tokens"], default="own", help="'tokens' adds the tokens of every clip")
    verb.add("--strip_frames", type=int, default=0, help="frames of each window in a small picture; 0 stores none")
    verb.add("--append", action="store_true", help="add the videos that FILE lacks")
    verb.add("--batch_size", type=int, default=16, help="clips per forward pass")
    verb.add("--num_workers", type=int, default=2, help="decoding processes")
    verb.add("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of the forward pass")


def run(options: argparse.Namespace) -> int:
    """Extract features.

    Args:
        options: the command line.

    Returns:
        The exit code: 1 if some files could not be read.
    """
    import sys

    from tubelets.data.sources.opening import open_source
    from tubelets.evaluation.checkpoints import load_processor
    from tubelets.evaluation.devices import evaluation_precision
    from tubelets.evaluation.embedding import embed
    from tubelets.evaluation.inputs import processor_inputs
    from tubelets.evaluation.joint_space import load_backbone

    source = open_source(options.data, split=options.split)
    model = load_backbone(options.checkpoint)
    frames = {"sampling": options.sampling, "stride": options.stride}
    inputs = processor_inputs(load_processor(options.checkpoint), model.config, windows=options.windows, **frames)
    bad = embed(
        model,
        source,
        inputs,
        options.output,
        pooling=options.pooling,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        precision=evaluation_precision(options.precision),
        described={"checkpoint": str(options.checkpoint), **frames},
        strip_frames=options.strip_frames,
        append=options.append,
    )
    for each in bad:
        print(f"bad file {each['clip_id']}: {each['reason']}", file=sys.stderr)
    print(f"wrote {options.output}")
    return 1 if bad else 0
