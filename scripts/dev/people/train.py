"""Training: on a GPU if there is one, otherwise on the CPU.

The learning rate follows the clock: it falls to zero at the end of the minutes given, however many steps those
are. A checkpoint is written every few minutes, and `--resume` goes on from one with a schedule of its own.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from shapes import boxes as bx
from torch import Tensor

from . import config as c
from . import targets
from .backbone import fetch
from .data import Mixer, read_pictures
from .evaluate import NetDetector, evaluate
from .network import PeopleNet

CANDIDATES = 300
HARD, EASY = 64, 64  # anchors that are nothing: the most convincing ones, and any
WEIGHTS = {"rpn_class": 1.0, "rpn_box": 0.5, "class": 1.0, "box": 1.0, "mask": 2.5}
FROZEN_BLOCKS = 3
CHOOSING = 80  # held-out pictures that are looked at during training


def losses(
    net: PeopleNet, batch: list[dict[str, np.ndarray]], anchors: np.ndarray, rng: np.random.Generator
) -> dict[str, Tensor]:
    """The five losses of a batch, each a mean."""
    device = next(net.parameters()).device
    features = net.features(_images(batch, device))
    encodings, logits = net.propose(features)
    numbers = [x.detach().float().cpu().numpy() for x in (encodings, logits)]
    result = _rpn_losses(batch, encodings, logits, numbers[1], rng)
    proposals = [propose(e, s, anchors, (c.SIZE, c.SIZE), c.MAX_PROPOSALS) for e, s in zip(*numbers)]
    sets = [targets.roi_targets(p, s, rng) for p, s in zip(proposals, batch)]
    rois = [np.concatenate([chosen, s["mask_boxes"]]) for (chosen, _, _), s in zip(sets, batch)]
    roi = net.roi_features(features.float(), [torch.from_numpy(r / c.SIZE).float().to(device) for r in rois])
    is_mask = np.concatenate([np.arange(len(r)) >= len(k[0]) for r, k in zip(rois, sets)])
    result.update(_roi_losses(net, roi[~is_mask], sets))
    if is_mask.any():
        cells = torch.from_numpy(np.concatenate([s["mask_cells"] for s in batch])).to(device)
        result["mask"] = F.binary_cross_entropy_with_logits(net.mask(roi[is_mask]).float(), cells)
    return result


def _images(batch: list[dict[str, np.ndarray]], device: torch.device) -> Tensor:
    images = torch.from_numpy(np.stack([s["image"] for s in batch])).to(device)
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def propose(
    encodings: np.ndarray, logits: np.ndarray, anchors: np.ndarray, size_wh: tuple[int, int], keep: int
) -> np.ndarray:
    """First-stage proposals of one picture, pixels, best first."""
    scores = logits[:, 1] - logits[:, 0]
    top = np.argpartition(-scores, CANDIDATES)[:CANDIDATES]
    boxes = np.clip(bx.decode(encodings[top], anchors[top]), 0, np.tile(size_wh[::-1], 2)).astype(np.float32)
    sound = bx.area(boxes) > 1
    boxes, scores = boxes[sound], scores[top][sound]
    return boxes[bx.suppress(boxes, scores, c.FIRST_STAGE_NMS_IOU, keep)]


def _rpn_losses(
    batch: list[dict[str, np.ndarray]], encodings: Tensor, logits: Tensor, values: np.ndarray, rng: np.random.Generator
) -> dict[str, Tensor]:
    scores, labels, predicted, wanted = [], [], [], []
    for i, sample in enumerate(batch):
        positive, negative = sample["rpn_positive"], sample["rpn_negative"]
        if len(negative) > HARD + EASY:
            convincing = values[i, negative, 1] - values[i, negative, 0]
            hard = negative[np.argpartition(-convincing, HARD)[:HARD]]
            negative = np.concatenate([hard, rng.choice(negative, EASY, replace=False)])
        scores += [logits[i, torch.from_numpy(positive)], logits[i, torch.from_numpy(negative)]]
        labels += [1] * len(positive) + [0] * len(negative)
        predicted.append(encodings[i, torch.from_numpy(positive)])
        wanted.append(torch.from_numpy(sample["rpn_encodings"]))
    device = logits.device
    return {
        "rpn_class": F.cross_entropy(torch.cat(scores).float(), torch.tensor(labels, device=device)),
        "rpn_box": _box_loss(torch.cat(predicted), torch.cat(wanted).to(device)),
    }


def _box_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    return F.smooth_l1_loss(predicted.float(), wanted, reduction="sum", beta=0.5) / max(len(wanted), 1)


def _roi_losses(
    net: PeopleNet, roi: Tensor, sets: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> dict[str, Tensor]:
    scores, encodings = net.classify(roi)
    labels = torch.from_numpy(np.concatenate([s[1] for s in sets])).to(roi.device)
    wanted = torch.from_numpy(np.concatenate([s[2] for s in sets])).to(roi.device)
    found = labels > 0
    return {"class": F.cross_entropy(scores.float(), labels), "box": _box_loss(encodings[found], wanted[found])}


def rate(step: int, part_done: float) -> float:
    """Warm up, stay, and fall to zero over the last two thirds."""
    warm = min(1.0, (step + 1) / 150)
    falling = max(0.0, (part_done - 1 / 3) * 1.5)
    return warm * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * min(falling, 1.0))))


class Mean:
    """A running mean of a network's weights, which scores better than the weights themselves."""

    def __init__(self, net: PeopleNet):
        self.net, self.count = copy.deepcopy(net).eval().requires_grad_(False), 0

    @torch.no_grad()
    def update(self, net: PeopleNet) -> None:
        self.count += 1
        keep = min(0.998, self.count / (self.count + 10))
        for mean, value in zip(self.net.state_dict().values(), net.state_dict().values()):
            if value.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)


