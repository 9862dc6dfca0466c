"""Trains the network on the pool of mixes (see pool.py), with --hold-out without one part of the split."""

import argparse
import math
import os
import pathlib
import time

import numpy as np
import torch
from torch import nn

import corpus
import export
import mixes
import network

POWER_FLOOR = 1e-11

# Batches after which the weights are saved within an epoch too, so that they can be judged.
SAVED_AFTER = 100

# Mixes by which a network that starts from a weights file is made ready.
STARTED_WITH = 1_000


def power_of(frames):
    return (torch.exp(frames * 4 - 16) - POWER_FLOOR).clamp(min=0)


def frames_of(power):
    return (torch.log(power + POWER_FLOOR) + 16) / 4


def augmented(frames, partners, generator):
    """Varies level and microphone, masks bands and adds partners (mixes without a cat) to some mixes, on band powers.

    Returns the frames, and which mixes got a partner.
    """
    count = len(frames)
    uniform = lambda low, high, *shape: torch.rand(*shape, generator=generator) * (high - low) + low
    power = power_of(frames)
    # A smooth change of the spectrum, with a deviation of 2.5 dB at each knot.
    knots = torch.randn(count, 1, 6, generator=generator) * 2.5
    power = power * 10 ** (nn.functional.interpolate(knots, network.BANDS, mode="linear", align_corners=True).transpose(1, 2)[:, None, :, 0] / 10)
    # A partner, 30 dB softer to 3 dB louder.
    company = torch.rand(count, generator=generator) < 0.2
    other = power_of(partners)
    relative = power.mean((1, 2)) / other.mean((1, 2)).clamp(min=1e-12) * 10 ** (uniform(-30, 3, count) / 10)
    power = power + other * (relative * company)[:, None, None]
    # Another level: most recordings in a home are far below full scale.
    gain_db = uniform(-32, 3, count) * (torch.rand(count, generator=generator) < 0.75)
    frames = frames_of(power * 10 ** (gain_db / 10)[:, None, None])
    # Some bands masked.
    first = torch.randint(0, network.BANDS, (count,), generator=generator)
    width = torch.randint(0, 7, (count,), generator=generator) * (torch.rand(count, generator=generator) < 0.4)
    band = torch.arange(network.BANDS)
    masked = (band >= first[:, None]) & (band < (first + width)[:, None])
    mean = frames.mean(2, keepdim=True)
    return torch.where(masked[:, None], mean, frames), company


def load_pool(folder, parts):
    """Returns frames, labels and teacher logits of some parts."""
    files = [np.load(pathlib.Path(folder) / f"pool{part}.npz") for part in parts]
    return [torch.from_numpy(np.concatenate([file[name] for file in files])) for name in ("frames", "labels", "logits")]


def patches_of(embedding, count):
    """Returns the mean embedding over each of the teacher's patches."""
    starts = [round(7.5 * patch) for patch in range(count)]
    return torch.stack([embedding[:, start:start + network.PATCH_STEPS].mean(1) for start in starts], 1)


