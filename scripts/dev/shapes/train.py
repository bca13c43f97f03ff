"""Training: on a GPU if there is one, otherwise on the CPU."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import boxes as bx
from . import config as c
from . import targets
from .network import ShapesNet

SIZE_WH = (320, 320)
CANDIDATES = 160
CUT_STEEPNESS = 10.0


def losses(
    net: ShapesNet, batch: list[dict[str, np.ndarray]], anchors: np.ndarray, rng: np.random.Generator
) -> dict[str, Tensor]:
    """The five losses of a batch, each a mean."""
    device = next(net.parameters()).device
    features = net.features(to_images(batch, device))
    encodings, logits = net.propose(features)
    result = rpn_losses(batch, encodings, logits)
    proposals = [propose(e, s, anchors) for e, s in zip(to_numpy(encodings), to_numpy(logits))]
    sets = [
        targets.roi_targets(p, s["boxes"], s["classes"], SIZE_WH[::-1], rng) for p, s in zip(proposals, batch)
    ]
    rois = [np.concatenate([chosen, s["mask_boxes"]]) for (chosen, _, _), s in zip(sets, batch)]
    roi = net.roi_features(features.float(), [normalised(r, device) for r in rois])
    is_mask = torch.from_numpy(
        np.concatenate([np.arange(len(r)) >= len(k[0]) for r, k in zip(rois, sets)])
    ).to(device)
    result.update(
        roi_losses(net, torch.cat([roi[~is_mask], roi[is_mask]]), sets + [mask_set(s) for s in batch])
    )
    result["mask"] = mask_loss(net, roi[is_mask], batch)
    return result


def mask_losses(net: ShapesNet, batch: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """The loss of the mask head alone; nothing before it learns."""
    device = next(net.parameters()).device
    with torch.no_grad():
        features = net.features(to_images(batch, device))
        roi = net.roi_features(features, [normalised(s["mask_boxes"], device) for s in batch])
    return {"mask": mask_loss(net, roi, batch)}


def to_images(batch: list[dict[str, np.ndarray]], device: torch.device) -> Tensor:
    images = torch.from_numpy(np.stack([s["image"] for s in batch])).to(device)
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def to_numpy(x: Tensor) -> np.ndarray:
    return x.detach().float().cpu().numpy()


def normalised(boxes: np.ndarray, device: torch.device) -> Tensor:
    width, height = SIZE_WH
    return torch.from_numpy(boxes / np.array([height, width, height, width])).float().to(device)


def propose(encodings: np.ndarray, logits: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """First-stage proposals of one picture, pixels, best first."""
    scores = logits[:, 1] - logits[:, 0]
    top = np.argpartition(-scores, CANDIDATES)[:CANDIDATES]
    boxes = bx.decode(encodings[top], anchors[top])
    boxes = np.clip(boxes, 0, np.tile(SIZE_WH[::-1], 2)).astype(np.float32)
    boxes, scores = boxes[bx.area(boxes) > 1], scores[top][bx.area(boxes) > 1]
    return boxes[bx.suppress(boxes, scores, c.FIRST_STAGE_NMS_IOU, c.MAX_PROPOSALS)]


def rpn_losses(batch: list[dict[str, np.ndarray]], encodings: Tensor, logits: Tensor) -> dict[str, Tensor]:
    scores, labels, predicted, wanted = [], [], [], []
    for i, sample in enumerate(batch):
        positive, negative = (torch.from_numpy(sample[k]) for k in ("rpn_positive", "rpn_negative"))
        scores += [logits[i, positive], logits[i, negative]]
        labels += [torch.ones(len(positive), dtype=torch.long), torch.zeros(len(negative), dtype=torch.long)]
        predicted.append(encodings[i, positive])
        wanted.append(torch.from_numpy(sample["rpn_encodings"]))
    device = logits.device
    return {
        "rpn_class": F.cross_entropy(torch.cat(scores).float(), torch.cat(labels).to(device)),
        "rpn_box": box_loss(torch.cat(predicted), torch.cat(wanted).to(device)),
    }


def box_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    return F.smooth_l1_loss(predicted.float(), wanted, reduction="sum", beta=0.5) / max(len(wanted), 1)


def mask_set(sample: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes that masks are learned in as a set for the box head too: they are good ones."""
    return sample["mask_boxes"], sample["classes"] + 1, bx.encode(sample["boxes"], sample["mask_boxes"])


