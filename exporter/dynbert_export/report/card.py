"""The bundle's card: a README for whoever finds the folder."""

from __future__ import annotations

from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, GraphEntry, Manifest, Precision
from dynbert_export.tasks import HEADS

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
    example = next((p.name for p in manifest.profiles if p.length_config is not None), manifest.profiles[0].name)
    tokens = sorted({latency.tokens for graph in manifest.graphs for latency in graph.latency})
    header = ["profile", "precision", "lengths", "file", *(f"ms at {count}" for count in tokens), "agreement"]
    rows = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    rows += ["| " + " | ".join(_cells(manifest, graph, tokens)) + " |" for graph in manifest.graphs]
    metric = next((graph.quality.metric for graph in manifest.graphs if graph.quality), "agreement")
    return "\n".join(
        [
            f"# {model.id}",
            "",
            f"A dynbert bundle of {model.architecture} for {model.task.value}, at most {model.max_length} tokens.",
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
            f"agreement is the {metric.replace('_', ' ')} with the fp32 graph that drops nothing.",
            "",
            *_fallback(manifest),
            "Made by " + ", ".join(f"{name} {version}" for name, version in manifest.created_by.items()) + ".",
            "",
        ]
    )


def _fallback(manifest: Manifest) -> list[str]:
    """Return the lines about products that the INT8 graphs have in fp32."""
    names = sorted({name for graph in manifest.graphs for name in graph.fp32_products})
    if not names:
        return []
    heading = "INT8 graphs compute these in fp32, because answers differed too much with them in INT8:"
    return [heading, "", *(f"- `{name}`" for name in names), ""]


def _cells(manifest: Manifest, graph: GraphEntry, tokens: list[int]) -> list[str]:
    profile = next(profile for profile in manifest.profiles if profile.name == graph.profile)
    everything = "an input" if profile.name == ANYTIME else "all"
    lengths = everything if profile.length_config is None else str(LengthConfig(profile.length_config))
    target = f" ({graph.target.value})" if graph.precision is Precision.INT8 and graph.target else ""
    measured = {latency.tokens: f"{latency.median_ms:.2f}" for latency in graph.latency}
    agreement = f"{graph.quality.value:.4f}" if graph.quality else ""
    return [
        profile.name,
        f"{graph.precision.value}{target}",
        lengths,
        f"`{graph.file}`",
        *(measured.get(count, "") for count in tokens),
        agreement,
    ]
