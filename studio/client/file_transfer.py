"""A file through a running studio and back into a file: what `python -m studio.client` does.

The time of reading and writing files does not count: pictures are read in chunks, streamed with the clock running, and written
when it stands still. With delivery "every" each source frame gets its own picture, and one that is lost with a connection is sent
again. With "newest" a frame that was dropped shows the picture before it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines import STAGES, HostPicture, Pixels, RillError, SettingsError, StageTimings, StreamSpec, media
from studio import environment
from studio.cli.arguments import add_file_arguments, assignments, file_options_of
from studio.client import DecodedAnswer, StudioClient, StudioError
from studio.files.exchange import Exchange, warnings
from studio.files.render import OrderedWriter, read_mask, read_prompt
from studio.files.summary import Summary
from studio.pictures import codec
from studio.stream.telemetry import percentile
from studio.wire.protocol import DELIVERIES, Answer, PictureEncoding

CHUNK_BYTES = 72 * 1024 * 1024
"""96 pictures of 512x512: the pause between chunks costs less than one percent, and three chunks fit into memory anywhere."""

MAX_LAG = 8
"""No stream batch holds more frames; this many copies of the last one push all of them out."""


PATIENT: dict[str, object] = {"cache.enabled": False, "gate.enabled": False}
"""A file has time: sessions of a live server begin with accelerations, which render has only on demand."""

MAX_SENDS = 5
"""A frame that was dropped this often is given up, with an error."""


@dataclass(slots=True)
class SentFrame:
    """position: of the frame in the clip, from 0. sends: how often it has been sent."""

    position: int
    pixels: Pixels
    sends: int = 0


class FileTransfer:
    """One clip in progress. pace: max sends as fast as answers come, source as fast as the clip plays. every: no frame may be
    lost; else those that the server drops, and with pace source those that come too fast, repeat the picture before."""

    def __init__(self, client: StudioClient, source: media.Source, output: OrderedWriter, pace: str, every: bool = True) -> None:
        self.client = client
        self.source = source
        self.pace = pace
        self.summary = Summary()
        self.wall_s = 0.0
        self.latencies: list[float] = []
        self.outside: list[float] = []
        self._output = output
        self._size = client.size  # of the file, whatever becomes of the stream
        self._writes: list[Callable[[], None]] = []  # done once the clock stands still
        self._open: dict[int, SentFrame] = {}  # by frame id, while no picture is decided for it
        self._lost: list[SentFrame] = []  # to be sent again
        self._every = every
        self._done = 0  # all answers up to this frame id have been seen
        self._progress = asyncio.Event()

    async def run(self) -> None:
        """The whole clip. Raises StudioError, MediaError."""
        width, height = self.client.size
        size = max(8, CHUNK_BYTES // (width * height * 3))
        pictures = iter(self.source.pictures)
        chunk = await asyncio.to_thread(lambda: list(itertools.islice(pictures, size)))
        while chunk:
            following = await asyncio.to_thread(lambda: list(itertools.islice(pictures, size)))
            started = time.perf_counter()
            await self._stream(chunk, last=not following)
            self.wall_s += time.perf_counter() - started
            await asyncio.to_thread(self._write)
            chunk = following

    def result(self) -> dict[str, Any]:
        """The closing JSON object: render's, and latencies in ms from capture to decoded; `outside` is what neither the model nor
        waiting for it took (steps 1 only: with more, a picture waits for its successors)."""
        seen = self.summary.verdicts
        self.summary.dropped = max(0, self.summary.frames - seen["generated"] - seen["cached"] - seen["skipped"])
        result = self.summary.result(StreamSpec(**self.client.welcome["spec"]), self.client.values["seed"], self.wall_s)
        latency = {"p50": percentile(self.latencies, 0.5), "p95": percentile(self.latencies, 0.95)}
        if self.client.values["steps"] == 1:
            latency["outside"] = percentile(self.outside, 0.5)
        result["latency_ms"] = {name: round(value, 2) if value == value else None for name, value in latency.items()}
        return result

    async def _stream(self, chunk: Sequence[media.TimedPicture], last: bool) -> None:
        sender = asyncio.create_task(self._send(chunk, last))
        receiver = asyncio.create_task(self._receive())
        try:
            await asyncio.wait([sender, receiver], return_when=asyncio.FIRST_COMPLETED)
            (sender if sender.done() else receiver).result()
        finally:
            for task in (sender, receiver):
                task.cancel()
            await asyncio.gather(sender, receiver, return_exceptions=True)

    async def _send(self, chunk: Sequence[media.TimedPicture], last: bool) -> None:
        started = time.monotonic()
        for picture in chunk:
            position, self.summary.frames = self.summary.frames, self.summary.frames + 1
            self._writes.append(partial(self._output.reserve, position, picture.at, picture.until))
            if self.pace == "source":
                await asyncio.sleep(max(0.0, started + float(picture.at - chunk[0].at) - time.monotonic()))
            if self.pace == "source" and not self._every and not self.client.room:
                self._repeat(position)
                continue
            await self._send_lost()
            if await self._send_frame(SentFrame(position, picture.pixels)) == 1:
                await self._settle()  # the engine's first step may be slow; nothing must queue behind it
        await self._settle()
        if last:
            await self._flush(chunk[-1].pixels)

    async def _send_frame(self, frame: SentFrame) -> int:
        if frame.sends == MAX_SENDS:
            raise StudioError(f"frame {frame.position} of the clip was sent {MAX_SENDS} times and got no picture")
        frame.sends += 1
        frame_id = await self.client.frame(frame.pixels)
        self._open[frame_id] = frame
        return frame_id

    async def _send_lost(self) -> None:
        """Send the frames again that were lost, in the order of the clip."""
        while self._lost:
            await self._send_frame(self._lost.pop(0))

    async def _settle(self) -> None:
        """Until every frame sent so far has been answered; lost ones are sent again."""
        while self._lost or self._done < self.client.sent:
            await self._send_lost()
            if self._done < self.client.sent:
                self._progress.clear()
                await self._progress.wait()

    async def _flush(self, pixels: Pixels) -> None:
        """Bring home what is still in the stream batch; the copies sent for it have no position in the clip."""
        if self.client.values["steps"] > 1:
            for _ in range(MAX_LAG):
                if not self._open:
                    break
                await self.client.frame(pixels)
                await self._settle()
        for frame_id in list(self._open):
            self._repeat(self._open.pop(frame_id).position)

    async def _receive(self) -> None:
        while True:
            shown = await self.client.shown()
            self._take(shown)
            self._done = max(self._done, shown.answer.settled)
            self._progress.set()

    def _take(self, shown: DecodedAnswer) -> None:
        answer, frame_id = shown.answer, shown.answer.frame_id
        if self._every and answer.verdict == "dropped":
            return self._lose(answer)
        if shown.pixels is None:
            if answer.verdict != "warming" and frame_id in self._open:
                self.summary.verdicts[answer.verdict] += 1
                self._repeat(self._open.pop(frame_id).position)
            return
        for earlier in [open_id for open_id in self._open if open_id < frame_id]:  # pictures never go back in time
            self._repeat(self._open.pop(earlier).position)
        if frame_id not in self._open:
            return
        position, picture = self._open.pop(frame_id).position, HostPicture(codec.fit(shown.pixels, *self._size))
        self._writes.append(lambda: self._output.deliver(position, picture))
        self.summary.verdicts[answer.verdict] += 1
        times = answer.timings
        self.summary.add_timings(StageTimings(**{stage: getattr(times, stage) for stage in STAGES}))
        self.latencies.append(shown.latency_ms)
        self.outside.append(shown.latency_ms - times.wait - times.model)

    def _lose(self, answer: Answer) -> None:
        """A frame was dropped, or the connection broke: then all frames without a picture are lost with it."""
        broken = answer.reason == "unsent"
        lost = [open_id for open_id in self._open if open_id == answer.frame_id or (broken and open_id < answer.frame_id)]
        for frame_id in lost:
            self._lost.append(self._open.pop(frame_id))
        self._lost.sort(key=lambda frame: frame.position)

    def _repeat(self, position: int) -> None:
        self._writes.append(lambda: self._output.repeat(position))

    def _write(self) -> None:
        for write in self._writes:
            write()
        self._writes.clear()


async def transfer(args: argparse.Namespace) -> dict[str, Any]:
    """Stream args.input through args.url into args.output. Raises RillError."""
    media.check_output(args.output)
    if not args.input.exists():
        raise media.MediaError(f"{args.input}: no such file")
    tls = ssl.create_default_context(cafile=args.cafile) if args.cafile is not None else None
    token = args.token if args.token is not None else environment.token()
    delivery = args.delivery or ("newest" if args.pace == "source" else "every")
    settings = (PATIENT if delivery == "every" else {}) | assignments(args.assignments)
    settings |= {} if args.prompt is None else {"prompt": args.prompt}
    encoding = PictureEncoding(args.format or ("png" if delivery == "every" else "jpeg"), args.quality)
    async with StudioClient(args.url, token=token, settings=settings, picture=encoding, tls=tls, delivery=delivery) as client:
        if args.spec:
            await client.change(**dict(args.spec))
        if args.mask is not None:
            await client.mask(await asyncio.to_thread(read_mask, args.mask, *client.size))
        if args.picture is not None:
            await client.picture(await asyncio.to_thread(read_prompt, args.picture))
        if args.picture_b is not None:
            await client.picture(await asyncio.to_thread(read_prompt, args.picture_b), second=True)
        files = await asyncio.to_thread(Exchange, args.input, args.output, *client.size, file_options_of(args))
        try:
            running = FileTransfer(client, files.source, OrderedWriter(files.writer), args.pace, delivery == "every")
            await running.run()
        finally:
            await asyncio.to_thread(files.close)
        if not running.summary.frames:
            raise media.MediaError(f"{args.input}: holds no picture")
        return running.result() | files.facts() | client.understood


def part_of_spec(text: str) -> tuple[str, Any]:
    """("width", 256) from "width=256". Raises ArgumentTypeError; the server checks the value."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} must be given as KEY=VALUE")
    try:
        return key, json.loads(value) if value.isdecimal() or key == "loras" else value
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not JSON") from None


