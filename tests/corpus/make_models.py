"""Broken and hostile models, made by this script, each with what opening it must say.

python -m tests.corpus.make_models FOLDER
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.engines import make_sidecar, rtx_plan
from tests.runtime.models import make_spec, write_model

SECRET = b"nobody may read this " * 200


@dataclass(frozen=True)
class Model:
    """One file of the corpus and what opening it must give."""

    name: str
    content: bytes
    rule: str | None
    """What the refusal says must hold; ``""``: any refusal; None: it runs, or any refusal."""
    length: int | None = None
    """Grow the file to this many bytes without writing them."""


def corpus(folder: Path) -> list[Model]:
    """Return every model; the folder is for what is needed to make them."""
    found = [*_onnx(folder), *_checkpoints(), *_safetensors(), *_engines(folder)]
    names = [model.name for model in found]
    assert len(set(names)) == len(names)
    return found


def write_corpus(folder: Path) -> list[Model]:
    """Write the corpus into ``folder/models`` and what nobody may read beside it."""
    (folder / "models").mkdir()
    (folder / "secret").write_bytes(SECRET)
    models = corpus(folder)
    for model in models:
        path = folder / "models" / model.name
        path.write_bytes(model.content)
        if model.length is not None:
            os.truncate(path, model.length)
    return models


# --- ONNX ----------------------------------------------------------------------------------------

_NO_ONNX = "must be a complete ONNX file"
_OUTSIDE = "an ONNX file must hold its weights itself"
_SIGNATURE = "as its spec says"
_LIBRARY = "onnxruntime must be able to load the model"


def _onnx(folder: Path) -> Iterator[Model]:
    plain = write_model(folder / "plain.onnx", make_spec("labels")).read_bytes()
    yield Model("empty.onnx", b"", _NO_ONNX)
    yield Model("text.onnx", b"hello, hello, hello", _NO_ONNX)
    yield Model("zeros.onnx", bytes(1_000_000), _NO_ONNX)
    yield Model("huge.onnx", b"", _NO_ONNX, length=1 << 33)
    yield Model("many-fields.onnx", b"\x08\x01" * 1_100_000, _NO_ONNX)
    yield Model("endless-number.onnx", b"\x08" + b"\xff" * 10_000, _NO_ONNX)
    yield Model("length-2-63.onnx", b"\x3a" + b"\xff" * 8 + b"\x7f" + plain, _NO_ONNX)
    for part in range(1, 20):
        yield Model(f"cut-{part:02}-of-20.onnx", plain[: len(plain) * part // 20], "")
    chance = random.Random(5)
    for number in range(40):
        flipped = bytearray(plain)
        for _ in range(chance.choice([1, 1, 4, 20])):
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        yield Model(f"flipped-{number:02}.onnx", bytes(flipped), None)
    yield from _onnx_outside(plain)
    yield from _onnx_graphs(plain)
    yield from _onnx_specs(folder)


def _changed(plain: bytes, change: Callable[[Any], None]) -> bytes:
    model = onnx.load_from_string(plain)
    change(model)
    content: bytes = model.SerializeToString()
    return content


def _outside(tensor: Any, location: str) -> None:
    """Move a tensor's values to another file."""
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _onnx_outside(plain: bytes) -> Iterator[Model]:
    for name, location in (
        ("climbing", "../secret"),
        ("passwd", "../../../../../../../../etc/passwd"),
        ("absolute", "/etc/passwd"),
        ("device", "/dev/zero"),
        ("beside", "weights.bin"),
        ("no-name", ""),
    ):

        def change(model: Any, location: str = location) -> None:
            _outside(model.graph.initializer[0], location)

        yield Model(f"outside-{name}.onnx", _changed(plain, change), _OUTSIDE)

    values = numpy_helper.from_array(np.ones(64, np.float32), "values")
    _outside(values, "../secret")
    constant = helper.make_node("Constant", [], ["unused"], value=values)
    branch = helper.make_graph(
        [constant], "branch", [], [helper.make_empty_tensor_value_info("unused")]
    )
    choice = helper.make_node("If", ["image"], ["unused"], then_branch=branch, else_branch=branch)
    function = helper.make_function("own", "F", [], ["unused"], [constant], [])
    sparse = onnx.SparseTensorProto(values=values, dims=[64])
    for name, change in (
        ("in-a-constant", lambda model: model.graph.node.append(constant)),
        ("in-a-branch", lambda model: model.graph.node.append(choice)),
        ("in-a-function", lambda model: model.functions.append(function)),
        ("in-a-sparse", lambda model: model.graph.sparse_initializer.append(sparse)),
    ):
        yield Model(f"outside-{name}.onnx", _changed(plain, change), _OUTSIDE)


