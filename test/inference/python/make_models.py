"""Writes models for the tests into a folder as MODELS_DIR has it: make_models.py FOLDER"""

import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 10

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def layer():
    """scores = x · w + b, best = argmax(scores)"""
    random = np.random.default_rng(7)
    w = numpy_helper.from_array(random.normal(size=(4, 3)).astype(np.float32), "w")
    b = numpy_helper.from_array(random.normal(size=3).astype(np.float32), "b")
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
    ]
    inputs = [value("x", TensorProto.FLOAT, ["n", 4])]
    outputs = [value("scores", TensorProto.FLOAT, ["n", 3]), value("best", TensorProto.INT64, ["n"])]
    return helper.make_graph(nodes, "layer", inputs, outputs, [w, b])


def types():
    """One input and one output of each type, which are the same."""
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in TYPES]
    inputs = [value(f"in_{name}", kind, ["n", 2]) for name, kind in TYPES.items()]
    outputs = [value(f"out_{name}", kind, ["n", 2]) for name, kind in TYPES.items()]
    return helper.make_graph(nodes, "types", inputs, outputs)


def write(folder, name, version, graph):
    folder = pathlib.Path(folder) / name / str(version)
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.json").write_text(json.dumps({"name": name, "version": version, "task": "tensor"}))


write(sys.argv[1], "layer", 1, layer())
write(sys.argv[1], "layer", 2, layer())
write(sys.argv[1], "types", "1.0.0", types())
print(json.dumps(list(TYPES)))
