"""Makes the mixes that the network is trained on: a file for each part, with frames, labels and teacher logits."""

import argparse
import multiprocessing
import os
import pathlib

import numpy as np

import corpus
import frontend
import mixes
import teacher

# Mixes of a batch. It is fixed, so that the pool does not depend on the number of workers.
BATCH = 125


def make_batch(job):
    """Makes one batch of mixes, from its own seed."""
    arguments, part, number = job
    shares = mixes.NEAR if number < arguments.mixes // BATCH // 2 else mixes.FAR
    global _state
    if "_state" not in globals() or _state[0] != part:
        clips = [clip for clip in corpus.read_manifest(arguments.manifest) if clip.dataset in corpus.TRAINING_DATASETS]
        part_of = corpus.split(clips)
        own = [clip for clip in clips if part_of[clip.path] == part]
        folder = pathlib.Path(arguments.manifest).parent
        _state = (part, mixes.sources_of(folder, own, part), teacher.Teacher(arguments.teacher), frontend.FrontEnd(arguments.logmel))
    _, sources, teach, front = _state
    rng = np.random.default_rng([arguments.seed, part, number])
    frames, labels, logits = [], [], []
    for _ in range(BATCH):
        samples, steps = mixes.mix(rng, sources, shares)
        frames.append(front(frontend.to_i16(samples * 10 ** (rng.uniform(-20, 0) / 20))).astype(np.float16))
        labels.append(steps)
        logits.append(np.round(teach.opinion(samples) * 4).clip(-127, 127).astype(np.int8))
    return part, np.stack(frames), np.stack(labels), np.stack(logits)


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=pathlib.Path, default=here / "../../shared/data/manifest.csv")
    parser.add_argument("--teacher", type=pathlib.Path, help="yamnet.tflite; default: in teacher/ next to the manifest")
    parser.add_argument("--logmel", type=pathlib.Path, default=here / "../target/release/examples/logmel")
    parser.add_argument("--out", type=pathlib.Path, default=here / "../target/training")
    parser.add_argument("--mixes", type=int, default=10_000, help="mixes for each part: half of them near the recordings, half far from them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    arguments.teacher = arguments.teacher or arguments.manifest.parent / "teacher/yamnet.tflite"
    arguments.out.mkdir(parents=True, exist_ok=True)
    for part in range(corpus.PARTS):
        jobs = [(arguments, part, number) for number in range(arguments.mixes // BATCH)]
        # New workers for each part, so that a worker holds the recordings of one part only.
        with multiprocessing.get_context("spawn").Pool(arguments.workers) as workers:
            made = list(workers.imap(make_batch, jobs))
        _, frames, labels, logits = zip(*made)
        # The file gets its name when it is complete.
        unfinished = arguments.out / f"unfinished{part}.npz"
        np.savez(unfinished, frames=np.concatenate(frames), labels=np.concatenate(labels), logits=np.concatenate(logits))
        unfinished.rename(arguments.out / f"pool{part}.npz")
        print(f"part {part}: {sum(map(len, frames))} mixes", flush=True)


if __name__ == "__main__":
    main()
