"""Figures of models with their uncertainty: overall, by slice, and as paired differences.

``influence``: an estimate, its interval, ranks. ``confusion``: ratios over the confusion matrix.
``figures``: what there is to ask of a classification or a regression. ``groups``: the same for
every slice at once. ``resample``: intervals of figures that people bring along.
"""
