"""An evaluation as a screen of text, as JSON, and as tables of the single synapses."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.evaluate.evaluation import Evaluation, Group
from nd_synapse.evaluate.metrics import Rate
from nd_synapse.evaluate.strictness import LEAST_SYNAPSES, Advice
from nd_synapse.evaluate.synapses import Synapses
from nd_synapse.evaluate.synaptograms import SynaptogramEvaluation
from nd_synapse.text import written

__all__ = [
    "advice_as_json",
    "advice_as_text",
    "as_json",
    "as_text",
    "lists",
    "synaptograms_as_json",
    "synaptograms_as_text",
    "synaptograms_table",
]

_MOST_KINDS = 8
_FIGURE = "{:<20}{:>7}   {:<16}  {}"
_GROUP = "{:<28}{:>9}{:>9}{:>9}   {}"


def as_text(evaluation: Evaluation, subject: str) -> str:
    """Return the figures on at most one screen."""
    hits, synapses, found = evaluation.hits, len(evaluation.truth), len(evaluation.detections)
    lines = [subject, f"Matched {evaluation.rule}.", "", _FIGURE.format("", "", "95 % interval", "").rstrip()]
    lines.append(_figure("precision", evaluation.precision, f"{hits:,} of {found:,} detections"))
    lines.append(_figure("recall", evaluation.recall, f"{hits:,} of {synapses:,} synapses"))
    lines.append(_figure("F1", evaluation.f1, ""))
    lines += [*_curve(evaluation), ""]
    merged, doubled = f"{evaluation.merged:,}", f"{evaluation.doubled:,}"
    lines.append(f"Missed: {synapses - hits:,}, of which {merged} are in reach of a detection that another synapse has")
    lines.append(f"False alarms: {found - hits:,}, of which {doubled} are in reach of a synapse that is found already")
    if any(evaluation.left_out):
        lines.append("Left out near the border: {:,} synapses, {:,} detections".format(*evaluation.left_out))
    lines += _groups("synapses by type", "found", evaluation.by_kind)
    lines += _groups("synapses by size (um3)", "found", evaluation.truth_by_size)
    lines += _groups("detections by size (um3)", "right", evaluation.detections_by_size)
    lines += _classes(evaluation.classes)
    return "\n".join(lines) + "\n"


def _curve(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines on scores."""
    curve = evaluation.curve
    if curve is None:
        yield "average precision: none, for detections have no scores"
        return
    yield _FIGURE.format("average precision", f"{curve.average_precision:.3f}", "", "").rstrip()
    if len(curve.threshold):
        best = int(np.argmax(curve.f1))
        note = f"at score {curve.threshold[best]:.4g} or more; chosen on this truth, so it flatters"
        yield _FIGURE.format("best F1", f"{curve.f1[best]:.3f}", "", note)


def _groups(heading: str, verb: str, groups: Mapping[str, Group]) -> Iterator[str]:
    """Yield a table of groups and how many of each are matched."""
    if not groups:
        return
    yield ""
    yield _GROUP.format(heading, verb, "of", "share", "95 % interval")
    most = sorted(groups.items(), key=lambda item: -item[1].total)[:_MOST_KINDS]
    for name, group in (item for item in groups.items() if item in most):
        rate = group.rate
        counts = (f"{group.matched:,}", f"{group.total:,}")
        yield _GROUP.format(_short(name), *counts, _number(rate.value), _interval(rate)).rstrip()
    if len(groups) > _MOST_KINDS:
        yield f"and {len(groups) - _MOST_KINDS} more, see --json"


