"""Every file of a model's folder passes one reader: bounded, plain, inside; and no library opens another one."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTokenizer

from pipelines import REGISTRY, ModelError, ModelParts, SafetyChecker, describe
from pipelines.checkpoints.loader.vocabulary import read_tokenizer
from pipelines.values.reader import MAX_BYTES, MAX_DEPTH, ModelFolder, parse_json
from tests.miniature import save_adapter, save_control, save_family, save_safety_checker

LOOKS = {"looks": [{"name": "ink", "title": "Ink", "prompt": "ink", "group": "lines"}]}
LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def save_whole(folder: Path) -> Path:
    """A model with everything that a folder may hold: shards, both kinds of vocabulary, looks, calibration pictures."""
    model = save_family(folder / "model", "sd15", shard="300KB")
    (model / "looks.json").write_text(json.dumps(LOOKS))
    (model / "calibration").mkdir()
    (model / "calibration" / "00.jpg").write_bytes(b"\xff\xd8\xff\xd9")
    (model / "tokenizer" / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<|endoftext|>"}))
    (model / "tokenizer" / "added_tokens.json").write_text("{}")
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whole(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def load(name: str) -> None:
    """Everything that is ever read of a model."""
    parts = ModelParts(describe(name))
    _ = parts.vocabulary, parts.calibration, parts.encode_prompt("ink"), parts.vae, parts.fingerprints, parts.unet


def deep(path: Path, levels: int) -> None:
    content = path.read_text().rstrip()
    path.write_text(content[:-1] + (", " if len(content) > 2 else "") + '"x": ' + '{"x": ' * levels + "1" + "}" * levels + "}")


def outside(path: Path) -> None:
    """The file itself elsewhere, and a link to it in its place."""
    elsewhere = path.parents[2] / f"secret-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def restored(path: Path, content: bytes) -> None:
    """The file as it was, whatever is in its place."""
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    path.write_bytes(content)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


ANY: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link that leads out": (outside, "leads out of the model folder"),
    "a link that leads out to nothing": (lambda p: replaced(p, lambda q: q.symlink_to("/nowhere/x")), "leads out"),
    "a link to itself": (lambda p: replaced(p, lambda q: q.symlink_to(q.name)), "cannot be found"),
    "a pipe": (lambda p: replaced(p, os.mkfifo), "is no plain file"),
    "a folder": (lambda p: replaced(p, Path.mkdir), "is no plain file"),
}
JSON: dict[str, tuple[Callable[[Path], object], str]] = {
    "deep": (lambda p: deep(p, 50_000), "nests deeper"),
    "too deep for us, not for Python": (lambda p: deep(p, MAX_DEPTH), "nests deeper"),
    "too large": (lambda p: os.truncate(p, MAX_BYTES + 1), "is larger than"),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:-1].rstrip()[:-1]), "not readable JSON"),
    "empty": (lambda p: p.write_bytes(b""), "not readable JSON"),
    "no text": (lambda p: p.write_bytes(b"\xff\xfe\x00"), "not readable JSON"),
    "a list": (lambda p: p.write_text("[]"), "is not a JSON object"),
    "no number": (lambda p: p.write_text('{"x": NaN}'), "NaN is no number"),
    "half a character": (lambda p: p.write_text('{"x": "\\ud800"}'), "no Unicode"),
}
NAMES = (
    "model_index.json", "looks.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
    "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json", "tokenizer/added_tokens.json", "unet/diffusion_pytorch_model.safetensors.index.json",
)  # fmt: skip
OTHERS = (
    "tokenizer/merges.txt",
    "calibration/00.jpg",
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
)


def test_the_names_below_are_all_of_a_model_s_files(whole: Path) -> None:
    shards = {str(path.relative_to(whole)) for path in whole.rglob("*-of-*")}
    found = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert found - set(NAMES) - set(OTHERS) - shards == {"vae/diffusion_pytorch_model.safetensors"}
    assert set(NAMES) <= found


@pytest.mark.parametrize("name", NAMES)
def test_no_json_of_a_model_gets_past_the_reader(model: Path, name: str) -> None:
    kept = (model / name).read_bytes()
    for case, (damage, words) in {**ANY, **JSON}.items():
        damage(model / name)
        with pytest.raises(ModelError, match=words) as caught:
            load(str(model))
        assert str(caught.value).startswith(f"model/{name}: "), case
        restored(model / name, kept)
    load(str(model))


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_file_of_a_model_gets_past_the_reader(model: Path, name: str) -> None:
    path = next(iter(sorted(model.glob(name.replace("00001-of-00002", "00001-of-*")))))
    kept = path.read_bytes()
    for case, (damage, words) in ANY.items():
        damage(path)
        with pytest.raises(ModelError, match=words) as caught:
            load(str(model))
        assert path.name in str(caught.value), case
        restored(path, kept)
    load(str(model))


def test_a_tokenizer_json_passes_the_reader_too(model: Path) -> None:
    path = model / "tokenizer" / "tokenizer.json"
    made = CLIPTokenizer.from_pretrained(path.parent)
    shutil.rmtree(path.parent)
    made.save_pretrained(path.parent)
    kept = path.read_bytes()
    for case, (damage, words) in {**ANY, **JSON}.items():
        damage(path)
        with pytest.raises(ModelError, match=words) as caught:
            load(str(model))
        assert str(caught.value).startswith("model/tokenizer/tokenizer.json: "), case
        restored(path, kept)
    load(str(model))


def test_the_shipped_model_s_painter_passes_the_reader_too(tmp_path: Path) -> None:
    model = Path(shutil.copytree(REGISTRY["pocket"].base, tmp_path / "model"))
    path = model / "painter" / "config.json"
    kept = path.read_bytes()
    for case, (damage, words) in {**ANY, **JSON}.items():
        damage(path)
        with pytest.raises(ModelError, match=words) as caught:
            ModelParts(describe(str(model)))
        assert str(caught.value).startswith("model/painter/config.json: "), case
        restored(path, kept)
    load(str(model))


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer", "calibration", "unet"])
def test_a_part_s_folder_must_lie_inside(model: Path, part: str) -> None:
    outside(model / part)
    with pytest.raises(ModelError, match="leads out of the model folder"):
        load(str(model))


def test_a_model_of_the_hub_s_cache_is_all_links(whole: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--a--b"
    (repo / "blobs").mkdir(parents=True)
    snapshot = repo / "snapshots" / "0123"
    for number, path in enumerate(sorted(path for path in whole.rglob("*") if path.is_file())):
        blob = repo / "blobs" / f"{number:040x}"
        shutil.copy(path, blob)
        place = snapshot / path.relative_to(whole)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(blob, place.parent))
    load(str(snapshot))


def test_nesting_is_bounded_exactly(tmp_path: Path) -> None:
    for levels in range(MAX_DEPTH - 2, MAX_DEPTH + 3):
        text = '{"x": ' * levels + "1" + "}" * levels
        if levels <= MAX_DEPTH:
            assert parse_json(text, "x")
        else:
            with pytest.raises(ModelError, match=r"^x: nests deeper than 32 levels"):
                parse_json(text, "x")


def test_names_that_are_none_lead_nowhere(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    for name in ("a\0b", "x" * 300, "../x", "/etc/passwd"):
        with pytest.raises(ModelError):
            folder.json(name)


def test_headers_with_broken_metadata_are_refused(model: Path) -> None:
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    for metadata in (None, [], 3, "x"):
        raw = json.dumps({**json.loads(content[8 : 8 + length]), "__metadata__": metadata}).encode()
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + content[8 + length :])
        with pytest.raises(ModelError, match="header"):
            load(str(model))


TOKEN = {"content": "<|endoftext|>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
TOKENIZERS: dict[str, dict[str, object]] = {
    "plain": {},
    "Stable Diffusion 1.5's": {
        "special_tokens_map.json": {"eos_token": TOKEN, "pad_token": "<|endoftext|>", "unk_token": TOKEN},
        "tokenizer_config.json": {"model_max_length": 8, "name_or_path": "x", "special_tokens_map_file": "/etc/passwd"},
    },
    "SD 2's, padded with another token": {"special_tokens_map.json": {"pad_token": "!"}},
    "numbered tokens": {
        "tokenizer_config.json": {
            "added_tokens_decoder": {"0": {**TOKEN, "content": "!"}, "513": {**TOKEN, "special": True}},
            "pad_token": "!", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "model_max_length": 8,
        }
    },
    "tokens beside the vocabulary": {"added_tokens.json": {"<style>": 514}},
}  # fmt: skip


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_tokenizer_is_the_one_that_the_library_reads(model: Path, case: str, saved: bool) -> None:
    for name, content in TOKENIZERS[case].items():
        (model / "tokenizer" / name).write_text(json.dumps(content))
    if saved:
        made = CLIPTokenizer.from_pretrained(model / "tokenizer")
        shutil.rmtree(model / "tokenizer")
        made.save_pretrained(model / "tokenizer")
        assert (model / "tokenizer" / "tokenizer.json").exists()
    ours, theirs = read_tokenizer(ModelFolder(model), "tokenizer"), CLIPTokenizer.from_pretrained(model / "tokenizer")
    for text in ("", "ink", "A Cat!", "a <style> cat", "naïve ☃ \U0001f408", "<|endoftext|> x", "x" * 50):
        for options in ({}, {"padding": "max_length", "max_length": 8, "truncation": True}):
            assert ours(text, **options).input_ids == theirs(text, **options).input_ids, text
    assert ours.model_max_length == theirs.model_max_length and len(ours) == len(theirs)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", {"a": "x"}),
        ("vocab.json", {}),
        ("tokenizer.json", {"model": []}),
        ("tokenizer.json", {"model": {"vocab": {"a": 0}, "merges": [["a", "b", "c"]]}}),
        ("tokenizer.json", {"model": {"vocab": {"a": 0}, "merges": [["a", "b"]]}}),
        ("tokenizer_config.json", {"unk_token": 3}),
        ("tokenizer_config.json", {"model_max_length": "long"}),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}),
        ("added_tokens.json", {"x": "y"}),
    ],
)
def test_a_tokenizer_that_is_none_is_refused_by_name(model: Path, name: str, content: object) -> None:
    (model / "tokenizer" / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"^model/tokenizer: contains no CLIP tokenizer"):
        load(str(model))


OPENED = 0x20  # IN_OPEN of inotify(7)
TRAPS = (
    "adapter_config.json", "adapter_model.safetensors", "generation_config.json", "processor_config.json", "chat_template.jinja",
    "chat_template.json", "additional_chat_templates/x.jinja", "custom_generate/generate.py", "modeling_x.py", "config.py",
    "pytorch_model.bin", "diffusion_pytorch_model.bin", "model.ckpt", "model.pkl", "tekken.json", "spiece.model", "x.gguf",
    "quantization_config.json",
)  # fmt: skip
"""What the libraries would pick up by themselves, or have done in some version, and pickles."""


@contextmanager
def opened(*folders: Path) -> Iterator[set[str]]:
    """Every file that this process, Rust and C included, opens below the folders meanwhile (inotify); filled at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    watched = {}
    for folder in (path for top in folders for path in (top, *top.rglob("*")) if path.is_dir()):
        watched[libc.inotify_add_watch(descriptor, str(folder).encode(), OPENED)] = folder
    assert descriptor >= 0 and -1 not in watched
    found: set[str] = set()
    try:
        yield found
        content = b""
        while True:
            try:
                content += os.read(descriptor, 1 << 16)
            except BlockingIOError:
                break
    finally:
        os.close(descriptor)
    while content:
        watch, _, _, length = struct.unpack("iIII", content[:16])
        name = content[16 : 16 + length].rstrip(b"\0").decode()
        if name and not (watched[watch] / name).is_dir():
            found.add(str(watched[watch] / name))
        content = content[16 + length :]


