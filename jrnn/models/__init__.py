"""Models: layers and heads, nothing new below."""

from .captioner import Captioner as Captioner
from .captioner import CaptionerParams as CaptionerParams
from .classifier import Classifier as Classifier
from .crf import CRF as CRF
from .crf import Allowed as Allowed
from .crf import bio_scheme as bio_scheme
from .decoder import Condition as Condition
from .decoder import Conditional as Conditional
from .decoder import Decoder as Decoder
from .decoder import DecoderParams as DecoderParams
from .encoder_decoder import EncoderDecoder as EncoderDecoder
from .encoder_decoder import EncoderDecoderParams as EncoderDecoderParams
from .language_model import LanguageModel as LanguageModel
from .tagger import Tagger as Tagger
