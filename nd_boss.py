"""Pushes masks to BOSS: the historical module; the code is in `nd_synapse.boss`."""

from nd_synapse.boss.address import DEFAULT_HOST
from nd_synapse.boss.connection import create_boss_remote
from nd_synapse.boss.push import (
    Destination,
    Patience,
    PushReport,
    boss_push,
    check_destination,
    check_mask,
    connect,
    held_blocks,
    historical_link,
    neuroglancer_link,
    push_mask,
)

__all__ = [
    "DEFAULT_HOST",
    "Destination",
    "Patience",
    "PushReport",
    "boss_push",
    "check_destination",
    "check_mask",
    "connect",
    "create_boss_remote",
    "held_blocks",
    "historical_link",
    "neuroglancer_link",
    "push_mask",
]