def losses(net, frames, labels, teacher, imitate, half, ceiling=None):
    """Returns the losses of a batch: by frame, by clip, of imitation, and of imitation over the scored classes alone.

    The convolutions run in bfloat16 if `half`.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        embedding = net.embed(frames)
    embedding = net.drop(embedding.float())
    logits = net.cat(embedding)[..., 0]
    sure = labels != mixes.UNSURE
    target = (labels == mixes.CAT).float()
    frame = nn.functional.binary_cross_entropy_with_logits(logits[sure], (target * 0.98 + 0.005)[sure])
    has_cat = target.any(1)
    clear = has_cat | sure.all(1)
    clip = nn.functional.binary_cross_entropy_with_logits(network.clip_logit(logits)[clear], has_cat[clear].float() * 0.98 + 0.005)
    # The teacher works on patches, so its logits are imitated from the mean embedding over the same time.
    patches = patches_of(embedding, teacher.shape[1])[imitate]
    wanted = teacher[imitate].clamp(-9, 5)
    if ceiling is not None:
        # The teacher takes many babies for cats. Where the labels know that there is no cat, it must not be so sure.
        columns = list(network.SCORED)
        sure = (labels == mixes.OTHER).all(1)[imitate][:, None, None]
        wanted[..., columns] = torch.where(sure, wanted[..., columns].clamp(max=ceiling), wanted[..., columns])
    error = (net.mimic(patches) - wanted) ** 2
    # The classes that the teacher is fairly sure of count most.
    weight = 0.3 + torch.sigmoid(wanted + 2) * 3
    weight[..., list(network.MIMICKED.values())] *= 4
    scored = error[..., list(network.SCORED)].mean()
    return frame, clip, (error * weight).mean(), scored


@torch.no_grad()
def started(path, frames, teacher):
    """Returns a network that answers as a weights file does, ready to be trained on.

    The batch norms get the means and deviations that they find in these frames. The file has few of the teacher's classes;
    the others get the linear layer that fits these logits best (ridge regression).
    """
    net = export.from_bytes(path.read_bytes()).eval()
    x = nn.functional.pad(frames, (0, 0, network.LEFT_FRAMES, network.RIGHT_FRAMES), value=network.SILENCE)[:, None]
    for layer in net.layers:
        found = layer.conv(x)
        mean, variance = found.mean((0, 2, 3)), found.var((0, 2, 3))
        layer.norm.running_mean.copy_(mean)
        layer.norm.running_var.copy_(variance)
        layer.norm.weight.copy_(torch.sqrt(variance + layer.norm.eps))
        layer.norm.bias += mean
        x = layer(x)
    patches = patches_of(x[..., 0].transpose(1, 2), teacher.shape[1]).flatten(0, 1)
    known = torch.cat([patches, torch.ones(len(patches), 1)], 1)
    fitted = torch.linalg.solve(known.T @ known + 10 * torch.eye(known.shape[1]), known.T @ teacher.flatten(0, 1).clamp(-9, 5))
    others = [row for row in range(network.TEACHER_CLASSES) if row not in network.MIMICKED.values()]
    net.mimic.weight[others], net.mimic.bias[others] = fitted.T[others, :-1], fitted.T[others, -1]
    return net


def train(arguments, parts):
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    # As training goes on many numbers become subnormal, which would be slow.
    torch.set_flush_denormal(True)
    generator = torch.Generator().manual_seed(arguments.seed)
    frames, labels, teacher = load_pool(arguments.pool, parts)
    no_cat = torch.nonzero((labels == mixes.OTHER).all(1))[:, 0]
    if arguments.start:
        some = torch.randint(0, len(frames), (STARTED_WITH,), generator=generator)
        net = started(arguments.start, frames[some].float(), teacher[some].float() / 4)
    else:
        net = network.Network()
    net = net.to(memory_format=torch.channels_last)
    half = arguments.half == "on" or (arguments.half == "auto" and torch.cpu._is_avx512_bf16_supported())
    print(f"{sum(p.numel() for p in net.layers.parameters())} weights, {len(frames)} mixes, {len(no_cat)} without a cat", flush=True)
    optimizer = torch.optim.AdamW(net.parameters(), arguments.rate, weight_decay=0.02)
    steps = round(arguments.epochs * (len(frames) // arguments.batch))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.rate, steps, pct_start=0.15)
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(arguments.average)
    averaged = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=average, use_buffers=True)
    stateful = {"net": net, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    began = time.monotonic()
    first = 0
    if arguments.resume:
        saved = torch.load(arguments.resume, weights_only=True)
        if saved["epochs"] != arguments.epochs:
            raise SystemExit(f"{arguments.resume} was made with --epochs {saved['epochs']}: the schedule of the learning rate depends on it")
        first = saved["epoch"]
        for name, part in stateful.items():
            part.load_state_dict(saved[name])
        generator.set_state(saved["generator"])
        torch.set_rng_state(saved["dropout"])
        print(f"resuming after epoch {first}", flush=True)
    for epoch in range(first, math.ceil(arguments.epochs)):
        net.train()
        totals = torch.zeros(4)
        order = torch.randperm(len(frames), generator=generator)
        batches = order[: len(order) // arguments.batch * arguments.batch].split(arguments.batch)
        batches = batches[: steps - epoch * len(batches)]
        for number, batch in enumerate(batches, 1):
            partners = no_cat[torch.randint(0, len(no_cat), (len(batch),), generator=generator)]
            heard, company = augmented(frames[batch].float(), frames[partners].float(), generator)
            parts_of_loss = torch.stack(losses(net, heard, labels[batch], teacher[batch].float() / 4, ~company, half, arguments.ceiling))
            # The teacher was trained on thousands of cats, the labels are from thirty, so imitation weighs most.
            loss = (parts_of_loss * torch.tensor([0.2 * arguments.labels, 0.1 * arguments.labels, 0.5, 0.1])).sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(net)
            totals += parts_of_loss.detach()
            if number % SAVED_AFTER == 0:
                torch.save(averaged.module.state_dict(), arguments.out)
                print(f"  {number} batches: {(totals / number)[2]:.3f} imitation after {time.monotonic() - began:.0f} s", flush=True)
        frame, clip, imitation, scored = (totals / len(batches)).tolist()
        print(f"epoch {epoch + 1}: frame {frame:.4f} clip {clip:.4f} imitation {imitation:.3f} cat {scored:.3f} after {time.monotonic() - began:.0f} s", flush=True)
        torch.save(averaged.module.state_dict(), arguments.out)
        if arguments.checkpoint:
            saved = {name: part.state_dict() for name, part in stateful.items()}
            saved |= {"epoch": epoch + 1, "epochs": arguments.epochs, "generator": generator.get_state(), "dropout": torch.get_rng_state()}
            # The file gets its name when it is complete.
            unfinished = arguments.checkpoint.with_suffix(".unfinished")
            torch.save(saved, unfinished)
            unfinished.rename(arguments.checkpoint)


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=pathlib.Path, default=here / "../target/training")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--hold-out", type=int, choices=range(corpus.PARTS), help="train without this part")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="write all that is needed to go on to this file after each epoch")
    parser.add_argument("--resume", type=pathlib.Path, metavar="FILE", help="go on from this file, which --checkpoint wrote")
    parser.add_argument("--start", type=pathlib.Path, metavar="WEIGHTS", help="start from this weights file: fewer epochs and a lower rate do then")
    parser.add_argument("--epochs", type=float, default=8, help="passes over the mixes; the last may be a part of one")
    parser.add_argument("--labels", type=float, default=1, metavar="FACTOR", help="let the labels weigh this much more against the teacher")
    parser.add_argument("--ceiling", type=float, help="highest logit of a cat that the network learns from the teacher where the labels say that there is none")
    parser.add_argument("--average", type=float, default=0.998, help="the running mean of the weights, which is saved, decays by this a batch")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--half", choices=("auto", "on", "off"), default="auto", help="convolve in bfloat16: twice as fast on CPUs that support it")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    train(arguments, [part for part in range(corpus.PARTS) if part != arguments.hold_out])


if __name__ == "__main__":
    main()
