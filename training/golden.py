"""Writes the clips for the product's tests, with what the training framework computes for them."""

import argparse
import json
import pathlib

import numpy as np
import soundfile
import torch

import corpus
import export
import frontend
import network
import synthesis

# Name of the clip: path in the manifest, begin and end in seconds, whether it has a cat. All are under CC0 or CC BY.
CLIPS = {
    "meow_food": ("catmeows/F_BAC01_MC_MN_SIM01_101.wav", 0.0, 2.5, True),
    "meow_alone": ("catmeows/I_BLE01_EU_FN_DEL01_101.wav", 0.0, 2.5, True),
    "meow_garden": ("esc50/cat/2-82274-A.ogg", 2.6, 5.0, True),
    "meow_room": ("esc50/cat/1-79113-A.ogg", 0.0, 2.5, True),
    "dog": ("esc50/dog/1-100032-A.ogg", 0.0, 2.0, False),
    "rooster": ("esc50/rooster/1-27724-A.ogg", 0.0, 2.5, False),
    "crow": ("esc50/crow/1-56233-A.ogg", 0.0, 2.5, False),
}


@torch.no_grad()
def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=pathlib.Path)
    parser.add_argument("--manifest", type=pathlib.Path, default=here / "../../shared/data/manifest.csv")
    parser.add_argument("--logmel", type=pathlib.Path, default=here / "../target/release/examples/logmel")
    parser.add_argument("--out", type=pathlib.Path, default=here / "../sound/tests/clips")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    clips = {clip.path: clip for clip in corpus.read_manifest(arguments.manifest)}
    net, front, golden = export.load(arguments.trained), frontend.FrontEnd(arguments.logmel), {}
    lines = ["# Recordings that the tests play", "", "Cut, mixed down and resampled to 16 kHz from:", ""]
    for name, (path, begin, end, is_cat) in CLIPS.items():
        clip = clips[path]
        samples = corpus.load(arguments.manifest.parent, clip)
        samples = frontend.to_i16(samples[int(begin * corpus.RATE_HZ):int(end * corpus.RATE_HZ)])
        soundfile.write(arguments.out / f"{name}.wav", samples, corpus.RATE_HZ, subtype="PCM_16")
        frames = front(np.concatenate([samples, np.zeros(512, np.int16)]))
        logits, embedding = net(torch.from_numpy(frames.copy())[None])
        sounds = net.mimic(embedding)[0][:, list(network.MIMICKED.values())]
        golden[name] = {"is_cat": is_cat, "cat_logits": [round(v, 5) for v in logits[0].tolist()],
                        "sound_logits": [round(v, 5) for v in sounds.mean(0).tolist()]}
        author = clip.author or "Ludovico, Ntalampiras, Presti, Cannas, Battini, Mattiello (CatMeows, doi.org/10.5281/zenodo.4008297)"
        source = f"freesound.org/s/{clip.group.split('|')[0]}, by way of ESC-50" if clip.dataset == "esc50" else path
        lines.append(f"- `{name}.wav`: {author}; {source}; {clip.licence}")
    # Speech, for the tests of the speech gate. The network's output for it is not compared.
    soundfile.write(arguments.out / "speech.wav", frontend.to_i16(synthesis.speech(0)[0] * 0.5), corpus.RATE_HZ, subtype="PCM_16")
    lines.append("- `speech.wav`: made by espeak-ng for the tests; CC0")
    (arguments.out / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    (arguments.out / "ATTRIBUTION.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
