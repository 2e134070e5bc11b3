"""A bundle, loaded: arrays or text in, answers out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack

from dynbert.cpu import int8_target
from dynbert.errors import BundleError, InputError
from dynbert.kept_tokens import TokenWatcher, layers_that_run, require_kept_values
from dynbert.lengths import LengthConfig
from dynbert.manifest import Task, check_files, read_manifest
from dynbert.selection import bind_request, explain_selection, make_request, parse_precision, profile_names
from dynbert.session import GraphCache, check_threads
from dynbert.tasks.arguments import ARGUMENTS, DEFAULT_BATCH_SIZE, describe_arguments
from dynbert.tasks.base import TaskContext
from dynbert.tasks.feature_extraction import embed
from dynbert.tasks.registry import task_spec
from dynbert.tokenization import TOKENIZER_FILE, TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from dynbert.kept_tokens import KeptTokens
    from dynbert.manifest import GraphEntry, Manifest, Pooling, PoolingMode, Precision
    from dynbert.selection import BoundRequest
    from dynbert.tasks.arguments import KeywordArguments, Texts

    LengthConfigLike = LengthConfig | str | Iterable[int | float]

__all__ = ["DynamicBert", "Profile", "load"]


@dataclass(frozen=True)
class Profile:
    """One speed of a bundle."""

    name: str
    length_config: LengthConfig | None
    """Tokens kept after each layer; None where nothing is dropped, as in ``full``."""
    layer_config: tuple[int, ...] | None
    """Indices of the layers that run, from 0, ascending; None for all. The lengths of the others say nothing."""
    graphs: tuple[GraphEntry, ...]
    """Its graphs, one for each precision and target: file, size in bytes, parity, quality and measured latency."""


def load(
    path: str | Path, threads: int | None = None, *, precision: Precision | str | None = None, checksums: bool = True
) -> DynamicBert:
    """Open a bundle; its graphs are opened when they are first used.

    Args:
        path: The bundle's folder.
        threads: Threads that compute; None for the cores that this process may use, or for the pool that the process
            shares (see ``share_threads``).
        precision: ``"int8"`` or ``"fp32"`` to insist on one. None takes the INT8 graph where the bundle has one that
            this machine has instructions for and computes exactly, else fp32.
        checksums: Whether to read every file and compare its SHA-256 (about 0.1 s for 100 MB). Names and sizes are
            always checked.

    Returns:
        The model.

    Raises:
        BundleError: If the folder breaks the bundle's file contract.
        InputError: If an argument is out of its range, or the process shares a pool of another number of threads.
    """
    bundle = Path(path)
    wanted = parse_precision(precision)
    check_threads(threads)
    manifest = read_manifest(bundle)
    check_files(bundle, manifest.entries, checksums=checksums)
    return DynamicBert(bundle, manifest, threads=threads, precision=wanted)


class DynamicBert:
    """A bundle's model at all its speeds. Safe to use from several threads at once.

    Made by ``load``.

    Args:
        bundle: The bundle's folder, already checked.
        manifest: Its manifest.
        threads: Threads that compute; None for the default.
        precision: The precision to insist on; None to choose.
    """

    def __init__(
        self, bundle: Path, manifest: Manifest, *, threads: int | None = None, precision: Precision | None = None
    ) -> None:
        self._bundle = bundle
        self._manifest = manifest
        self._precision = precision
        self._graphs = GraphCache(bundle, threads)
        self._explained: set[str] = set()  # files of graphs whose choice a warning has told of, or need not

    @property
    def manifest(self) -> Manifest:
        """All that the bundle says of itself."""
        return self._manifest

    @property
    def task(self) -> Task:
        """What the model does."""
        return self._manifest.model.task

    @property
    def max_length(self) -> int:
        """Longest input in tokens, special tokens included."""
        return self._manifest.model.max_length

    @cached_property
    def profiles(self) -> Mapping[str, Profile]:
        """The speeds that can be asked for by name, in the bundle's order."""
        names = profile_names(self._manifest)
        return MappingProxyType(
            {
                entry.name: Profile(
                    entry.name,
                    None if entry.length_config is None else LengthConfig(entry.length_config),
                    entry.layer_config,
                    tuple(graph for graph in self._manifest.graphs if graph.profile == entry.name),
                )
                for entry in self._manifest.profiles
                if entry.name in names
            }
        )

    def run(
        self,
        inputs: Mapping[str, ArrayLike],
        profile: str | None = None,
        length_config: LengthConfigLike | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the model on token ids.

        Args:
            inputs: ``input_ids`` [batch, tokens], for multiple choice [batch, choices, tokens], of any integer dtype;
                optionally ``attention_mask`` (0/1 or bool; default all ones) and ``token_type_ids`` (default all
                zeros) of the same shape.
            profile: Name of a profile; None for ``full``.
            length_config: In place of a profile, one number a layer: tokens to keep, or fractions of the input's.

        Returns:
            The graph's outputs by name, float32. Question answering: ``start_logits`` and ``end_logits``
            [batch, tokens]; text classification: ``logits`` [batch, labels]; token classification: ``logits``
            [batch, tokens, labels]; fill-mask: ``logits`` [batch, tokens, vocabulary]; next sentence prediction:
            ``logits`` [batch, 2]; multiple choice: ``logits`` [batch, choices]; pretraining: ``prediction_logits``
            [batch, tokens, vocabulary] and ``seq_relationship_logits`` [batch, 2]; feature extraction:
            ``sentence_embedding`` [batch, hidden] or, from a bundle of token states, ``last_hidden_state``
            [batch, tokens, hidden].

        Raises:
            InputError: If the arrays are not what the model takes; its kinds ``ProfileError`` and
                ``LengthConfigError`` if the bundle has no graph for what was asked.
            BundleError: If the graph cannot be opened or run.
        """
        return self._run(self._bind(profile, length_config), inputs)

    @describe_arguments
    def __call__(
        self,
        texts: Texts | None = None,
        *,
        profile: str | None = None,
        length_config: LengthConfigLike | None = None,
        **arguments: Unpack[KeywordArguments],
    ) -> Any:
        """Answer in the terms of the bundle's task: one text gives one result, a list gives a list.

        Args:
            texts: For every task but question answering: a text, or a list of them.
            profile: Name of a profile; None for ``full``.
            length_config: In place of a profile, one number a layer.
            **arguments: What the task takes beside them.

        Returns:
            ``Answer`` for question answering, ``Classification`` for text classification, ``TokenLabels`` for token
            classification, a tuple of ``MaskedToken`` for fill-mask, ``NextSentence`` for next sentence prediction,
            ``Choice`` for multiple choice, ``Pretraining`` for pretraining, the embedding (see ``encode``) for
            feature extraction; or a list of them (an array of all embeddings).

        Raises:
            InputError: If the call does not suit the task, or an input breaks a rule.
            BundleError: If a file of the bundle turns out not to work.
            TypeError: If there is no such argument.
        """
        spec = task_spec(self.task)
        given = spec.read_call({"texts": texts, **arguments})
        return spec.answer(self._task_context(self._bind(profile, length_config)), **given)

    @describe_arguments
    def kept_tokens(
        self,
        texts: Texts | None = None,
        *,
        profile: str | None = None,
        length_config: LengthConfigLike | None = None,
        **arguments: Unpack[KeywordArguments],
    ) -> tuple[KeptTokens, ...]:
        """Say which tokens are left after each layer, of a call that would be answered by the same arguments.

        The graph is opened once more for it, with further outputs; its file is not changed.

        Args:
            texts: For every task but question answering: a text, or a list of them.
            profile: Name of a profile; None for ``full``.
            length_config: In place of a profile, one number a layer.
            **arguments: What the task takes beside them.

        Returns:
            One for each row that the graph reads, in the call's order: a text or a pair, each window of a long text,
            each choice.

        Raises:
            InputError: If the call does not suit the task, or an input breaks a rule.
            BundleError: If the graph does not say which tokens it keeps (graphs before schema 4 do not), or a file of
                the bundle turns out not to work.
            TypeError: If there is no such argument.
        """
        spec = task_spec(self.task)
        given = spec.read_call({"texts": texts, **arguments})
        bound = self._bind(profile, length_config)
        file = bound.graph.file
        values = require_kept_values(self._graphs.get(file), bound.model.num_layers)
        watcher = TokenWatcher(
            bound.model,
            self._tokenizer,
            lambda inputs: self._graphs.get(file, tuple(values.cuts.values())).run(bound.feed(inputs)),
            bound.may_pad,
            values=values,
            layers=layers_that_run(self._manifest, bound.graph.profile),
        )
        spec.answer(watcher, **given)
        return tuple(watcher.rows)

    def encode(
        self,
        texts: Texts,
        *,
        profile: str | None = None,
        length_config: LengthConfigLike | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        truncate: bool = False,
        pooling: Pooling | PoolingMode | str | None = None,
    ) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: A text, or a list of them.
            profile: Name of a profile; None for ``full``.
            length_config: In place of a profile, one number a layer.
            batch_size: Most texts to run together, at least 1; fewer where they are long.
            truncate: Whether to cut what is longer than ``max_length``; else it is refused.
            pooling: None as the bundle says; ``"mean"`` or ``"cls"`` with the bundle's normalisation; or a ``Pooling``.
                Another than the bundle's own needs token states (``dynbert-export --embeddings token-states``).

        Returns:
            float32 [hidden] for a single text, [texts, hidden] for a list.

        Raises:
            InputError: If the bundle's task is another, or an input breaks a rule.
            BundleError: If a file of the bundle turns out not to work.
        """
        if self.task is not Task.FEATURE_EXTRACTION:
            raise InputError(
                f"encode needs a bundle for {Task.FEATURE_EXTRACTION.value}, got one for {self.task.value}. "
                f"Call it as {task_spec(self.task).call}."
            )
        rows = ARGUMENTS["batch_size"].read("batch_size", batch_size)
        context = self._task_context(self._bind(profile, length_config))
        return embed(context, texts, truncate=truncate, batch_size=rows, pooling=pooling)

    def __repr__(self) -> str:
        model = self._manifest.model
        return f"<DynamicBert {model.id}: {model.task.value}, profiles {', '.join(self.profiles)}>"

    @cached_property
    def _tokenizer(self) -> TextTokenizer:
        # Only a file of the contract is read: its checksum was checked.
        if TOKENIZER_FILE not in {entry.file for entry in self._manifest.files}:
            raise BundleError(f"{self._bundle} must have a {TOKENIZER_FILE} to read text, got none. Export it again.")
        return TextTokenizer.open(self._bundle / TOKENIZER_FILE, self._manifest.model)

    def _bind(self, profile: str | None, length_config: LengthConfigLike | None) -> BoundRequest:
        """Resolve what a call asks for; only the public methods call this, so that a warning blames their caller."""
        request = make_request(self._manifest, profile=profile, length_config=length_config)
        machine = int8_target()
        bound = bind_request(self._manifest, request, precision=self._precision, machine=machine)
        if bound.graph.file not in self._explained:
            warning = explain_selection(self._manifest, bound.graph, precision=self._precision, machine=machine)
            if warning is not None:
                warnings.warn(warning, RuntimeWarning, stacklevel=3)
            self._explained.add(bound.graph.file)
        return bound

    def _run(self, bound: BoundRequest, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        feed = bound.feed(inputs)  # first: a wrong input opens no graph
        return self._graphs.get(bound.graph.file).run(feed)

    def _task_context(self, bound: BoundRequest) -> TaskContext:
        return TaskContext(bound.model, self._tokenizer, partial(self._run, bound), may_pad=bound.may_pad)
