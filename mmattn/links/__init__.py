"""Links: an attention runs with the previous attention's result mixed in.

One link sits beside each attention of a linked network and calls it. What a
link hands on (``carry``) crosses blocks and stages as an argument; nothing is
kept on modules.
"""
from .base import Link, MapLink
from .dca import DCA, ChannelLink, ContextLink, PooledMapLink, SpatialLink
from .several import BranchLink, ChainLink

__all__ = [
    'BranchLink', 'ChainLink', 'ChannelLink', 'ContextLink', 'DCA', 'Link',
    'MapLink', 'PooledMapLink', 'SpatialLink'
]
