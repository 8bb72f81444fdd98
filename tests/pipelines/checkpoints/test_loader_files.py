import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines import ModelError, ModelParts, describe
from pipelines.checkpoints.loader.files import MAX_HEADER, Folder, choose_weights, read_header, read_weights
from tests.miniature import save_family


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    tensors = {"a": torch.ones(2, 3, dtype=torch.float16), "b": torch.zeros(5), "none": torch.zeros(0, 4)}
    save_file(tensors, path, metadata={"made": "here"})
    return path


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    """The same file with another header."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + content[8 + length :])


def test_a_header_is_read_as_it_was_written(file: Path) -> None:
    tensors, metadata = read_header(file, "w")
    assert {name: (info.dtype, info.shape) for name, info in tensors.items()} == {
        "a": ("F16", (2, 3)),
        "b": ("F32", (5,)),
        "none": ("F32", (0, 4)),
    }
    assert metadata == {"made": "here"}
    weights = read_weights([file], "w")
    assert weights.bytes == 12 + 20 and weights.dtype == "F16"


BAD_HEADERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty file": (lambda p: p.write_bytes(b""), "is empty"),
    "cut in the header": (lambda p: p.write_bytes(p.read_bytes()[:20]), "truncated"),
    "cut in the tensors": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "truncated"),
    "longer": (lambda p: p.write_bytes(p.read_bytes() + b"x"), "longer"),
    "huge": (lambda p: p.write_bytes(struct.pack("<Q", MAX_HEADER + 1) + b"{}"), "claims"),
    "negative as unsigned": (lambda p: p.write_bytes(b"\xff" * 8 + b"{}"), "claims"),
    "no JSON": (lambda p: p.write_bytes(struct.pack("<Q", 2) + b"]["), "header"),
    "pickle": (lambda p: torch.save({}, p), "is a zip archive"),
    "list": (lambda p: p.write_bytes(struct.pack("<Q", 2) + b"[]"), "header"),
    "name twice": (lambda p: p.write_bytes(struct.pack("<Q", 15) + b'{"a":{},"a":{}}'), "twice"),
    "unknown dtype": (lambda p: rewrite(p, lambda h: h["a"].update(dtype="F12")), "F12"),
    "negative shape": (lambda p: rewrite(p, lambda h: h["a"].update(shape=[-2, -3])), "whole number"),
    "shape too large": (lambda p: rewrite(p, lambda h: h["a"].update(shape=[2, 4])), "'a' does not match its shape"),
    "overlap": (lambda p: rewrite(p, lambda h: h["b"].update(data_offsets=h["a"]["data_offsets"])), "does not match its shape"),
    "no offsets": (lambda p: rewrite(p, lambda h: h["a"].pop("data_offsets")), "header"),
    "deep": (lambda p: p.write_bytes(struct.pack("<Q", 200_000) + b"[" * 200_000), "header"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_headers_that_lie_are_refused(file: Path, case: str) -> None:
    damage, message = BAD_HEADERS[case]
    damage(file)
    with pytest.raises(ModelError, match=message):
        read_header(file, "w.safetensors")


@pytest.mark.parametrize("name", ["../x.json", "/etc/passwd", "a/../../x", "link/x.json"])
def test_no_path_leads_out_of_a_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="leads out of the model folder"):
        Folder(root).path(name)


def test_links_of_the_hubs_cache_stay_inside_their_repository(tmp_path: Path) -> None:
    repo = tmp_path / "models--a--b"
    snapshot = repo / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "blobs" / "beef").write_text('{"x": 1}')
    (snapshot / "config.json").symlink_to("../../blobs/beef")
    (tmp_path / "secret").write_text("{}")
    (snapshot / "other.json").symlink_to("../../../secret")
    assert Folder(snapshot).json("config.json") == {"x": 1}
    with pytest.raises(ModelError, match="leads out"):
        Folder(snapshot).json("other.json")


@pytest.mark.parametrize(
    "names, chosen",
    [
        (["diffusion_pytorch_model.safetensors", "config.json"], "diffusion_pytorch_model.safetensors"),
        (["model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"], "model.fp16.safetensors"),
        (
            ["diffusion_pytorch_model.non_ema.safetensors", "diffusion_pytorch_model.safetensors"],
            "diffusion_pytorch_model.safetensors",
        ),
        (["diffusion_pytorch_model.non_ema.safetensors"], None),
        (["diffusion_pytorch_model-00001-of-00002.safetensors"], None),
        (["diffusion_pytorch_model.safetensors.index.json"], "diffusion_pytorch_model.safetensors.index.json"),
        (["diffusion_pytorch_model.safetensors.index.fp16.json"], "diffusion_pytorch_model.safetensors.index.fp16.json"),
        (["Hyper.safetensors", "x.bin"], "Hyper.safetensors"),
        (["pytorch_model.bin"], None),
    ],
)
def test_one_set_of_weights_is_chosen(names: list[str], chosen: str | None) -> None:
    assert choose_weights(names) == chosen


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return save_family(tmp_path / "sharded", "sd15", shard="300KB")


def test_shards_are_read_as_one(sharded: Path, tmp_path: Path) -> None:
    whole = save_family(tmp_path / "whole", "sd15")
    parts = ModelParts(describe(str(sharded)))
    assert len(parts.checkpoint.weights["unet"].files) > 1
    expected = ModelParts(describe(str(whole))).unet.state_dict()
    for name, value in parts.unet.state_dict().items():
        assert torch.equal(value, expected[name])


def index_of(model: Path) -> Path:
    return next((model / "unet").glob("*.index.json"))


def edit_map(model: Path, change: Callable[[dict], object]) -> None:
    path = index_of(model)
    content = json.loads(path.read_text())
    change(content["weight_map"])
    path.write_text(json.dumps(content))


BAD_SHARDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (lambda m: next((m / "unet").glob("*-of-*")).unlink(), "is missing"),
    "traversal": (lambda m: edit_map(m, lambda w: w.update(x="../../w.safetensors")), "not a file name in the same folder"),
    "absolute": (lambda m: edit_map(m, lambda w: w.update(x="/tmp/w.safetensors")), "not a file name in the same folder"),
    "pickle shard": (lambda m: edit_map(m, lambda w: w.update(x="w.bin")), "not a file name in the same folder"),
    "absent tensor": (lambda m: edit_map(m, lambda w: w.update(ghost=next(iter(w.values())))), "'ghost' is in none"),
    "no map": (lambda m: index_of(m).write_text("{}"), "no weight_map"),
    "cut shard": (lambda m: (p := next((m / "unet").glob("*-of-*"))).write_bytes(p.read_bytes()[:-4]), "truncated"),
}


@pytest.mark.parametrize("case", BAD_SHARDS)
def test_broken_shards_are_refused(sharded: Path, case: str) -> None:
    damage, message = BAD_SHARDS[case]
    damage(sharded)
    with pytest.raises(ModelError, match=message):
        ModelParts(describe(str(sharded)))


def test_a_tensor_in_two_shards_is_refused(file: Path) -> None:
    twin = file.with_name("v.safetensors")
    twin.write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match=r"is in w.safetensors and in v.safetensors"):
        read_weights([file, twin], "unet")
