"""Models: layers and heads, nothing new below."""

from .classifier import Classifier as Classifier
from .crf import CRF as CRF
from .language_model import LanguageModel as LanguageModel
from .tagger import Tagger as Tagger
