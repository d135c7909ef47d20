"""`phd shards negatives`: hard negatives for the phrases of shards."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phd.commands.json_file import write_json
from phd.errors import UserError, warn_user

if TYPE_CHECKING:
    import numpy as np

    from datamodules.negatives import Mined
    from phd.segmenter import Segmenter

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
TEXTS_AT_ONCE = 256
# A model that does not find most of what is there cannot say what is not.
LEAST_FOUND = 0.5


def add_action(actions: Any, parse: bool) -> None:
    """Describe the command line; its flags take seconds to import and are left out unless it is to be parsed."""
    parser = actions.add_parser("negatives", help="add hard negatives to shards with phrases")
    parser.add_argument("root", type=Path, metavar="DIR", help="folder of shards with phrases")
    parser.add_argument("--out", type=Path, help="empty or new folder (default: DIR-negatives)")
    parser.add_argument("--samples-per-shard", type=int, metavar="N", help="in one tar (default: as in DIR)")
    parser.add_argument("--max-samples", type=int, metavar="N", help="only the first N samples")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run into OUT was stopped")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there, too")
    parser.add_argument("--device", default="cpu", help="of --model and --verify: cpu or cuda")
    if parse:
        from datamodules.negatives import FLAGS

        for flag, keywords in FLAGS:
            parser.add_argument(flag, **keywords)


def run(options: argparse.Namespace) -> None:
    """Mine, and print what was found."""
    from datamodules.negatives import add_negatives
    from phd.commands.device import checked_device

    root: Path = options.root
    options.out = options.out or root.with_name(f"{root.name}-negatives")
    device = checked_device(options.device)
    encode = Encoder(options.model, device) if options.model else None
    verify = Verifier(options.verify, device, options.threshold) if options.verify else None
    try:
        mined = add_negatives(options, encode, verify)
    except KeyboardInterrupt as error:
        print(f"phd: stopped: {str(error) or 'interrupted'}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    print(f"{options.out}: {'finished already: ' if mined.summary.finished else ''}{mined.summary}")
    for line in described(mined, verify):
        print(line)
    for line in doubts(options.out, mined, encode, verify):
        warn_user(line)
    if options.json is not None:
        found = None if verify is None else verify.found_share
        numbers = {**asdict(mined), "true_phrases_found_by_verifier": found}
        write_json(options.json, numbers)


def described(mined: Mined, verify: Verifier | None) -> list[str]:
    """What was found, as lines for a terminal."""
    lines = []
    for what, counts in (("new hard negatives", mined.added), ("hard from now on", mined.marked)):
        parts = ", ".join(f"{count} by {name}" for name, count in counts.items())
        lines.append(f"{what}: {sum(counts.values())}" + (f" ({parts})" if parts else ""))
    lines.append(f"hard negatives in all: {mined.hard}")
    if mined.without:
        count = f"{mined.without} of {mined.summary.samples}"
        lines.append(f"images without any hard negative: {count}; --categories JSON or --model NAME may find more")
    if mined.unknown:
        lines.append(
            f"passed over: {mined.unknown} near phrases of which the labels do not say that they are absent; "
            f"--verify MODEL asks a teacher"
        )
    share = None if verify is None else verify.found_share
    if verify is not None and share is not None:
        lines.append(f"{verify.name} finds {share:.1%} of the true phrases")
    return lines


def doubts(out: Path, mined: Mined, encode: Encoder | None, verify: Verifier | None) -> list[str]:
    """Why what was found is little, or cannot be trusted."""
    lines = [f"{out}: {doubt}" for doubt in mined.summary.doubts]
    for model, cut in ((encode, encode and encode.cut), (verify, verify and verify.cut)):
        if model is not None and cut:
            lines.append(f"{cut} times a phrase was longer than {model.name} reads and lost its end")
    share = None if verify is None else verify.found_share
    if verify is not None and share is not None and share < LEAST_FOUND:
        lines.append(
            f"{verify.name} misses most of what is there, so that what it does not find may be there, too; take a "
            f"better model or a lower --threshold"
        )
    return lines


class Encoder:
    """A model's text encoder.

    Args:
        name: Of the model.
        device: Where to run it.
    """

    def __init__(self, name: str, device: Any) -> None:
        self.name, self.model, self.device = name, _loaded(name, device), device
        self.cut = 0

    def __call__(self, texts: list[str]) -> np.ndarray:
        """The mean of each phrase's tokens, of unit length (phrases, width)."""
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                text = self.model.encode_text(texts[start : start + TEXTS_AT_ONCE])
                self.cut += text.cut
                mean = (text.tokens * text.mask[..., None]).sum(dim=1) / text.mask.sum(dim=1, keepdim=True)
                rows.append(torch.nn.functional.normalize(mean.float(), dim=1).cpu())
        return torch.cat(rows).numpy()


class Verifier:
    """A model that says which phrases an image lacks: those without any score above the threshold.

    It is asked about true phrases, too; the share that it finds tells how far to trust it.

    Args:
        name: Of the model.
        device: Where to run it.
        threshold: In [0, 1].
    """

    def __init__(self, name: str, device: Any, threshold: float) -> None:
        self.name, self.device, self.threshold = name, device, threshold
        self.model = _loaded(name, device)
        self.asked = self.found = self.cut = 0

    @property
    def found_share(self) -> float | None:
        """Share of the true phrases that were found; None before any was asked."""
        return self.found / self.asked if self.asked else None

    def __call__(self, jpg: bytes, true: list[str], candidates: list[str]) -> list[bool]:
        """Which candidates are absent."""
        import torch

        from datamodules.record import decode_rgb
        from phd.predict import encode_image
        from phd.predict_concepts import CHUNK

        image = decode_rgb(jpg, "an image of the shards").permute(1, 2, 0).numpy()
        asked = [*candidates, *true]
        best = []
        with torch.inference_mode():
            features = encode_image(self.model, image, self.device, ("detector",))
            text = self.model.encode_text(asked)
            self.cut += text.cut
            for chunk in torch.arange(len(asked), device=text.tokens.device).split(CHUNK):
                answer = self.model.detect(features, text, torch.zeros_like(chunk), None, text_index=chunk)
                best += answer.scores.amax(dim=1).tolist()
        present = [score > self.threshold for score in best]
        self.asked += len(true)
        self.found += sum(present[len(candidates) :])
        return [not there for there in present[: len(candidates)]]


def _loaded(name: str, device: Any) -> Segmenter:
    from phd.loading import load_segmenter

    model = load_segmenter(name)
    if "detect" not in model.verbs:
        raise UserError(
            f"{name}: cannot read phrases (it can {', '.join(model.verbs)}); name a SAM 3 teacher or student"
        )
    return model.to(device).eval()
