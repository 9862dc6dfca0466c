"""Reads events, clips and live audio of a Meowlink hub."""

from .hub import SAMPLE_RATE_HZ, Hub, HubError

__all__ = ["SAMPLE_RATE_HZ", "Hub", "HubError"]
