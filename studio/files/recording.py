"""A session on record: frames admitted, settings and when they held, what was decided. Enough to make the same bytes again.

One JSON object a line: a head (spec, settings, source, files: how the input was read), one line per source frame with an event
(a settings patch, a painted mask or a picture prompt that takes effect before it, or that the gate skipped it), and a tail with
the digest of all pictures shown. What depended on a clock or a die is read from the recording on replay, and not decided again.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import Pixels, RillError, Settings, SettingsError, StreamSpec
from studio.pictures.codec import decode_mask, decode_prompt, prompt_format
from studio.wire.limits import Limits
from studio.wire.protocol import ProtocolError

if TYPE_CHECKING:
    from studio.files.exchange import FileOptions

FORMAT = "rill-session-1"
GIVEN = ("mask", "picture", "picture_b")


class RecordingError(RillError):
    """A session file cannot be used. The message names the file and the line."""


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """What happened at one source frame: `patch`, `mask` and `picture` took effect before it; `skipped` is the gate's verdict.

    mask: a PNG, empty where the mask was removed, None where it stayed as it was; picture: the same for the picture prompt, which
    may also be the file of a style; picture_b: the same for the second one.
    """

    frame: int
    patch: dict[str, Any] = field(default_factory=dict)
    skipped: bool = False
    mask: bytes | None = None
    picture: bytes | None = None
    picture_b: bytes | None = None

    @property
    def given(self) -> dict[str, bytes]:
        """What is given of mask, picture and picture_b."""
        return {name: value for name in GIVEN if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Recording:
    """spec is resolved (no "auto"); settings hold at frame 0; digest: sha256 of the pictures shown, source: of those read.

    files: how the input was read, and whether its sound went along; None in records of versions that did not keep it.
    """

    spec: StreamSpec
    settings: Settings
    moments: tuple[TimelineEntry, ...]
    frames: int
    source: str
    digest: str
    files: FileOptions | None = None

    def at(self) -> dict[int, TimelineEntry]:
        return {moment.frame: moment for moment in self.moments}


class Digest:
    """sha256 over pictures, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, pixels: Pixels) -> None:
        self._hash.update(pixels.tobytes())

    def text(self) -> str:
        return self._hash.hexdigest()


def write(recording: Recording, path: Path) -> None:
    """Raises RecordingError if the file cannot be written."""
    spec = dataclasses.asdict(recording.spec)
    lines: list[dict[str, Any]] = [
        {"format": FORMAT, "spec": spec, "settings": recording.settings.flat(), "source": recording.source}
    ]
    if recording.files is not None:
        lines[0]["files"] = _files(recording.files)
    lines += [_line(moment) for moment in recording.moments]
    lines.append({"frames": recording.frames, "digest": recording.digest})
    try:
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written ({error})") from error


def read(path: Path) -> Recording:
    """Raises RecordingError, naming the line that is wrong."""
    lines = _objects(path)
    if len(lines) < 2 or lines[0].get("format") != FORMAT:
        raise RecordingError(f"{path}: is not a recorded session")
    try:
        spec = StreamSpec(**lines[0]["spec"])
        settings = Settings().patched(lines[0]["settings"])
        tail = lines[-1]
        moments = tuple(_timeline_entry(path, number, line) for number, line in enumerate(lines[1:-1], start=2))
        files = _file_options(lines[0]["files"]) if "files" in lines[0] else None
        return Recording(spec, settings, moments, int(tail["frames"]), str(lines[0]["source"]), str(tail["digest"]), files)
    except (KeyError, TypeError, ValueError, RillError) as error:
        raise RecordingError(f"{path}: is broken ({error})") from error


def read_timeline(path: Path) -> tuple[TimelineEntry, ...]:
    """Settings changes for a render: one {"frame": n, "patch": {key: value}} a line, frames rising. Raises RecordingError."""
    moments = [_timeline_entry(path, number, line) for number, line in enumerate(_objects(path), start=1)]
    if any(later.frame <= earlier.frame for earlier, later in pairwise(moments)):
        raise RecordingError(f"{path}: frames must rise")
    settings = Settings()
    for moment in moments:
        try:
            settings = settings.patched(moment.patch)
        except SettingsError as error:
            raise RecordingError(f"{path}: frame {moment.frame}: {error}") from error
    return tuple(moments)


def _files(options: FileOptions) -> dict[str, Any]:
    reading = options.reading
    fps = None if reading.fps is None else str(reading.fps)
    colours = {"background": list(reading.background), "bars": list(reading.bars)}
    return {"fit": reading.fit, **colours, "fps": fps, "audio": options.audio}


def _file_options(made: dict[str, Any]) -> FileOptions:
    """What `_files` has written. Raises ValueError, KeyError or TypeError for anything else."""
    from pipelines import media
    from studio.files.exchange import FileOptions

    background, bars = (tuple(int(part) for part in made[name]) for name in ("background", "bars"))
    fps = None if made["fps"] is None else Fraction(made["fps"])
    colours = (background, bars)
    if made["fit"] not in media.FITS or any(len(one) != 3 or not all(0 <= part <= 255 for part in one) for one in colours):
        raise ValueError("files: fit is crop, pad or stretch; background and bars are three numbers from 0 to 255")
    if not isinstance(made["audio"], bool) or (fps is not None and not 0 < fps <= 240):
        raise ValueError("files: audio is true or false, fps above 0 and up to 240")
    return FileOptions(media.ReadOptions(made["fit"], background, bars, fps), made["audio"])  # type: ignore[arg-type]


def _line(moment: TimelineEntry) -> dict[str, Any]:
    line: dict[str, Any] = {"frame": moment.frame}
    if moment.patch:
        line["patch"] = moment.patch
    if moment.skipped:
        line["skipped"] = True
    return line | {name: base64.b64encode(png).decode() for name, png in moment.given.items()}


def _objects(path: Path) -> list[dict[str, Any]]:
    try:
        raw: Iterable[str] = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read ({error})") from error
    lines = []
    for number, text in enumerate(raw, start=1):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise RecordingError(f"{path}: line {number} is not JSON ({error})") from error
        if not isinstance(value, dict):
            raise RecordingError(f"{path}: line {number} is not a JSON object")
        lines.append(value)
    return lines


def _timeline_entry(path: Path, number: int, line: dict[str, Any]) -> TimelineEntry:
    frame, patch, skipped = line.get("frame"), line.get("patch", {}), line.get("skipped", False)
    unknown = set(line) - {"frame", "patch", "skipped", *GIVEN}
    good = isinstance(frame, int) and not isinstance(frame, bool) and frame >= 0
    if unknown or not good or not isinstance(patch, dict) or not isinstance(skipped, bool):
        allowed = "must hold frame (a whole number), and may hold patch, skipped, mask, picture and picture_b"
        raise RecordingError(f"{path}: line {number} {allowed}")
    return TimelineEntry(int(frame or 0), patch, skipped, *(_png(path, number, line, name) for name in GIVEN))


def _png(path: Path, number: int, line: dict[str, Any], name: str) -> bytes | None:
    """The mask or a picture prompt of a line; None if it has none."""
    if name not in line:
        return None
    try:
        png = base64.b64decode(line[name] if isinstance(line[name], str) else "?", validate=True)
        if png and name == "mask":
            decode_mask(png, Limits())
        elif png:
            decode_prompt(png, prompt_format(png), Limits())
    except (ValueError, ProtocolError) as error:
        what = "PNG" if name == "mask" else "PNG or style"
        raise RecordingError(f"{path}: line {number}: {name} is no {what} in base64 ({error})") from error
    return png
