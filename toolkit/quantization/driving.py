"""Whether a quantized network drives as well as FP32 does, by what the data set knows."""

from __future__ import annotations

import math
from collections.abc import Iterable

from toolkit.evaluation.evaluation_file import Evaluation
from toolkit.evaluation.metric import Metric
from toolkit.quantization.gates import Finding


def compare_driving(before: Evaluation, after: Evaluation, metrics: Iterable[Metric]) -> tuple[Finding, ...]:
    """A finding for each figure of which a metric says how much worse it may become, `before` being FP32's.

    Where there was nothing to judge in FP32, there is none.
    """
    findings = []
    for metric in metrics:
        for loss in metric.losses:
            name = f"{metric.name}/{loss.figure}"
            known, given = before.figures.get(name), after.figures.get(name)
            if known is None or known.value is None:
                continue
            bound = max(loss.absolute, loss.share * abs(known.value))
            if given is None or given.value is None:
                findings.append(Finding(name, math.inf, bound, "there was nothing to judge"))
                continue
            change = given.value - known.value
            worse = max(0.0, -change if known.higher_is_better else change)
            findings.append(Finding(name, worse, bound, f"{given.value:.6g}, in FP32 {known.value:.6g}{known.unit}"))
    return tuple(findings)
