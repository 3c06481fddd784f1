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
