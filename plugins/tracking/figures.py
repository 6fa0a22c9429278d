"""Figures and plots of what nuScenes' own evaluations return, named as the field knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.evaluation.metric import Figure, Plot, PlotKind, Series

DETECTION_RULES = "detection_cvpr_2019"
TRACKING_RULES = "tracking_nips_2019"
CURVES_AT = 2.0
"""Metres within which a detection finds its object in curves of precision, one of the distances of the rules."""

ERRORS = (
    ("trans_err", "ATE", "m"),
    ("scale_err", "ASE", ""),
    ("orient_err", "AOE", "rad"),
    ("vel_err", "AVE", "m/s"),
    ("attr_err", "AAE", ""),
)
"""Errors of detections that found their object: the devkit's name, the usual one, unit."""
OVER_RECALL = "mean over recall"
AT_BEST = "at the score of the best MOTA"


@dataclass(frozen=True)
class _TrackingKind:
    """A figure of tracking. The devkit's name of it is in lower case."""

    name: str
    unit: str = ""
    higher_is_better: bool = False
    reduction: str = AT_BEST
    of_each_class: bool = False
    over_classes: str = "mean"


_TRACKING_KINDS = (
    _TrackingKind("AMOTA", higher_is_better=True, reduction=OVER_RECALL, of_each_class=True),
    _TrackingKind("AMOTP", "m", reduction=OVER_RECALL, of_each_class=True),
    _TrackingKind("recall", higher_is_better=True, of_each_class=True),
    _TrackingKind("MOTAR", higher_is_better=True),
    _TrackingKind("MOTA", higher_is_better=True, of_each_class=True),
    _TrackingKind("MOTP", "m", of_each_class=True),
    _TrackingKind("ids", of_each_class=True, over_classes="sum"),
    _TrackingKind("frag", of_each_class=True, over_classes="sum"),
    _TrackingKind("tp", higher_is_better=True, over_classes="sum"),
    _TrackingKind("fp", over_classes="sum"),
    _TrackingKind("fn", over_classes="sum"),
    _TrackingKind("mt", higher_is_better=True, over_classes="sum"),
    _TrackingKind("ml", over_classes="sum"),
    _TrackingKind("faf", "/100 frames"),
    _TrackingKind("tid", "s"),
    _TrackingKind("lgd", "s"),
)


def detection_figures(metrics: Any) -> list[Figure]:
    """Of the devkit's `DetectionMetrics`; NaN where its rules know no error."""
    protocol, over_classes = f"nuScenes {DETECTION_RULES}", f"{OVER_RECALL}, then classes"
    figures = [
        Figure("NDS", metrics.nd_score, "", protocol, "half mAP, half the mean of 1 - error", True),
        Figure("mAP", metrics.mean_ap, "", protocol, "mean over classes and distances", True),
    ]
    for key, name, unit in ERRORS:
        figures.append(Figure(f"m{name}", metrics.tp_errors[key], unit, protocol, over_classes, False))
    for label, value in metrics.mean_dist_aps.items():
        figures.append(Figure(f"AP/{label}", float(value), "", protocol, "mean over distances", True))
    for key, name, unit in ERRORS:
        for label in metrics.cfg.class_names:
            value = float(metrics.get_label_tp(label, key))
            figures.append(Figure(f"{name}/{label}", value, unit, protocol, OVER_RECALL, False))
    return figures


def detection_plots(metrics: Any, curves: Any, labels: Sequence[str]) -> list[Plot]:
    """Of the devkit's `DetectionMetrics` and `DetectionMetricDataList`: what is shown of these classes."""
    near = {name: curves[name, CURVES_AT] for name in labels}
    lines = [Series(name, curve.recall.tolist(), curve.precision.tolist()) for name, curve in near.items()]
    bars = [
        Series(f"{distance:g} m", labels, [float(metrics.get_label_ap(name, distance)) for name in labels])
        for distance in metrics.cfg.dist_ths
    ]
    return [
        Plot("precision-recall", f"Precision over recall within {CURVES_AT:g} m", "recall", "precision", lines),
        Plot("AP", "Average precision by class and distance", "class", "AP", bars, PlotKind.BARS),
    ]


def tracking_figures(metrics: Any) -> list[Figure]:
    """Of the devkit's `TrackingMetrics`: over all classes, then of each; NaN where there is nothing to track."""

    def figure(kind: _TrackingKind, name: str, reduction: str, label: str) -> Figure:
        value = metrics.compute_metric(kind.name.lower(), label)
        return Figure(name, value, kind.unit, f"nuScenes {TRACKING_RULES}", reduction, kind.higher_is_better)

    over_all = [
        figure(kind, kind.name, f"{kind.reduction}, {kind.over_classes} over classes", "all")
        for kind in _TRACKING_KINDS
    ]
    of_each = [
        figure(kind, f"{kind.name}/{label}", kind.reduction, label)
        for kind in _TRACKING_KINDS
        if kind.of_each_class
        for label in metrics.class_names
    ]
    return over_all + of_each


def tracking_plots(curves: Any, labels: Sequence[str]) -> list[Plot]:
    """Of the devkit's `TrackingMetricDataList`: MOTAR, whose mean is AMOTA, of those classes that are found."""
    found = [name for name in labels if np.isfinite(curves[name].recall_hypo).all()]
    lines = [Series(name, curves[name].recall_hypo.tolist(), curves[name].motar.tolist()) for name in found]
    return [Plot("MOTAR", "Tracking accuracy over recall", "recall", "MOTAR", lines)]