@pytest.mark.skipif(sys.platform != "linux", reason="inotify reports opened files")
def test_no_library_opens_a_file_that_was_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_family(tmp_path / "model", "sdxl", shard="300KB")
    control, adapter = save_control(tmp_path / "control", "sdxl"), save_adapter(tmp_path / "adapter", "sdxl")
    checker, lora = save_safety_checker(tmp_path / "checker"), tmp_path / "lora"
    lora.mkdir()
    tensors = {f"{LAYER.replace('down_blocks.0', 'down_blocks.1')}.lora_{side}.weight": torch.zeros(1, 1) for side in "AB"}
    width = ModelParts(describe(str(model))).unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1.to_q.weight.shape
    tensors = {name: torch.zeros((1, width[1]) if "lora_A" in name else (width[0], 1)) for name in tensors}
    save_file(tensors, lora / "pytorch_lora_weights.safetensors")
    tops = (model, control, adapter, checker, lora)
    folders = [folder for top in tops for folder in (top, *top.rglob("*")) if folder.is_dir()]
    expected = {str(path) for top in tops for path in top.rglob("*") if path.is_file()}
    for folder in folders:
        for trap in TRAPS if folder != adapter else [name for name in TRAPS if not name.endswith(".safetensors")]:
            (folder / trap).parent.mkdir(exist_ok=True)
            (folder / trap).write_text('{"peft_type": "LORA", "base_model_name_or_path": "a/b"}')
    for config in (path for path in expected if path.endswith("config.json")):
        content = json.loads(Path(config).read_text())
        code = {"auto_map": {"AutoModel": "modeling_x.X"}, "_attn_implementation": "a/b", "attn_implementation": "a/b"}
        Path(config).write_text(json.dumps({**content, **code}))

    def called(*given: object, **named: object) -> None:
        raise AssertionError(f"an unexpected call: {given}")

    monkeypatch.setattr("socket.socket.connect", called)
    monkeypatch.setattr("socket.getaddrinfo", called)
    with opened(*tops) as files:
        load(f"{model}+{lora}+control={control}+picture={adapter}")
        parts = ModelParts(describe(f"{model}+{lora}+control={control}+picture={adapter}"))
        _ = parts.controls, parts.encode_picture
        SafetyChecker(str(checker))
    assert len(files) > 20 and files <= expected