def _onnx_graphs(plain: bytes) -> Iterator[Model]:
    def circle(model: Any) -> None:
        model.graph.node[0].input[0] = "logits"

    def itself(model: Any) -> None:
        model.graph.node[0].input[0] = model.graph.node[0].output[0]

    def unknown(model: Any) -> None:
        model.graph.node[0].op_type = "Rm"

    def other_domain(model: Any) -> None:
        model.graph.node[0].domain = "com.example"

    def twice(model: Any) -> None:
        model.graph.node.append(model.graph.node[0])

    def no_nodes(model: Any) -> None:
        del model.graph.node[:]

    def other_type(model: Any) -> None:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT

    def two_inputs(model: Any) -> None:
        model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))

    def other_name(model: Any) -> None:
        model.graph.input[0].name = "\x1b]0;evil\x07"
        model.graph.node[0].input[0] = "\x1b]0;evil\x07"

    def half(model: Any) -> None:
        """Every second row of labels is left out, which the declared shape does not tell."""
        numbers = {"zero": [0], "end": [1 << 30], "axis": [1], "step": [2]}
        for name, value in numbers.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        last = model.graph.node[-1]
        last.output[0] = "all"
        model.graph.node.append(
            helper.make_node("Slice", ["all", "zero", "end", "axis", "step"], ["labels"])
        )
        for dim in model.graph.output[0].type.tensor_type.shape.dim[1:]:
            dim.dim_param = ""

    def shifted(model: Any) -> None:
        """Labels beyond the classes."""
        model.graph.initializer.append(numpy_helper.from_array(np.array(100), "hundred"))
        last = model.graph.node[-1]
        last.input[0] = "more"
        model.graph.node.insert(6, helper.make_node("Add", ["index", "hundred"], ["more"]))

    def huge(model: Any) -> None:
        shape = numpy_helper.from_array(np.array([1 << 45], np.int64), "shape")
        model.graph.initializer.append(shape)
        model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["space"]))
        model.graph.node.append(helper.make_node("Identity", ["space"], ["space2"]))

    for change, rule in (
        (circle, _LIBRARY), (itself, _LIBRARY), (unknown, _LIBRARY), (other_domain, "every layer"),
        (twice, _LIBRARY), (no_nodes, _LIBRARY), (other_type, ""), (two_inputs, _SIGNATURE),
        (other_name, _SIGNATURE), (half, "the model must give"),
        (shifted, "labels below"), (huge, "able to run"),
    ):  # fmt: skip
        yield Model(f"graph-{change.__name__}.onnx", _changed(plain, change), rule)
    graph = b""
    for _ in range(2000):  # a graph in an attribute of a node of a graph ...
        for key in (b"\x32", b"\x2a", b"\x0a"):
            graph = key + _varint(len(graph)) + graph
    yield Model("graph-deep.onnx", b"\x3a" + _varint(len(graph)) + graph, _NO_ONNX)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _onnx_specs(folder: Path) -> Iterator[Model]:
    def with_text(text: str) -> bytes:
        path = folder / "spec.onnx"
        write_model(path, make_spec("labels"), metadata={"fcnkit.spec": text})
        return path.read_bytes()

    good = json.loads(make_spec("labels").to_json())
    side = 1 << 40
    for name, change, rule in (
        ("no-json", "{", "the model spec must be JSON"),
        ("deep", "[" * 100_000, "the model spec must be JSON"),
        ("long-number", '{"format": ' + "9" * 5000 + "}", "the model spec must be JSON"),
        ("list", "[]", "must be an object"),
        ("other-format", {"format": 9}, "this fcnkit reads formats 1 and 2"),
        ("format-true", {"format": True}, ""),
        ("other-key", {"run": "rm"}, "is not a key of this format"),
        ("nan", {"input": {**good["input"], "mean": [float("nan")] * 3}}, "must be finite"),
        ("no-classes", {"classes": [], "palette": []}, "must be 1 to 255 names"),
        ("more-classes", {"classes": list("abcdefg")}, "must have one color per class"),
        ("steering", {"architecture": "\x1b]0;evil\x07"}, "must be text"),
        ("half-character", {"classes": ["\ud800", "b", "c", "d"]}, "must be text"),
        ("wrong-head", {"head": "logits"}, "head logits takes"),
        ("huge", {"shapes": {k: [1, side, side] for k in ("min", "opt", "max")}}, "at most"),
    ):  # fmt: skip
        text = change if isinstance(change, str) else json.dumps({**good, **change})
        yield Model(f"spec-{name}.onnx", with_text(text), rule)


