"""The bundle's card: a README for whoever finds the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert.graph_rows import conditions_header, layers_header, list_conditions, list_rows, metric_text, pooling_text
from dynbert.manifest import ANYTIME, FULL, Embeddings
from dynbert.outputs import LAST_HIDDEN_STATE, SENTENCE_EMBEDDING
from dynbert.scoring.evaluation_report import difference_text, metric_header, p_value_text, value_text
from dynbert_export.tasks import HEADS

if TYPE_CHECKING:
    from dynbert.manifest import Manifest, ModelInfo

__all__ = ["write_card"]


def write_card(manifest: Manifest, *, mask_token: str | None = None) -> str:
    """Return the card as Markdown: what the bundle is, how to call it, and its table.

    Args:
        manifest: The bundle's.
        mask_token: What the tokenizer takes for a masked word; None where it has none.

    Returns:
        The text of ``README.md``.
    """
    model = manifest.model
    example = _choose_example(manifest)
    columns = list_conditions(latency for graph in manifest.graphs for latency in graph.latency)
    header = [
        "profile",
        "precision",
        "lengths",
        *layers_header(manifest),
        "file",
        *map(conditions_header, columns),
        "agreement",
    ]
    rows = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in list_rows(manifest):
        facts = (row.profile, row.number_format, row.lengths, *row.layer_cells, f"`{row.file}`")
        cells = [*facts, *row.latency_cells(columns), row.quality]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(
        [
            f"# {model.id}",
            "",
            f"A dynbert bundle of {model.architecture} for {model.task.value}, at most {model.max_length} tokens.",
            *_describe_embeddings(model),
            "",
            "```python",
            "import dynbert",
            "",
            'model = dynbert.load("path/to/this/folder")',
            HEADS[model.task].call.format(profile=example, mask=mask_token),
            "```",
            "",
            *rows,
            "",
            f"Median milliseconds of one text on one thread of {manifest.cpu};",
            f"agreement is the {metric_text(manifest)} with the fp32 graph that drops nothing.",
            "",
            *_list_evaluations(manifest),
            *_fallback(manifest),
            "Made by " + ", ".join(f"{name} {version}" for name, version in manifest.created_by.items()) + ".",
            "",
        ]
    )


def _describe_embeddings(model: ModelInfo) -> list[str]:
    """Return the lines about what the graphs of an embedder give."""
    pooling = pooling_text(model.pooling)
    if model.embeddings is Embeddings.POOLED:
        return [f"Its graphs give `{SENTENCE_EMBEDDING}`, one vector a text ({pooling}): no pooling is left to do."]
    if model.embeddings is Embeddings.TOKEN_STATES:
        return [f"Its graphs give `{LAST_HIDDEN_STATE}`, one vector a token; dynbert pools them ({pooling})."]
    return []


def _list_evaluations(manifest: Manifest) -> list[str]:
    """Return a section for each set of labelled data that the graphs were evaluated on."""
    names = dict.fromkeys(each.data for graph in manifest.graphs for each in graph.evaluations)
    return [line for name in names for line in _list_evaluation(manifest, name)]


def _list_evaluation(manifest: Manifest, data: str) -> list[str]:
    found = [(graph, each) for graph in manifest.graphs for each in graph.evaluations if each.data == data]
    first = found[0][1]
    header = ["profile", "precision", *(metric_header(metric.name) for metric in first.metrics), "difference", "p"]
    header += ["median ms", "95th percentile"] if first.latency is not None else []
    rows = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for graph, each in found:
        difference = each.metrics[0].difference
        cells = [graph.profile, graph.precision.value, *map(value_text, each.metrics)]
        cells += [difference_text(difference), p_value_text(difference)]
        cells += [f"{each.latency.median_ms:.2f}", f"{each.latency.p95_ms:.2f}"] if each.latency is not None else []
        rows.append("| " + " | ".join(cells) + " |")
    main = metric_header(first.metrics[0].name)
    return [
        f"## {data}",
        "",
        *rows,
        "",
        f"{first.examples} examples, in %, with 95 % bootstrap intervals. The difference is that of {main} from the",
        "fp32 graph that drops nothing, on the same examples. Milliseconds: one input alone, at the data's lengths.",
        "",
    ]


def _fallback(manifest: Manifest) -> list[str]:
    """Return the lines about products that the INT8 graphs have in fp32."""
    names = sorted({name for graph in manifest.graphs for name in graph.fp32_products})
    if not names:
        return []
    heading = "INT8 graphs compute these in fp32, because answers differed too much with them in INT8:"
    return [heading, "", *(f"- `{name}`" for name in names), ""]


def _choose_example(manifest: Manifest) -> str:
    """Return the profile that gains most at the longest input; ``full`` where none is faster than that.

    A profile's gain is that of the set of graphs where it gains least: which one a reader's CPU runs is not known here.
    """
    runs = {
        (graph.profile, graph.precision, graph.target): graph.latency[-1].median_ms
        for graph in manifest.graphs
        if graph.latency and graph.profile != ANYTIME
    }
    shares: dict[str, float] = {}
    for (profile, precision, target), time in runs.items():
        if (FULL, precision, target) in runs:
            shares[profile] = max(shares.get(profile, 0.0), time / runs[FULL, precision, target])
    best = min(shares, key=shares.__getitem__, default=FULL)
    return best if shares.get(best, 1.0) < 1.0 else FULL
