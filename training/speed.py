"""Measures how fast one core runs YAMNet in TFLite, by CPU time, for comparison with the example `speed` of `sound`."""

import argparse
import pathlib
import time

import numpy as np

import corpus
import teacher

ROUNDS = 5
SECONDS = 60


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=pathlib.Path, default=here / "../../shared/data/teacher/yamnet.tflite")
    arguments = parser.parse_args()
    listen = teacher.Teacher(arguments.teacher, keep_all=False)
    samples = np.random.default_rng(1).normal(0, 0.03, SECONDS * corpus.RATE_HZ).astype(np.float32)
    times = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        listen.scores(samples)
        times.append(time.thread_time() - began)
    median = sorted(times)[ROUNDS // 2]
    print(f"YAMNet (TFLite, every 0.48 s): {SECONDS / median:.0f} times real time, {median * 1e3 / SECONDS:.3f} ms a second of audio")


if __name__ == "__main__":
    main()