def parser() -> argparse.ArgumentParser:
    """The arguments of `python -m studio.client`."""
    made = argparse.ArgumentParser(prog="python -m studio.client", description="Stream a file through a running studio.")
    made.add_argument("url", help="address of the studio, http(s):// or ws(s)://")
    made.add_argument("input", type=Path)
    made.add_argument("output", type=Path)
    made.add_argument("--pace", choices=("max", "source"), default="max", help="as fast as it goes, or as the clip plays")
    made.add_argument(
        "--delivery",
        choices=DELIVERIES,
        help="every: each frame gets its own picture (default); newest: frames that wait are replaced (so for --pace source)",
    )
    made.add_argument("--prompt", help="what the picture should become")
    made.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE", help="any live setting")
    made.add_argument(
        "--spec",
        type=part_of_spec,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change model, loras (as JSON), width, height, backend, dtype, attention, hires, stitch",
    )
    made.add_argument("--mask", type=Path, help="painted strength map for --set strength_map.mode=mask; white is full strength")
    made.add_argument("--picture", type=Path, help="picture prompt: a picture, or the file of a style")
    second = "a second one, mixed in by --set picture.blend=0..1"
    made.add_argument("--picture-b", type=Path, metavar="PICTURE", help=second)
    add_file_arguments(made)
    made.add_argument("--token", help="API token (default: RILL_TOKEN, else that of your own server on this machine)")
    travel = "how pictures travel: png without loss, so the result is render's (default), or jpeg (default with newest)"
    made.add_argument("--format", choices=("jpeg", "png"), help=travel)
    made.add_argument("--quality", type=int, choices=range(30, 101), default=90, metavar="30..100", help="of JPEG")
    made.add_argument("--cafile", type=Path, help="certificate to trust, of a server with one of its own making")
    return made


def main(argv: Sequence[str]) -> int:
    """Exit code 0; 1 if the studio or a file failed; 2 for a wrong argument."""
    args = parser().parse_args(argv)
    try:
        result = asyncio.run(transfer(args))
        for line in warnings(args.input, result):
            print(f"studio.client: {line}", file=sys.stderr)
        print(json.dumps(result))
    except (SettingsError, ssl.SSLError) as error:
        print(f"studio.client: {error}", file=sys.stderr)
        return 2
    except StudioError as error:
        print(f"studio.client: {error}", file=sys.stderr)
        return 2 if error.code in ("bad_settings", "bad_spec", "bad_mask", "unauthorized", "forbidden") else 1
    except (RillError, OSError) as error:
        print(f"studio.client: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
