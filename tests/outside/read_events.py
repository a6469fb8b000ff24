"""Reads the TensorBoard files of a training with the package tensorboard: read_events.py FOLDER."""

import json
import pathlib
import sys

from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

folder = pathlib.Path(sys.argv[1])
events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
events.Reload()
config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
vectors = (folder / config.embeddings[0].tensor_path).read_text().splitlines()
labels = (folder / config.embeddings[0].metadata_path).read_text().splitlines()
print(
    json.dumps(
        {
            "scalars": {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]},
            "texts": {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]},
            "vectors": len(vectors),
            "width": len(vectors[0].split("\t")),
            "labels": len(labels),
        }
    )
)