# --- checkpoints and .safetensors ----------------------------------------------------------------


class _Touch:
    """Makes a file when a pickle of it is loaded by a reader that runs code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil",)


def _saved(content: object) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def good_checkpoint() -> dict[str, Any]:
    """Return the content of a checkpoint of an untrained network, as save_checkpoint writes it."""
    from fcnkit.train.checkpoint import checkpoint_spec
    from fcnkit.train.models import create_model
    from fcnkit.train.recipe import RECIPES

    spec = checkpoint_spec("fcn32s-resnet18", ("a", "b"), ((0, 0, 0), (255, 0, 0)))
    return {
        "spec": spec.to_json(),
        "model": create_model("fcn32s-resnet18", 2).state_dict(),
        "resume": None,
        "epoch": 1,
        "recipe": RECIPES["d2l"].to_dict(),
        "scores": {"mean_iou": 0.5, "iou": {"a": 0.5, "b": None}},
    }


def _checkpoints() -> Iterator[Model]:
    import torch

    good = good_checkpoint()
    whole = _saved(good)
    code = "must be a checkpoint that torch can read without running code"
    keys = "a checkpoint holds epoch, model, recipe, resume, scores, spec"
    yield Model("good.pt", whole, None)
    small = _saved({**good, "model": {}})
    for part in range(8):
        yield Model(f"cut-{part}-of-8.pt", small[: len(small) * part // 8], code)
    yield Model("cut-in-weights.pt", whole[: len(whole) // 2], code)
    yield Model("code.pt", _saved(_Touch()), code)
    yield Model("code-inside.pt", _saved({**good, "scores": _Touch()}), code)
    yield Model("pickle.pt", pickle.dumps(_Touch()), code)
    yield Model("old-format.pt", _old_format(), code)
    yield Model("bomb.pt", _zip_bomb(whole), code)
    yield Model("renamed-onnx.pt", b"\x08\x0a", code)
    yield Model("a-tensor.pt", _saved(torch.zeros(3)), keys)
    yield Model("weights-only.pt", _saved(good["model"]), keys)
    laughs: list[Any] = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    recipe, spec = good["recipe"], json.loads(good["spec"])
    light = {**good, "model": {}}
    for key, values in {
        "spec": [None, 3, {}, laughs, spec, b"{}"],
        "model": [None, [], {"a": 1}, {1: torch.zeros(1)}, laughs,
                  {"a": torch.zeros(2, dtype=torch.complex64)}, {"a": torch.eye(2).to_sparse()}],
        "resume": [1, [], {"optimizer": {}}, laughs,
                   {"optimizer": 1, "class_weights": None, "net": None, "updates": None}],
        "epoch": [None, -1, 1.0, True, "1", laughs],
        "recipe": [None, [], {}, 1, laughs, {**recipe, "epochs": "many"},
                   {**recipe, "crop": [320]}, {**recipe, "crop": None}, {**recipe, "lr": "0.1"},
                   {**recipe, "crop": laughs}, {**recipe, "seed": True}, {**recipe, "loss": []},
                   {**recipe, "optimizer": "evil"}, {**recipe, "lr": float("nan")}],
        "scores": [None, [], laughs, {"iou": laughs}, {"iou": torch.zeros(1)}],
    }.items():  # fmt: skip
        for number, value in enumerate(values):
            yield Model(f"{key}-{number}.pt", _saved({**light, key: value}), "")
    for name, change in (
        ("architecture", {"architecture": "../evil"}),
        ("classes", {"classes": ["a", "b", "c"], "palette": [[0, 0, 0]] * 3}),
    ):
        changed = {**good, "spec": json.dumps({**spec, **change})}
        yield Model(f"lying-{name}.pt", _saved(changed), "")
    yield Model("no-weights.pt", _saved(light), "weights must fit fcn32s-resnet18")


def _old_format() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _zip_bomb(whole: bytes) -> bytes:
    """Write the zip again with compressed tensors of a hundred MB each."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for entry in old.infolist():
            is_tensor = "/data/" in entry.filename
            new.writestr(entry.filename, bytes(100_000_000) if is_tensor else old.read(entry))
            if is_tensor:
                break
    return buffer.getvalue()


