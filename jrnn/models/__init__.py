"""Models: layers and heads, nothing new below."""

from .language_model import LanguageModel as LanguageModel
