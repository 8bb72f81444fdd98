"""One picture of a model, by any backend."""

from pathlib import Path

from benchmarks import clips
from pipelines import Entry, Frame, Pixels, Settings, StreamSpec, load

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


def picture(model: Path, backend: str, dtype: str, cache: Path | None = None) -> Pixels:
    pipeline = load(StreamSpec(str(model), SIZE, SIZE, backend, dtype), cache)
    settings = Settings().patched({"strength": 0.3, "steps": 2, "stream_batch.enabled": False})
    (answer,) = pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, CLIP[0]), settings)])
    assert answer.pixels is not None
    return answer.pixels.numpy()
