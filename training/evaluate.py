"""Measures detection on recordings that the weights were not trained on, with the product's own code.

Give a weights file for each part of the split, trained without that part (train.py --hold-out PART, then export.py).
"""

import argparse
import pathlib

import numpy as np

import corpus
import frontend
import listen
import teacher


def average_precision(truth, scores):
    """Returns the area under precision over recall: the mean of the precision at each positive. Ties count against."""
    order = np.lexsort((truth, -scores))
    hits = np.cumsum(truth[order])
    return (hits / np.arange(1, len(hits) + 1))[truth[order]].mean()


def area_under_roc(truth, scores):
    """Returns the probability that a cat scores higher than another sound. Ties count half."""
    cats, others = scores[truth][:, None], scores[~truth][None]
    return ((cats > others) + 0.5 * (cats == others)).mean()


def recall_at(truth, scores, share):
    """Returns the share of the cats that score higher than all but this share of the other sounds."""
    others = np.sort(scores[~truth])[::-1]
    return (scores[truth] > others[int(len(others) * share)]).mean()


MEASURES = (average_precision, area_under_roc, lambda t, s: recall_at(t, s, 0.001), lambda t, s: recall_at(t, s, 0.01))


def line(truth, scores, groups, rng, rounds=300):
    """Returns all measures as text, each with its 95 % interval (bootstrap over the sources of the recordings)."""
    names, place = np.unique(groups, return_inverse=True)
    rows_of, drawn = [np.flatnonzero(place == n) for n in range(len(names))], []
    while len(drawn) < rounds:
        rows = np.concatenate([rows_of[n] for n in rng.integers(0, len(names), len(names))])
        if truth[rows].any():
            drawn.append([measure(truth[rows], scores[rows]) for measure in MEASURES])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return "  ".join(f"{measure(truth, scores):.3f} [{a:.3f}, {b:.3f}]" for measure, a, b in zip(MEASURES, low, high))


def limited(samples):
    """Returns the samples as if they had been recorded at 8 kHz."""
    from scipy.signal import resample_poly

    return resample_poly(resample_poly(samples, 1, 2), 2, 1)[: len(samples)].astype(np.float32)


def rumble_free_level(samples):
    """Returns the trivial baseline: the level of the loudest tenth of a second, between 400 and 2,000 Hz."""
    from scipy.signal import butter, sosfilt

    heard = sosfilt(butter(4, [400, 2_000], "band", fs=corpus.RATE_HZ, output="sos"), samples)
    return float((heard[: len(heard) // 1_600 * 1_600].reshape(-1, 1_600) ** 2).mean(axis=1).max()) if len(heard) >= 1_600 else 0.0


def yamnet_score(teach, samples):
    """Returns the highest logit of cat, meow or caterwaul in any patch."""
    return float(teach(samples)[:, [76, 78, 80]].max())


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=pathlib.Path, default=here / "../../shared/data/manifest.csv")
    parser.add_argument("--teacher", type=pathlib.Path, help="yamnet.tflite; default: in teacher/ next to the manifest")
    parser.add_argument("--hear", type=pathlib.Path, default=here / "../target/release/examples/hear")
    parser.add_argument("weights", nargs="+", metavar="PART:FILE", type=listen.part_and_file, help="weights trained without that part")
    arguments = parser.parse_args()
    folder = arguments.manifest.parent
    everything = corpus.read_manifest(arguments.manifest)
    clips = [clip for clip in everything if clip.dataset in corpus.TRAINING_DATASETS]
    part_of = corpus.split(clips)
    teach = teacher.Teacher(arguments.teacher or folder / "teacher/yamnet.tflite")
    conditions = {"as recorded": lambda x: x, "30 dB softer": lambda x: x * 10 ** -1.5, "8 kHz only": limited}
    found = {name: [] for name in [*conditions, "YAMNet", "level"]}
    truth, groups, alarms, hours, alarmed = [], [], {0.5: 0, 0.9: 0}, 0.0, {}
    meows, digits = [], []
    for part, weights in arguments.weights:
        listener = listen.Listener(arguments.hear, "--weights", weights)
        own = [clip for clip in clips if part_of[clip.path] == part]
        stream = []
        for clip in own:
            samples = corpus.load(folder, clip)
            if clip.dataset == "esc50":
                truth.append(clip.is_cat)
                groups.append(clip.group)
                for name, change in conditions.items():
                    found[name].append(listener(frontend.to_i16(change(samples)))["cat_score"])
                found["YAMNet"].append(yamnet_score(teach, samples))
                found["level"].append(rumble_free_level(samples))
                if not clip.is_cat:
                    stream.append(samples)
                    alarmed[clip.label] = alarmed.get(clip.label, 0) + (found["as recorded"][-1] >= 0.5)
            elif clip.dataset == "catmeows":
                meows.append(listener(frontend.to_i16(samples))["cat_score"])
        # All clips without a cat as one stream, as a node would send it.
        rng = np.random.default_rng(part)
        stream = np.concatenate([stream[n] for n in rng.permutation(len(stream))])
        hours += len(stream) / corpus.RATE_HZ / 3_600
        events = listener(frontend.to_i16(stream))["events"]
        for threshold in alarms:
            alarms[threshold] += sum(event["score"] >= threshold for event in events)
        digits += [listener(frontend.to_i16(corpus.load(folder, clip)))["cat_score"] for clip in everything if clip.dataset == "fsdd"]
    truth, rng = np.array(truth), np.random.default_rng(1)
    print(f"ESC-50: {truth.sum()} cats, {(~truth).sum()} others, each clip scored by weights trained without its sources")
    print("average precision, area under ROC, recall at 0.1 % and at 1 % false positives; 95 % intervals over sources")
    for name, scores in found.items():
        print(f"  {name:14}", line(truth, np.array(scores), np.array(groups), rng), flush=True)
    print("audio without cats as a stream: " + "; ".join(f"{count / hours:.1f} false alarms an hour at score {t}" for t, count in alarms.items())
          + f" ({hours:.2f} h)")
    print("clips without cats that score 0.5 or more, by class: " + ", ".join(f"{label} {count}" for label, count in sorted(alarmed.items(), key=lambda i: -i[1]) if count))
    meows = np.array(meows)
    print(f"CatMeows, by weights trained without the cat: {(meows >= 0.5).mean():.3f} of {len(meows)} score 0.5 or more, {(meows >= 0.9).mean():.3f} score 0.9 or more")
    print(f"spoken digits: {(np.array(digits) >= 0.5).mean():.4f} of {len(digits)} score 0.5 or more")


if __name__ == "__main__":
    main()