def _classes(classes: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield the classes of the detections by the types of their synapses."""
    if not classes or len(classes) > _MOST_KINDS:
        return
    yield ""
    yield "found synapses by type, and the class that their detection has"
    for kind, given in classes.items():
        most = sorted(given.items(), key=lambda item: -item[1])[:_MOST_KINDS]
        yield f"{_short(kind):<28}" + ", ".join(f"{_short(name) or 'none'} {count:,}" for name, count in most)


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures as plain values."""
    curve = evaluation.curve
    return {
        "rule": evaluation.rule,
        "synapses": len(evaluation.truth),
        "detections": len(evaluation.detections),
        "hits": evaluation.hits,
        "missed": len(evaluation.missed),
        "missed_merged": evaluation.merged,
        "false_alarms": len(evaluation.false_alarms),
        "false_alarms_doubled": evaluation.doubled,
        "left_out_synapses": evaluation.left_out[0],
        "left_out_detections": evaluation.left_out[1],
        "precision": _plain(evaluation.precision),
        "recall": _plain(evaluation.recall),
        "f1": _plain(evaluation.f1),
        "average_precision": None if curve is None else curve.average_precision,
        "best_f1": None if curve is None or not len(curve.f1) else float(curve.f1.max()),
        "synapses_by_type": _plain_groups(evaluation.by_kind),
        "synapses_by_size_um3": _plain_groups(evaluation.truth_by_size),
        "detections_by_size_um3": _plain_groups(evaluation.detections_by_size),
        "classes_by_type": evaluation.classes,
    }


def advice_as_text(advice: Advice | None, images: int, why_none: str) -> str:
    """Return the lines on the strictness to use, or why there is none if that is not for lack of labels."""
    if advice is None:
        why_none = why_none or f"that takes {LEAST_SYNAPSES} labelled synapses, and one that is found"
        return f"\nStrictness: none is advised; {why_none}\n"
    strictness = advice.strictness
    ends = f"{written(strictness.low)} to {written(strictness.high)}"
    expected = ", ".join(
        f"{name} {rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})"
        for name, rate in (("precision", advice.precision), ("recall", advice.recall), ("F1", advice.f1))
    )
    images_text = f"{images:,} images" if images > 1 else "one image"
    where = images_text if advice.tiles == images else f"{advice.tiles:,} tiles of {images_text}"
    lines = [
        f"\nStrictness: use --param strictness={written(strictness.value)} ({ends}):",
        f"{expected}.",
        f"From {advice.synapses:,} labelled synapses in {where}; 95 % intervals. What is to be expected was measured",
        "on labels that had no part in the choice.",
    ]
    if strictness.low <= advice.lowest:
        lines.append(
            f"Nothing below {advice.lowest:.3g} was tried, and the best may lie there: lower --param strictness="
        )
    return "\n".join(lines) + "\n"


def advice_as_json(advice: Advice | None) -> dict[str, Any] | None:
    """Return the strictness to use as plain values."""
    if advice is None:
        return None
    rates = {name: _plain(getattr(advice, name)) for name in ("strictness", "precision", "recall", "f1")}
    return {**rates, "lowest_tried": advice.lowest, "synapses": advice.synapses, "tiles": advice.tiles}


def lists(evaluation: Evaluation) -> dict[str, str]:
    """Return the single synapses as CSV."""
    truth, detections = (side.take(rows) for side, rows in zip(_sides(evaluation), evaluation.pairs.T, strict=True))
    apart = np.linalg.norm(truth.centre_um - detections.centre_um, axis=1)
    detected = {f"detection_{name}": values for name, values in _columns(detections).items()}
    return {
        "hits.csv": _csv({**_columns(truth), **detected, "distance_um": apart}),
        "misses.csv": _csv(_columns(evaluation.truth.take(evaluation.missed))),
        "false_alarms.csv": _csv(_columns(evaluation.detections.take(evaluation.false_alarms))),
    }


def _sides(evaluation: Evaluation) -> tuple[Synapses, Synapses]:
    return evaluation.truth, evaluation.detections


def _columns(synapses: Synapses) -> dict[str, NDArray[Any]]:
    """Return what is known of synapses, by heading."""
    rows: dict[str, NDArray[Any]] = {f"{axis}_um": synapses.centre_um[:, place] for place, axis in enumerate("zyx")}
    further = {"type": synapses.kind, "score": synapses.score, "volume_um3": synapses.volume_um3}
    return rows | {name: values for name, values in further.items() if values is not None}


def synaptograms_as_text(score: SynaptogramEvaluation, subject: str) -> str:
    """Return the figures of synaptograms as a table."""
    form = "{:<10}{:<24}{:>9}   {:<7}{:<17}{:<10}{}"
    lines = [subject, "Score of a cube: the largest of its central 3 x 3 x 3 voxels.", ""]
    lines.append(form.format("mask", "question", "cubes", "area", "95 % interval", "balanced", "95 % interval"))
    for answer in score.answers:
        against = f"{answer.question} against {'none' if answer.question == 'any' else 'rest'}"
        cubes = f"{answer.positives}/{answer.negatives}"
        area, accuracy = answer.area, answer.accuracy
        cells = (_number(area.value), _interval(area), _number(accuracy.value), _interval(accuracy))
        lines.append(form.format(_short(answer.mask, 9), against, cubes, *cells).rstrip())
    lines += [
        "",
        "area: under the ROC curve, ties count half; balanced: accuracy of calling positive what scores above 0.",
    ]
    rule = score.class_rule
    if rule is not None:
        right = f"{_number(rule.accuracy.value)} ({_interval(rule.accuracy)}) of {rule.synapses} true synapses"
        lines += ["", f"Type by the larger score, Gaba or Glut, summed over those voxels: right for {right};"]
        peaks = "" if score.class_rule_of_peaks is None else _number(score.class_rule_of_peaks.accuracy.value)
        lines.append(f"by the larger maximum: {peaks}; always naming the more frequent type: {_number(rule.majority)}.")
    return "\n".join(lines) + "\n"


def synaptograms_as_json(score: SynaptogramEvaluation) -> dict[str, Any]:
    """Return the figures of synaptograms as plain values."""
    rules = {"class_rule": score.class_rule, "class_rule_of_peaks": score.class_rule_of_peaks}
    return {
        "roles": score.roles,
        "answers": [
            {
                "mask": answer.mask,
                "question": answer.question,
                "positives": answer.positives,
                "negatives": answer.negatives,
                "area_under_roc": _plain(answer.area),
                "balanced_accuracy": _plain(answer.accuracy),
            }
            for answer in score.answers
        ],
        **{
            name: rule and {"accuracy": _plain(rule.accuracy), "majority": rule.majority, "synapses": rule.synapses}
            for name, rule in rules.items()
        },
    }


def synaptograms_table(score: SynaptogramEvaluation, kind: NDArray[np.str_]) -> str:
    """Return a CSV with a row a cube: its number from 0, its `kind` (n,), its scores."""
    scores = {f"score_{mask}": values for mask, values in score.scores.items()}
    return _csv({"cube": np.arange(len(kind)), "kind": kind, **scores})


def _figure(name: str, rate: Rate, note: str) -> str:
    return _FIGURE.format(name, _number(rate.value), _interval(rate), note).rstrip()


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(rate: Rate) -> str:
    return "" if math.isnan(rate.low) else f"{rate.low:.3f} to {rate.high:.3f}"


def _short(name: str, most: int = 26) -> str:
    """Return a name on one line; a cell of a table may hold anything."""
    line = " ".join(name.split())
    return line if len(line) <= most else line[: most - 3] + "..."


def _plain(rate: Rate) -> dict[str, float] | None:
    return None if math.isnan(rate.value) else {"value": rate.value, "low": rate.low, "high": rate.high}


def _plain_groups(groups: Mapping[str, Group]) -> dict[str, dict[str, int]]:
    return {name: {"matched": group.matched, "total": group.total} for name, group in groups.items()}


def _csv(columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True))
    return text.getvalue()
