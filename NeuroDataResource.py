"""One BOSS experiment to read from: the historical module; the code is in `nd_synapse.boss.resource`."""

from nd_synapse.boss.resource import NeuroDataResource, get_boss_config, get_boss_resource

__all__ = ["NeuroDataResource", "get_boss_config", "get_boss_resource"]
