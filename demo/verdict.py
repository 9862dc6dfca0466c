#!/usr/bin/env python3
"""Prints an analysis that the gateway returned: verdict.py FILE. Fails when it is not complete or has no detections.
With --finished it prints nothing, and fails while the analysis is running."""

import json
import sys


def main() -> int:
    *options, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        analysis = json.load(file)
    if "--finished" in options:
        return int(analysis["status"] == "running")

    print(f"{analysis['result'] or 'no verdict'} ({analysis['status']}", end="")
    print(f": {analysis['reason']})" if analysis["reason"] else ")")
    print(f"heard {analysis['heard_s']:.1f} s in {analysis['messages']} messages, lost {analysis['lost_s']:.1f} s")
    if analysis["cat_score"] is not None:
        print(f"a cat was heard with score {analysis['cat_score']:.2f}; vocalisations: {analysis['detection_count']}")
    if analysis["detections"]:
        print("\n   from s    to s   score   pitch Hz   level dBFS   context")
    for found in analysis["detections"]:
        measured = found["measurements"]
        label = found["context"]["label"]
        chance = found["context"]["probabilities"].get(label)
        print(
            f"  {found['start_s']:7.2f} {found['end_s']:7.2f} {found['score']:7.2f} {measured['pitch_median_hz']:10.0f}"
            f" {measured['rms_dbfs']:12.1f}   {label.replace('_', ' ')}" + (f" ({chance:.2f})" if chance is not None else "")
        )
    # A demo in which no cat was detected has failed.
    return 0 if analysis["status"] == "complete" and analysis["detections"] else 1


sys.exit(main())