def optimiser_of(net: PeopleNet, args: argparse.Namespace) -> torch.optim.Optimizer:
    for part in (net.trunk.stem, *net.trunk.blocks[:FROZEN_BLOCKS]):
        part.requires_grad_(False)
    trunk = [p for p in net.trunk.parameters() if p.requires_grad]
    inner = {id(p) for p in net.trunk.parameters()}
    heads = [p for p in net.parameters() if id(p) not in inner]
    groups = [{"params": heads, "peak": args.rate}, {"params": trunk, "peak": args.trunk_rate}]
    return torch.optim.AdamW(groups, lr=args.rate, weight_decay=1e-4)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = PeopleNet()
    checkpoint = args.output / "people.pt"
    before = torch.load(checkpoint, weights_only=True) if args.resume else None
    if before is None:
        fetch(args.output / "movenet")
        net.trunk.load_movenet(args.output / "movenet")
    else:
        net.load_state_dict(before["net"])
    net = net.to(device, memory_format=torch.channels_last)
    mean = Mean(net)
    optimiser = optimiser_of(net, args)
    first = 0
    if before is not None:
        mean.net.load_state_dict(before["mean"])
        mean.count = first = int(before["step"])
        optimiser.load_state_dict(before["optimiser"])
        for group, peak in zip(optimiser.param_groups, (args.rate, args.trunk_rate)):
            group["peak"] = peak
    pictures = read_pictures(args.data / "people")
    mixer = Mixer(pictures, [args.data / "images" / name for name in args.empty])
    samples = targets.Samples(mixer, 1_000_000 + first)
    data = torch.utils.data.DataLoader(
        samples, args.batch, num_workers=args.workers, collate_fn=list, prefetch_factor=4
    )
    rng, anchors = np.random.default_rng(first), targets.anchors((c.SIZE, c.SIZE))
    means: dict[str, float] = {}
    began = saved = time.time()
    for step, batch in enumerate(data, first):
        part_done = max((time.time() - began) / (60 * args.minutes), (step - first + 1) / args.steps)
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * rate(step - first, part_done)
        with torch.autocast(device.type, torch.bfloat16):
            found = losses(net, batch, anchors, rng)
        total = sum(WEIGHTS[k] * v for k, v in found.items())
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        mean.update(net)
        for k, v in found.items():
            means[k] = 0.98 * means.get(k, v.item()) + 0.02 * v.item()
        if step % 25 == 0:
            speed = (time.time() - began) / (step - first + 1)
            print(
                time.strftime("%H:%M:%S"), step, " ".join(f"{k} {v:.3f}" for k, v in means.items()),
                f"{speed:.2f} s/step, {100 * part_done:.0f} %", flush=True,
            )  # fmt: skip
        if part_done >= 1 or time.time() - saved > 60 * args.save_minutes:
            _save(checkpoint, net, mean, optimiser, step + 1)
            figures = evaluate(NetDetector(mean.net), pictures.held_out[:CHOOSING], pictures.held_out_empty[:20])
            print(time.strftime("%H:%M:%S"), step, json.dumps(figures), flush=True)
            saved = time.time()
        if part_done >= 1:
            break


def _save(path: Path, net: PeopleNet, mean: Mean, optimiser: torch.optim.Optimizer, step: int) -> None:
    """Whole or not at all."""
    state = {
        "net": net.state_dict(), "mean": mean.net.state_dict(), "optimiser": optimiser.state_dict(), "step": step
    }  # fmt: skip
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    os.replace(beside, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/people"), help="folder of the checkpoint")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with people/ and images/")
    parser.add_argument(
        "--empty", nargs="*", help="more pictures without people, in images/",
        default=["chelsea.png", "coffee.png", "cars.jpg"],
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=180, help="until the learning rate is zero")
    parser.add_argument("--steps", type=int, default=10**6, help="at most so many")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate of what is new")
    parser.add_argument("--trunk-rate", type=float, default=1.5e-4, help="and of the backbone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that make samples")
    parser.add_argument("--save-minutes", type=float, default=10)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, with a new schedule")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    train(args)


if __name__ == "__main__":
    main()
