"""Brings a model of your own to Penstock: an ONNX file and a manifest.

    python3 -m pip install onnx==1.23.2
    python3 scripts/export-model.py models

writes models/sharpen/1/model.onnx and models/sharpen/1/model.json. With MODELS_DIR=models the service loads it at start; or
it is uploaded, and known once it is finalized:

    cd models/sharpen/1
    key=$(curl -s -H 'x-alga-admin: true' --data-binary @model.onnx \
      "localhost:4000/upload-proxy?kind=model&filename=model.onnx&size=$(stat -c %s model.onnx)" | jq -r .upload.key)
    jq -n --arg key "$key" --rawfile manifest model.json '{key: $key, manifestJson: $manifest}' |
      curl -s -H 'x-alga-admin: true' -H 'content-type: application/json' -d @- localhost:4000/finalize

The graph here is made node by node. Of a PyTorch module the same file comes from

    torch.onnx.export(module.eval(), torch.rand(1, 3, 64, 64), "model.onnx", opset_version=17, input_names=["image"],
                      output_names=["sharpened"], dynamic_axes={"image": {0: "n", 2: "h", 3: "w"}, "sharpened": {0: "n", 2: "h", 3: "w"}})

What counts: one file with its weights inside (no external data), free batch, height and width, and a manifest that says how
pixels become numbers. Everything it leaves out is read from the graph, else float32, NCHW, RGB and 0 to 1.
"""

import json
import pathlib
import sys

import onnx
from onnx import TensorProto, helper

NAME, VERSION = "sharpen", 1
# ONNX Runtime 1.30 reads these and anything older
OPSET, IR_VERSION = 17, 10

MANIFEST = {
    "name": NAME,
    "version": VERSION,
    "task": "image-to-image",
    "description": "Sharpens: each pixel moves away from the mean of its four neighbours.",
    "input": {"name": "image", "layout": "NCHW", "channels": 3, "range": [0, 1], "dtype": "float32"},
    "output": {"name": "sharpened", "layout": "NCHW", "channels": 3, "range": [0, 1], "dtype": "float32"},
}


def make_model() -> onnx.ModelProto:
    kernel = [0.0, -0.25, 0.0, -0.25, 2.0, -0.25, 0.0, -0.25, 0.0]
    shape = ["n", 3, "h", "w"]
    graph = helper.make_graph(
        nodes=[
            # the picture goes on beyond its edge as it is there, so that no frame appears
            helper.make_node("Pad", ["image", "pads"], ["padded"], mode="edge"),
            # one kernel for each channel, each by itself
            helper.make_node("Conv", ["padded", "kernels"], ["unbounded"], group=3),
            helper.make_node("Clip", ["unbounded", "black", "white"], ["sharpened"]),
        ],
        name=NAME,
        inputs=[helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        outputs=[helper.make_tensor_value_info("sharpened", TensorProto.FLOAT, shape)],
        initializer=[
            helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 1, 1, 0, 0, 1, 1]),
            helper.make_tensor("kernels", TensorProto.FLOAT, [3, 1, 3, 3], kernel * 3),
            helper.make_tensor("black", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("white", TensorProto.FLOAT, [], [1.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="export-model.py")
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: export-model.py FOLDER")
    folder = pathlib.Path(sys.argv[1]) / NAME / str(VERSION)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(make_model(), folder / "model.onnx")
    (folder / "model.json").write_text(json.dumps(MANIFEST, indent=2) + "\n")
    print(json.dumps({"model": str(folder / "model.onnx"), "manifest": str(folder / "model.json")}))


if __name__ == "__main__":
    main()
