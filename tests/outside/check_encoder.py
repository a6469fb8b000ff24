"""Checks an exported encoder with the checker of the package onnx: check_encoder.py FOLDER. Prints opset and inputs of each graph."""

import json
import pathlib
import sys

import onnx

folder = pathlib.Path(sys.argv[1])
seen = {}
for path in sorted(folder.glob("*.onnx")):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    shape = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.input]
    seen[path.name] = {"opset": model.opset_import[0].version, "inputs": shape, "bytes": path.stat().st_size}
print(json.dumps(seen))
