"""Triton's HTTP client, as it is, against a service: triton_client.py HOST:PORT FOLDER. Prints what it found as JSON."""

import json
import os
import sys

import numpy as np
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the runtime is loaded
import onnxruntime
import tritonclient.http as http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

ADMIN = {"x-alga-admin": "true"}
SAMPLES = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([[0, 255], [1, 2]], np.uint8),
    "UINT16": np.array([[0, 65535], [1, 2]], np.uint16),
    "UINT32": np.array([[0, 4294967295], [1, 2]], np.uint32),
    "UINT64": np.array([[0, 18446744073709551615], [1, 2]], np.uint64),
    "INT8": np.array([[-128, 127], [1, 2]], np.int8),
    "INT16": np.array([[-32768, 32767], [1, 2]], np.int16),
    "INT32": np.array([[-2147483648, 2147483647], [1, 2]], np.int32),
    "INT64": np.array([[-9223372036854775808, 9223372036854775807], [1, 2]], np.int64),
    "FP16": np.array([[0.5, -65504], [1, 2]], np.float16),
    "FP32": np.array([[0.1, -3.4e38], [1, 2]], np.float32),
    "FP64": np.array([[0.1, -1.7e308], [1, 2]], np.float64),
    "BYTES": np.array([["", "é"], ["a", "b"]], object),
}


def runtime(folder, name, version, feed):
    session = onnxruntime.InferenceSession(f"{folder}/{name}/{version}/model.onnx", providers=["CPUExecutionProvider"])
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, feed)))


def inputs_of(feed, binary):
    tensors = []
    for name, array in feed.items():
        tensor = http.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=binary)
        tensors.append(tensor)
    return tensors


def as_text(array):
    """Strings come back as bytes where they were binary data."""
    return np.vectorize(lambda each: each.decode() if isinstance(each, bytes) else each, otypes=[object])(array)


def same(expected, result, name):
    found = result.as_numpy(name)
    if found.dtype == object:
        expected, found = as_text(expected), as_text(found)
    return bool(found.shape == expected.shape and found.dtype == expected.dtype and np.array_equal(expected, found))


def close(expected, result, name):
    found = result.as_numpy(name)
    return bool(found.shape == expected.shape and np.allclose(expected, found, rtol=1e-5, atol=1e-6))


def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def infer_types(client, folder):
    feed = {f"in_{name}": array for name, array in SAMPLES.items()}
    expected = runtime(folder, "types", "1.0.0", feed)
    found = {}
    for way, binary_in, binary_out in [("json", False, False), ("binary", True, True), ("mixed", True, False), ("mixed back", False, True)]:
        outputs = [http.InferRequestedOutput(name, binary_data=binary_out) for name in expected]
        result = client.infer("types", inputs_of(feed, binary_in), outputs=outputs, request_id=way)
        found[way] = [result.get_response()["id"] == way, [name for name in expected if not same(expected[name], result, name)]]
    return found


def infer_layer(client, folder):
    x = np.random.default_rng(1).normal(size=(500, 4)).astype(np.float32)
    expected = runtime(folder, "layer", 1, {"x": x})
    found = {}
    for way in [None, "gzip", "deflate"]:
        for binary in [True, False]:
            result = client.infer(
                "layer", inputs_of({"x": x}, binary), request_compression_algorithm=way, response_compression_algorithm=way
            )
            found[f"{way} {binary}"] = close(expected["scores"], result, "scores") and same(expected["best"], result, "best")
    one = client.infer("layer", inputs_of({"x": x}, True), model_version="1", outputs=[http.InferRequestedOutput("best")])
    response = one.get_response()
    found["one output of version 1"] = same(expected["best"], one, "best") and [response["model_version"], len(response["outputs"])] == ["1", 1]
    asked = client.async_infer("layer", inputs_of({"x": x}, True))
    found["async"] = close(expected["scores"], asked.get_result(), "scores")
    return found


def refusals(client):
    x = np.zeros((1, 4), np.float32)
    return {
        "model": refusal(lambda: client.infer("nobody", inputs_of({"x": x}, True))),
        "version": refusal(lambda: client.infer("layer", inputs_of({"x": x}, True), model_version="9")),
        "datatype": refusal(lambda: client.infer("layer", inputs_of({"x": x.astype(np.float64)}, True))),
        "shape": refusal(lambda: client.infer("layer", inputs_of({"x": np.zeros((1, 5), np.float32)}, True))),
        "name": refusal(lambda: client.infer("layer", inputs_of({"z": x}, True))),
        "output": refusal(lambda: client.infer("layer", inputs_of({"x": x}, True), outputs=[http.InferRequestedOutput("z")])),
        "nan": refusal(lambda: client.infer("layer", inputs_of({"x": x * np.nan}, False))),
        "too large": refusal(lambda: client.infer("layer", inputs_of({"x": np.zeros((2_000_000, 4), np.float32)}, True))),
        "bomb": refusal(lambda: client.infer("layer", inputs_of({"x": np.zeros((2_000_000, 4), np.float32)}, True), request_compression_algorithm="gzip")),
        "shared memory": refusal(lambda: client.get_system_shared_memory_status()),
        "config": refusal(lambda: client.load_model("layer", headers=ADMIN, config="{}")),
        "unload": refusal(lambda: client.unload_model("layer")),
    }


def repository(client):
    index = client.get_model_repository_index()
    client.unload_model("layer", headers=ADMIN)
    unloaded = [client.is_model_ready("layer"), refusal(lambda: client.get_model_metadata("layer"))]
    client.load_model("layer", headers=ADMIN)
    return {"index": index, "unloaded": unloaded, "loaded": client.is_model_ready("layer")}


def main():
    address, folder = sys.argv[1:]
    with http.InferenceServerClient(address) as client:
        print(json.dumps({
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "server": client.get_server_metadata(),
            "models": [client.is_model_ready("layer"), client.is_model_ready("layer", "2"), client.is_model_ready("layer", "9"), client.is_model_ready("nobody")],
            "metadata": client.get_model_metadata("layer"),
            "types": infer_types(client, folder),
            "layer": infer_layer(client, folder),
            "refusals": refusals(client),
            "repository": repository(client),
        }))


main()
