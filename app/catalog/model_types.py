"""Model types whose Transformers class has the head that a task needs. Checked against Transformers by a test."""

SEQUENCE_CLASSIFIERS = frozenset(
    {
        "albert",
        "bert",
        "big_bird",
        "camembert",
        "canine",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "flaubert",
        "funnel",
        "gpt2",
        "llama",
        "longformer",
        "mobilebert",
        "modernbert",
        "mpnet",
        "qwen2",
        "qwen3",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roformer",
        "squeezebert",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xlnet",
    }
)
# Each of them has a token-classification head as well.
TOKEN_CLASSIFIERS = SEQUENCE_CLASSIFIERS

# Encoders, decoders and encoder-decoders of text alone; those that also need a page's layout are left out. So is FNet:
# it has no attention mask, and its answer to a question would depend on how much padding its batch has.
QUESTION_ANSWERERS = frozenset(
    {
        "albert",
        "bart",
        "bert",
        "big_bird",
        "camembert",
        "canine",
        "convbert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "flaubert",
        "funnel",
        "gpt2",
        "llama",
        "longformer",
        "mbart",
        "megatron-bert",
        "mobilebert",
        "modernbert",
        "mpnet",
        "mt5",
        "nystromformer",
        "qwen2",
        "qwen3",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roformer",
        "splinter",
        "squeezebert",
        "t5",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xlnet",
    }
)

# Encoders with a masked-language-model head, whose tokenizers are fast.
MASKED_LANGUAGE_MODELS = frozenset(
    {
        "albert",
        "bert",
        "big_bird",
        "camembert",
        "convbert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "eurobert",
        "fnet",
        "funnel",
        "longformer",
        "megatron-bert",
        "mobilebert",
        "modernbert",
        "mpnet",
        "nystromformer",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roformer",
        "squeezebert",
        "xlm-roberta",
        "xlm-roberta-xl",
    }
)
# Decoders of text alone. Encoders that Transformers can also run from left to right were not trained for it, and
# mixtures of experts need a loss of their own.
CAUSAL_LANGUAGE_MODELS = frozenset(
    {
        "bloom",
        "codegen",
        "cohere",
        "cohere2",
        "exaone4",
        "falcon",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm",
        "glm4",
        "gpt2",
        "gpt_bigcode",
        "gpt_neo",
        "gpt_neox",
        "gptj",
        "granite",
        "helium",
        "llama",
        "ministral",
        "mistral",
        "modernbert-decoder",
        "olmo",
        "olmo2",
        "opt",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
    }
)

# Encoder-decoders of text.
ENCODER_DECODERS = frozenset(
    {
        "bart",
        "encoder-decoder",
        "longt5",
        "m2m_100",
        "marian",
        "mbart",
        "mt5",
        "mvp",
        "pegasus",
        "t5",
        "umt5",
    }
)
# Encoders whose weights also make a decoder: attention to the text that is read is all that it then lacks. Classes of
# BigBird and Megatron-BERT have it too, but fail with beams or with texts of two lengths (Transformers 5.23).
WARM_STARTED = frozenset(
    {
        "bert",
        "camembert",
        "electra",
        "ernie",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roformer",
        "xlm-roberta",
        "xlm-roberta-xl",
    }
)
TEXT_WRITERS = ENCODER_DECODERS | WARM_STARTED