def roi_losses(
    net: ShapesNet, roi: Tensor, sets: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> dict[str, Tensor]:
    scores, encodings = net.classify(roi)
    labels = torch.from_numpy(np.concatenate([s[1] for s in sets])).to(roi.device)
    wanted = torch.from_numpy(np.concatenate([s[2] for s in sets])).to(roi.device)
    found = labels > 0
    own = encodings[found, labels[found] - 1]
    return {"class": F.cross_entropy(scores.float(), labels), "box": box_loss(own, wanted[found])}


def mask_loss(net: ShapesNet, roi: Tensor, batch: list[dict[str, np.ndarray]]) -> Tensor:
    """How far the masks are from the truth as they are pasted: bilinear from edge to edge, cut at one half.

    The first term is for the soft values between the cells, the second for the cut: it falls off steeply at one half.
    """
    classes = torch.from_numpy(np.concatenate([s["classes"] for s in batch])).to(roi.device)
    wanted = torch.from_numpy(np.concatenate([s["mask_samples"] for s in batch])).to(roi.device)
    if not len(classes):
        return roi.sum() * 0
    logits = net.mask(roi)[torch.arange(len(classes), device=roi.device), classes]
    soft = F.interpolate(logits.float().sigmoid()[:, None], wanted.shape[1:], mode="bilinear", align_corners=True)[:, 0]
    between = F.binary_cross_entropy(soft.clamp(1e-4, 1 - 1e-4), wanted)
    return 0.5 * between + F.binary_cross_entropy_with_logits(CUT_STEEPNESS * (soft - c.MASK_THRESHOLD), wanted)


def rate(step: int, steps: int, peak: float) -> float:
    """Warm up, stay, and decay over the second half."""
    warm, decay = 200, 0.5 * steps
    if step < warm:
        return peak * (step + 1) / warm
    if step < decay:
        return peak
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - decay) / (steps - decay))))


def loader(first_seed: int, count: int, batch: int, workers: int) -> torch.utils.data.DataLoader:
    data = targets.Samples(first_seed, count, SIZE_WH)
    return torch.utils.data.DataLoader(data, batch, num_workers=workers, collate_fn=list, prefetch_factor=4)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = ShapesNet().to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.rate, weight_decay=1e-4)
    start = resume(args.output, net, optimiser) if args.resume else 0
    if args.masks_only:
        net.eval()
        net.mask_convs.train()
    rng = np.random.default_rng(start)
    anchors = bx.anchors(SIZE_WH)
    data = loader(args.first_seed + start * args.batch, (args.steps - start) * args.batch, args.batch, args.workers)
    weights = {"rpn_class": 1.0, "rpn_box": 1.0, "class": 1.0, "box": 1.0, "mask": 3.0}
    means: dict[str, float] = {}
    began = time.time()
    for step, batch in enumerate(data, start):
        for group in optimiser.param_groups:
            group["lr"] = rate(step, args.steps, args.rate)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bfloat16):
            parts = mask_losses(net, batch) if args.masks_only else losses(net, batch, anchors, rng)
        total = sum(weights[k] * v for k, v in parts.items())
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        for k, v in parts.items():
            means[k] = 0.98 * means.get(k, v.item()) + 0.02 * v.item()
        if step % 50 == 0 or step + 1 == args.steps:
            speed = (time.time() - began) / (step - start + 1)
            print(step, " ".join(f"{k} {v:.4f}" for k, v in means.items()), f"{speed:.2f} s/step", flush=True)
        if step % 250 == 249 or step + 1 == args.steps:
            torch.save(
                {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, args.output
            )


def resume(path: Path, net: ShapesNet, optimiser: torch.optim.Optimizer) -> int:
    state = torch.load(path, weights_only=True)
    net.load_state_dict(state["net"])
    if "optimiser" in state:  # a restored checkpoint has none
        optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the shapes model.")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("out/shapes.pt"), help="checkpoint to write"
    )
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--batch", type=int, default=8, help="scenes a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--first-seed", type=int, default=1_000_000, help="of the scenes; 0 to 499 are held out")
    parser.add_argument("--workers", type=int, default=1, help="processes that make scenes")
    parser.add_argument(
        "--bfloat16", action="store_true", help="mixed precision, where the CPU or GPU has it"
    )
    parser.add_argument("--masks-only", action="store_true", help="with --resume: the mask head alone")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    train(args)


if __name__ == "__main__":
    main()
