"""Estimates and tests over recorded production runs, with numpy: the same mathematics as ``cascade.promise``, in bulk."""
