"""What networks look at and decide, as numbers and pictures.

``record`` (also ``mmattn.record``) is the base; ``cam``, ``gates``, ``erf``
and ``predictions`` are the subcommands of ``tools/visualize.py``, each with a
function of its name; ``hooks`` has what logs during training. Toolboxes and
matplotlib are imported by the functions that need them.
"""
