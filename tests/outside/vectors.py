"""Encodes queries with the files of an encoder: vectors.py FOLDER, a JSON list of texts on standard input."""

import json
import os
import pathlib
import sys

# Before ONNX Runtime is imported: it sends telemetry otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy
import onnxruntime
import tokenizers

folder = pathlib.Path(sys.argv[1])
spec = json.loads((folder / "encoder.json").read_text())
tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
session = onnxruntime.InferenceSession(str(folder / spec["query_graph"]), providers=["CPUExecutionProvider"])
before, after = ([tokenizer.token_to_id(token) for token in spec[key]] for key in ("query_prefix", "query_suffix"))
longest_text = spec["query_tokens"] - len(before) - len(after)
rows = [before + tokenizer.encode(text, add_special_tokens=False).ids[:longest_text] + after for text in json.load(sys.stdin)]
longest = max(map(len, rows))
pad = tokenizer.token_to_id(spec["pad_token"])
ids = numpy.array([row + [pad] * (longest - len(row)) for row in rows], dtype=numpy.int64)
mask = numpy.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], dtype=numpy.int64)
print(json.dumps(session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0].tolist()))
