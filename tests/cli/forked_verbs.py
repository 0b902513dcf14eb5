"""Runs several commands, each in a fork of a process that has imported what takes long; prints their results as JSON.

Started with a wheel's folder as the only path of the package: `python forked_verbs.py FOLDER_OF_WHEEL COMMANDS`.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import accelerate  # noqa: F401
import datasets  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch._dynamo  # noqa: F401
import transformers.trainer  # noqa: F401

import tubelets
from tubelets.cli.main import main
from tubelets.models.common import safe_loading  # noqa: F401


def fork(words: list[str]) -> dict[str, object]:
    """Run one command line; its exit code and output."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 1
            try:
                code = main(words)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
    return {"code": status, "out": texts[0], "err": texts[1]}


if __name__ == "__main__":
    assert Path(tubelets.__file__).is_relative_to(sys.argv[1]), tubelets.__file__
    results = {name: fork(words) for name, words in json.loads(sys.argv[2]).items()}
    print(json.dumps(results))
