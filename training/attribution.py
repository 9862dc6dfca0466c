"""Lists the recordings that the weights were trained on, with their authors: docs/ATTRIBUTION-training.csv."""

import argparse
import csv
import pathlib

import corpus

CATMEOWS = "Ludovico, Ntalampiras, Presti, Cannas, Battini, Mattiello: CatMeows"


def originals(folder):
    """Returns where the recordings came from, by path: what each `evidence.csv` in a folder beside the manifest says."""
    found = {}
    for path in sorted(folder.glob("*/evidence.csv")):
        with open(path, newline="") as file:
            found |= {f"{path.parent.name}/{row['path']}": row["original"] for row in csv.DictReader(file)}
    return found


def row(clip, original):
    """Returns title, author, source and licence of a clip. `original`: where it came from, if its folder says so."""
    name = pathlib.Path(clip.path).name
    if clip.dataset == "esc50":
        sound = clip.group.split("|")[0]
        return [f"ESC-50 {name} ({clip.label})", clip.author, f"https://freesound.org/s/{sound}/", clip.licence]
    if clip.dataset in ("found_cat", "found_other"):
        return [f"{name} ({clip.label})", clip.author, original, clip.licence]
    if clip.dataset == "donateacry":
        return [f"Donate-a-cry {name}", clip.author, "https://github.com/gveres/donateacry-corpus", clip.licence]
    assert clip.dataset.startswith("catmeows"), f"nobody says who made {clip.path}"
    return [f"CatMeows {name}", CATMEOWS, "https://doi.org/10.5281/zenodo.4008297", clip.licence]


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=pathlib.Path, default=here / "../../shared/data/manifest.csv")
    parser.add_argument("--out", type=pathlib.Path, default=here / "../docs/ATTRIBUTION-training.csv")
    arguments = parser.parse_args()
    clips = [clip for clip in corpus.read_manifest(arguments.manifest) if clip.dataset in corpus.TRAINING_DATASETS]
    arguments.out.parent.mkdir(exist_ok=True)
    with open(arguments.out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["recording", "author", "source", "licence"])
        found = originals(arguments.manifest.parent)
        writer.writerows(row(clip, found.get(clip.path)) for clip in clips)
    print(f"{len(clips)} recordings; licences: {sorted({clip.licence for clip in clips})}")


if __name__ == "__main__":
    main()
