"""Rewrites an exported nbow encoder as a sentence encoder is usually published: foreign_encoder.py FROM TO. The graph ends at the token
vectors and has the input token_type_ids. Its reader pools, as encoder.json says."""

import json
import pathlib
import shutil
import sys

import onnx
from onnx import TensorProto, helper


def main(source, target):
    source, target = pathlib.Path(source), pathlib.Path(target)
    target.mkdir(parents=True)
    spec = json.loads((source / "encoder.json").read_text())
    width = spec["dimension"]
    tables = [each for each in onnx.load(source / "encoder.onnx").graph.initializer if list(each.dims[1:]) == [width]]
    (table,) = [each for each in tables if each.dims[0] > width]
    table.name = "table"
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Gather", ["segments", "token_type_ids"], ["segment"]),
        helper.make_node("Add", ["rows", "segment"], ["last_hidden_state"]),
    ]
    names = ("input_ids", "attention_mask", "token_type_ids")
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in names]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", width])
    segments = helper.make_tensor("segments", TensorProto.FLOAT, [2, width], [0.0] * width + [9.0] * width)
    graph = helper.make_graph(nodes, "foreign", ids, [output], [table, segments])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    onnx.save(model, target / "model.onnx")
    shutil.copy(source / "tokenizer.json", target / "tokenizer.json")
    form = {"output": "last_hidden_state", "token_types": True, "pooling": "mean"}
    spec.update(query_graph="model.onnx", code_graph="model.onnx", graph=form)
    (target / "encoder.json").write_text(json.dumps(spec))


if __name__ == "__main__":
    main(*sys.argv[1:])
