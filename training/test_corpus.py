"""Tests that the split keeps every source on one side, and that every recording is credited to those who made it. Run: python -m unittest discover training"""

import os
import pathlib
import unittest

import attribution
import corpus

HERE = pathlib.Path(__file__).resolve().parent
MANIFEST = pathlib.Path(os.environ.get("MEOWLINK_MANIFEST", HERE / "../../shared/data/manifest.csv"))


def clip(path, dataset="esc50", label="Dog", group="1|ann", fold="1", near_duplicates=""):
    return corpus.Clip(path, dataset, label, group, fold, "CC0", "", near_duplicates)


class Split(unittest.TestCase):
    def test_one_uploader_is_on_one_side(self):
        clips = [clip("a", group="1|ann", fold="1"), clip("b", group="2|ann", fold="2"), clip("c", group="3|bob", fold="2")]
        part_of = corpus.split(clips)
        self.assertEqual(part_of["a"], part_of["b"])

    def test_near_duplicates_are_on_one_side(self):
        clips = [clip("a", group="1|ann", fold="1", near_duplicates="7"), clip("b", group="2|bob", fold="3", near_duplicates="7 9"),
                 clip("c", group="3|eve", fold="2", near_duplicates="9")]
        self.assertEqual(len(set(corpus.split(clips).values())), 1)

    def test_unrelated_clips_keep_their_fold(self):
        clips = [clip("a", group="1|ann", fold="1"), clip("b", group="2|bob", fold="2")]
        self.assertEqual(corpus.split(clips), {"a": 0, "b": 1})

    @unittest.skipUnless(MANIFEST.exists(), "the recordings are missing: docs/MODEL.md says where to get them")
    def test_no_source_of_the_manifest_is_on_two_sides(self):
        clips = [c for c in corpus.read_manifest(MANIFEST) if c.dataset in corpus.TRAINING_DATASETS]
        part_of, sides = corpus.split(clips), {}
        for c in clips:
            for source in c.sources():
                sides.setdefault(source, set()).add(part_of[c.path])
        self.assertEqual({source for source, parts in sides.items() if len(parts) > 1}, set())
        self.assertEqual({part_of[c.path] for c in clips if c.label == "Cat"}, {0, 1, 2})
        self.assertEqual({part_of[c.path] for c in clips if c.dataset == "catmeows"}, {0, 1, 2})


class Attribution(unittest.TestCase):
    def test_only_catmeows_is_credited_to_its_authors(self):
        credited = {dataset: attribution.row(clip("a", dataset=dataset), "https://example.org/") for dataset in corpus.TRAINING_DATASETS}
        theirs = {dataset for dataset, (_, author, _, _) in credited.items() if author == attribution.CATMEOWS}
        self.assertEqual(theirs, {"catmeows", "catmeows_sequence", "catmeows_other_voc"})
        self.assertEqual(credited["found_cat"][2], "https://example.org/")

    @unittest.skipUnless(MANIFEST.exists(), "the recordings are missing: docs/MODEL.md says where to get them")
    def test_every_recording_has_an_author_and_a_source(self):
        found = attribution.originals(MANIFEST.parent)
        for c in corpus.read_manifest(MANIFEST):
            if c.dataset in corpus.TRAINING_DATASETS:
                self.assertTrue(all(attribution.row(c, found.get(c.path))), c.path)


if __name__ == "__main__":
    unittest.main()