def _safetensors() -> Iterator[Model]:
    from fcnkit.train.checkpoint import Weights, checkpoint_spec
    from fcnkit.train.models import create_model
    from fcnkit.train.safetensors_file import to_bytes

    rule = "must be a whole .safetensors file"
    spec = checkpoint_spec("fcn32s-resnet18", ("a", "b"), ((0, 0, 0), (255, 0, 0)))
    weights = Weights(spec=spec, model=create_model("fcn32s-resnet18", 2).state_dict())
    whole = to_bytes(weights.model, {"fcnkit.spec": spec.to_json()})
    yield Model("good.safetensors", whole, None)
    yield Model("empty.safetensors", b"", rule)
    yield Model("cut.safetensors", whole[: len(whole) // 2], rule)
    yield Model("no-spec.safetensors", to_bytes(weights.model, {}), "a model needs a spec")
    lying = to_bytes({}, {"fcnkit.spec": spec.to_json()})
    yield Model("no-weights.safetensors", lying, "weights must fit fcn32s-resnet18")
    for name, header in (
        ("huge-header", None),
        ("no-json", b"{"),
        ("outside", b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
        ("overlap", b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                    b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
        ("huge-shape", b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],'
                       b'"data_offsets":[0,0]}}'),
        ("deep", b"[" * 50_000),
    ):  # fmt: skip
        content = struct.pack("<Q", 1 << 62) if header is None else struct.pack("<Q", len(header))
        yield Model(f"{name}.safetensors", content + (header or b"") + bytes(4), rule)
    yield Model("pickle.safetensors", pickle.dumps(_Touch()), rule)


# --- engines -------------------------------------------------------------------------------------


def _engines(folder: Path) -> Iterator[Model]:
    """Engines that are none, with sidecars that are none; every one is refused in one line."""
    plan = rtx_plan()
    whole = asdict(make_sidecar(plan))
    facts, spec = whole["plan"], whole["spec"]
    noise = random.Random(6).randbytes(len(plan))
    of_noise = {"bytes": len(noise), "sha256": hashlib.sha256(noise).hexdigest()}

    def changed(**keys: Any) -> bytes:
        return json.dumps({**whole, **keys}).encode()

    json_rule, form = "must be JSON", "reads engine sidecars of format 1"
    for name, content, sidecar, rule in (
        ("no-sidecar", plan, None, "its sidecar no-sidecar.engine.json must lie beside it"),
        ("empty-sidecar", plan, b"", json_rule),
        ("deep-sidecar", plan, b"[" * 100_000, json_rule),
        ("not-utf8", plan, b"\xff\xfe", json_rule),
        ("list-sidecar", plan, b"[]", form),
        ("other-format", plan, changed(format=2), form),
        ("no-spec", plan, json.dumps({"format": 1}).encode(), "key spec"),
        ("wrong-spec", plan, changed(spec={**spec, "head": "tail"}), "key spec.head"),
        ("long-number", plan, changed(spec={**spec, "ignore_index": 10**400}), "must be 255"),
        ("odd-flavor", plan, changed(flavor=3), "key flavor"),
        ("more-keys", plan, changed(more=1), "key more"),
        ("no-profile", plan, changed(profiles=[]), "must hold at least one"),
        ("odd-profile", plan, changed(profiles=[{"min": [1, 33, 32], "opt": [1, 64, 64],
                                                 "max": [1, 64, 64]}]), "key profiles"),
        ("other-hash", plan, changed(plan={**facts, "sha256": "0" * 64}), "must be the plan that"),
        ("cut-plan", plan[:-1], changed(), "must be a whole plan of 256 bytes"),
        ("longer-plan", plan + b"x", changed(), "must be the plan that"),
        ("no-plan", noise, changed(plan=of_noise), "must be a TensorRT plan"),
        ("other-library", plan, changed(library="tensorrt_rtx 1.6.0.1"), "must be a plan of"),
        ("other-flavor", plan, changed(flavor="tensorrt"), "must be a plan of"),
    ):  # fmt: skip
        yield Model(f"{name}.engine", content, rule)
        if sidecar is not None:
            yield Model(f"{name}.engine.json", sidecar, None)
    yield Model("huge.engine", plan, "must be the plan that", length=1 << 33)
    yield Model("huge.engine.json", changed(), None)
    yield Model("huge-sidecar.engine", plan, "must have at most 1048576 bytes")
    yield Model("huge-sidecar.engine.json", b"", None, length=1 << 33)
    yield Model("empty.engine", b"", "its sidecar empty.engine.json must lie beside it")
    yield Model("huge.safetensors", b"", "", length=1 << 33)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True)
    print(f"{len(write_corpus(out))} models in {out}")
