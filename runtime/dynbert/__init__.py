"""dynbert: length-adaptive BERT on onnxruntime.

    import dynbert

    model = dynbert.load("bundle/")
    model(question="Who wrote it?", context="...", profile="fast")

Importing this package loads numpy and msgspec; onnxruntime and tokenizers follow when a bundle is first used.
"""

from __future__ import annotations

from importlib.metadata import version as _version

from dynbert.errors import BundleError, DynbertError, InputError, LengthConfigError, ProfileError
from dynbert.kept_tokens import KeptTokens, LayerTokens, Token
from dynbert.lengths import LengthConfig
from dynbert.manifest import Pooling, PoolingMode, Precision, Target, Task
from dynbert.model import DynamicBert, Profile, load
from dynbert.session import share_threads
from dynbert.tasks.arguments import Aggregation
from dynbert.tasks.fill_mask import Candidate, MaskedToken
from dynbert.tasks.multiple_choice import Choice
from dynbert.tasks.next_sentence_prediction import NextSentence
from dynbert.tasks.pretraining import Pretraining
from dynbert.tasks.question_answering import Answer
from dynbert.tasks.text_classification import Classification
from dynbert.tasks.token_classification import Entity, TokenLabels, Word

__all__ = [
    # the way in
    "load",
    "DynamicBert",
    "Profile",
    "LengthConfig",
    "share_threads",
    # what comes out
    "Answer",
    "Candidate",
    "Choice",
    "Classification",
    "Entity",
    "KeptTokens",
    "LayerTokens",
    "MaskedToken",
    "NextSentence",
    "Pretraining",
    "Token",
    "TokenLabels",
    "Word",
    # closed vocabularies
    "Aggregation",
    "Pooling",
    "PoolingMode",
    "Precision",
    "Target",
    "Task",
    # errors
    "DynbertError",
    "BundleError",
    "InputError",
    "LengthConfigError",
    "ProfileError",
    "__version__",
]

__version__: str = _version("dynbert")
