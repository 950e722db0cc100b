"""How well cells are found and named: COCO's figures and those of this field."""

from data.evaluation.cells import (
    FieldCells,
    load_cells,
    merge,
    most_certain,
    pool,
    pooled_classes,
    save_cells,
    suppress_doubles,
)
from data.evaluation.choosing import field_metrics
from data.evaluation.confusion import confusion_matrix, shares
from data.evaluation.curves import (
    FROC_RATES,
    Curve,
    ap_of_matches,
    best_threshold,
    froc,
    trace,
)
from data.evaluation.false_alarms import (
    FEW_UNITS,
    Expected,
    Mistakes,
    Rate,
    count_mistakes,
    expect,
    fit_rate,
    share_between,
)
from data.evaluation.longtail import LONG_TAIL_RULE, long_tail
from data.evaluation.matching import (
    FALSE_ALARM,
    IGNORED,
    MAX_DETECTIONS,
    Matches,
    average_precision,
    join,
    match_classes,
    match_fields,
    matches,
    partners,
)
from data.evaluation.operating import FEW_CELLS, threshold_for_precision, threshold_for_sensitivity
from data.evaluation.reliability import CALIBRATED_FROM, Reliability, reliability
from data.evaluation.results import from_results, to_results

__all__ = [
    "CALIBRATED_FROM",
    "FALSE_ALARM",
    "FEW_CELLS",
    "FEW_UNITS",
    "FROC_RATES",
    "IGNORED",
    "LONG_TAIL_RULE",
    "MAX_DETECTIONS",
    "Curve",
    "Expected",
    "FieldCells",
    "Matches",
    "Mistakes",
    "Rate",
    "Reliability",
    "ap_of_matches",
    "average_precision",
    "best_threshold",
    "confusion_matrix",
    "count_mistakes",
    "expect",
    "field_metrics",
    "fit_rate",
    "froc",
    "from_results",
    "join",
    "load_cells",
    "long_tail",
    "match_classes",
    "match_fields",
    "matches",
    "merge",
    "most_certain",
    "partners",
    "pool",
    "pooled_classes",
    "reliability",
    "save_cells",
    "share_between",
    "shares",
    "suppress_doubles",
    "threshold_for_precision",
    "threshold_for_sensitivity",
    "to_results",
    "trace",
]
